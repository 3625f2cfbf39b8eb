"""The few shapes of SVG that a picture of a dashboard needs, as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Iterable

INK, DIM, LINE, PAPER, CARD = "#1f2430", "#6b7280", "#d8dce3", "#f2f4f7", "#ffffff"
SERIES = ("#3b78c4", "#d9822b", "#3a9d5d", "#b04a8b", "#7a5fc2", "#c2483e", "#2a9aa4", "#94803a", "#5f6b7a", "#1d4e89")
COLOURS = {
    "green": "#3a9d5d",
    "yellow": "#d9a62b",
    "red": "#c2483e",
    "blue": "#6fa3e0",
    "purple": "#a48be0",
    "orange": "#e89a4f",
    "semi-dark-blue": "#3b78c4",
    "semi-dark-purple": "#7a5fc2",
    "semi-dark-orange": "#c9701d",
}
_LETTER = 0.54
"""The width of a letter of sans-serif, of its size, on average."""


class Box(NamedTuple):
    """A rectangle: its left upper corner, and its size, in pixels."""

    x: float
    y: float
    w: float
    h: float

    def inner(self, left: float, top: float, right: float, bottom: float) -> Box:
        """What is left of it inside margins."""
        return Box(self.x + left, self.y + top, self.w - left - right, self.h - top - bottom)


def number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def rect(box: Box, fill: str, stroke: str = "none", rounded: float = 0, opacity: float = 1) -> str:
    at = f'x="{number(box.x)}" y="{number(box.y)}" width="{number(max(box.w, 0))}" height="{number(max(box.h, 0))}"'
    seen = "" if opacity == 1 else f' fill-opacity="{opacity:.2f}"'
    return f'<rect {at} rx="{number(rounded)}" fill="{fill}" stroke="{stroke}"{seen}/>'


def text(
    x: float, y: float, said: str, size: float = 11, fill: str = INK, *, anchor: str = "start", bold: bool = False
) -> str:
    """Text that begins, or ends, at x, on the line y."""
    weight = ' font-weight="600"' if bold else ""
    at = f'x="{number(x)}" y="{number(y)}" font-size="{number(size)}" fill="{fill}" text-anchor="{anchor}"'
    return f"<text {at}{weight}>{escape(said)}</text>"


def polyline(points: Iterable[tuple[float, float]], stroke: str, *, dashed: bool = False) -> str:
    """A line through points; where it is a single one, a dot."""
    listed = [*points]
    if len(listed) == 1:
        ((x, y),) = listed
        return f'<circle cx="{number(x)}" cy="{number(y)}" r="1.5" fill="{stroke}"/>'
    way = " ".join(f"{number(x)},{number(y)}" for x, y in listed)
    dashes = ' stroke-dasharray="4 3"' if dashed else ""
    return f'<polyline points="{way}" fill="none" stroke="{stroke}" stroke-width="1.5"{dashes}/>'


def polygon(points: Iterable[tuple[float, float]], fill: str, opacity: float) -> str:
    way = " ".join(f"{number(x)},{number(y)}" for x, y in points)
    return f'<polygon points="{way}" fill="{fill}" fill-opacity="{opacity:.2f}"/>'


def cut(said: str, width: float, size: float = 11) -> str:
    """What of a text fits into so many pixels."""
    letters = max(int(width / (size * _LETTER)), 1)
    return said if len(said) <= letters else said[: letters - 1] + "…"


def document(width: float, height: float, shapes: Iterable[str]) -> str:
    size = f'width="{number(width)}" height="{number(height)}" viewBox="0 0 {number(width)} {number(height)}"'
    style = 'font-family="system-ui, Segoe UI, Helvetica, Arial, sans-serif"'
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>', *shapes, "</svg>", ""])
