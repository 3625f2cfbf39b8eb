"""What a piece costs."""

from __future__ import annotations

import pytest

from examples.order_pipeline.pricing.mesh import Solid
from examples.order_pipeline.pricing.price import METALS, UnknownMaterialError, price_cents


def test_a_price_is_set_up_metal_and_polishing() -> None:
    solid = Solid(triangles=12, volume=1000, surface=600)  # 1 cm³: 10.36 g of silver at 1.20, 600 mm² at 0.008
    assert price_cents(solid, "silver-925") == 2500 + 1243 + 480


@pytest.mark.parametrize("metal", METALS)
def test_a_larger_piece_costs_more(metal: str) -> None:
    assert price_cents(Solid(12, 200, 200), metal) > price_cents(Solid(12, 100, 100), metal)


def test_a_material_that_we_do_not_cast_has_no_price() -> None:
    with pytest.raises(UnknownMaterialError, match="wood-001 is not one of silver-925"):
        price_cents(Solid(12, 1, 1), "wood-001")
