"""Whether a message's headers leave room for ours: they are one AMQP frame, and one too large costs the connection.

Sizes are those of AMQP 0-9-1, 4.2.5.5 (field tables) and 4.2.6 (content headers).  Knows no client.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

FRAME_MAX: Final = 131_072
"""Largest frame, in bytes, unless client and broker agree on another: RabbitMQ's default, and its clients'."""

ROOM: Final = 2_048
"""Bytes kept free for what we add (the order's ids may be escaped to 800) and for the other properties."""

_NAME, _LENGTH, _SCALAR = 2, 4, 9
"""Bytes that a field takes beside its name and its value; a length; the largest value of a fixed size, 8 and more."""


class FrameFullError(ValueError):
    """A message's own headers nearly fill a frame: it travels without trace and order, as its application made it."""


def leaves_room(headers: Mapping[Any, Any], frame_max: int = FRAME_MAX) -> bool:
    """Return whether ours fit beside the application's *headers* into a frame of *frame_max* bytes; 0: of any size."""
    return not frame_max or _size(headers) <= frame_max - ROOM


def _size(value: object) -> int:
    """Return how many bytes *value* takes at most; what no client can write counts as a scalar."""
    if isinstance(value, str):
        return _LENGTH + (len(value) if value.isascii() else len(value.encode(errors="surrogatepass")))
    if isinstance(value, (bytes, bytearray)):
        return _LENGTH + len(value)
    if isinstance(value, Mapping):
        return _LENGTH + sum(_NAME + len(str(name)) * 4 + _size(field) for name, field in value.items())
    if isinstance(value, (list, tuple)):
        return _LENGTH + sum(_NAME + _size(item) for item in value)
    return _SCALAR + _SCALAR
