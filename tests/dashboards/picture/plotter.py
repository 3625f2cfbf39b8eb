"""A dashboard as a picture of our own: its grid, its questions, and what the panels' queries answer.  Not Grafana."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from tests.dashboards.picture import charts, figures, svg
from tests.dashboards.picture.series import filled
from tests.dashboards.picture.svg import Box
from tests.dashboards.told import INFINITY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.dashboards.boards import Panel
    from tests.dashboards.picture.series import Moments, Rows, Series

WIDTH, ROW, GAP, HEAD = 1320, 32, 4, 64
CELL = WIDTH / 24
CHARTS = {
    "timeseries": charts.lines,
    "heatmap": charts.heat,
    "state-timeline": charts.states,
    "bargauge": figures.bars,
    "stat": figures.numbers,
    "table": figures.table,
}
TOLD = {"state-timeline": charts.passed, "table": figures.listed}
ELSEWHERE = {"tempo": "Tempo", "jaeger": "Jaeger", "loki": "Loki"}


class Shown(NamedTuple):
    """What a picture shows.

    of: in words.  when: from when to when.  chosen: values of variables.  series: what a panel's queries of Prometheus
    answer.  told: what the ledger answers, None where it is not asked.
    """

    of: str
    when: Moments
    chosen: Mapping[str, str]
    series: Callable[[Panel], list[Series]]
    told: Callable[[Panel], Rows] | None


def drawn(board: dict[str, Any], shown: Shown) -> str:
    """A dashboard as SVG."""
    height = HEAD + ROW * max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"]) + 8
    return svg.document(WIDTH, height, _shapes(board, shown, height))


def _shapes(board: dict[str, Any], shown: Shown, height: float) -> Iterator[str]:
    yield svg.rect(Box(0, 0, WIDTH, height), svg.PAPER)
    yield svg.text(10, 26, board["title"], 18, bold=True)
    yield svg.text(10, 46, f"{shown.of} Drawn by our own plotter: this is not Grafana.", 12, svg.DIM)
    yield svg.text(WIDTH - 10, 26, svg.cut(_said(board, shown.chosen), 900), 11, svg.DIM, anchor="end")
    for panel in board["panels"]:
        box = _box(panel["gridPos"])
        if panel["type"] == "row":
            yield svg.text(box.x + 6, box.y + 20, f"▾ {filled(panel['title'], shown.chosen)}", 13, bold=True)
        else:
            yield from _panel(panel, box, shown)


def _said(board: dict[str, Any], chosen: Mapping[str, str]) -> str:
    listed = [one for one in board["templating"]["list"] if one["type"] != "datasource"]
    shown = {one["name"]: "All" if one["current"]["value"] == "$__all" else one["current"]["value"] for one in listed}
    shown |= {name: value for name, value in chosen.items() if name in shown and "|" not in value and value != ".*"}
    return " · ".join(f"{one['label']}: {shown[one['name']] or '-'}" for one in listed)


def _box(at: dict[str, int]) -> Box:
    whole = Box(at["x"] * CELL, HEAD + at["y"] * ROW, at["w"] * CELL, at["h"] * ROW)
    return whole.inner(GAP, GAP / 2, GAP, GAP / 2)


def _panel(panel: Panel, box: Box, shown: Shown) -> Iterator[str]:
    yield svg.rect(box, svg.CARD, svg.LINE, rounded=4)
    lines = _wrapped(filled(panel["title"], shown.chosen), box.w - 16)
    for place, line in enumerate(lines):
        yield svg.text(box.x + 8, box.y + 17 + place * 15, line, 12, bold=True)
    yield from _content(panel, box.inner(8, 12 + 15 * len(lines), 8, 8), shown)


def _content(panel: Panel, box: Box, shown: Shown) -> Iterator[str]:
    kind = panel["targets"][0]["datasource"]["type"]
    if kind in ELSEWHERE:
        yield from _note(box, f"{ELSEWHERE[kind]} is asked; it does not run in our tests")
    elif kind == INFINITY and shown.told is None:
        yield from _note(box, "the ledger itself is asked; single orders are in no recording of metrics")
    elif rows := shown.told(panel) if kind == INFINITY and shown.told else []:
        yield from TOLD[panel["type"]](panel, rows, box, shown.when)
    elif series := shown.series(panel):
        yield from CHARTS[panel["type"]](panel, series, box, shown.when)
    else:
        yield from _note(box, "nothing at this time")


def _note(box: Box, said: str) -> Iterator[str]:
    middle = box.x + box.w / 2
    for place, line in enumerate(_wrapped(said, box.w)):
        yield svg.text(middle, box.y + box.h / 2 + place * 15, line, 11, svg.DIM, anchor="middle")


def _wrapped(said: str, width: float) -> list[str]:
    """Lines of at most so many pixels."""
    letters, lines = int(width / 6.9), [""]
    for word in said.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > letters:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines
