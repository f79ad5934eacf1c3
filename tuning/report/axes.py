"""The axes of a search's pictures: hyperparameters in their own scales, and scores."""

from __future__ import annotations

import dataclasses
import math
import re
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

from tuning.scales import position
from tuning.trials import Dimension, Search

# Where a trial stands that has no such hyperparameter (one that only some architectures take).
ABSENT = -0.12
TICKS = 6
LETTERS = 14  # of a choice, or of a line of a name
FEW = 8  # scores, which are all shown
# Times the distance from the median to the best score: what is worse is drawn at the edge.
FAR = 3.0
WIDE = 20.0  # ratio of the worst loss to the best above which a logarithmic axis shows more


@dataclasses.dataclass(frozen=True)
class Axis:
    """A hyperparameter's axis: positions from 0 to 1, even in its own scale."""

    dimension: Dimension

    def position(self, value: Any) -> float:
        """Where a value lies between ``low`` and ``high``, or among ``choices``."""
        dimension = self.dimension
        if value is None and None not in dimension.choices:
            return ABSENT
        if dimension.scale == "choice":
            last = len(dimension.choices) - 1
            return list(dimension.choices).index(value) / last if last else 0.5
        return position(dimension, value)

    def ticks(self) -> tuple[list[float], list[str]]:
        """Positions and labels of a few round values."""
        dimension = self.dimension
        if dimension.scale == "choice":
            return [self.position(value) for value in dimension.choices], [
                _short(spelled(value)) for value in dimension.choices
            ]
        values = self._round_values()
        return [self.position(value) for value in values], [f"{value:.6g}" for value in values]

    def _round_values(self) -> list[float]:
        from matplotlib.ticker import MaxNLocator

        low, high, scale = self.dimension.low, self.dimension.high, self.dimension.scale
        if scale == "log":
            values = _decades(low, high)
        elif scale == "one_minus":
            values = [1 - distance for distance in _decades(1 - high, 1 - low)]
        else:
            locator = MaxNLocator(TICKS - 1, integer=scale == "integer", steps=[1, 2, 2.5, 5, 10])
            slack = 1e-9 * (high - low)
            values = [x for x in locator.tick_values(low, high) if low - slack <= x <= high + slack]
        return values if len(values) > 1 else sorted({low, high})


@dataclasses.dataclass(frozen=True)
class ScoreAxis:
    """The part of the scores that is worth looking at; what is far worse is put at its edge.

    Attributes:
        label: of the axis.
        best, worst: its ends.
        logarithmic: whether the scores are losses of very different sizes.
    """

    label: str
    best: float
    worst: float
    logarithmic: bool

    @classmethod
    def of(cls, search: Search, values: Sequence[float]) -> ScoreAxis | None:
        """The axis for some scores and for that of the default recipe; None where there are none.

        Args:
            search: whose direction counts.
            values: scores, some of which may not be finite.
        """
        finite = np.array([value for value in values if math.isfinite(value)])
        if not len(finite):
            return None
        smaller = search.direction == "min"
        words = "lower is better" if smaller else "higher is better"
        label = f"{search.objective}\n({words})"
        best = finite.min() if smaller else finite.max()
        worst = finite.max() if smaller else finite.min()
        if smaller and best > 0 and worst / best > WIDE:
            edge = min(worst, np.median(finite) * WIDE**2)
            return cls(label, best, edge, logarithmic=True)
        edge = np.median(finite) + FAR * (np.median(finite) - best)
        edge = min(worst, edge) if smaller else max(worst, edge)
        edge = worst if edge == best or len(finite) < FEW else edge
        if edge == best:  # a single value
            edge = best + (1 if smaller else -1) * (0.1 * abs(best) or 1.0)
        return cls(label, best, edge, logarithmic=False)

    def shown(self, values: Any) -> np.ndarray:
        """The values, those beyond the worse end brought back to it."""
        values = np.asarray(values, float)
        worse = np.fmin if self.best < self.worst else np.fmax
        return np.where(np.isnan(values), np.nan, worse(values, self.worst))

    def position(self, score: float) -> float:
        """From 0, the worst, to 1, the best."""
        best, worst, here = self.best, self.worst, float(self.shown(score))
        if self.logarithmic:
            best, worst, here = math.log(best), math.log(worst), math.log(here)
        return (here - worst) / (best - worst)

    def ticks(self) -> tuple[list[float], list[str]]:
        """Positions and labels of a few round scores."""
        from matplotlib.ticker import LogLocator, MaxNLocator

        low, high = sorted((self.best, self.worst))
        locator = LogLocator(subs=(1, 2, 5)) if self.logarithmic else MaxNLocator(5)
        values = [value for value in locator.tick_values(low, high) if low <= value <= high]
        values = values if len(values) > 1 else [low, high]
        return [self.position(value) for value in values], [f"{value:.4g}" for value in values]

    def apply(self, axes: Any) -> None:
        """Sets the limits, the scale and the label of a vertical axis."""
        if self.logarithmic:
            axes.set_yscale("log")
            margin = (self.best / self.worst) ** 0.05
            axes.set_ylim(self.best * margin, self.worst / margin)
        else:
            margin = 0.05 * abs(self.best - self.worst)
            low, high = sorted((self.best, self.worst))
            axes.set_ylim(low - margin, high + margin)
        axes.set_ylabel(self.label)


def in_lines(name: str) -> str:
    """The name of an option or a measure, in lines."""
    parts = textwrap.wrap(re.sub(r"[._]", r"\g<0> ", name), LETTERS + 2)
    return "\n".join(part.replace(" ", "") for part in parts)


def spelled(value: Any) -> str:
    """A hyperparameter's value for a table or an axis."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return "none" if value is None else str(value)


def _decades(low: float, high: float) -> list[float]:
    """Powers of ten from ``low`` to ``high``, between them 2 and 5 times these, as far as few."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        values = [step * 10.0**exponent for exponent in exponents for step in steps]
        values = [x for x in values if low * (1 - 1e-9) <= x <= high * (1 + 1e-9)]
        if len(values) <= TICKS:
            return values
    return values[:: -(-len(values) // TICKS)]


def _short(label: str) -> str:
    return label if len(label) <= LETTERS else label[: LETTERS - 1] + "…"
