"""Charts of series over time, in a box: lines, heat, states."""

from __future__ import annotations

import math
from itertools import pairwise, zip_longest
from typing import TYPE_CHECKING, NamedTuple

from tests.dashboards.picture import svg
from tests.dashboards.picture.svg import Box
from tests.dashboards.picture.values import moment_of, said

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.dashboards.boards import Panel
    from tests.dashboards.picture.series import Moments, Points, Rows, Series

SHOWN = 10
"""Series of one chart, at most: those that are highest at their end."""


class _Scale(NamedTuple):
    """From the lowest to the highest value, in even or in tenfold steps; these end at the ten thousandth part."""

    low: float
    top: float
    logarithmic: bool

    def part(self, value: float) -> float:
        if self.logarithmic:
            return 1 + max(math.log10(max(value, 1e-9) / self.top), -4) / 4
        return (value - self.low) / ((self.top - self.low) or 1)

    def value(self, part: float) -> float:
        return self.top * 10 ** (4 * part - 4) if self.logarithmic else self.low + (self.top - self.low) * part


def lines(panel: Panel, shown: list[Series], box: Box, when: Moments) -> Iterator[str]:
    """Lines over time, or bands on top of each other."""
    unit = panel["fieldConfig"]["defaults"]["unit"]
    stacked = panel["fieldConfig"]["defaults"]["custom"].get("stacking", {}).get("mode") == "normal"
    shown = shown if stacked else sorted(shown, key=lambda one: -one.last)[:SHOWN]
    plot = box.inner(52, 4, 6, 16 + 13 * _rows(shown, box))
    bands = _bands(shown) if stacked else [[(at, 0.0, value) for at, value in one.points] for one in shown]
    top = max((high for band in bands for _, _, high in band), default=0) or 1
    low = min(0.0, *(high for band in bands for _, _, high in band))
    begin, end = when
    scale = _Scale(
        low, top, panel["fieldConfig"]["defaults"]["custom"].get("scaleDistribution", {}).get("type") == "log"
    )
    yield from _axes(plot, scale, unit)

    def at(moment: float, value: float) -> tuple[float, float]:
        across = (moment - begin) / ((end - begin) or 1)
        return plot.x + across * plot.w, plot.y + plot.h * (1 - scale.part(value))

    for place, band in enumerate(bands):
        colour = svg.SERIES[place % len(svg.SERIES)]
        if stacked:
            under = [at(moment, lower) for moment, lower, _ in reversed(band)]
            yield svg.polygon([*(at(moment, upper) for moment, _, upper in band), *under], colour, 0.6)
        else:
            for stretch in _stretches([(moment, upper) for moment, _, upper in band]):
                yield svg.polyline([at(moment, value) for moment, value in stretch], colour)
    yield from _legend(shown, box, unit)


def _stretches(points: Points) -> Iterator[Points]:
    """Parts of *points* without a gap between them."""
    step = min((after - before for (before, _), (after, _) in pairwise(points)), default=0)
    stretch = points[:1]
    for (before, _), point in pairwise(points):
        if point[0] - before > 1.5 * step:
            yield stretch
            stretch = []
        stretch.append(point)
    yield stretch


def _bands(shown: list[Series]) -> list[list[tuple[float, float, float]]]:
    """Each series' time, lower and upper edge, on top of those before it."""
    below: dict[float, float] = {}
    bands = []
    for one in shown:
        bands.append([(at, below.get(at, 0.0), below.get(at, 0.0) + value) for at, value in one.points])
        below |= {at: upper for at, _, upper in bands[-1]}
    return bands


def heat(panel: Panel, shown: list[Series], box: Box, when: Moments) -> Iterator[str]:
    """How many values were between two edges, as how dark a cell is."""
    plot = box.inner(52, 4, 6, 16)
    rows = sorted(((float(one.labels["le"]), dict(one.points)) for one in shown), key=lambda row: row[0])
    begin, end = when
    moments = sorted({at for _, points in rows for at in points})
    width = plot.w / max(len(moments), 1)
    counts = [
        {at: upper.get(at, 0) - lower.get(at, 0) for at in moments}
        for (_, lower), (_, upper) in pairwise([(0, {}), *rows])
    ]
    most = max((count for row in counts for count in row.values()), default=0) or 1
    height = plot.h / max(len(rows), 1)
    for place, ((edge, _), row) in enumerate(zip(rows, counts, strict=True)):
        y = plot.y + plot.h - (place + 1) * height
        if place % 4 == 3:
            yield svg.text(
                plot.x - 4, y + 4, said(edge, panel["fieldConfig"]["defaults"]["unit"]), 9, svg.DIM, anchor="end"
            )
        for at, count in row.items():
            if count > 1e-6:
                x = plot.x + (at - begin) / ((end - begin) or 1) * (plot.w - width)
                yield svg.rect(Box(x, y, width, height - 1), "#c2483e", opacity=0.15 + 0.85 * count / most)
    yield svg.rect(plot, "none", svg.LINE)


