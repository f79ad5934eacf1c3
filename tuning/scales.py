"""The scales on which hyperparameters are searched.

A learning rate counts by its order of magnitude, so it is drawn log-uniformly: α = 10^r with r
uniform. A momentum β close to one averages over about 1 / (1 - β) steps, so what is drawn
log-uniformly is 1 - β. Units and layers are drawn evenly, and a choice is a choice.
"""

from __future__ import annotations

import math
from typing import Any

from pipelines.engine.application import UserError
from tuning.trials import Dimension


def log(name: str, low: float, high: float, **more: Any) -> Dimension:
    """A number whose logarithm is uniform."""
    return Dimension(name=name, scale="log", low=low, high=high, **more)


def one_minus(name: str, low: float, high: float, **more: Any) -> Dimension:
    """A number below one, whose distance to one has a uniform logarithm."""
    return Dimension(name=name, scale="one_minus", low=low, high=high, **more)


def linear(name: str, low: float, high: float, **more: Any) -> Dimension:
    """A uniform number."""
    return Dimension(name=name, scale="linear", low=low, high=high, **more)


def integer(name: str, low: int, high: int, **more: Any) -> Dimension:
    """A uniform whole number; both bounds can be drawn."""
    return Dimension(name=name, scale="integer", low=low, high=high, **more)


def choice(name: str, *choices: Any, **more: Any) -> Dimension:
    """One of some values that JSON can tell."""
    return Dimension(name=name, scale="choice", choices=choices, **more)


def check(dimension: Dimension) -> Dimension:
    """Returns the dimension.

    Raises:
        UserError: for bounds that are reversed or that the scale does not reach.
    """
    name, low, high = dimension.name, dimension.low, dimension.high
    if dimension.scale == "choice":
        if not dimension.choices:
            raise UserError(f"nothing to choose from for --{name}")
        return dimension
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        raise UserError(f"--{name} needs two finite bounds, not {low} and {high}")
    if low >= high:
        raise UserError(f"the bounds of --{name} are reversed or the same: {low:g} and {high:g}")
    if dimension.scale == "log" and low <= 0:
        raise UserError(f"--{name} is on a log scale, which never reaches {low:g}: start above 0")
    if dimension.scale == "one_minus" and high >= 1:
        raise UserError(
            f"--{name} is on the log scale of its distance to one, which never reaches {high:g}: "
            "end below 1"
        )
    if dimension.scale == "integer" and (low % 1 or high % 1):
        raise UserError(f"--{name} is whole, but its bounds are {low:g} and {high:g}")
    return dimension


def coordinate(dimension: Dimension, value: float) -> float:
    """Where a number lies on its scale, on which draws are even."""
    if dimension.scale == "log":
        return math.log(value)
    if dimension.scale == "one_minus":
        return -math.log(1 - value)
    return float(value)


def position(dimension: Dimension, value: float) -> float:
    """Where a number lies between the bounds: 0 at ``low``, 1 at ``high``."""
    low, high, here = (coordinate(dimension, x) for x in (dimension.low, dimension.high, value))
    return (here - low) / (high - low)


def value_at(dimension: Dimension, place: float) -> float:
    """The number at a position, the inverse of ``position``, within the bounds."""
    low, high = (coordinate(dimension, x) for x in (dimension.low, dimension.high))
    here = low + place * (high - low)
    if dimension.scale == "integer":
        return min(max(round(here), dimension.low), dimension.high)
    value = {"log": math.exp, "one_minus": lambda x: 1 - math.exp(-x)}.get(
        dimension.scale, lambda x: x
    )(here)
    return min(max(value, dimension.low), dimension.high)
