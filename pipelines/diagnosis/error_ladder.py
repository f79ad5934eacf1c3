"""The error ladder: from the human's error down to the test set's, and what each gap is called.

After A. Ng, "Machine Learning Yearning", 2018, chapters 20 to 27 (bias and variance against the
optimal error rate) and 40 to 43 (training and dev sets from different distributions):

    human → training             avoidable bias
    training → training-dev      variance
    training-dev → dev           data mismatch
    dev → test                   overfitting to the dev set

The training-dev set comes from where the training set does, and is not trained on. Without one the
gap from training to dev is variance, if both come from the same distribution; else nobody knows.
A human's error stands for the lowest that is possible. Errors are means over examples, so a gap may
be nothing but chance: it is called large or small only if its whole 95 % interval is.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Literal

import numpy as np

from pipelines.engine.bootstrap import RESAMPLES, interval, resampled_means

RUNGS = ("human", "training", "training-dev", "dev", "test")
NAMES = {
    ("human", "training"): "avoidable bias",
    ("training", "training-dev"): "variance",
    ("training-dev", "dev"): "data mismatch",
    ("dev", "test"): "overfitting to the dev set",
}
# Of the largest gap: what is smaller than this part of it comes after it.
WORTH_NAMING = 1 / 4

Verdict = Literal["large", "small", "negative", "inconclusive"]


@dataclasses.dataclass(frozen=True, eq=False)
class Rung:
    """The error of one set.

    Attributes:
        name: one of ``RUNGS``.
        error: the mean over the set's examples.
        resampled: [RESAMPLES] what it might have been with other examples.
        examples: how many there are; None for an error known from elsewhere.
    """

    name: str
    error: float
    resampled: np.ndarray
    examples: int | None = None

    @classmethod
    def known(cls, name: str, error: float) -> Rung:
        """An error that somebody states, without doubt."""
        return cls(name, error, np.full(RESAMPLES, error))

    @classmethod
    def measured(cls, name: str, errors: np.ndarray) -> Rung:
        """The mean of [examples] errors; sets are drawn independently of one another."""
        resampled = resampled_means(errors, seed=RUNGS.index(name))
        return cls(name, float(np.mean(errors)), resampled, len(errors))


@dataclasses.dataclass(frozen=True)
class Gap:
    """What the error grows by from one rung to the next.

    Attributes:
        name: what such a gap is called.
        size: the difference of the errors.
        bounds: its 95 % interval.
        verdict: large or small: more or less than what is tolerated; negative: the error falls by
            more than that; inconclusive: the interval holds both.
    """

    name: str
    size: float
    bounds: tuple[float, float]
    verdict: Verdict


def gaps(ladder: Sequence[Rung], tolerance: float, *, one_distribution: bool = True) -> list[Gap]:
    """The gaps between the rungs that there are.

    Args:
        ladder: some of ``RUNGS``, in their order.
        tolerance: the error that a gap may add without being worth any work.
        one_distribution: whether training and dev examples come from the same distribution.
    """
    found = []
    for lower, upper in itertools.pairwise(ladder):
        name = NAMES.get((lower.name, upper.name))
        if (lower.name, upper.name) == ("training", "dev"):
            name = "variance" if one_distribution else "variance or data mismatch"
        if name is not None:
            bounds = interval(upper.resampled - lower.resampled)
            size = upper.error - lower.error
            found.append(Gap(name, size, bounds, _verdict(bounds, tolerance)))
    return found


def _verdict(bounds: tuple[float, float], tolerance: float) -> Verdict:
    low, high = bounds
    if low > tolerance:
        return "large"
    if high < -tolerance:
        return "negative"
    return "small" if -tolerance <= low and high <= tolerance else "inconclusive"


def focus(found: Sequence[Gap]) -> list[Gap]:
    """The gaps to work on, the largest first; those far smaller than it are left for later."""
    large = sorted((gap for gap in found if gap.verdict == "large"), key=lambda gap: -gap.size)
    return [gap for gap in large if gap.size >= WORTH_NAMING * large[0].size]
