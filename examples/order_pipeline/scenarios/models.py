"""Models of jewellery as binary STL: rings in any fineness, whole or broken."""

from __future__ import annotations

import math
import struct
from itertools import product
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

Point = tuple[float, float, float]
Triangle = tuple[Point, Point, Point]

RING_RADIUS = 9.0
"""From the centre to the middle of the band, in mm."""
BAND_RADIUS = 1.0


def stl(triangles: Iterable[Triangle]) -> bytes:
    """Return *triangles* as a binary STL file."""
    pack = struct.Struct("<12x9f2x").pack
    body = [pack(*a, *b, *c) for a, b, c in triangles]
    return struct.pack("<80xI", len(body)) + b"".join(body)


def ring(around: int = 24, across: int = 12, *, band: float = BAND_RADIUS) -> list[Triangle]:
    """Return a ring of 2 x *around* x *across* triangles; *band*: radius of the band in mm."""
    grid = [[_on_ring(u / around, v / across, band) for v in range(across)] for u in range(around)]
    triangles: list[Triangle] = []
    for u, v in product(range(around), range(across)):
        right, up = (u + 1) % around, (v + 1) % across
        a, b, c, d = grid[u][v], grid[right][v], grid[right][up], grid[u][up]
        triangles += [(a, b, c), (a, c, d)]
    return triangles


def broken_ring() -> list[Triangle]:
    """Return a ring with a hole: the last triangle is missing."""
    return ring()[:-1]


def _on_ring(around: float, across: float, band: float) -> Point:
    u, v = math.tau * around, math.tau * across
    distance = RING_RADIUS + band * math.cos(v)
    return distance * math.cos(u), distance * math.sin(u), band * math.sin(v)
