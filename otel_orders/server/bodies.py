"""Read requests, of HTTP and gRPC, within bounds: of size, time, how far a packed one may grow, and of all together.

A client that nobody trusts may send anything, slowly, and many times at once; it must not cost the others more than
their turn.
"""

from __future__ import annotations

import asyncio
import gzip
import io
import time
import zlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, TypeVar

from starlette.exceptions import HTTPException

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from starlette.requests import Request

T = TypeVar("T")

MAX_BODY: Final = 16 << 20
"""Largest body that is taken, in bytes, compressed and not: an OTLP batch is a few hundred KB."""
MAX_MESSAGE: Final = 4 << 20
"""Largest message over gRPC as it is sent, in bytes: what gRPC servers usually take, the Collector's too."""
MAX_HELD: Final = 64 << 20
"""Bytes of all bodies whose requests have no answer yet."""
ROOM_SECONDS: Final = 1.0
"""Time that a message waits for room before it is read."""
READ_SECONDS: Final = 30.0
"""Time that a sender has for one body."""
SMALL: Final = 64 << 10
"""Bodies up to this size, in bytes, are decoded where they are; larger ones in a thread, one at a time."""
RETRY_SECONDS: Final = 1
"""When senders may try again."""
RETRY_AFTER: Final = {"Retry-After": str(RETRY_SECONDS)}
GZIP: Final = b"\x1f\x8b"
"""How gzip begins, and no protobuf message: its first byte would be a wire type that there is not."""


class Intake:
    """The bodies of all requests that have no answer yet."""

    def __init__(self) -> None:
        self._held = 0
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def body(self, request: Request) -> AsyncIterator[bytes]:
        """Give the body of *request*, unpacked, inside the block.  Raises HTTPException 400, 413, 415, 429 or 503."""
        encoding = request.headers.get("content-encoding", "identity").lower()
        if encoding not in ("identity", "gzip", ""):
            raise HTTPException(415, "expected no content-encoding, or gzip")
        packed, unpacked = bytearray(), b""
        try:
            await self._read(request, packed)
            if encoding == "gzip":
                unpacked = await self.decoded(packed, lambda: unzipped(packed))
                self._hold(len(unpacked))
            yield unpacked if encoding == "gzip" else bytes(packed)
        finally:
            self._held -= len(packed) + len(unpacked)

    @asynccontextmanager
    async def message(self, read: Callable[[], Awaitable[bytes]]) -> AsyncIterator[bytes]:
        """Give the message that *read* waits for, unpacked, inside the block.  Raises HTTPException as body() does.

        How large it is shows only at its end, so until then it holds the share of the largest; many that come at once
        wait for each other.
        """
        share = await self._room(MAX_MESSAGE)
        try:
            async with _in_time():
                message = await read()
            self._held -= share - len(message)
            share = len(message)
            if message.startswith(GZIP):
                packed = message
                message = await self.decoded(packed, lambda: unzipped(packed))
                share += len(message)
                self._hold(len(message))
            yield message
        finally:
            self._held -= share

    async def decoded(self, body: bytes | bytearray, decode: Callable[[], T]) -> T:
        """Return what *decode* makes of *body*; a large one keeps nobody else waiting for an answer."""
        if len(body) <= SMALL:
            return decode()
        async with self._turn:
            return await asyncio.to_thread(decode)

    async def _read(self, request: Request, into: bytearray) -> None:
        async with _in_time():
            async for chunk in request.stream():
                into += chunk
                self._hold(len(chunk))
                if len(into) > MAX_BODY:
                    raise too_large()

    async def _room(self, size: int) -> int:
        """Hold *size* bytes as soon as there is room for them."""
        give_up = time.monotonic() + ROOM_SECONDS
        while self._held + size > MAX_HELD and time.monotonic() < give_up:  # noqa: ASYNC110 - simple, and rare
            await asyncio.sleep(0.01)
        try:
            self._hold(size)
        except HTTPException:
            self._held -= size
            raise
        return size

    def _hold(self, size: int) -> None:
        self._held += size
        if self._held > MAX_HELD:
            raise HTTPException(429, "too many large requests at once", RETRY_AFTER)


@asynccontextmanager
async def _in_time() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(READ_SECONDS):
            yield
    except TimeoutError:
        # Not 408: senders of OTLP drop what they get that for, and try again what they get this for.
        raise HTTPException(503, f"a body must arrive within {READ_SECONDS:.0f} s", RETRY_AFTER) from None


def unzipped(body: bytes | bytearray) -> bytes:
    """Return what the gzip *body*, of one member or more (RFC 1952), holds.  Raises HTTPException 400 or 413."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(body)) as members:
            unpacked = members.read(MAX_BODY + 1)
    except EOFError:
        raise HTTPException(400, "the gzip body is cut short") from None
    except (OSError, zlib.error):
        raise HTTPException(400, "the body is no gzip") from None
    if len(unpacked) > MAX_BODY:
        raise too_large()
    return unpacked


def too_large() -> HTTPException:
    """Return what a sender of too large a body is told."""
    return HTTPException(413, f"a body may have {MAX_BODY} bytes, also unpacked; send smaller batches")
