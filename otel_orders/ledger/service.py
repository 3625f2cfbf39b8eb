"""A running ledger: store, writer, sweeper, followers, probe and watch put together.  Knows no transport."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from otel_orders import names
from otel_orders.errors import ConfigurationError
from otel_orders.ledger.board import OtherLifecycle, Stage, board, other_lifecycles, quiet_services
from otel_orders.ledger.follow import Follower
from otel_orders.ledger.kept import unpack
from otel_orders.ledger.metrics import LedgerCollector
from otel_orders.ledger.model import Plan
from otel_orders.ledger.outbox import OutboxFollower
from otel_orders.ledger.probe import Probe
from otel_orders.ledger.reading import Reading
from otel_orders.ledger.store import LIFECYCLE, Batch
from otel_orders.ledger.store.sqlite import SqliteStore
from otel_orders.ledger.story import story
from otel_orders.ledger.watch import Watch
from otel_orders.ledger.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from otel_orders.ledger.probe import Management
    from otel_orders.ledger.store import Received, Store
    from otel_orders.lifecycle import Lifecycle

SQLITE = "sqlite:///"
ENV = "env"
"""Key under which the store keeps the one environment that it serves."""


def open_store(url: str) -> Store:
    """Open the store at *url*: ``sqlite:///PATH``.  Raises ConfigurationError, StoreError."""
    path = url.removeprefix(SQLITE)
    if not url.startswith(SQLITE) or path in ("", ":memory:"):
        raise ConfigurationError(f"--store {url!r}: expected {SQLITE}PATH, the path of a file")
    return SqliteStore(path)


class Ledger:
    """The ledger of one environment.

    env: the only one whose events it keeps.  follow: JSON line files, and SQLite files with an outbox table as
    ``sqlite:///PATH``.  on_event: called with each event that came and its result, once it is on disk.  rabbitmq: where
    to probe the lifecycle's queues, None for no probe.  Raises ConfigurationError where the store belongs to another
    environment.
    """

    def __init__(
        self,
        store: Store,
        lifecycle: Lifecycle,
        env: str,
        follow: Sequence[str] = (),
        *,
        on_event: Callable[[Received, str], None] | None = None,
        rabbitmq: Management | None = None,
    ) -> None:
        self.lifecycle = lifecycle
        self.env = env
        self.plan = Plan(lifecycle)
        self._store = store
        batch = Batch(store, self.plan)
        self._claim(batch)
        self.writer = Writer(batch, on_event)
        self._probe = None if rabbitmq is None else Probe(rabbitmq, list(lifecycle.queues), store)
        self.metrics = LedgerCollector(store, self.plan, self.writer, self._probe)
        self._watch = Watch(store, lifecycle)
        self._followers = [self._follower(source) for source in follow]

    def new_reading(self) -> Reading:
        """Return what a request is read into."""
        return Reading(self.lifecycle, self.env, time.time_ns())

    def story(self, order_id: str) -> dict[str, Any] | None:
        """Return the story of one order, None where there is none."""
        state = self._store.state(order_id)
        if state is None:
            return None
        told = story(order_id, unpack(state), self.plan, time.time_ns())
        return told | {"stage": self._stage(told[names.STATUS])}

    def _stage(self, status: str | None) -> dict[str, Any] | None:
        """Return how the stage does in which an order waits, None where none does."""
        if (found := self._watch.told().get(status or "")) is None:
            return None
        verdict, evidence = found
        return {"state": verdict.state, "since": verdict.since, "evidence": evidence}

    def board(self) -> list[Stage]:
        """Return how many orders wait where, and how the stages do."""
        return board(self._store, self.lifecycle, self._watch.told())

    def other_lifecycles(self) -> list[OtherLifecycle]:
        """Return which services run another version of the lifecycle."""
        return other_lifecycles(self._store, self.lifecycle, time.time_ns())

    def quiet_services(self) -> dict[str, str]:
        """Return, in words by service, which were heard before and are silent now."""
        return quiet_services(self._store, self.lifecycle, time.time_ns())

    def longest_waiting(self, status: str, limit: int) -> list[tuple[str, int]]:
        """Return (order_id, entered_at in unix ns) of the orders that wait longest in *status*."""
        return self._store.longest_waiting(self.plan.rank(status), limit)

    @property
    def ready(self) -> bool:
        """Whether events can be kept."""
        return self.writer.alive

    def close(self) -> None:
        """Stop following, write what waits, close the store."""
        for follower in self._followers:
            follower.close()
        if self._probe is not None:
            self._probe.close()
        self._watch.close()
        self.writer.close()
        self._store.close()

    def _follower(self, source: str) -> Follower | OutboxFollower:
        kind, path = (OutboxFollower, source.removeprefix(SQLITE)) if source.startswith(SQLITE) else (Follower, source)
        return kind(path, self._store, self.writer, self.new_reading)

    def _claim(self, batch: Batch) -> None:
        """Take the store for this environment, and fold its orders under this lifecycle if they are not yet."""
        env = self._store.get(ENV)
        if env not in (None, self.env):
            raise ConfigurationError(f"the store holds the events of env {env!r}, and this ledger is for {self.env!r}")
        if self._store.get(LIFECYCLE) != self.lifecycle.hash:
            batch.rebase()
        with self._store.transaction() as tx:
            tx.put(ENV, self.env)
