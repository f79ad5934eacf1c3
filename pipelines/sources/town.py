"""A generated town: houses with size, bedrooms, zip code and wealth of the neighbours → price.

As in the courses: size and bedrooms decide how large a family lives there, the zip code how much of
the town is in walking distance, zip code and wealth how good the school is, and these three what
the house is worth. None of the three is told. Prices are right-skewed, as they are everywhere.
"""

from __future__ import annotations

import functools

import numpy as np

from pipelines.engine.application import UserError
from pipelines.sources.table import Table, cut_rows, numbered

ZIP_CODES = 12
NOISE = 0.08  # standard deviation of the logarithm of the price beside its rule
MISSING = 0.05  # the share of rows whose wealth nobody asked for


class Town(Table):
    """Houses drawn from a seed, cut at random 80 : 10 : 10.

    ``size`` is in square metres, ``wealth`` the mean yearly income in the street in thousands,
    missing in one of twenty rows; the price is in thousands.

    Args:
        houses: number of examples.
        seed: of the town.
    """

    place = "built in"
    licence = "no rights: generated"
    citation = "generated in pipelines/sources/town.py"

    def __init__(self, *, houses: int = 4_000, seed: int = 0):
        if houses < 100 or seed < 0:
            raise UserError("a town needs 100 houses or more and a seed of at least 0")
        self.houses = houses
        self.seed = seed

    @functools.cached_property
    def columns(self) -> dict[str, np.ndarray]:
        draw, count = np.random.default_rng(self.seed), self.houses
        size = draw.lognormal(np.log(110), 0.35, count).clip(25, 600).round()
        bedrooms = (size / 32 + draw.normal(0, 0.8, count)).round().clip(1, 9)
        place = draw.integers(ZIP_CODES, size=count)
        walkability, schooling = draw.uniform(0, 1, (2, ZIP_CODES))
        wealth = draw.lognormal(np.log(45) + 0.5 * (schooling[place] - 0.5), 0.3).round(1)
        price = _price(size, bedrooms, walkability[place], schooling[place], wealth)
        price *= np.exp(draw.normal(0, NOISE, count))
        codes = np.array([f"0{2134 + 7 * number}" for number in range(ZIP_CODES)], "S")
        ids = numbered("town", count)
        return {
            "id": ids,
            "split": cut_rows(ids, held_out=0.1),
            "size": size.astype("float32"),
            "bedrooms": bedrooms.astype("float32"),
            "zip_code": codes[place],
            "wealth": np.where(draw.random(count) < MISSING, np.nan, wealth).astype("float32"),
            "target": price.round(1).astype("float32"),
        }


def _price(
    size: np.ndarray,
    bedrooms: np.ndarray,
    walkability: np.ndarray,
    schooling: np.ndarray,
    wealth: np.ndarray,
) -> np.ndarray:
    """In thousands; all arguments [houses]."""
    family = np.minimum(bedrooms + 1, size / 25)  # more rooms do not help in a small house
    school = schooling * np.sqrt(wealth / 45)
    return 1.4 * size * (0.8 + 0.5 * walkability) + 28 * family * (0.4 + school)
