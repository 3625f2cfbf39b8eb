"""Show the totals to Prometheus.  Costs what there is to show, not what there are orders.

Counts of nothing are 0; the oldest of nothing is absent.  Timestamps, not ages, are exported.
"""

from __future__ import annotations

import time
from collections import defaultdict
from typing import TYPE_CHECKING, Final, Protocol

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import HistogramMetricFamily

from otel_orders import names
from otel_orders.ledger import apply, flow_metrics, reading
from otel_orders.ledger.families import counter, gauge
from otel_orders.ledger.model import UNKNOWN
from otel_orders.ledger.outage import REASONS
from otel_orders.ledger.store import LIFECYCLE
from otel_orders.ledger.store.replicas import agree
from otel_orders.ledger.totals import INFINITE, SUM, edges
from otel_orders.ledger.worst import beside_held

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from prometheus_client.core import Metric

    from otel_orders.ledger.model import Plan
    from otel_orders.ledger.polling import Poller
    from otel_orders.ledger.probe import Probe
    from otel_orders.ledger.store import Store
    from otel_orders.ledger.totals import Series
    from otel_orders.ledger.writer import Writer

RESULTS: Final = (
    apply.ACCEPTED,
    apply.DUPLICATE,
    apply.UNKNOWN_STATUS,
    apply.ILLEGAL,
    apply.SKIPPED,
    apply.NEGATIVE_DURATION,
    apply.LATE,
    reading.REJECTED,
    apply.ERASED,
)
COUNTERS: Final = {
    names.REACHED: (["status"], "Orders that entered a status for the first time."),
    names.SLA_MET: (["sla", "partner"], "Promises that were kept."),
    names.SLA_BREACHED: (["sla", "partner"], "Promises that were broken, counted 2 minutes after the deadline."),
    names.FAILED_TRANSITIONS: (["to_status", "error_code"], "Transitions that were tried and failed."),
    names.LEDGER_EVENTS: (["result"], "Events received, by what became of them."),
    names.CORRECTIONS: (["series"], "Counted values that a late event proved wrong."),
    names.REMOVED: (["why"], "Orders that are no longer kept: for their age, or erased on request."),
    names.UNREADABLE: ([], "Orders whose timers are not looked at any more, since their row has rotted."),
    names.MESSAGES_GONE: (["queue"], "Messages that left their queue without a record: purged, expired, or lost."),
}
GAUGES: Final = {
    names.IN_STATUS: (["status"], "Orders that wait in a status."),
    names.STUCK: (["status"], "Orders that have waited in a status for longer than its stuck_after."),
    names.ON_HOLD: (["status"], "Orders that a person put on hold: they do not count as stuck."),
    names.SLA_OVERDUE: (["sla"], "Orders whose promise is past its deadline and not yet kept."),
    names.SLA_AT_RISK: (["sla"], "Orders that have used 80 % of the time of a promise."),
}
HISTOGRAMS: Final = {
    names.TIME_IN_STATUS: (["status", "partner"], "Time that orders spent in a status they have left."),
    names.MILESTONE: (["milestone", "partner"], "Time between two statuses, with everything between."),
}
CORRECTED: Final = (names.REACHED, names.TIME_IN_STATUS, names.MILESTONE, names.SLA_MET, names.SLA_BREACHED)
"""Counters that a late event may prove wrong."""


class Following(Protocol):
    """What follows a source."""

    @property
    def poller(self) -> Poller:
        """What reads it."""
        ...


