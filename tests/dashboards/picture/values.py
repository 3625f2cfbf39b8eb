"""Values as people read them: a number and its unit, as Grafana names units."""

from __future__ import annotations

import math
from datetime import UTC, datetime

_STEPS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"), (0.001, "ms"))
_RATES = {"cps": "/s", "mps": " msg/s", "reqps": " req/s"}


def said(value: float, unit: str) -> str:
    """A value with its unit."""
    if math.isinf(value):
        return "more"
    if unit in ("s", "ms", "ns"):
        return _duration(value * {"s": 1, "ms": 1e-3, "ns": 1e-9}[unit])
    if unit == "percentunit":
        return f"{_short(value * 100)} %"
    if unit == "bytes":
        return _bytes(value)
    return _short(value) + _RATES.get(unit, "")


def moment_of(seconds: float) -> str:
    """A unix time in UTC, to the second."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%d %b %H:%M:%S")


def _short(value: float) -> str:
    for size, name in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if name == 'k' else size):.3g}{name}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def _duration(seconds: float) -> str:
    for size, name in _STEPS:
        if abs(seconds) >= size:
            return f"{seconds / size:.3g} {name}"
    return "0" if seconds == 0 else f"{seconds * 1000:.2g} ms"


def _bytes(value: float) -> str:
    for size, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if abs(value) >= size:
            return f"{value / size:.3g} {name}"
    return f"{value:.0f} B"
