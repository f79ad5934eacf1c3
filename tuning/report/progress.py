"""How far a search has come: the best score so far, and what is expected of so many trials."""

from __future__ import annotations

import math

import numpy as np

from pipelines.engine.bootstrap import digits
from tuning.trials import Search, Trial


def finished(search: Search) -> list[Trial]:
    """The trials that have ended, in the order in which they did."""
    ended = [trial for trial in search.trials if trial.status != "running"]
    return sorted(ended, key=lambda trial: (trial.began + trial.seconds, trial.number))


def scored(trial: Trial) -> bool:
    """Whether a trial has a score that is a number."""
    return trial.score is not None and math.isfinite(trial.score)


def failed(trial: Trial) -> bool:
    """Whether a trial has ended without one."""
    return trial.status != "running" and not scored(trial)


def reason(search: Search, trial: Trial) -> str:
    """Why a trial failed."""
    return trial.reason or f"{search.objective} is {trial.score}"


def spelled_score(trial: Trial) -> str:
    """The score of a trial that has one, with its spread over several trainings."""
    spread = "" if trial.spread is None else f" ± {digits(trial.spread)}"
    return digits(trial.score) + spread


def best_so_far(search: Search) -> np.ndarray:
    """[finished trials] the best score up to each; nan before the first that may be the best."""
    kept = [trial.score if trial.eligible else math.nan for trial in finished(search)]
    best = np.fmin if search.direction == "min" else np.fmax
    return best.accumulate(np.array(kept, float))


def expected_best(search: Search) -> np.ndarray:
    """[finished trials] the mean best score of k of them, k = 1, 2, …, over all choices of k.

    The i-th best of n is the best of k in C(n − i, k − 1) of all C(n, k) choices. A trial without a
    score, that was stopped or that breaks a limit counts as the worst one that may be the best.
    """
    scores = [trial.score for trial in search.ranked()]
    count = len(finished(search))
    if not scores:
        return np.full(count, math.nan)
    scores += scores[-1:] * (count - len(scores))
    return np.array(
        [
            sum(
                math.comb(count - i, k - 1) / math.comb(count, k) * s
                for i, s in enumerate(scores, 1)
            )
            for k in range(1, count + 1)
        ]
    )


def trials_to_reach(search: Search, score: float) -> int | None:
    """After how many finished trials the best is as good as ``score``; None: never."""
    best = best_so_far(search)
    reached = np.flatnonzero(best <= score if search.direction == "min" else best >= score)
    return int(reached[0]) + 1 if len(reached) else None
