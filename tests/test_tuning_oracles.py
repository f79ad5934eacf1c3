"""The oracles with a made-up objective in place of a training, killed and gone on with."""

from __future__ import annotations

import json
import math

import keras_tuner as kt
import pytest

from tuning import scales
from tuning.definition import Definition
from tuning.oracles import oracle_of
from tuning.space import options_of

SPACE = (
    scales.log("learning_rate", 1e-4, 1.0),
    scales.one_minus("beta_1", 0.9, 0.999),
    scales.choice("optimizer", "adam", "sgd"),
)
TRIALS = 12


def score(options: dict) -> float:
    """Smallest at a learning rate of 0.01 with Adam."""
    distance = abs(math.log10(options["learning_rate"]) + 2)
    return distance + 0.1 * (options["optimizer"] == "sgd")


class Searching:
    """An oracle with its trials in a folder, which may be taken up again."""

    def __init__(self, folder, tuner: str, trials: int = TRIALS) -> None:
        named = {"application": "house_prices", "objective": "val_loss"}
        definition = Definition(**named, space=SPACE, tuner=tuner, trials=trials)
        self.oracle = oracle_of(definition, 4, ranked=lambda: [])
        self.oracle._set_project_dir(str(folder), "oracle")
        self.oracle.resume()

    def step(self, *, fail: bool = False) -> bool:
        """Runs a trial; false if there is none."""
        trial = self.oracle.create_trial("worker")
        if trial.status == "STOPPED":
            return False
        options = options_of(SPACE, trial.hyperparameters.values)
        trial.status = "FAILED" if fail else "COMPLETED"
        if not fail:
            self.oracle.update_trial(trial.trial_id, {"val_loss": score(options)})
        self.oracle.end_trial(trial)
        return True


@pytest.mark.parametrize("tuner", ["random", "grid", "hyperband"])
def test_a_search_that_was_killed_goes_on_as_if_it_had_not_been(tuner, tmp_path) -> None:
    whole = Searching(tmp_path / "whole", tuner)
    while whole.step():
        pass
    killed = Searching(tmp_path / "killed", tuner)
    for _ in range(4):
        killed.step()
    begun = killed.oracle.create_trial("worker")  # and the process is gone
    resumed = Searching(tmp_path / "killed", tuner)
    again = resumed.oracle.create_trial("another")
    assert again.trial_id == begun.trial_id
    assert again.hyperparameters.values == begun.hyperparameters.values
    resumed.oracle.ongoing_trials.clear()
    resumed.oracle._retry_queue.append(again.trial_id)
    while resumed.step():
        pass
    assert len(resumed.oracle.trials) == len(whole.oracle.trials) > 4
    assert {trial.status for trial in resumed.oracle.trials.values()} == {"COMPLETED"}
    for name, trial in list(whole.oracle.trials.items())[:5]:
        values = resumed.oracle.trials[name].hyperparameters.values
        assert values == trial.hyperparameters.values


def test_bayesian_search_goes_by_its_model_after_a_random_beginning(tmp_path) -> None:
    values = {}
    for tuner in ("random", "bayesian"):
        searching = Searching(tmp_path / tuner, tuner, trials=5)
        while searching.step():
            pass
        trials = searching.oracle.trials.values()
        values[tuner] = [options_of(SPACE, trial.hyperparameters.values) for trial in trials]
    assert values["bayesian"][:3] == values["random"][:3]
    for modelled, drawn in zip(values["bayesian"][3:], values["random"][3:], strict=True):
        assert modelled["learning_rate"] != drawn["learning_rate"]
        assert 1e-4 <= modelled["learning_rate"] <= 1.0
        assert 0.9 <= modelled["beta_1"] <= 0.999


def test_three_failures_in_a_row_stop_without_an_exception(tmp_path) -> None:
    searching = Searching(tmp_path, "random")
    pattern = [True, True, False, True, True, True]
    assert all(searching.step(fail=fail) for fail in pattern)
    assert not searching.step()
    assert searching.oracle.over


def test_the_trial_of_a_lost_worker_goes_to_another(tmp_path) -> None:
    oracle = Searching(tmp_path, "random").oracle
    lost = oracle.create_trial("lost")
    oracle.give_up("lost")
    assert oracle.create_trial("other").trial_id == lost.trial_id
    assert set(oracle.ongoing_trials) == {"other"}


def test_a_state_that_was_half_written_is_not_the_state(tmp_path) -> None:
    searching = Searching(tmp_path, "random")
    searching.step()
    (tmp_path / "oracle" / ".writing-oracle.json").write_text('{"ongoing')
    assert len(Searching(tmp_path, "random").oracle.trials) == 1
    json.loads((tmp_path / "oracle" / "oracle.json").read_text())


def test_what_travels_to_a_worker_is_not_printed(tmp_path, capsys) -> None:
    trial = Searching(tmp_path, "random").oracle.create_trial("worker")
    assert kt.engine.trial.Trial.from_proto(trial.to_proto()).hyperparameters.values
    assert capsys.readouterr().out == ""


def test_hyperband_keeps_to_its_plan(tmp_path) -> None:
    searching = Searching(tmp_path, "hyperband")
    searching.oracle.max_trials = None
    while searching.step():
        pass
    assert len(searching.oracle.trials) == searching.oracle.plan