def states(panel: Panel, shown: list[Series], box: Box, when: Moments) -> Iterator[str]:
    """Which state each series was in, as coloured bars over time."""
    meanings = panel["fieldConfig"]["defaults"]["mappings"][0]["options"]
    plot = box.inner(190, 4, 6, 18)
    height = plot.h / max(len(shown), 1)
    begin, end = when
    for place, one in enumerate(shown):
        y = plot.y + place * height
        yield svg.text(plot.x - 6, y + height / 2 + 4, svg.cut(one.name, 180), 11, anchor="end")
        for since, until, value in _stays(one):
            x, w = ((moment - begin) / ((end - begin) or 1) * plot.w for moment in (since, until - since + begin))
            colour = svg.COLOURS[meanings[f"{value:.0f}"]["color"]]
            yield svg.rect(Box(plot.x + x, y + 2, w, height - 4), colour, opacity=0.85)
    x = plot.x
    for meaning in meanings.values():
        yield svg.rect(Box(x, box.y + box.h - 12, 9, 9), svg.COLOURS[meaning["color"]])
        yield svg.text(x + 13, box.y + box.h - 4, meaning["text"], 10, svg.DIM)
        x += 80


def _stays(one: Series) -> Iterator[tuple[float, float, float]]:
    since, state = one.points[0]
    for at, value in one.points[1:]:
        if value != state:
            yield since, at, state
            since, state = at, value
    yield since, one.points[-1][0], state


def _axes(plot: Box, scale: _Scale, unit: str) -> Iterator[str]:
    for part in (0, 0.5, 1):
        y = plot.y + plot.h * (1 - part)
        yield svg.rect(Box(plot.x, y, plot.w, 0.7), svg.LINE)
        yield svg.text(plot.x - 4, y + 3, said(scale.value(part), unit), 9, svg.DIM, anchor="end")


def _rows(shown: list[Series], box: Box) -> int:
    return -(-len(shown) // max(int(box.w / 190), 1))


def _legend(shown: list[Series], box: Box, unit: str) -> Iterator[str]:
    columns = max(int(box.w / 190), 1)
    top, width = box.y + box.h - 13 * _rows(shown, box), box.w / columns
    for place, one in enumerate(shown):
        x, y = box.x + place % columns * width, top + place // columns * 13
        yield svg.rect(Box(x + 4, y + 2, 8, 3), svg.SERIES[place % len(svg.SERIES)])
        yield svg.text(x + 16, y + 7, svg.cut(f"{one.name}  {said(one.last, unit)}", width - 18, 9), 9, svg.DIM)


def passed(panel: Panel, rows: Rows, box: Box, when: Moments) -> Iterator[str]:
    """The states of one thing, each from the time of its row until that of the next."""
    meanings = panel["fieldConfig"]["defaults"]["mappings"][0]["options"]
    begin, end = min(row["Time"] / 1000 for row in rows), when[1]
    plot = box.inner(0, 4, 0, 20)
    for row, after in zip_longest(rows, rows[1:]):
        since, until = row["Time"] / 1000, after["Time"] / 1000 if after else end
        x, w = ((moment - begin) / ((end - begin) or 1) * plot.w for moment in (since, until - since + begin))
        colour = svg.COLOURS[meanings[row["Status"]]["color"]]
        yield svg.rect(Box(plot.x + x, plot.y, max(w, 1.5), plot.h), colour, opacity=0.85)
        yield svg.text(plot.x + x + 4, plot.y + plot.h / 2 + 4, svg.cut(row["Status"], w - 4) if w > 60 else "", 11)
    yield svg.text(box.x, box.y + box.h - 2, f"from {moment_of(begin)} to {moment_of(end)} UTC", 10, svg.DIM)
