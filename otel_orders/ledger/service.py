"""A running ledger: store, writer, sweeper, followers, probe and watch put together.  Knows no transport."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

from otel_orders import names
from otel_orders.errors import ConfigurationError, MissingExtraError, StoreUnavailableError, UnreadableOrderError
from otel_orders.ledger import apply
from otel_orders.ledger.board import OtherLifecycle, Stage, board, other_lifecycles, quiet_services
from otel_orders.ledger.figures import report
from otel_orders.ledger.follow import Follower
from otel_orders.ledger.follow_pattern import PatternFollower
from otel_orders.ledger.kept import readable
from otel_orders.ledger.metrics import LedgerCollector
from otel_orders.ledger.model import KEPT, Plan, Retention
from otel_orders.ledger.operators import Operators
from otel_orders.ledger.outbox import OutboxFollower
from otel_orders.ledger.probe import Probe
from otel_orders.ledger.reading import Reading
from otel_orders.ledger.store import LIFECYCLE, RETENTION, Access, Batch
from otel_orders.ledger.store.replicas import agree
from otel_orders.ledger.store.sqlite import SqliteStore
from otel_orders.ledger.story import story, told_hold
from otel_orders.ledger.watch import Watch
from otel_orders.ledger.worst import Worst, worst
from otel_orders.ledger.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from otel_orders.ledger.outbox_postgres import PostgresOutboxFollower
    from otel_orders.ledger.probe import Management
    from otel_orders.ledger.report import Report, Selection
    from otel_orders.ledger.store import Received, Store
    from otel_orders.lifecycle import Lifecycle

SQLITE = "sqlite:///"
POSTGRES = ("postgresql://", "postgres://")
GLOB = "glob:"
ENV = "env"
"""Key under which the store keeps the one environment that it serves."""


class Waiting(NamedTuple):
    """An order that waits.  since: unix ns.  hold: as in its story, None for none."""

    order_id: str
    since: int
    hold: dict[str, Any] | None


def held(state: bytes, now: int) -> dict[str, Any] | None:
    """Return the hold of the order in *state*, None for none."""
    order = readable(state)
    return told_hold(order, now) if order else None


def open_store(url: str, access: Access = Access.RUN) -> Store:
    """Open the store at *url*: ``sqlite:///PATH`` or ``postgresql://...``.  Raises ConfigurationError, StoreError."""
    if url.startswith(POSTGRES):
        return _postgres(url, access)
    path = url.removeprefix(SQLITE)
    if not url.startswith(SQLITE) or path in ("", ":memory:"):
        shown = url if "@" not in url and "password" not in url else url.partition(":")[0] + ":..."
        raise ConfigurationError(
            f"--store {shown!r}: expected {SQLITE}PATH, the path of a file, or postgresql://USER@HOST/DATABASE"
        )
    return SqliteStore(path, access)


def _postgres(url: str, access: Access) -> Store:
    try:
        from otel_orders.ledger.store.postgres import PostgresStore  # noqa: PLC0415 - an extra brings its driver
    except ImportError:  # also a driver that lacks libpq
        raise MissingExtraError("--store postgresql://...", "postgres") from None
    return PostgresStore(url, access)


def _postgres_outbox() -> type[PostgresOutboxFollower]:
    try:
        from otel_orders.ledger.outbox_postgres import PostgresOutboxFollower  # noqa: PLC0415 - as above
    except ImportError:
        raise MissingExtraError("--follow postgresql://...", "postgres") from None
    return PostgresOutboxFollower


