"""How times are said to people: on pages, in evidence, on a terminal.  Pure."""

from __future__ import annotations

from typing import Final

UNITS: Final = ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s"))
MILLISECOND: Final = 0.001
SECOND: Final = 1_000_000_000


def span(seconds: float | None) -> str:
    """Return a time as people say it: ``3 d 4 h``, ``5 min 10 s``, ``250 ms``; empty for None.

    What has not begun yet, by a clock that is ahead, lasts ``0 s``.
    """
    if seconds is None:
        return ""
    if seconds <= 0:
        return "0 s"
    for size, unit, below, small in UNITS:
        if seconds >= size:
            rest = int(seconds % size // below)
            return f"{int(seconds // size)} {unit} {rest} {small}" if rest else f"{int(seconds // size)} {unit}"
    if seconds >= 1:
        return f"{seconds:.3g} s"
    return f"{seconds * 1e3:.3g} ms" if seconds >= MILLISECOND else f"{seconds * 1e6:.3g} µs"


def span_of(nanoseconds: int) -> str:
    """Return *nanoseconds* as people say it: whole seconds are enough from one second on."""
    return span(nanoseconds // SECOND if nanoseconds >= SECOND else nanoseconds / 1e9)
