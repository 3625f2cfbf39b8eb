"""What the ledger asks of a database: rows, totals and notes, read and written inside a transaction.

Knows what is kept, and not what it means.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from otel_orders.ledger.kept import Kept
    from otel_orders.ledger.totals import Series


class Access(enum.Enum):
    """What a store is opened for.

    RUN: a ledger; a new store is made, one of an older version brought forward.  CHANGE and READ: a command, on a store
    that is there already in this version; READ writes nothing at all.
    """

    RUN = enum.auto()
    CHANGE = enum.auto()
    READ = enum.auto()


class Found(NamedTuple):
    """An order's row as a transaction reads it.  place: where the store keeps it, for writing it back."""

    place: object
    state: bytes
    due_at: int


class Row(NamedTuple):
    """One order as the store is to hold it.

    place: of the Found that it replaces, None for a new order.  stage: the rank of its status, waiting_since: when it
    entered it, unix ns; both None when it waits for nobody any more.  due_at: the earliest time at which its timers
    must be looked at, unix ns, model.NEVER for none.  state: the packed Order.
    """

    order_id: str
    place: object
    stage: int | None
    waiting_since: int | None
    due_at: int
    state: bytes


class Waiting(NamedTuple):
    """An order that waits in a stage.  since: when it came there, unix ns.  state: the packed Order."""

    order_id: str
    since: int
    state: bytes


class Seen(NamedTuple):
    """The last sign of life of one instance of a service; at: unix ns."""

    service: str
    instance: str
    role: str
    at: int
    lifecycle_hash: str


class MessageNote(NamedTuple):
    """What is known of one message in one queue whose messages are tracked.

    message_id: unique in its queue.  at: when it was published, or settled, unix ns.
    """

    queue: str
    message_id: str
    order_id: str
    at: int


class Message(NamedTuple):
    """All that is known of one message.  published_at, settled_at: unix ns, None for not yet."""

    queue: str
    message_id: str
    order_id: str
    published_at: int | None
    settled_at: int | None


class Transaction(Protocol):
    """What a store does inside one transaction."""

    def find(self, order_ids: Sequence[str]) -> dict[str, Found]:
        """Return the row of each of *order_ids* that exists, locked until the end of the transaction."""
        ...

    def due(self, now: int, limit: int) -> dict[str, Found]:
        """Return at most *limit* rows of orders whose due_at is at or before *now* (unix ns), soonest first, locked."""
        ...

    def alone(self) -> None:
        """Wait for others that write orders, and keep them out until the end of the transaction; they may read."""
        ...

    def create(self, rows: Sequence[Row]) -> None:
        """Write rows of new orders.  Raises StoreConflictError where somebody else has made one since find()."""
        ...

    def change(self, rows: Sequence[Row]) -> None:
        """Write new contents of existing rows, due_at excepted."""
        ...

    def reschedule(self, rows: Sequence[Row]) -> None:
        """Write new contents of existing rows, due_at included."""
        ...

    def delete(self, rows: Sequence[Found]) -> None:
        """Forget orders."""
        ...

    def disown(self, order_ids: Sequence[str]) -> None:
        """Forget which orders the messages of *order_ids* belong to."""
        ...

    def add(self, changes: Mapping[Series, int]) -> None:
        """Change totals."""
        ...

    def advance(self, moments: Mapping[Series, int]) -> dict[Series, int]:
        """Keep for each series the latest of the moments (unix ns) it was ever given; return those kept before."""
        ...

    def published(self, notes: Sequence[MessageNote]) -> None:
        """Note messages that wait in their queues; one that was settled before it was noted is not kept waiting."""
        ...

    def settled(self, notes: Sequence[MessageNote]) -> None:
        """Note messages that wait no more, also those whose publishing is not known yet."""
        ...

    def forget_messages(self, queue: str, before: int) -> int:
        """Forget what was published in *queue*, or settled, before *before* (unix ns); return how many waited."""
        ...

    def forget_settled(self, queue: str, before: int) -> None:
        """Forget what was settled in *queue* before *before* (unix ns), whatever still waits there."""
        ...

    def forget_elsewhere(self, queues: Collection[str], before: int) -> None:
        """Forget what was published, or settled, before *before* (unix ns) in no queue of *queues*."""
        ...

    def see(self, seen: Iterable[Seen]) -> None:
        """Note signs of life; an older one never replaces a newer one."""
        ...

    def get(self, key: str) -> str | None:
        """Return what put() kept under *key*."""
        ...

    def forget_instances(self, before: int) -> None:
        """Forget signs of life before *before* (unix ns), those of services as a whole excepted."""
        ...

    def put(self, key: str, value: str) -> None:
        """Keep *value* under *key* (settings of the store, offsets of followed files)."""
        ...

    def swept(self, now: int) -> None:
        """Note that timers were looked at up to *now* (unix ns), and that this replica is the one that does it."""
        ...


class Store(Protocol):
    """What the ledger asks of a database.  Methods raise StoreUnavailableError when it does not answer."""

    def transaction(self) -> AbstractContextManager[Transaction]:
        """Return a block that commits durably at its normal end, and leaves no trace otherwise.

        Raises StoreConflictError where another replica came first, so that the same again will do.
        """
        ...

    def state(self, order_id: str) -> bytes | None:
        """Return the packed state of one order."""
        ...

    def all_ids(self, batch: int) -> Iterator[list[str]]:
        """Yield the ids of all orders, in lists of at most *batch*."""
        ...

    def scan(self, batch: int) -> Iterator[list[tuple[str, bytes]]]:
        """Yield (order_id, packed state) of all orders by id, in lists of at most *batch*, blocking no writer."""
        ...

    def rows(self, batch: int) -> Iterator[list[Row]]:
        """Yield all orders by id as create() takes them, in lists of at most *batch*, blocking no writer."""
        ...

    def messages(self, batch: int) -> Iterator[list[Message]]:
        """Yield all messages that are known, in lists of at most *batch*, blocking no writer."""
        ...

    def snapshot(self) -> AbstractContextManager[Store]:
        """Return a block in which the store that it gives, only to read from, stays as it is now."""
        ...

    def totals(self) -> dict[Series, int]:
        """Return all totals."""
        ...

    def moments(self) -> dict[Series, int]:
        """Return all that advance() kept, unix ns."""
        ...

    def oldest_messages(self) -> dict[str, MessageNote]:
        """Return, by queue, the message that waits longest."""
        ...

    def oldest(self, stages: int) -> dict[int, int]:
        """Return when the first of the orders that wait at each rank below *stages* came there (unix ns)."""
        ...

    def longest_waiting(self, stage: int, limit: int, since: int = 0) -> list[Waiting]:
        """Return the orders that wait longest at rank *stage*, of those that came there from *since* (unix ns) on."""
        ...

    def seen(self) -> list[Seen]:
        """Return the last signs of life of all instances."""
        ...

    def get(self, key: str) -> str | None:
        """Return what put() kept under *key*."""
        ...

    def items(self, prefix: str) -> dict[str, str]:
        """Return all that put() kept under keys that start with *prefix*, by key in order."""
        ...

    def swept_elsewhere(self) -> int | None:
        """Return when another replica that still sweeps last did (unix ns), None where it is ours to do."""
        ...

    def empty_log(self) -> None:
        """Let the database's log hold nothing of what was deleted, where the log is the store's own."""
        ...

    def size(self) -> int:
        """Return the size of the store in bytes."""
        ...

    def close(self) -> None:
        """Let go of the database."""
        ...


class Received(NamedTuple):
    """One event on its way into the store."""

    order_id: str
    event: Kept
