"""A small registry of figures, and the one way to measure: two candidates, interleaved, medians and their spread.

Knows nothing of what is measured.
"""

from __future__ import annotations

import gc
import statistics
import time
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

T = TypeVar("T")


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One measured figure.

    value, peer: ours and what it is measured against, in *unit*; peer and ratio are None where there is no peer.
    budget: the largest ratio that holds; where there is no peer, the largest (or smallest) value.
    counts: whose CPU or which time; spread: half the distance between the quartiles of the ratio, as a fraction of it.
    """

    name: str
    value: float
    unit: str
    peer: float | None = None
    ratio: float | None = None
    budget: float
    holds: bool
    counts: str = ""
    spread: float = 0.0


class Benchmark(msgspec.Struct, frozen=True):
    """A registered figure: what is run to get it, and what it may be."""

    name: str
    budget: float
    measure: Callable[[str, float], Figure]


REGISTRY: dict[str, Benchmark] = {}
"""Filled by the modules that __main__ names, in their order."""


def benchmark(
    name: str, *, budget: float
) -> Callable[[Callable[[str, float], Figure]], Callable[[str, float], Figure]]:
    """Register a function that takes (name, budget) and returns its Figure."""

    def register(measure: Callable[[str, float], Figure]) -> Callable[[str, float], Figure]:
        REGISTRY[name] = Benchmark(name, budget, measure)
        return measure

    return register


def selected(prefix: str) -> Iterable[Benchmark]:
    """Return the registered benchmarks whose name starts with *prefix*."""
    return [found for name, found in REGISTRY.items() if name.startswith(prefix)]


def against(
    ours: Callable[[int], object],
    theirs: Callable[[int], object],
    *,
    rounds: int = 40,
    number: int = 500,
    clock: Callable[[], float] = time.process_time,
) -> tuple[float, float, float, float]:
    """Run both *rounds* times, each round *number* operations of each, and return seconds per operation.

    ours, theirs: run that many operations.  Returns medians of ours and theirs, the median of the rounds' ratios, and
    its spread.  A round's two runs are neighbours, in alternating order, so that what else the machine does hits both.
    """
    ours(number), theirs(number)  # warm: caches, imports, the first labels
    pairs = [_pair(ours, theirs, number, clock, swap=bool(index % 2)) for index in range(rounds)]
    ratios = [mine / peer for mine, peer in pairs]
    low, middle, high = statistics.quantiles(ratios, n=4)
    mine, peer = (statistics.median(column) / number for column in zip(*pairs, strict=True))
    return mine, peer, middle, (high - low) / 2 / middle


def _pair(
    ours: Callable[[int], object],
    theirs: Callable[[int], object],
    number: int,
    clock: Callable[[], float],
    *,
    swap: bool,
) -> tuple[float, float]:
    gc.collect()
    if swap:
        peer = _timed(theirs, number, clock)
        return _timed(ours, number, clock), peer
    return _timed(ours, number, clock), _timed(theirs, number, clock)


def _timed(run: Callable[[int], object], number: int, clock: Callable[[], float]) -> float:
    before = clock()
    run(number)
    return clock() - before


def table(figures: Iterable[Figure]) -> str:
    """Return *figures* as a plain table, one line each."""
    rows = [("figure", "value", "unit", "peer", "ratio", "budget", "holds", "counts"), *map(_row, figures)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _row(figure: Figure) -> tuple[str, ...]:
    ratio = "-" if figure.ratio is None else f"{figure.ratio:.3f} ±{figure.spread:.1%}"
    peer = "-" if figure.peer is None else f"{figure.peer:,.1f}"
    holds = "yes" if figure.holds else "NO"
    return (figure.name, f"{figure.value:,.1f}", figure.unit, peer, ratio, f"{figure.budget:g}", holds, figure.counts)


def as_json(figures: Iterable[Figure]) -> list[dict[str, Any]]:
    """Return *figures* as the list that JSON=FILE writes."""
    kept = ("name", "value", "unit", "peer", "ratio", "budget", "holds")
    return [{key: getattr(figure, key) for key in kept} for figure in figures]
