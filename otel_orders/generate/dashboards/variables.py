"""What can be chosen at the top of a dashboard.  Pure.

Names of the lifecycle are listed in its order, and need no query; `env` is what Prometheus knows of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.models import dashboard as model

from otel_orders.generate.dashboards.queries import INFINITY, JAEGER, LOKI, PROMETHEUS, TEMPO, VARIABLES, source

if TYPE_CHECKING:
    from collections.abc import Iterable

UIDS: Final = {
    PROMETHEUS: ("Orders: Prometheus", "otel-orders-prometheus"),
    TEMPO: ("Orders: Tempo", "otel-orders-tempo"),
    JAEGER: ("Orders: Jaeger, problems", "otel-orders-jaeger-problems"),
    LOKI: ("Orders: Loki", "otel-orders-loki"),
    INFINITY: ("Orders: ledger", "otel-orders-ledger"),
}
"""The data sources that provisioning makes: names and uids."""
EVERYTHING: Final = model.VariableOption(selected=True, text="All", value="$__all")


def data_source(kind: str) -> build.DatasourceVariable:
    """Return which data source of a kind is asked; at first the one that provisioning makes."""
    name, uid = UIDS[kind]
    made = build.DatasourceVariable(VARIABLES[kind]).type(kind).label(VARIABLES[kind].capitalize())
    return made.current(model.VariableOption(selected=True, text=name, value=uid))


def environment() -> build.QueryVariable:
    """Return which environment is meant; all where Prometheus has one, and no label for it."""
    made = build.QueryVariable("env").label("Environment").datasource(source(PROMETHEUS))
    made.query("label_values(status:orders_in_status:max, env)").refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
    return made.include_all(include_all=True).all_value(".*").current(EVERYTHING)


def chosen(name: str, label: str, values: Iterable[str], *, everything: bool = True) -> build.CustomVariable:
    """Return the choice of one of *values*, or of all at first."""
    listed = [*values]
    made = build.CustomVariable(name).label(label).values(",".join(value.replace(",", "\\,") for value in listed))
    if everything:
        return made.include_all(include_all=True).current(EVERYTHING)
    first = next(iter(listed), "")
    return made.include_all(include_all=False).current(model.VariableOption(selected=True, text=first, value=first))


def typed(name: str, label: str, value: str, description: str) -> build.TextBoxVariable:
    """Return a field to type into."""
    made = build.TextBoxVariable(name).label(label).default_value(value).description(description)
    return made.current(model.VariableOption(selected=True, text=value, value=value))
