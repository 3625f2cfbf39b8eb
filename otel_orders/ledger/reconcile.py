"""Hold a snapshot of the orders, as their own system has them, against the ledger.

What differs is told to the ledger as order.observed, so that it finds orders which were stuck before it came, or which
telemetry never saw; and how often telemetry was right is its coverage.  What an earlier snapshot told is not counted as
telemetry's.  The snapshot lies in a temporary file meanwhile, so neither side needs to fit into memory.
"""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import msgspec

from otel_orders import names
from otel_orders.errors import ConfigurationError, EventError
from otel_orders.ledger import apply
from otel_orders.ledger.kept import CHANGED, OBSERVED
from otel_orders.ledger.reading import FUTURE
from otel_orders.ledger.words import span_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from otel_orders.ledger.beside import Beside
    from otel_orders.ledger.kept import Order
    from otel_orders.ledger.model import Plan
    from otel_orders.ledger.moments import Moments
    from otel_orders.ledger.tables import Row

AT_ONCE: Final = 1_000
NAMED: Final = 20
"""Orders, or bad rows, of a kind that are named: the first ones."""
SERVICE: Final = "reconcile"
"""Who says what a snapshot says."""

Verdict = Literal["agree", "ahead", "lost", "silent", "gone"]

_TABLE: Final = (
    "CREATE TABLE source (order_id TEXT PRIMARY KEY, status TEXT, entered_at INTEGER, met INTEGER DEFAULT 0)"
    " WITHOUT ROWID"
)


class Columns(msgspec.Struct, frozen=True):
    """Which column of a snapshot says what, how its times are written, and what its statuses are called in ours.

    statuses: None leaves the rows of a status out.
    """

    order_id: str
    status: str
    entered_at: str
    moments: Moments
    statuses: dict[str, str | None] = {}

    @property
    def needed(self) -> list[str]:
        """All columns that are read."""
        return [self.order_id, self.status, self.entered_at]


class Source(NamedTuple):
    """An order as its own system has it.  entered_at: unix ns."""

    order_id: str
    status: str
    entered_at: int


class Example(msgspec.Struct, frozen=True):
    """One order of a kind.  Times in unix ns; None where that side does not have the order."""

    order_id: str
    ledger: str | None
    source: str | None
    entered_at: int


class Report:
    """What a comparison found.

    counts: orders by verdict.  removed: orders that ended longer ago than the ledger keeps them, or when such did that
    it has removed: it cannot say anything of them.  posted: events that were told to the ledger.  stuck: orders of the
    snapshot, by status, that have waited there for longer than its stuck_after.  unknown: by status that the lifecycle
    does not have.  bad: the first rows that cannot be used, with line and reason; reasons: all of them.  unreadable:
    ids of orders whose rows in the ledger have rotted.
    """

    def __init__(self) -> None:
        self.counts: Counter[Verdict] = Counter()
        self.removed = self.posted = 0
        self.stuck: Counter[str] = Counter()
        self.unknown: Counter[str] = Counter()
        self.bad: list[tuple[int, str]] = []
        self.reasons: Counter[str] = Counter()
        self.unreadable: list[str] = []
        self.examples: dict[Verdict, list[Example]] = defaultdict(list)

    @property
    def coverage(self) -> float | None:
        """Of all orders that either side has, the share in percent whose status telemetry told; None of none."""
        total = self.counts.total()
        return 100 * (self.counts["agree"] + self.counts["ahead"]) / total if total else None

    def refuse(self, line: int, reason: str) -> None:
        """Note a row that cannot be used."""
        self.reasons[reason] += 1
        if len(self.bad) < NAMED:
            self.bad.append((line, reason))

    def note(self, verdict: Verdict, example: Example) -> None:
        """Count an order."""
        self.counts[verdict] += 1
        if verdict != "agree" and len(self.examples[verdict]) < NAMED:
            self.examples[verdict].append(example)


def verdict(order: Order | None, source: Source, taken_at: int, plan: Plan) -> Verdict:
    """Say how *order* stands to what *source* says of it; taken_at: when the snapshot was taken, unix ns."""
    if order is None or all(event.kind == OBSERVED for event in order.events):
        return "silent"
    fold = order.fold
    if fold.status == source.status:
        said = any(event.kind == CHANGED and event.to == source.status for event in order.events)
        return "agree" if said else "lost"
    further = fold.status in plan.lifecycle.forward.get(source.status, ())
    later = fold.entered_at > taken_at or (further and fold.entered_at > source.entered_at)
    return "ahead" if fold.status is not None and later else "lost"


class Times(NamedTuple):
    """When the snapshot was taken, and what time it is, in unix ns."""

    taken_at: int
    now: int

    def check(self, kept: int) -> None:
        """Raise ConfigurationError where the snapshot cannot be of then; kept: how long ended orders are, in ns.

        How long ago its orders came where they are is no matter: those are the ones to be found.
        """
        if self.taken_at > self.now + FUTURE:
            ahead = span_of(self.taken_at - self.now)
            raise ConfigurationError(f"the snapshot is said to be taken in {ahead} from now; see --taken-at")
        if self.taken_at < self.now - kept:
            raise ConfigurationError(
                f"the snapshot was taken {span_of(self.now - self.taken_at)} ago: orders that have ended since may be"
                " removed already, and would come back as open ones; take a new one, or say --taken-at"
            )


