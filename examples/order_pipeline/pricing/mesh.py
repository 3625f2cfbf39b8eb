"""Measure a binary STL mesh: its volume and its surface.  Pure: bytes in, numbers out; knows no order and no price.

A binary STL is 80 bytes of anything, a count, and for each triangle a normal (often wrong, so not read), three corners
and 16 spare bits, all little-endian.  A shape can be cast only when its triangles close it: then the signed volumes of
the tetrahedra between one point and each triangle add up to the volume.
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

HEADER = struct.Struct("<80xI")
TRIANGLE = struct.Struct("<12x9fH")

Point = tuple[float, float, float]
Triangle = tuple[Point, Point, Point]


class MeshError(ValueError):
    """The mesh has no volume that could be made.  error_code: one of a few words."""

    def __init__(self, error_code: str, detail: str) -> None:
        super().__init__(detail)
        self.error_code = error_code


class Solid(NamedTuple):
    """What a mesh encloses: volume in mm³, surface in mm²."""

    triangles: int
    volume: float
    surface: float


def measure(stl: bytes) -> Solid:
    """Return what the mesh in *stl* encloses.  Raises MeshError where it is broken, open or inside out."""
    origin: Point | None = None
    open_edges: set[tuple[Point, Point]] = set()
    count, volume, surface = 0, 0.0, 0.0
    for count, (a, b, c) in enumerate(_triangles(stl), start=1):
        origin = origin or a  # a point of the shape itself: far from it, the sum would lose its digits
        normal = _cross(_minus(b, a), _minus(c, a))
        volume += _dot(_minus(a, origin), normal) / 6
        surface += _area(normal, count)
        _close(open_edges, a, b, c)
    if open_edges:
        raise MeshError("not_watertight", f"the mesh has a hole: {len(open_edges)} edges lack a triangle on one side")
    if volume <= 0:
        raise MeshError("inside_out", "the mesh encloses no volume: it is flat or its triangles face inwards")
    return Solid(count, volume, surface)


def _triangles(stl: bytes) -> Iterator[Triangle]:
    if len(stl) < HEADER.size:
        raise MeshError("truncated", f"a binary STL has at least {HEADER.size} bytes, this has {len(stl)}")
    (count,) = HEADER.unpack_from(stl)
    expected = HEADER.size + count * TRIANGLE.size
    if len(stl) != expected:
        raise MeshError("truncated", f"{count} triangles take {expected} bytes, the file has {len(stl)}")
    if count == 0:
        raise MeshError("empty", "the mesh has no triangles")
    for ax, ay, az, bx, by, bz, cx, cy, cz, _ in TRIANGLE.iter_unpack(memoryview(stl)[HEADER.size :]):
        if not math.isfinite(ax + ay + az + bx + by + bz + cx + cy + cz):
            raise MeshError("not_finite", "a corner is not a number or infinitely far away")
        yield (ax, ay, az), (bx, by, bz), (cx, cy, cz)


def _close(open_edges: set[tuple[Point, Point]], a: Point, b: Point, c: Point) -> None:
    """Close the edges that a neighbour opened in the other direction, and open the others."""
    for start, end in ((a, b), (b, c), (c, a)):
        if (end, start) in open_edges:
            open_edges.remove((end, start))
        elif (start, end) in open_edges:
            raise MeshError("not_watertight", "two triangles lie on the same side of an edge")
        else:
            open_edges.add((start, end))


def _area(normal: Point, number: int) -> float:
    area = math.sqrt(_dot(normal, normal)) / 2
    if area == 0:
        raise MeshError("degenerate", f"triangle {number} has no area")
    return area


def _minus(a: Point, b: Point) -> Point:
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


def _cross(a: Point, b: Point) -> Point:
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


def _dot(a: Point, b: Point) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
