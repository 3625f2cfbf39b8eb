"""What is remembered of erased orders: a keyed hash each, so that their later events are refused.  Knows no rows.

A hash without the store's key says nothing; with it, it only answers whether an order that one already knows was
erased.  It is kept for ever: an import takes events however old they are.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Put = Callable[[str, str], None]

KEY: Final = "audit_key"
"""Key under which the store keeps the key of its hashes."""
PREFIX: Final = "erased:"
VERSION: Final = "erasures"
"""Key of a value that is another one after each erasure, so that other processes look again."""


class Tombstones:
    """The tombstones of a store.  get, items: the store's own."""

    def __init__(self, get: Callable[[str], str | None], items: Callable[[str], dict[str, str]]) -> None:
        self._get = get
        self._items = items
        self._version: str | None = None
        self._key = b""
        self._known: frozenset[str] = frozenset()

    def among(self, order_ids: Iterable[str]) -> dict[str, str]:
        """Return those of *order_ids* that were erased, with their hashes."""
        ids = list(order_ids)
        if not ids or (version := self._get(VERSION)) is None:
            return {}
        if version != self._version:
            self._read()
            self._version = version
        hashed = {order_id: hash_of(order_id, self._key) for order_id in ids} if self._known else {}
        return {order_id: digest for order_id, digest in hashed.items() if digest in self._known}

    def _read(self) -> None:
        self._key = bytes.fromhex(self._get(KEY) or "")
        self._known = frozenset(key.removeprefix(PREFIX) for key in self._items(PREFIX))


def bury(order_ids: Iterable[str], key: bytes, now: int, put: Put) -> None:
    """Put a tombstone for each of *order_ids*.  key: the store's.  now: unix ns."""
    for order_id in order_ids:
        put(PREFIX + hash_of(order_id, key), str(now))
    put(VERSION, secrets.token_hex(8))


def hash_of(order_id: str, key: bytes) -> str:
    """Return what stands for *order_id* where it must not stand itself: 32 hex digits."""
    return hashlib.blake2b(order_id.encode("utf-8", "surrogatepass"), digest_size=16, key=key).hexdigest()
