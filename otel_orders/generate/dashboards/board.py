"""A dashboard: its variables and rows of panels, put on Grafana's grid and linked to alerts and runbooks.  Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as model

from otel_orders.generate.dashboards.panels import ALL, Panel

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from grafana_foundation_sdk.cog.builder import Builder

TAG: Final = "otel-orders"


class Row(NamedTuple):
    """A heading, and the panels below it."""

    title: str
    panels: tuple[Panel, ...]


class Board(NamedTuple):
    """A dashboard.  since: the beginning of the time that it shows at first, such as now-6h."""

    uid: str
    title: str
    description: str
    variables: tuple[Builder[model.VariableModel], ...]
    rows: tuple[Row, ...]
    since: str = "now-6h"
    refresh: str = "30s"


def dashboard(board: Board, known: Collection[str], runbooks: str) -> model.Dashboard:
    """Return *board* as Grafana reads it.  known: the names of all alerts.  runbooks: the URL below which they are."""
    made = build.Dashboard(board.title).uid(board.uid).description(board.description).tags([TAG]).readonly()
    made.time(board.since, "now").refresh(board.refresh).tooltip(model.DashboardCursorSync.CROSSHAIR).timezone("")
    made.variables(list(board.variables)).link(_others())
    built = made.build()
    built.panels = [*_placed(board, known, runbooks)]
    return built


def text(built: model.Dashboard) -> str:
    """Return a dashboard as a file."""
    return json.dumps(built, cls=JSONEncoder, indent=2, ensure_ascii=False) + "\n"


def _placed(board: Board, known: Collection[str], runbooks: str) -> Iterator[model.Panel | model.RowPanel]:
    """Yield rows and panels from left to right and down, each with an id of its own."""
    number, top = 0, 0
    for row in board.rows:
        number += 1
        heading = model.RowPanel(title=row.title, id_val=number, collapsed=False, panels=[])
        heading.grid_pos = model.GridPos(h=1, w=ALL, x=0, y=top)
        yield heading
        left, top, tallest = 0, top + 1, 0
        for asks, panel in row.panels:
            number += 1
            if left + asks.width > ALL:
                left, top, tallest = 0, top + tallest, 0
            panel.id_val, panel.grid_pos = number, model.GridPos(h=asks.height, w=asks.width, x=left, y=top)
            panel.links = [link for alert in asks.alerts if alert in known for link in _links(alert, runbooks)]
            yield panel
            left, tallest = left + asks.width, max(tallest, asks.height)
        top += tallest


def _links(alert: str, runbooks: str) -> Iterator[model.DashboardLink]:
    rule = quote(f"rule:{alert}", safe="")
    for title, url in (
        (f"Alert: {alert}", f"/alerting/list?search={rule}"),
        (f"Runbook: {alert}", f"{runbooks}/{alert}.md"),
    ):
        link = build.DashboardLink(title).type(model.DashboardLinkType.LINK).url(url)
        yield link.target_blank(target_blank=True).build()


def _others() -> build.DashboardLink:
    link = build.DashboardLink("Orders").type(model.DashboardLinkType.DASHBOARDS).tags([TAG])
    return link.as_dropdown(as_dropdown=True).keep_time(keep_time=True)
