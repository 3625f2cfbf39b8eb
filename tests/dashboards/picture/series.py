"""What a panel's queries answer, as a picture shows it: named series of points."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.dashboards.boards import VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.dashboards.boards import Panel

Points = list[tuple[float, float]]
Moments = tuple[float, float]
"""From when to when, in unix seconds."""
Rows = list[dict[str, Any]]
"""What a ledger told, by heading."""


class Series(NamedTuple):
    """What one query answered for one set of labels.  place: the query's place in its panel."""

    place: int
    name: str
    labels: dict[str, str]
    points: Points

    @property
    def last(self) -> float:
        return self.points[-1][1]


def answers(
    panel: Panel, ask: Callable[[str], list[dict[str, Any]]], chosen: Mapping[str, str], end: float
) -> list[Series]:
    """What Prometheus answers to the queries of *panel*; nothing where another source is asked.

    ask: returns Prometheus' matrix.  end: what is asked as of now is asked as of then.
    """
    found = []
    for place, target in enumerate(panel["targets"]):
        if target["datasource"]["type"] == "prometheus":
            legend = target.get("legendFormat", "__auto")
            every = [_series(place, legend, one) for one in ask(filled(target["expr"], chosen))]
            found += [one for one in every if not target.get("instant") or (one.points and one.points[-1][0] == end)]
    return [one for one in found if one.points]


def filled(said: str, chosen: Mapping[str, str]) -> str:
    """A text with what was chosen in the place of its variables, and everything where nothing was."""
    return VARIABLE.sub(lambda found: chosen.get(found[1] or found[2], ".*"), said)


def choices(board: dict[str, Any], chosen: Mapping[str, str]) -> dict[str, str]:
    """What is chosen at the top of *board*: all of what is listed there, where *chosen* has nothing else."""
    found = {"__range": "1h"}
    for variable in board["templating"]["list"]:
        value = variable["current"]["value"] if "current" in variable else ""
        every = "(" + variable["query"].replace(",", "|") + ")" if variable["type"] == "custom" else ".*"
        found[variable["name"]] = every if value == "$__all" else value
    return found | {name: value for name, value in chosen.items() if name in found}


def _series(place: int, legend: str, answer: dict[str, Any]) -> Series:
    labels = {name: value for name, value in answer["metric"].items() if name != "__name__"}
    points = [(float(at), float(value)) for at, value in answer["values"]]
    named = re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), legend)
    if legend == "__auto":
        named = " ".join(labels.values()) or "value"
    return Series(place, named, labels, [(at, value) for at, value in points if math.isfinite(value)])
