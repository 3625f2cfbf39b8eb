"""Metric families of prometheus_client, made of label values and numbers.  Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client.core import Metric

    from otel_orders.ledger.totals import Series


def counter(name: str, text: str, labels: list[str], series: dict[Series, int]) -> Metric:
    """Return a counter whose series have these label values."""
    family = CounterMetricFamily(name, text, labels=labels)
    for values, value in series.items():
        family.add_metric([str(label) for label in values], value)
    return family


def gauge(name: str, text: str, labels: list[str], series: Iterable[tuple[Series, float]]) -> Metric:
    """Return a gauge whose series have these label values."""
    family = GaugeMetricFamily(name, text, labels=labels)
    for values, value in series:
        family.add_metric([str(label) for label in values], value)
    return family