def reconcile(rows: Iterable[Row], columns: Columns, ledger: Beside, times: Times, *, dry_run: bool = False) -> Report:
    """Compare the snapshot's *rows* with *ledger*, and tell it what differs unless it is a *dry_run*.

    Raises ConfigurationError where the snapshot cannot have been taken when *times* has it.
    """
    times.check(ledger.plan.retention.orders)
    with closing(sqlite3.connect("")) as aside:  # a file of its own, gone with the connection
        aside.execute(_TABLE)
        comparison = _Comparison(aside, ledger, columns, times)
        for row in rows:
            comparison.lay_aside(row)
        differences = comparison.differences()
        while some := list(islice(differences, AT_ONCE)):
            comparison.report.posted += len(some) if dry_run else _posted(some, ledger)
    return comparison.report


class _Comparison:
    def __init__(self, aside: sqlite3.Connection, ledger: Beside, columns: Columns, times: Times) -> None:
        self.report = Report()
        self._aside = aside
        self._ledger = ledger
        self._columns = columns
        self._times = times
        self._removals = ledger.removals()

    def lay_aside(self, row: Row) -> None:
        """Keep what *row* says until all is known; one that cannot be used costs only itself."""
        try:
            source = _source(row.values, self._columns)
            if source is None:
                return
            self._check(source)
        except EventError as error:
            self.report.refuse(row.line, error.reason)
            return
        if not self._aside.execute("INSERT OR IGNORE INTO source VALUES (?, ?, ?, 0)", source).rowcount:
            self.report.refuse(row.line, "listed_twice")
            return
        limit = self._ledger.plan.stuck_after.get(source.status)
        if limit is None:
            self.report.unknown[source.status] += 1
        elif limit and source.entered_at + limit <= self._times.now:
            self.report.stuck[source.status] += 1

    def differences(self) -> Iterator[Source]:
        """Compare all orders of both sides; yield what the ledger is to be told."""
        plan = self._ledger.plan
        for some in self._ledger.store.scan(AT_ONCE):
            sources = self._find([order_id for order_id, _ in some])
            for order_id, state in some:
                order = apply.sound(state, plan)
                if order is None:
                    self.report.unreadable.append(order_id)
                elif found := sources.get(order_id):
                    yield from self._judged(order, found)
                elif _is_open(order, plan) and order.fold.newest_at <= self._times.taken_at:
                    self.report.note("gone", Example(order_id, order.fold.status, None, order.fold.entered_at))
        self._removals = self._ledger.removals()  # also of those that were removed meanwhile
        for row in self._aside.execute("SELECT order_id, status, entered_at FROM source WHERE met = 0"):
            yield from self._judged(None, Source(*row))

    def _check(self, source: Source) -> None:
        """Raise EventError where the ledger would not keep *source*."""
        trial = self._ledger.new_reading()
        trial.take(_record(source))
        for reason in trial.reasons:
            raise EventError(reason, "the ledger would not keep it")

    def _is_removed(self, source: Source) -> bool:
        """Whether *source* ended so long ago that the ledger has no more events of it, or may have removed it."""
        plan = self._ledger.plan
        old = source.entered_at <= self._times.now - plan.retention.orders
        gone = self._removals is not None and self._removals.cover(source.entered_at)
        return source.status in plan.terminal and (old or gone)

    def _find(self, order_ids: Sequence[str]) -> dict[str, Source]:
        marks = ",".join("?" * len(order_ids))
        statement = f"SELECT order_id, status, entered_at FROM source WHERE order_id IN ({marks})"  # noqa: S608 - marks
        sources = {row[0]: Source(*row) for row in self._aside.execute(statement, order_ids)}
        met = ((order_id,) for order_id in sources)
        self._aside.executemany("UPDATE source SET met = 1 WHERE order_id = ?", met)
        return sources

    def _judged(self, order: Order | None, source: Source) -> Iterator[Source]:
        if (order is None or order.fold.status == source.status) and self._is_removed(source):
            self.report.removed += 1
            return
        found = verdict(order, source, self._times.taken_at, self._ledger.plan)
        status = order.fold.status if order else None
        self.report.note(found, Example(source.order_id, status, source.status, source.entered_at))
        if found in ("lost", "silent") and status != source.status:
            # An observation that is older than what the ledger knows would change nothing; it held when it was taken.
            newer = order is None or status is None or source.entered_at > order.fold.entered_at
            yield source if newer else source._replace(entered_at=self._times.taken_at)


def _source(values: Mapping[str, Any] | None, columns: Columns) -> Source | None:
    if values is None:
        raise EventError("undecodable", "it has not the columns of the first line")
    order_id, status = (str(values.get(name) or "").strip() for name in (columns.order_id, columns.status))
    mapped = columns.statuses.get(status, status)
    if mapped is None:
        return None
    return Source(order_id, mapped, columns.moments.read(values.get(columns.entered_at)))


def _is_open(order: Order, plan: Plan) -> bool:
    return order.fold.status is not None and order.fold.status not in plan.terminal


def _posted(some: list[Source], ledger: Beside) -> int:
    reading = ledger.new_reading()
    for source in some:
        reading.take(_record(source))
    return len(ledger.keep(reading))


def _record(source: Source) -> dict[str, Any]:
    return {
        names.EVENT_TYPE: names.OBSERVED,
        names.ORDER_ID: source.order_id,
        names.TO_STATUS: source.status,
        names.OCCURRED_AT: source.entered_at,
        names.SERVICE: SERVICE,
    }
