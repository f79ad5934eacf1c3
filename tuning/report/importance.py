"""Which hyperparameters decide how good a trial is.

After F. Hutter, H. Hoos, K. Leyton-Brown, "An Efficient Approach for Assessing Hyperparameter
Importance", 2014, https://proceedings.mlr.press/v32/hutter14.html: a random forest learns the
scores of the trials, and the variance of what it predicts over the whole space is shared out among
the hyperparameters (functional analysis of variance). Here the shares are Sobol's indices, which
are estimated by sampling. What is learned is the rank of a score and not the score, so that a few
trials that went astray do not decide everything.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from tuning.report.axes import ABSENT, Axis
from tuning.report.progress import scored
from tuning.trials import Dimension, Search, Trial

FEWEST = 8  # trials
# Of the variance of the ranks: of pure noise, a forest seems to explain more in 1 search of 30.
LEAST_EXPLAINED = 0.2
TREES = 200
SAMPLES = 1024  # a power of 2, as Sobol's sequence wants


class UntoldError(Exception):
    """Why the trials do not tell which hyperparameters matter."""


@dataclasses.dataclass(frozen=True)
class Importance:
    """Shares of the variance of the forest's prediction over the space.

    Attributes:
        names: hyperparameters, the most important first.
        alone: [names] what each decides whatever the others are.
        jointly: [names] what each decides in concert with others, besides.
        explained: R² of the forest on the trials that a tree did not see (out of bag): 1 if it
            predicts their ranks, 0 if no better than their mean.
        trials: that the forest learned from.
    """

    names: list[str]
    alone: np.ndarray
    jointly: np.ndarray
    explained: float
    trials: int


def importance(search: Search) -> Importance:
    """What the scores of a search say about its hyperparameters; breaking a limit does not count.

    Raises:
        UntoldError: for too few trials, or scores that do not follow from the hyperparameters.
    """
    import scipy.stats
    from sklearn.ensemble import RandomForestRegressor

    trials = [trial for trial in search.trials if scored(trial)]
    if len(trials) < FEWEST:
        raise UntoldError(f"{len(trials)} trials have a score; it takes {FEWEST} to tell")
    varied = [dimension for dimension in search.space if _varied(dimension, trials)]
    if not varied:
        raise UntoldError("no hyperparameter was varied")
    columns = _columns(varied, trials)
    ranks = scipy.stats.rankdata([trial.score for trial in trials]) / len(trials)
    forest = RandomForestRegressor(TREES, oob_score=True, random_state=0).fit(columns, ranks)
    if np.ptp(ranks) == 0 or forest.oob_score_ < LEAST_EXPLAINED:
        raise UntoldError(
            f"of the {len(trials)} trials, those that are left out cannot be predicted from the "
            "others: there are too few, or chance decides more than the hyperparameters"
        )
    shares = scipy.stats.sobol_indices(
        func=lambda drawn: forest.predict(_drawn(varied, columns, drawn.T)),
        n=SAMPLES,
        dists=[scipy.stats.uniform()] * len(varied),
        rng=np.random.default_rng(0),
    )
    alone = np.clip(shares.first_order, 0, 1)
    jointly = np.clip(shares.total_order - alone, 0, 1)
    order = np.argsort(-(alone + jointly), kind="stable")
    return Importance(
        [varied[number].name for number in order],
        alone[order],
        jointly[order],
        float(forest.oob_score_),
        len(trials),
    )


def _varied(dimension: Dimension, trials: Sequence[Trial]) -> bool:
    first, *others = (trial.hyperparameters.get(dimension.name) for trial in trials)
    return any(value != first for value in others)


def _columns(varied: Sequence[Dimension], trials: Sequence[Trial]) -> np.ndarray:
    """[trials, dimensions] positions in each dimension's own scale."""
    return np.array(
        [
            [
                Axis(dimension).position(trial.hyperparameters.get(dimension.name))
                for dimension in varied
            ]
            for trial in trials
        ]
    )


def _drawn(varied: Sequence[Dimension], columns: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """[n, dimensions] numbers from 0 to 1 → positions; absent as often as in the trials."""
    positions = np.empty_like(numbers)
    for place, dimension in enumerate(varied):
        absent = np.mean(columns[:, place] == ABSENT)
        present = np.clip((numbers[:, place] - absent) / (1 - absent), 0, 1)
        if dimension.scale == "choice":
            count = len(dimension.choices)
            present = np.minimum(np.floor(present * count), count - 1) / max(count - 1, 1)
        positions[:, place] = np.where(numbers[:, place] < absent, ABSENT, present)
    return positions
