"""keras-tuner's ways of proposing settings, made to last.

Of keras-tuner 1.4.8: a file of state that is half written when its process is killed cannot be
read again, a failure too many raises within a lock that is then never released, its grid tries ten
values of every number, in no order, and cannot be resumed, and a condition is printed whenever it
travels to a worker. None of that is so here.
"""

from __future__ import annotations

import json
import math
import os
import pathlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras_tuner as kt
from sklearn.exceptions import ConvergenceWarning

from pipelines.engine.application import UserError
from pipelines.engine.run import write_text
from tuning.definition import Definition
from tuning.space import declare, grid, proposal, refined
from tuning.trials import Dimension, Trial

FAILURES_IN_A_ROW = 3
RUNNING, IDLE, STOPPED = ({"status": status} for status in ("RUNNING", "IDLE", "STOPPED"))


class Durable:
    """What is the same in all oracles; comes before keras-tuner's own among the bases."""

    def __init__(self, **options: Any) -> None:
        super().__init__(max_consecutive_failed_trials=math.inf, **options)
        self.verbose = 0
        self.stopped = False

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """As keras-tuner's, but nothing more after several failures in a row."""
        last = [self.trials[name].status for name in self.end_order[-FAILURES_IN_A_ROW:]]
        if last == ["FAILED"] * FAILURES_IN_A_ROW:
            return STOPPED
        return super().populate_space(trial_id)

    @kt.synchronized
    def create_trial(self, tuner_id: str) -> Any:
        """As keras-tuner's, with the values alone: the space need not travel.

        Whoever asks is not sent away while others have trials, which may be left to it yet.
        """
        trial = super().create_trial(tuner_id)
        if trial.status == STOPPED["status"] and self.ongoing_trials:
            trial.status = IDLE["status"]
            self.tuner_ids.add(tuner_id)
        self.stopped |= trial.status == STOPPED["status"]
        values = trial.hyperparameters.values
        trial.hyperparameters = kt.HyperParameters()
        trial.hyperparameters.values = values
        return trial

    @property
    def over(self) -> bool:
        """Whether a worker was told that there is nothing more, and all trials have ended."""
        return self.stopped and not self.ongoing_trials

    @kt.synchronized
    def give_up(self, tuner_id: str) -> None:
        """Has another worker go on with the trial of one that is lost."""
        self._retry_queue.append(self.ongoing_trials.pop(tuner_id).trial_id)
        self.tuner_ids.discard(tuner_id)

    def save(self) -> None:
        """Replaces the file of the state in one step."""
        write_text(pathlib.Path(self._get_oracle_fname()), json.dumps(self.get_state()))

    def _save_trial(self, trial: Any) -> None:
        file = pathlib.Path(self._get_trial_dir(trial.trial_id), "trial.json")
        write_text(file, json.dumps(trial.get_state()))

    def resume(self) -> None:
        """Goes on from what was saved, if anything was."""
        if os.path.exists(self._get_oracle_fname()):
            self.reload()


class RandomOracle(Durable, kt.oracles.RandomSearchOracle):
    """Random search, from coarse to fine if asked to.

    Args:
        space: the user's.
        round_size: trials before each time that the box shrinks.
        ranked: the trials so far, the best first; the recipe as it is may be one of them.
    """

    def __init__(
        self,
        *,
        space: Sequence[Dimension],
        round_size: int,
        ranked: Callable[[], Sequence[Trial]],
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.space, self.round_size, self.ranked = space, round_size, ranked

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """A setting in the box; the box waits for all trials of the rounds before."""
        times, place = divmod(len(self.trials), self.round_size)
        if times and place == 0:
            if self.ongoing_trials:
                return IDLE
            self.hyperparameters = kt.HyperParameters()
            declare(self.hyperparameters, refined(self.space, self.ranked(), times))
        return super().populate_space(trial_id)


class HyperbandOracle(Durable, kt.oracles.HyperbandOracle):
    """Many settings for a few epochs, the best of them for more (Li et al. 2018)."""

    @property
    def plan(self) -> int:
        """The number of its trials: those of every round of every bracket."""
        return sum(
            self._get_size(bracket, number)
            for bracket in range(self._get_num_brackets())
            for number in range(self._get_num_rounds(bracket))
        )


class BayesianOracle(Durable, kt.oracles.BayesianOptimizationOracle):
    """The setting of which a Gaussian process expects most, after some at random."""

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """As keras-tuner's, without scikit-learn's warnings of a length scale at its bound."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return super().populate_space(trial_id)


class Grid(kt.Oracle):
    """Every setting of a grid, in its order.

    Args:
        cells: keras-tuner's values of each.
    """

    def __init__(self, *, cells: Sequence[dict[str, Any]], **options: Any) -> None:
        super().__init__(**options)
        self.cells = cells

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """The first cell that has not begun."""
        begun = len(self.trials)
        return RUNNING | {"values": self.cells[begun]} if begun < len(self.cells) else STOPPED


class GridOracle(Durable, Grid):
    """The grid."""


def oracle_of(
    definition: Definition, epochs: int, ranked: Callable[[], Sequence[Trial]]
) -> Durable:
    """The oracle of a search.

    Args:
        definition: of the search.
        epochs: that a trial is trained.
        ranked: the trials so far, the best first.

    Raises:
        UserError: for a grid that is larger than the trials.
    """
    hyperparameters = kt.HyperParameters()
    declare(hyperparameters, definition.space)
    options = {
        "objective": kt.Objective(definition.objective, definition.direction),
        "hyperparameters": hyperparameters,
        "seed": _seed(definition.seed),
    }
    number = {"max_trials": definition.trials}
    if definition.tuner == "hyperband":
        oracle = HyperbandOracle(max_epochs=epochs, **options)
        oracle.max_trials = definition.trials  # which keras-tuner's Hyperband does not ask for
        return oracle
    if definition.tuner == "bayesian":
        # keras-tuner draws three times as many trials as dimensions at random, however few follow.
        first = min(max(3, definition.trials // 3), 3 * len(definition.space))
        return BayesianOracle(num_initial_points=first, **number, **options)
    if definition.tuner == "grid":
        return GridOracle(cells=_cells(definition), **number, **options)
    return RandomOracle(
        space=definition.space,
        round_size=definition.round_size,
        ranked=ranked,
        **number,
        **options,
    )


def _seed(seed: int) -> int:
    """Far apart, because keras-tuner counts up from its seed with each draw, and never 0.

    With 0 it takes a seed at random.
    """
    return (seed + 1) * 1_000_003 % (2**32 - 5) or 1


def _cells(definition: Definition) -> list[dict[str, Any]]:
    """The largest grid with no more cells than trials."""
    largest: list[dict[str, Any]] = []
    for points in range(2, definition.trials + 1):
        cells = grid(definition.space, points, at_most=definition.trials)
        if cells is None or len(cells) == len(largest):
            break
        largest = cells
    if not largest:
        raise UserError(
            f"two values of each of {len(definition.space)} hyperparameters are a grid of more "
            f"than {definition.trials} cells; give more --trials, or fix or leave out some "
            "hyperparameters (--priority 1)"
        )
    return [proposal(definition.space, cell) for cell in largest]
