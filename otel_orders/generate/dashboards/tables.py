"""Tables: what is now, a row for each name, a column for each query.  Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from grafana_foundation_sdk.builders import table as builder
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import prometheus as prometheus_model

from otel_orders.generate.dashboards.panels import Limits, Panel, Question, asked, meaning
from otel_orders.generate.dashboards.queries import Query, prometheus, ref_id

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

RANK: Final = "Rank"
"""The column by which a table is sorted and that it does not show."""


class Column(NamedTuple):
    """A column of numbers.  named: values, what they mean, and their colours, where numbers stand for words."""

    heading: str
    expr: str
    unit: str
    limits: Limits | None = None
    named: Sequence[tuple[int, str, str]] = ()


class Link(NamedTuple):
    """What a click on the cells of a column opens."""

    heading: str
    title: str
    url: str


def table(
    asks: Question,
    labels: Mapping[str, str],
    columns: Sequence[Column],
    *,
    sort: str,
    descending: bool = False,
    links: Sequence[Link] = (),
) -> Panel:
    """Return a table.  labels: those that all queries keep, with their headings.  sort: the heading of a column."""
    look = builder.Panel().transformations(_transformations(labels, columns, sort, descending=descending))
    for column in columns:
        look.override_by_name(column.heading, _properties(column))
    for link in links:
        look.override_by_name(link.heading, [linked(link)])
    targets = [
        prometheus(Query(column.expr), place).instant().format(prometheus_model.PromQueryFormat.TABLE)
        for place, column in enumerate(columns)
    ]
    return asked(asks, look.build(), targets)


def linked(link: Link) -> model.DynamicConfigValue:
    """Return the property that makes cells links."""
    return model.DynamicConfigValue("links", [{"title": link.title, "url": link.url}])


def _transformations(
    labels: Mapping[str, str], columns: Sequence[Column], sort: str, *, descending: bool
) -> list[model.DataTransformerConfig]:
    """Return what makes one table of the answers to several queries, of which Grafana names the columns `Value #A`."""
    values = {f"Value #{ref_id(place)}": column.heading for place, column in enumerate(columns)}
    if len(columns) == 1:
        values = {"Value": columns[0].heading}
    names = {**labels, **values}
    shown = [name for name, heading in names.items() if heading != RANK]
    organize: dict[str, Any] = {
        "excludeByName": {"Time": True} | {name: True for name, heading in names.items() if heading == RANK},
        "indexByName": {name: place for place, name in enumerate(shown)},
        "renameByName": {name: names[name] for name in shown},
    }
    key = next(name for name, heading in names.items() if heading == sort)
    return [
        model.DataTransformerConfig("merge", options={}),
        model.DataTransformerConfig("sortBy", options={"fields": {}, "sort": [{"field": key, "desc": descending}]}),
        model.DataTransformerConfig("organize", options=organize),
    ]


def _properties(column: Column) -> list[model.DynamicConfigValue]:
    found = [model.DynamicConfigValue("unit", column.unit)]
    if column.limits:
        steps = model.ThresholdsConfig(model.ThresholdsMode.ABSOLUTE, column.limits.steps())
        found.append(model.DynamicConfigValue("thresholds", steps))
    if column.named:
        found.append(model.DynamicConfigValue("mappings", [meaning(column.named)]))
    if column.limits or column.named:
        found.append(model.DynamicConfigValue("custom.cellOptions", {"type": "color-text"}))
    return found
