"""The error by slices: the values of one field of the examples, such as a label or a country.

A mean over all examples hides the few that a model is bad at. Beside it stand the mean over the
slices, each of which counts alike (the single number where several markets matter the same), and
the worst slice; its interval says whether it is worse than the others or only small.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from pipelines.diagnosis.findings import table
from pipelines.engine.bootstrap import digits, interval, resampled_means, spelled
from pipelines.tasks.examples import texts

MOST = 30  # values of a number that are slices of their own
PARTS = 4  # that a number of more values is cut into
FEWEST = 10  # examples of a slice; rarer values are one slice together
RARE = "rarer ones"


@dataclasses.dataclass(frozen=True)
class Slice:
    """The examples with one value of a field.

    Attributes:
        value: of the field.
        examples: how many there are.
        error: their mean error.
        bounds: its 95 % interval.
    """

    value: str
    examples: int
    error: float
    bounds: tuple[float, float]


def slices(values: Sequence, errors: np.ndarray) -> list[Slice]:
    """The slices, the worst first.

    Args:
        values: [examples] of the field, as an evaluation holds them: texts or numbers; numbers of
            many values are cut into quarters of the examples.
        errors: [examples] how wrong each answer is.
    """
    names = named(values)
    counts = collections.Counter(names)
    names = np.array([name if counts[name] >= FEWEST else RARE for name in names])
    found = []
    for name in np.unique(names):
        part = np.asarray(errors, float)[names == name]
        bounds = interval(resampled_means(part))
        found.append(Slice(str(name), len(part), float(part.mean()), bounds))
    return sorted(found, key=lambda one: -one.error)


def named(values: Sequence) -> list[str]:
    """What the slice of each example is called."""
    numbers = np.asarray(values)
    if numbers.dtype.kind not in "fiu" or numbers.ndim > 1:
        return [str(text) for text in texts(values)]
    present = numbers[np.isfinite(numbers)].astype(float)
    if len(np.unique(present)) <= MOST:
        return [digits(value) if np.isfinite(value) else "missing" for value in numbers]
    borders = np.quantile(present, np.arange(1, PARTS) / PARTS)
    limits = [digits(border) for border in borders]
    pairs = itertools.pairwise(limits)
    called = [f"below {limits[0]}", *(f"{low} to {high}" for low, high in pairs)]
    called += [f"from {limits[-1]}", "missing"]
    part = np.where(np.isfinite(numbers), np.searchsorted(borders, numbers, side="right"), PARTS)
    return [called[number] for number in part]


def table_of_slices(field: str, found: Sequence[Slice]) -> str:
    """A Markdown table, the worst slice first."""
    rows = [[one.value, f"{one.examples:,}", spelled(one.error, one.bounds)] for one in found]
    return table([field, "examples", "mean error"], rows)


def judgment(field: str, found: Sequence[Slice]) -> str:
    """The mean over the slices and the worst of them, in words."""
    everything = sum(one.examples * one.error for one in found) / sum(x.examples for x in found)
    worst = found[0]
    doubt = "" if worst.bounds[0] > everything else ", which may be chance"
    return (
        f"Mean error of all examples {digits(everything)}, of the slices "
        f"{digits(float(np.mean([one.error for one in found])))}; worst: {field} {worst.value}, "
        f"{spelled(worst.error, worst.bounds)}{doubt}."
    )
