"""What a piece costs: the metal that it takes and the surface that is polished.  Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from examples.order_pipeline.pricing.mesh import Solid

SETUP_CENTS = 2500
POLISHING_CENTS_PER_MM2 = 0.8


class Metal(NamedTuple):
    """density: in g/cm³."""

    density: float
    cents_per_gram: float


METALS = {
    "silver-925": Metal(10.36, 120),
    "gold-585": Metal(13.0, 5_200),
    "gold-750": Metal(15.5, 6_700),
    "platinum-950": Metal(20.1, 3_900),
}


class UnknownMaterialError(ValueError):
    """We do not cast this."""

    error_code = "unknown_material"


def price_cents(solid: Solid, material: str) -> int:
    """Return the price of *solid* in *material*.  Raises UnknownMaterialError."""
    if material not in METALS:
        raise UnknownMaterialError(f"{material} is not one of {', '.join(METALS)}")
    metal = METALS[material]
    grams = solid.volume / 1000 * metal.density
    return round(SETUP_CENTS + grams * metal.cents_per_gram + solid.surface * POLISHING_CENTS_PER_MM2)