class Ledger:
    """The ledger of one environment.

    env: the only one whose events it keeps.  follow: JSON line files, many as ``glob:PATTERN``, and databases with an
    outbox table as ``sqlite:///PATH`` or ``postgresql://...``.  on_event: called with each event that came and its
    result, once it is on disk.  retention: how long ended orders are kept.  rabbitmq: where to probe the lifecycle's
    queues, None for no probe.  Raises ConfigurationError where the store belongs to another environment.
    """

    def __init__(
        self,
        store: Store,
        lifecycle: Lifecycle,
        env: str,
        follow: Sequence[str] = (),
        *,
        on_event: Callable[[Received, str], None] | None = None,
        retention: Retention = KEPT,
        rabbitmq: Management | None = None,
    ) -> None:
        self.lifecycle = lifecycle
        self.env = env
        self.plan = Plan(lifecycle, retention)
        self._store = store
        batch = Batch(store, self.plan)
        self._claim(batch)
        self.writer = Writer(batch, on_event)
        self.operators = Operators(store, self.plan)
        self._probe = None if rabbitmq is None else Probe(rabbitmq, list(lifecycle.queues), store)
        self._followers: list[Follower | PatternFollower | OutboxFollower | PostgresOutboxFollower] = []
        self.metrics = LedgerCollector(store, self.plan, self.writer, self._probe, self._followers)
        self._watch = Watch(store, lifecycle)
        try:
            self._followers.extend(map(self._follower, follow))
        except BaseException:
            self._stop()  # whoever gave the store closes it, and nobody may work with it then
            raise

    def new_reading(self) -> Reading:
        """Return what a request is read into."""
        return Reading(self.lifecycle, self.env, time.time_ns(), self.plan.retention)

    def story(self, order_id: str) -> dict[str, Any] | None:
        """Return the story of one order, None where there is none.

        Raises UnreadableOrderError where its row has rotted.
        """
        self._agree()
        state = self._store.state(order_id)
        if state is None:
            return None
        order = apply.sound(state, self.plan)
        if order is None:
            raise UnreadableOrderError
        told = story(order_id, order, self.plan, time.time_ns())
        return told | {"stage": self._stage(told[names.STATUS])}

    def _stage(self, status: str | None) -> dict[str, Any] | None:
        """Return how the stage does in which an order waits, None where none does."""
        if (found := self._watch.told().get(status or "")) is None:
            return None
        verdict, evidence = found
        return {"state": verdict.state, "since": verdict.since, "evidence": evidence}

    def board(self) -> list[Stage]:
        """Return how many orders wait where, and how the stages do."""
        self._agree()
        return board(self._store, self.lifecycle, self._watch.told())

    def other_lifecycles(self) -> list[OtherLifecycle]:
        """Return which services run another version of the lifecycle."""
        return other_lifecycles(self._store, self.lifecycle, time.time_ns())

    def quiet_services(self) -> dict[str, str]:
        """Return, in words by service, which were heard before and are silent now."""
        return quiet_services(self._store, self.lifecycle, time.time_ns())

    def longest_waiting(self, status: str, limit: int) -> list[Waiting]:
        """Return the orders that wait longest in *status*."""
        self._agree()
        now = time.time_ns()
        return [
            Waiting(one.order_id, one.since, held(one.state, now))
            for one in self._store.longest_waiting(self.plan.rank(status), limit)
        ]

    def worst(self, limit: int) -> list[Worst]:
        """Return the orders that have used most of the time that they may wait, over all statuses."""
        self._agree()
        return worst(self._store, self.lifecycle, time.time_ns(), limit)

    def report(self, selection: Selection) -> Report:
        """Return business figures; takes a look at every order."""
        self._agree()
        return report(self._store, self.plan, selection, time.time_ns())

    @property
    def ready(self) -> bool:
        """Whether events can be kept.  Raises StoreError where the store says no."""
        if not self.writer.alive:
            return False
        if self.writer.outage.why is not None:
            raise StoreUnavailableError(self.writer.outage.why)
        self._agree()
        return True

    def _agree(self) -> None:
        agree(self._store.get(LIFECYCLE), self.plan)

    def close(self) -> None:
        """Stop following, write what waits, close the store."""
        self._stop()
        self._store.close()

    def _stop(self) -> None:
        for follower in self._followers:
            follower.close()
        if self._probe is not None:
            self._probe.close()
        self._watch.close()
        self.writer.close()

    def _follower(self, source: str) -> Follower | PatternFollower | OutboxFollower | PostgresOutboxFollower:
        into = (self._store, self.writer, self.new_reading)
        if source.startswith(POSTGRES):
            return _postgres_outbox()(source, *into)
        if source.startswith(SQLITE):
            return OutboxFollower(source.removeprefix(SQLITE), *into)
        if source.startswith(GLOB):
            return PatternFollower(source.removeprefix(GLOB), *into)
        return Follower(source, *into)

    def _claim(self, batch: Batch) -> None:
        """Take the store for this environment, and fold its orders under this lifecycle if they are not yet."""
        with self._store.transaction() as tx:
            if tx.get(ENV) != self.env:
                tx.alone()  # of two that start at once, one is first
            env = tx.get(ENV)
            if env not in (None, self.env):
                raise ConfigurationError(
                    f"the store holds the events of env {env!r}, and this ledger is for {self.env!r}"
                )
            tx.put(ENV, self.env)  # also again: a store that cannot be written is found here
        made_with = (self._store.get(LIFECYCLE), self._store.get(RETENTION))
        if made_with != (self.lifecycle.hash, self.plan.retention.text()):
            batch.rebase()
