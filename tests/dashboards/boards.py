"""What the tests of dashboards have in common: the committed files, and what is in them."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from otel_orders.generate.alerts import flat
from tests.alerts.tools import REFERENCE, ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

DASHBOARDS = ROOT / "dashboards"
FILES = sorted(DASHBOARDS.glob("*.json"))
BOARDS: dict[str, dict[str, Any]] = {file.stem: json.loads(file.read_text()) for file in FILES}
ALERTS = {alert.name for alert in flat(REFERENCE)}

Panel = dict[str, Any]


def panels(board: dict[str, Any]) -> list[Panel]:
    """The panels of a dashboard, without the headings of rows."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def every_panel() -> list[Any]:
    """All panels, each as a parameter of a test."""
    return [pytest.param(panel, id=f"{name}: {panel['title']}") for name in BOARDS for panel in panels(BOARDS[name])]


def variables(board: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The variables of a dashboard, by name."""
    return {variable["name"]: variable for variable in board["templating"]["list"]}


def texts(value: object) -> Iterator[str]:
    """Every text in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from texts(one)


def asked(panel: Panel) -> list[str]:
    """What a panel asks Prometheus."""
    return [target["expr"] for target in panel["targets"] if target.get("datasource", {}).get("type") == "prometheus"]


VARIABLE = re.compile(r"\$(?:\{(\w+)(?::\w+)?\}|(\w+))")


def used(value: object) -> set[str]:
    """The variables of the dashboard that are used somewhere in *value*; Grafana's own begin with two underscores."""
    found = {a or b for text in texts(value) for a, b in VARIABLE.findall(text)}
    return {name for name in found if not name.startswith("__")}
