"""Panels on the Collector: what it takes, refuses, keeps waiting and loses.  Pure.

Its metrics are those that version 0.159 shows with our configs; with others, counters end in `_total`.
"""

from __future__ import annotations

from typing import Final

from otel_orders.generate.dashboards.panels import Limits, Panel, Question, lines, numbers
from otel_orders.generate.dashboards.queries import ENV, Query
from otel_orders.generate.grown import grown
from otel_orders.generate.rules import of_collector

_SIGNALS: Final = {"spans": "spans", "log_records": "log records"}


def passing() -> tuple[Panel, ...]:
    """Return what comes in, and what of it does not go out."""
    return _collectors(), _taken(), _refused(), _queue(), _lost()


def cost() -> tuple[Panel, ...]:
    """Return how much tail sampling keeps, and the memory that it takes."""
    return _kept(), _memory()


def _collectors() -> Panel:
    return numbers(
        Question(
            "How many Collectors does Prometheus see?",
            "short",
            "None: services keep their newest 8,192 events and try for 10 minutes; what is older is lost then. Fewer "
            "than there should be: the others are full, or down.",
            ("CollectorDown", "CollectorMissing"),
            width=4,
        ),
        Query(f"count({_metric('otelcol_process_uptime')}) or vector(0)", "Collectors"),
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
    return "{" + ",".join(filter(None, (of_collector(name), selector, ENV))) + "}"


def _grown(name: str) -> str:
    return grown("", f"{of_collector(name)},{ENV}", "10m")


def _called(signal: str) -> str:
    return f"{{{{receiver}}}} {signal}"