class LedgerCollector:
    """A prometheus_client collector over a store.  followers: there may be more later."""

    def __init__(
        self,
        store: Store,
        plan: Plan,
        writer: Writer | None = None,
        probe: Probe | None = None,
        followers: Sequence[Following] = (),
    ) -> None:
        self._store = store
        self._followers = followers
        self._probe = probe
        self._plan = plan
        self._writer = writer
        self._edges = edges(plan.lifecycle)

    def page(self) -> bytes:
        """Return the metrics in Prometheus' text format."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return generate_latest(registry)

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics of the ledger.  Raises StoreError."""
        agree(self._store.get(LIFECYCLE), self._plan)
        by_metric: dict[str, dict[Series, int]] = defaultdict(dict)
        for series, value in (self._zeros() | self._store.totals()).items():
            by_metric[str(series[0])][series[1:]] = value
        for name, (labels, text) in COUNTERS.items():
            yield counter(name, text, labels, by_metric[name])
        for name, (labels, text) in GAUGES.items():
            yield gauge(name, text, labels, by_metric[name].items())
        for name, (labels, text) in HISTOGRAMS.items():
            yield self._histogram(name, text, labels, by_metric[name])
        yield from self._stages(by_metric[names.ON_HOLD])
        yield from flow_metrics.stages(self._store, self._plan.lifecycle)
        yield from flow_metrics.queues(self._store, self._plan.lifecycle)
        if self._probe is not None:
            yield from flow_metrics.probe(self._probe)
        yield from self._own()

    def _zeros(self) -> dict[Series, int]:
        """Return the series that exist before anything happened."""
        statuses, slas = self._plan.lifecycle.statuses, self._plan.lifecycle.slas
        open_statuses = [name for name in statuses if name not in self._plan.terminal]
        zeros: list[Series] = [(names.LEDGER_EVENTS, result) for result in RESULTS]
        zeros += [(names.REACHED, status) for status in statuses]
        zeros += [
            (gauge, status) for gauge in (names.IN_STATUS, names.STUCK, names.ON_HOLD) for status in open_statuses
        ]
        zeros += [(gauge, sla) for gauge in (names.SLA_OVERDUE, names.SLA_AT_RISK) for sla in slas]
        partners = ("retail", "other", *sorted(self._plan.lifecycle.partners.named))
        kept_or_broken = (names.SLA_MET, names.SLA_BREACHED)
        zeros += [(counter, sla, partner) for counter in kept_or_broken for sla in slas for partner in partners]
        zeros += [(names.CORRECTIONS, series) for series in CORRECTED]
        zeros += [(names.REMOVED, "retention"), (names.REMOVED, "erased"), (names.UNREADABLE,)]
        zeros += [(names.MESSAGES_GONE, queue.name) for queue in self._plan.lifecycle.queues.values() if queue.track]
        return dict.fromkeys(zeros, 0)

    def _stages(self, on_hold: Mapping[Series, int]) -> Iterator[Metric]:
        statuses = list(self._plan.lifecycle.statuses.values())
        labels = [status.name for status in statuses] + [UNKNOWN]
        found = {
            stage: self._oldest_beside(stage, held) if (held := on_hold.get((labels[stage],), 0)) > 0 else entered
            for stage, entered in self._store.oldest(len(labels)).items()
        }
        since = [((labels[stage],), entered / 1e9) for stage, entered in found.items() if entered is not None]
        text = "When the order that waits longest, and is not on hold, entered its status."
        yield gauge(names.OLDEST_ENTERED, text, ["status"], since)
        limits = [((status.name,), status.stuck_after.seconds) for status in statuses if status.stuck_after]
        yield gauge(names.STUCK_AFTER, "How long an order may wait in a status.", ["status"], limits)

    def _oldest_beside(self, stage: int, held: int) -> int | None:
        """Return when the first order came to *stage* that is not among the *held* on hold there, None for none."""
        return next((one.since for one in beside_held(self._store, stage, time.time_ns(), 1, held)), None)

    def _own(self) -> Iterator[Metric]:
        last: dict[tuple[str], float] = {}
        for seen in self._store.seen():
            last[seen.service,] = max(seen.at / 1e9, last.get((seen.service,), 0.0))
        text = "When the newest event of a service happened."
        yield gauge(names.SERVICE_LAST_EVENT, text, ["service_name"], last.items())
        size = self._store.size()
        yield gauge("otel_orders_ledger_store_bytes", "Size of the store on disk.", [], [((), size)])
        if self._writer is not None:
            waiting, swept = self._writer.waiting, self._writer.swept_at
            yield gauge("otel_orders_ledger_waiting_events", "Events that wait for the disk.", [], [((), waiting)])
            text = "When timers were last looked at; orders are found stuck no later."
            yield gauge("otel_orders_ledger_swept_timestamp_seconds", text, [], [((), swept)])
            text = "Writes that failed since this ledger started; their senders were told to try again."
            failed: dict[Series, int] = {(reason,): self._writer.outage.errors[reason] for reason in REASONS}
            yield counter(names.STORE_ERRORS, text, ["reason"], failed)
        text = "When a followed source was last read to its end; at first, when this ledger started."
        read = [((one.poller.what.removeprefix("the "),), one.poller.caught_up_at) for one in self._followers]
        yield gauge(names.FOLLOWED_READ, text, ["source"], read)

    def _histogram(self, name: str, text: str, labels: list[str], series: dict[Series, int]) -> Metric:
        family = HistogramMetricFamily(name, text, labels=labels)
        buckets: dict[tuple[str, ...], dict[int, int]] = defaultdict(dict)
        sums: dict[tuple[str, ...], int] = {}
        for (*values, edge), value in series.items():
            key = tuple(str(label) for label in values)
            if edge == SUM:
                sums[key] = value
            else:
                buckets[key][int(edge)] = value
        for key, counts in sorted(buckets.items()):
            family.add_metric(list(key), _cumulative(counts, self._edges), sums.get(key, 0) / 1000)
        return family


def _cumulative(counts: dict[int, int], known: tuple[int, ...]) -> list[tuple[str, float]]:
    """Return cumulative buckets in seconds; edges of an earlier lifecycle that still hold counts stay."""
    total, found = 0, []
    for edge in sorted({*known, *(edge for edge in counts if edge != INFINITE)}):
        total += counts.get(edge, 0)
        found.append((_seconds(edge), float(total)))
    return [*found, ("+Inf", float(total + counts.get(INFINITE, 0)))]


def _seconds(milliseconds: int) -> str:
    return repr(milliseconds / 1000)
