"""The pricing worker's measuring of models: right for whole ones, a MeshError for everything else."""

from __future__ import annotations

import math
import struct
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from examples.order_pipeline.pricing.mesh import MeshError, measure
from examples.order_pipeline.scenarios.models import Triangle, ring, stl

Shape = list[Triangle]

TETRAHEDRON: Shape = [
    ((0, 0, 0), (0, 1, 0), (1, 0, 0)),
    ((0, 0, 0), (1, 0, 0), (0, 0, 1)),
    ((0, 0, 0), (0, 0, 1), (0, 1, 0)),
    ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
]

whole_numbers = st.integers(-1000, 1000)
"""Small enough that corners and their sums are exact as 32-bit floats."""


def cube() -> Shape:
    triangles: Shape = []
    for axis in range(3):
        for side in (0, 1):
            corners = [_turned(axis, side, u, v) for u, v in ((0, 0), (1, 0), (1, 1), (0, 1))]
            a, b, c, d = corners if side else corners[::-1]
            triangles += [(a, b, c), (a, c, d)]
    return triangles


def _turned(axis: int, side: int, u: int, v: int) -> tuple[float, float, float]:
    point = (side, u, v)
    return point[-axis % 3], point[(1 - axis) % 3], point[(2 - axis) % 3]


def scaled(shape: Shape, factor: float) -> Shape:
    return [_each(triangle, lambda x, _axis: x * factor) for triangle in shape]


def moved(shape: Shape, by: tuple[float, float, float]) -> Shape:
    return [_each(triangle, lambda x, axis: x + by[axis]) for triangle in shape]


def _each(triangle: Triangle, change: object) -> Triangle:
    a, b, c = (tuple(change(x, axis) for axis, x in enumerate(point)) for point in triangle)  # type: ignore[operator]
    return a, b, c


SHAPES = [
    pytest.param(cube(), 1.0, 6.0, id="cube"),
    pytest.param(TETRAHEDRON, 1 / 6, 1.5 + math.sqrt(3) / 2, id="tetrahedron"),
]


@pytest.mark.parametrize(("shape", "volume", "surface"), SHAPES)
@given(factor=st.integers(1, 1000), by=st.tuples(whole_numbers, whole_numbers, whole_numbers))
def test_volume_grows_with_the_cube_and_surface_with_the_square_wherever_the_shape_is(
    shape: Shape, volume: float, surface: float, factor: int, by: tuple[float, float, float]
) -> None:
    solid = measure(stl(moved(scaled(shape, factor), by)))
    assert solid.triangles == len(shape)
    assert solid.volume == pytest.approx(volume * factor**3)
    assert solid.surface == pytest.approx(surface * factor**2)


def test_a_fine_ring_has_the_volume_and_surface_of_a_torus() -> None:
    solid = measure(stl(ring(200, 100)))
    assert solid.volume == pytest.approx(2 * math.pi**2 * 9, rel=1e-3)
    assert solid.surface == pytest.approx(4 * math.pi**2 * 9, rel=1e-3)


@given(st.permutations(cube()))
def test_the_order_of_the_triangles_does_not_matter(shuffled: Shape) -> None:
    assert measure(stl(shuffled)).volume == pytest.approx(1)


def _patched(stl_file: bytes, offset: int, value: float) -> bytes:
    return stl_file[:offset] + struct.pack("<f", value) + stl_file[offset + 4 :]


WHOLE = stl(cube())
FIRST_CORNER = 84 + 12


@pytest.mark.parametrize(
    ("broken", "error_code"),
    [
        pytest.param(b"", "truncated", id="nothing"),
        pytest.param(WHOLE[:-1], "truncated", id="the last byte is missing"),
        pytest.param(WHOLE + b"\0", "truncated", id="a byte too many"),
        pytest.param(b"solid ring\nfacet normal 0 0 1\n" * 10, "truncated", id="a text STL"),
        pytest.param(stl([]), "empty", id="no triangle"),
        pytest.param(_patched(WHOLE, FIRST_CORNER, math.nan), "not_finite", id="not a number"),
        pytest.param(_patched(WHOLE, FIRST_CORNER, -math.inf), "not_finite", id="infinitely far away"),
        pytest.param(stl(cube()[1:]), "not_watertight", id="a hole"),
        pytest.param(stl([*cube(), cube()[0]]), "not_watertight", id="a triangle twice"),
        pytest.param(stl([((0, 0, 0), (1, 1, 1), (2, 2, 2))]), "degenerate", id="a line"),
        pytest.param(stl([(a, c, b) for a, b, c in cube()]), "inside_out", id="inside out"),
        pytest.param(stl([TETRAHEDRON[0], TETRAHEDRON[0][::-1]]), "inside_out", id="flat"),
    ],
)
def test_a_model_that_cannot_be_made_says_why(broken: bytes, error_code: str) -> None:
    with pytest.raises(MeshError) as caught:
        measure(broken)
    assert caught.value.error_code == error_code


floats = st.floats(width=32) | st.sampled_from([0.0, -0.0, 1.0, 3.4e38, -3.4e38, 1e-45])
points = st.tuples(floats, floats, floats)


@example(bytes(80) + b"\xff\xff\xff\xff")
@given(st.binary(max_size=300) | st.lists(st.tuples(points, points, points), max_size=6).map(stl))
def test_whatever_the_bytes_are_they_are_measured_or_refused(anything: bytes) -> None:
    with suppress(MeshError):
        solid = measure(anything)
        assert solid.volume > 0
        assert math.isfinite(solid.surface)
