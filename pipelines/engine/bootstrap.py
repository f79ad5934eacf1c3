"""How sure a figure is: the percentile bootstrap over examples.

After Efron and Tibshirani: An Introduction to the Bootstrap, 1993, chapter 13: examples are drawn
with replacement, as many as there are, and the figure is computed anew; 95 % of the figures so
found lie in the interval. Where a figure depends on its examples through sums over them alone (a
mean, BLEU, a perplexity), a resample is a product: how often each example was drawn, times what it
adds to the sums.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

RESAMPLES = 2000
FEW_VALUES = 100  # different values of a mean: right or wrong has two


@dataclasses.dataclass(frozen=True)
class SummedFigure:
    """A figure of a split that is a function of sums over its examples.

    Attributes:
        terms: [examples, k] float64, what each example adds to the sums.
        of_sums: [..., k] sums → [...] figures.
    """

    terms: np.ndarray
    of_sums: Callable[[np.ndarray], np.ndarray]

    @property
    def value(self) -> float:
        """The figure of the examples as they are."""
        return float(self.of_sums(self.terms.sum(axis=0)))

    def resampled(self, seed: int = 0) -> np.ndarray:
        """[RESAMPLES] figures; those of two figures with the same examples and seed are paired."""
        draw, count = np.random.default_rng(seed), len(self.terms)
        # One product at a time: those of many resamples together no longer fit into the caches.
        sums = [_times_drawn(draw, count) @ self.terms for _ in range(RESAMPLES)]
        return self.of_sums(np.stack(sums))

    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the figure."""
        return interval(self.resampled())

    def gains_over(self, other: SummedFigure) -> np.ndarray:
        """[RESAMPLES] this figure less another of the same examples (paired)."""
        return self.resampled() - other.resampled()


def interval(resampled: np.ndarray) -> tuple[float, float]:
    """Where the middle 95 % of resampled figures lie."""
    low, high = np.percentile(resampled, [2.5, 97.5])
    return float(low), float(high)


def digits(value: float) -> str:
    """A figure in four digits; a large one, such as a price, to the unit, nearly one in six."""
    if abs(value) >= 10_000:
        return f"{value:,.0f}"
    return f"{value:.6g}" if 0.9999 < value < 1 else f"{value:.4g}"


def spelled(value: float, bounds: tuple[float, float]) -> str:
    """A figure with its interval."""
    low, high = bounds
    return f"{digits(value)} [{digits(low)}, {digits(high)}]"


def ratio(numerators: np.ndarray, denominators: np.ndarray) -> SummedFigure:
    """The sum of [examples] numbers over the sum of others."""
    terms = np.stack([numerators, denominators], axis=1).astype(float)
    return SummedFigure(terms, _first_over_second)


def mean(values: np.ndarray) -> SummedFigure:
    """The mean of [examples] numbers."""
    return ratio(values, np.ones(len(values)))


def resampled_means(values: np.ndarray, seed: int = 0) -> np.ndarray:
    """[RESAMPLES] means of [examples] numbers, not paired with those of other figures."""
    different, counts = np.unique(values, return_counts=True)
    if len(different) > FEW_VALUES:
        return mean(values).resampled(seed)
    # How often each value is drawn has a multinomial distribution, which is quicker drawn at once.
    count = len(values)
    drawn = np.random.default_rng(seed).multinomial(count, counts / count, size=RESAMPLES)
    return drawn @ different / count


def _first_over_second(sums: np.ndarray) -> np.ndarray:
    return sums[..., 0] / sums[..., 1]


def _times_drawn(draw: np.random.Generator, count: int) -> np.ndarray:
    return np.bincount(draw.integers(count, size=count), minlength=count)
