"""The Collector and the ledger: who watches the watchers.  Pure, and the same for every lifecycle.

The Collector's metrics are those that version 0.159 shows with our configs; with others, counters end in `_total`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_orders import names
from otel_orders.generate import links
from otel_orders.generate.alerts_telemetry import NEEDED
from otel_orders.generate.dashboards import variables
from otel_orders.generate.dashboards.board import Board, Row
from otel_orders.generate.dashboards.panels import Limits, Panel, Question, bars, lines, numbers
from otel_orders.generate.dashboards.queries import ENV, PROMETHEUS, Query
from otel_orders.generate.grown import grown

if TYPE_CHECKING:
    from otel_orders.lifecycle import Lifecycle

_SIGNALS: Final = {"spans": "spans", "log_records": "log records"}


def telemetry(_lifecycle: Lifecycle) -> Board:
    """Return the dashboard for those who run ledger and Collector."""
    return Board(
        uid=links.TELEMETRY,
        title="Orders: Collector and ledger",
        description="Whether what all other dashboards and alerts stand on is there, complete and in time.",
        variables=(variables.data_source(PROMETHEUS), variables.environment()),
        rows=(
            Row("Is the ledger up to date?", (_swept(), _waiting(), _followed(), _store_errors())),
            Row("Is what it knows complete and right?", (_events(), _corrections(), _shown(), _rotted())),
            Row("Does the Collector pass everything on?", (_collectors(), _taken(), _refused(), _queue(), _lost())),
            Row("What does it keep, and at what cost?", (_kept(), _memory())),
        ),
    )


def _swept() -> Panel:
    return lines(
        Question(
            "How long ago did the ledger look for stuck orders and broken promises?",
            "s",
            "5 s are usual. More: its store is slow, locked or full; read its log and /readyz. Nothing: no ledger is "
            "scraped, and no alert on orders can fire.",
            ("LedgerLagging", "LedgerDown"),
            width=6,
        ),
        Query(f"time() - env:otel_orders_ledger_swept_timestamp_seconds:max{{{ENV}}}", "last look"),
        limits=Limits(30, 60),
    )


def _waiting() -> Panel:
    return lines(
        Question(
            "How many events wait for the ledger's disk?",
            "short",
            "A wave after an outage is worked off. One that never empties: more comes than the disk takes, see "
            "Capacity. Nothing is lost; senders come back later.",
            ("LedgerBacklog",),
            width=6,
        ),
        Query(f"max by (env) (otel_orders_ledger_waiting_events{{{ENV}}})", "waiting"),
        limits=Limits(500, 1000),
    )


def _followed() -> Panel:
    return bars(
        Question(
            "How long ago was each followed file or table read to its end?",
            "s",
            "Growing: the file cannot be opened, the database is away, or the store takes nothing. The ledger's log "
            "says which. Nothing: it follows no source.",
            width=6,
        ),
        Query(f"time() - max by (source) ({names.FOLLOWED_READ}{{{ENV}}})", "{{source}}"),
        limits=Limits(60, 300),
    )


def _store_errors() -> Panel:
    return lines(
        Question(
            "Which writes to the store failed in 10 minutes?",
            "short",
            "Full: make room on its disk. Gone: somebody moved the file, put it back. Unavailable: the database is "
            "away. Senders keep what was not stored.",
            ("LedgerLagging",),
            width=6,
        ),
        Query(f"sum by (reason) (increase({names.STORE_ERRORS}{{{ENV}}}[10m]))", "{{reason}}"),
        limits=Limits(0.5, 10),
    )


def _events() -> Panel:
    return lines(
        Question(
            "What became of the events of the last 15 minutes?",
            "short",
            "Rejected, late or unknown_status: their orders look as if they stood still; the ledger's log has the "
            "reasons. Negative_duration: clocks differ. Duplicates do no harm.",
            ("LedgerRefusing", "ClocksDiffer"),
        ),
        Query(f"max by (result) (increase({names.LEDGER_EVENTS}{{{ENV}}}[15m]))", "{{result}}"),
    )


def _corrections() -> Panel:
    return lines(
        Question(
            "Which counted values did late events prove wrong, in an hour?",
            "short",
            "Many: events come late or in the wrong order; see queue and losses of the Collector below. Reports made "
            "from the store are exact all the same.",
            ("ClocksDiffer",),
        ),
        Query(f"max by (series) (increase({names.CORRECTIONS}{{{ENV}}}[1h]))", "{{series}}"),
    )


def _shown() -> Panel:
    listed = "|".join(NEEDED)
    return numbers(
        Question(
            f"How many of the {len(NEEDED)} metrics that alerts need does the ledger show?",
            "short",
            "Fewer: its version is another one than that of the rules, or Prometheus drops some by relabelling. "
            "LedgerMetricsAbsent names those that are missing.",
            ("LedgerMetricsAbsent", "LedgerDown"),
        ),
        Query(f'count(count by (__name__) ({{__name__=~"{listed}"}}))', "shown"),
        limits=Limits(len(NEEDED), len(NEEDED) - 0.5),
    )


def _rotted() -> Panel:
    return numbers(
        Question(
            "How many orders can the ledger no longer read from its store?",
            "short",
            "Any at all: stop, run `otel-orders ledger check`, look at the disk, and restore a backup; such orders can "
            "neither be found stuck nor looked up.",
            ("LedgerDamaged",),
        ),
        Query(f"max by (env) ({names.UNREADABLE}{{{ENV}}})", "unreadable"),
        limits=Limits(0.5, 1),
    )


def _collectors() -> Panel:
    return numbers(
        Question(
            "How many Collectors does Prometheus see?",
            "short",
            "None: services keep their newest 8,192 events and try for 10 minutes; what is older is lost then. Fewer "
            "than there should be: the others are full, or down.",
            ("CollectorDown",),
            width=4,
        ),
        Query(f"count({_metric('otelcol_process_uptime')})", "Collectors"),
        limits=Limits(1, 0.5),
    )


def _taken() -> Panel:
    return lines(
        Question(
            "What does the Collector take?",
            "cps",
            "A drop of one signal: its senders are down, or send elsewhere. A drop of all: see whether it is reached.",
            ("CollectorDown",),
            width=10,
        ),
        *(
            Query(f"sum by (receiver) (rate({_metric(f'otelcol_receiver_accepted_{signal}')}[5m]))", _called(called))
            for signal, called in _SIGNALS.items()
        ),
    )


def _refused() -> Panel:
    return lines(
        Question(
            "What did the Collector refuse in 10 minutes?",
            "short",
            "Its memory is used up, or a queue behind it is full: see both, below. Senders try again for 10 minutes.",
            ("CollectorRefusing",),
            width=10,
        ),
        *(
            Query(f"sum by (receiver) (\n  {_grown(f'otelcol_receiver_refused_{signal}')}\n)", _called(called))
            for signal, called in _SIGNALS.items()
        ),
        limits=Limits(0.5, 100),
    )


def _queue() -> Panel:
    return lines(
        Question(
            "How full is the queue for each thing that the Collector sends to?",
            "percentunit",
            "What it sends to is away or too slow: look there. At 1, senders are refused, and what they cannot keep is "
            "lost.",
            ("CollectorQueueFilling",),
        ),
        Query(f"exporter:otelcol_exporter_queue_used:ratio{{{ENV}}}", "{{exporter}}"),
        limits=Limits(0.7, 0.9),
    )


def _lost() -> Panel:
    return lines(
        Question(
            "What did the Collector lose in 10 minutes?",
            "short",
            "For the ledger: find the orders with `otel-orders reconcile`. For a store of traces or logs: its own log "
            "says what it refused. Its queue on the disk was full, or the other side said no.",
            ("CollectorDropping",),
        ),
        *(
            Query(
                f"sum by (exporter) (\n  {_grown(f'otelcol_exporter_{how}_failed_{signal}')}\n)",
                f"{{{{exporter}}}} {called}, {how}",
            )
            for signal, called in _SIGNALS.items()
            for how in ("enqueue", "send")
        ),
        limits=Limits(0.5, 1),
    )


def _kept() -> Panel:
    judged = _metric("otelcol_processor_tail_sampling_global_count_traces_sampled")
    kept = _metric("otelcol_processor_tail_sampling_global_count_traces_sampled", 'sampled="true"')
    return lines(
        Question(
            "Which share of the traces that it judged is kept?",
            "percentunit",
            "Far above the lifecycle's ratio: many traces have a problem, which Services names. Far below: no traces "
            "of orders come, or sampling.yaml is of another lifecycle.",
        ),
        Query(f"sum(rate({kept}[5m])) / (sum(rate({judged}[5m])) > 0)", "kept"),
    )


def _memory() -> Panel:
    return lines(
        Question(
            "How much memory does each Collector use?",
            "bytes",
            "Near OTELCOL_MEMORY_MIB it refuses what comes: let traces wait for less long, add a gateway, or give it "
            "more.",
            ("CollectorRefusing",),
        ),
        Query(f"max by (instance) ({_metric('otelcol_process_memory_rss')})", "{{instance}}"),
    )


def _metric(name: str, selector: str = "") -> str:
    return "{" + ",".join(filter(None, (_named(name), selector, ENV))) + "}"


def _named(name: str) -> str:
    return f'__name__=~"{name}(_seconds|_bytes)?(_total)?"'


def _grown(name: str) -> str:
    return grown("", f"{_named(name)},{ENV}", "10m")


def _called(signal: str) -> str:
    return f"{{{{receiver}}}} {signal}"
