"""Work on a ledger's store from a command, beside the ledger that serves it or without one.

The store decides which of two writers comes first, and each transaction leaves totals and orders as they must be, so
nothing has to be stopped.
"""

from __future__ import annotations

import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_orders.errors import ConfigurationError, StoreUnavailableError
from otel_orders.ledger.model import NEVER, Plan, Retention
from otel_orders.ledger.reading import Reading
from otel_orders.ledger.removals import KEY as REMOVED
from otel_orders.ledger.removals import Import, Removals
from otel_orders.ledger.service import ENV, open_store
from otel_orders.ledger.store import LIFECYCLE, RETENTION, Access, Batch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from otel_orders.ledger.store import Store
    from otel_orders.lifecycle import Lifecycle

TRIES: Final = 60
RETRY_EVERY: Final = 1.0
"""How often a batch is tried again while the store does not answer, and after how many seconds each time."""


class Beside(NamedTuple):
    """A store, and what it is kept under."""

    store: Store
    plan: Plan
    env: str
    batch: Batch

    def new_reading(self) -> Reading:
        """Return what events are read into, however old they are."""
        return Reading(self.plan.lifecycle, self.env, time.time_ns(), Retention(NEVER, NEVER))

    def removals(self) -> Removals | None:
        """Return between when orders lived that were removed, or are in the next hour; None where none was."""
        known = Removals.of(self.store.get(REMOVED))
        return known and known._replace(last=max(known.last, time.time_ns() - self.plan.retention.orders))

    def keep(
        self,
        reading: Reading,
        notes: Mapping[str, str] | None = None,
        ended: frozenset[str] = frozenset(),
        until: int = 0,
    ) -> list[str]:
        """Keep *reading*, and *notes* with it; return the result of each event.

        It is no sign of life of the services that it names.  ended, until: as an Import has them.  Raises
        StoreUnavailableError after TRIES.
        """
        imported = Import(time.time_ns(), ended, until)
        for left in range(TRIES, -1, -1):
            try:
                return self.batch.ingest(reading.received, rejected=reading.rejected, notes=notes, imported=imported)
            except StoreUnavailableError:
                if not left:
                    raise
                time.sleep(RETRY_EVERY)
        raise AssertionError  # the last try returns or raises


@contextmanager
def beside(url: str, lifecycle: Lifecycle, env: str, access: Access = Access.RUN) -> Iterator[Beside]:
    """Give the store at *url* inside the block; a new one is taken for *env* and *lifecycle*, unless it is only read.

    Raises ConfigurationError where it holds another env's events, or folds them under another lifecycle.
    """
    with closing(open_store(url, access)) as store:
        for key, ours, what in ((ENV, env, "the events of env"), (LIFECYCLE, lifecycle.hash, "orders under lifecycle")):
            if (found := store.get(key)) not in {None, ours}:
                raise ConfigurationError(f"the store holds {what} {found!r}, and this command is for {ours!r}")
            if found is None and access is not Access.READ:
                with store.transaction() as tx:
                    tx.put(key, ours)
        plan = Plan(lifecycle, Retention.of(store.get(RETENTION)))
        yield Beside(store, plan, env, Batch(store, plan))
