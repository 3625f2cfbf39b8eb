"""What series are at their end, in a box: bars, numbers, tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.dashboards.picture import svg
from tests.dashboards.picture.svg import Box
from tests.dashboards.picture.values import moment_of, said

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.dashboards.boards import Panel
    from tests.dashboards.picture.series import Moments, Rows, Series


def bars(panel: Panel, shown: list[Series], box: Box, _when: Moments) -> Iterator[str]:
    """What is at the end, as bars."""
    unit, most = panel["fieldConfig"]["defaults"]["unit"], max((one.last for one in shown), default=0) or 1
    height = min(box.h / max(len(shown), 1), 26)
    names = min(box.w * 0.42, 190)
    for place, one in enumerate(shown):
        y = box.y + place * height
        yield svg.text(box.x + names - 6, y + height / 2 + 4, svg.cut(one.name, names - 10), 11, anchor="end")
        w = max((box.w - names - 62) * one.last / most, 1)
        yield svg.rect(Box(box.x + names, y + 3, w, height - 6), _colour(panel, one.last), opacity=0.8)
        yield svg.text(box.x + names + w + 5, y + height / 2 + 4, said(one.last, unit), 11)


def numbers(panel: Panel, shown: list[Series], box: Box, _when: Moments) -> Iterator[str]:
    """What is at the end, large."""
    columns = max(min(len(shown), int(box.w / 110)), 1)
    width, unit = box.w / columns, panel["fieldConfig"]["defaults"]["unit"]
    mappings = panel["fieldConfig"]["defaults"].get("mappings")
    meanings = mappings[0]["options"] if mappings else {}
    for place, one in enumerate(shown):
        x, y = box.x + (place % columns + 0.5) * width, box.y + 34 + place // columns * 52
        meaning = meanings.get(f"{one.last:.0f}")
        colour = svg.COLOURS[meaning["color"]] if meaning else _colour(panel, one.last)
        yield svg.text(
            x, y, meaning["text"] if meaning else said(one.last, unit), 24, colour, anchor="middle", bold=True
        )
        yield svg.text(x, y + 15, svg.cut(one.name, width), 10, svg.DIM, anchor="middle")


def table(panel: Panel, shown: list[Series], box: Box, _when: Moments) -> Iterator[str]:
    """What is at the end, a row for each set of labels, with the columns and the order that Grafana is told."""
    rows, headings = _rows_of(panel, shown)
    yield from _grid(headings, rows, box)


def listed(panel: Panel, rows: Rows, box: Box, _when: Moments) -> Iterator[str]:
    """Rows that the ledger told, as a table."""
    columns = {column["text"]: column["type"] for column in panel["targets"][0]["columns"]}
    cells = [[(_told(row.get(heading), kind), svg.INK) for heading, kind in columns.items()] for row in rows]
    yield from _grid([*columns], cells, box)


def _told(value: Any, kind: str) -> str:
    if value is None:
        return ""
    return moment_of(value / 1000) if kind == "timestamp_epoch" else f"{value:g}" if kind == "number" else str(value)


def _grid(headings: list[str], rows: list[list[tuple[str, str]]], box: Box) -> Iterator[str]:
    width, height = box.w / (len(headings) + 1), 19
    lefts = [box.x, *(box.x + (place + 2) * width for place in range(len(headings)))]  # the first is twice as wide
    for place, heading in enumerate(headings):
        yield svg.text(lefts[place] + 4, box.y + 12, svg.cut(heading, width), 11, svg.DIM, bold=True)
    for line, row in enumerate(rows[: int((box.h - 18) / height)]):
        y = box.y + 18 + line * height
        yield svg.rect(Box(box.x, y, box.w, 1), svg.LINE)
        for place, (cell, colour) in enumerate(row):
            fitting = svg.cut(cell, lefts[place + 1] - lefts[place] - 6)
            yield svg.text(lefts[place] + 4, y + 14, fitting, 11, colour)


def _rows_of(panel: Panel, shown: list[Series]) -> tuple[list[list[tuple[str, str]]], list[str]]:
    steps = {step["id"]: step["options"] for step in panel["transformations"]}
    named = steps["organize"]["renameByName"]
    styles = {
        one["matcher"]["options"]: {p["id"]: p["value"] for p in one["properties"]}
        for one in panel["fieldConfig"]["overrides"]
    }
    refs = [f"Value #{target['refId']}" if len(panel["targets"]) > 1 else "Value" for target in panel["targets"]]
    cells: dict[tuple[str, ...], dict[str, float]] = {}
    keys = [name for name in named if not name.startswith("Value")]
    for one in shown:
        cells.setdefault(tuple(one.labels.get(key, "") for key in keys), {})[refs[one.place]] = one.last
    (sort,) = steps["sortBy"]["sort"]
    last = float("-inf") if sort["desc"] else float("inf")
    ordered = sorted(cells.items(), key=lambda row: row[1].get(sort["field"], last), reverse=sort["desc"])
    values = [name for name in named if name.startswith("Value")]
    return [
        [*((label, svg.INK) for label in labels), *(_cell(row.get(name), styles[named[name]]) for name in values)]
        for labels, row in ordered
    ], [named[name] for name in (*keys, *values)]


def _cell(value: float | None, style: dict[str, Any]) -> tuple[str, str]:
    if value is None:
        return "", svg.INK
    for mapping in style.get("mappings", ()):
        if meaning := mapping["options"].get(f"{value:.0f}"):
            return meaning["text"], svg.COLOURS[meaning["color"]]
    colour = _of_steps(style["thresholds"]["steps"], value) if "thresholds" in style else svg.INK
    return said(value, style["unit"]), colour


def _colour(panel: Panel, value: float) -> str:
    return _of_steps(panel["fieldConfig"]["defaults"]["thresholds"]["steps"], value)


def _of_steps(steps: list[dict[str, Any]], value: float) -> str:
    reached = [step for step in steps if step["value"] is None or value >= step["value"]]
    return svg.COLOURS[reached[-1]["color"]]
