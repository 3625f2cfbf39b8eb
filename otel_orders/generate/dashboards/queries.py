"""Queries, and the data sources that they go to.  Pure: knows no panel."""

from __future__ import annotations

from string import ascii_uppercase
from typing import TYPE_CHECKING, ClassVar, Final

import msgspec
from grafana_foundation_sdk.builders import prometheus as builder
from grafana_foundation_sdk.models import prometheus as model
from grafana_foundation_sdk.models.common import DataSourceRef

if TYPE_CHECKING:
    from collections.abc import Iterable

PROMETHEUS, TEMPO, JAEGER, LOKI = "prometheus", "tempo", "jaeger", "loki"
INFINITY: Final = "yesoreyeram-infinity-datasource"
"""Grafana Labs' plugin that reads JSON over HTTP: what the ledger knows of single orders is no metric."""
ENV: Final = 'env=~"$env"'
"""The matcher of the chosen environment; all of them match where no series has the label."""
OF_QUEUE: Final = f'queue=~"$queue",{ENV}'
OF_SERVICE: Final = f'service_name=~"$service_name",{ENV}'
OF_JOB: Final = f'job=~"(.+/)?($service_name)",{ENV}'
"""Of metrics that do not name their service: the job of the scrape does, and a PodMonitor's has its namespace first."""
VARIABLES: Final = {PROMETHEUS: "prometheus", TEMPO: "tempo", JAEGER: "jaeger", LOKI: "loki", INFINITY: "ledger"}
"""The variable of a dashboard that says which data source of a kind is meant."""


class Query(msgspec.Struct, frozen=True):
    """A query of Prometheus.

    legend: what a series is called, with labels in double braces.  step: between two points, at least.  exemplars:
    whether the traces behind it are shown.
    """

    expr: str
    legend: str = ""
    step: str | None = None
    exemplars: bool = False

    HEATMAP: ClassVar[model.PromQueryFormat] = model.PromQueryFormat.HEATMAP


def source(kind: str) -> DataSourceRef:
    """Return the data source of a kind that the dashboard's variable names."""
    return DataSourceRef(kind, f"${{{VARIABLES[kind]}}}")


def ranges(queries: Iterable[Query]) -> list[builder.Dataquery]:
    """Return *queries* over the dashboard's time."""
    return [prometheus(query, place).range() for place, query in enumerate(queries)]


def instants(queries: Iterable[Query]) -> list[builder.Dataquery]:
    """Return *queries* as of the end of the dashboard's time."""
    return [prometheus(query, place).instant() for place, query in enumerate(queries)]


def prometheus(query: Query, place: int) -> builder.Dataquery:
    """Return the query at a *place*, from 0, among those of its panel."""
    made = builder.Dataquery().datasource(source(PROMETHEUS)).expr(query.expr).ref_id(ref_id(place))
    made.editor_mode(model.QueryEditorMode.CODE).legend_format(query.legend or "__auto")
    if query.step:
        made.interval(query.step)
    if query.exemplars:
        made.exemplar(exemplar=True)
    return made


def ref_id(place: int) -> str:
    """Return the name of the query at *place*: A to Z, then AA and so on."""
    rest, last = divmod(place, len(ascii_uppercase))
    return (ref_id(rest - 1) if rest else "") + ascii_uppercase[last]
