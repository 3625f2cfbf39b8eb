"""Who changed what by hand, and when.  Orders stand in it by their keyed hash only, so that it may outlive them."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

PREFIX: Final = "audit:"

HOLD: Final = "hold"
RELEASE: Final = "release"
ERASE: Final = "erase"
ERASE_PARTNER: Final = "erase_partner"


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One change.  at: unix ns.  by: who said to be it.  order: the order's hash.  until: of a hold, unix ns."""

    at: int
    by: str
    what: str
    order: str = ""
    orders: int = 1
    until: int = 0


def note(entry: Entry, put: Callable[[str, str], None]) -> None:
    """Keep *entry*.  put: of the transaction that makes the change."""
    put(f"{PREFIX}{entry.at:020d}:{secrets.token_hex(4)}", msgspec.json.encode(entry).decode())


def entries(items: Callable[[str], dict[str, str]]) -> list[Entry]:
    """Return all entries, oldest first.  items: the store's own."""
    return [msgspec.json.decode(value, type=Entry) for value in items(PREFIX).values()]
