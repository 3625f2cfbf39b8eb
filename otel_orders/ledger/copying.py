"""Move all that a store holds into an empty one, in one transaction, and compare both before saying that it is done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_orders.errors import ConfigurationError, StoreError
from otel_orders.ledger.store import MessageNote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from otel_orders.ledger.store import Message, Row, Store, Transaction

AT_ONCE: Final = 2_000
"""Rows that are read and written at once."""


def copy(source: Store, target: Store, show: Callable[[int], None]) -> int:
    """Copy *source* into *target*; return how many orders it has.

    Nobody can write the source meanwhile, and the target holds all of it or nothing: after a crash it is run again.
    show: called with the number of orders copied so far.  Raises ConfigurationError where the target is not empty,
    StoreError where one of them does not answer or where they differ at the end.
    """
    with source.transaction() as held:
        held.alone()
        with target.transaction() as tx:
            tx.alone()
            if not is_empty(target):
                raise ConfigurationError("the target is not empty: nothing was copied; give an empty database")
            copied = _orders(source, tx, show)
            _rest(source, tx)
        if difference := first_difference(source, target):
            raise StoreError(f"the copy differs from its source in {difference}: do not use it")
    return copied


def is_empty(store: Store) -> bool:
    """Whether no ledger has ever kept anything in *store*."""
    return not (store.totals() or store.items("") or store.seen() or next(store.all_ids(1), None))


def first_difference(one: Store, other: Store) -> str | None:
    """Return what is not the same in both stores, None for nothing."""
    pairs = (
        ("totals", _without_zeros(one), _without_zeros(other)),
        ("settings and offsets", one.items(""), other.items("")),
        ("moments", one.moments(), other.moments()),
        ("services seen", sorted(one.seen()), sorted(other.seen())),
    )
    for what, ours, theirs in pairs:
        if ours != theirs:
            return what
    if not _same(_unplaced(one), _unplaced(other)):
        return "orders"
    return None if _same(one.messages(AT_ONCE), other.messages(AT_ONCE)) else "messages"


def _orders(source: Store, tx: Transaction, show: Callable[[int], None]) -> int:
    copied = 0
    for rows in source.rows(AT_ONCE):
        tx.create(rows)
        copied += len(rows)
        show(copied)
    return copied


def _rest(source: Store, tx: Transaction) -> None:
    for messages in source.messages(AT_ONCE):
        tx.published([_note(one, one.published_at) for one in messages if one.published_at is not None])
        tx.settled([_note(one, one.settled_at) for one in messages if one.settled_at is not None])
    tx.add(source.totals())
    tx.advance(source.moments())
    tx.see(source.seen())
    for key, value in source.items("").items():
        tx.put(key, value)


def _unplaced(store: Store) -> Iterator[list[Row]]:
    """Yield all orders without where their store keeps them."""
    return ([row._replace(place=None) for row in rows] for rows in store.rows(AT_ONCE))


def _note(message: Message, at: int) -> MessageNote:
    return MessageNote(message.queue, message.message_id, message.order_id, at)


def _without_zeros(store: Store) -> dict[object, int]:
    return {series: value for series, value in store.totals().items() if value}


def _same(some: Iterator[Sequence[object]], others: Iterator[Sequence[object]]) -> bool:
    """Whether both yield the same rows; both yield lists of one length as long as there are rows."""
    while True:
        ours, theirs = next(some, None), next(others, None)
        if ours != theirs:
            return False
        if ours is None:
            return True
