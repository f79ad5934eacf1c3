"""The learning rate that is changed while a model is trained."""

from __future__ import annotations

import json
import math
import pathlib
import signal
import time

import keras
import numpy as np
import pytest

from pipelines.engine.application import UserError
from pipelines.engine.by_hand import ByHand, read_wish, wish
from pipelines.engine.optimizer import GroupedOptimizer
from pipelines.engine.run import Run
from tests.conftest import train
from tests.test_training import start, wait_for_epochs
from tuning import panda

STEPS = 4  # of an epoch
COSINE = keras.optimizers.schedules.CosineDecay(0.1, 6 * STEPS)


@pytest.fixture
def run(tmp_path: pathlib.Path) -> Run:
    return Run(tmp_path)


class Weight(keras.callbacks.Callback):
    """Acts before an epoch, and records the first weight after each step.

    The gradient is one, so that a step of gradient descent takes away its learning rate.
    """

    def __init__(self, actions: dict) -> None:
        super().__init__()
        self.actions, self.values = actions, []

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.actions.get(epoch, lambda: None)()
        self.values = self.values or [self.first]

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.values.append(self.first)

    @property
    def first(self) -> float:
        return float(self.model.trainable_variables[0].numpy()[0, 0])


def rates(run: Run, optimizer, actions: dict, *, first: int = 0, last: int = 6) -> np.ndarray:
    """[steps] the learning rates with which a model is trained."""
    inputs = keras.Input((1,))
    hidden = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(1, kernel_initializer="ones")(hidden))
    model.layers[-1].trainable = False
    model.compile(optimizer, loss=lambda truth, answer: keras.ops.mean(answer))
    model.optimizer.build(model.trainable_variables)
    model.optimizer.iterations.assign(first * STEPS)
    weight = Weight(actions)
    ones = np.ones((STEPS, 1), "float32")
    model.fit(
        ones,
        ones,
        batch_size=1,
        initial_epoch=first,
        epochs=last,
        callbacks=[weight, ByHand(run)],
        verbose=0,
    )
    return -np.diff(weight.values)


def test_wish_holds_from_the_epoch_on(run: Run) -> None:
    found = rates(run, keras.optimizers.SGD(0.1), {2: lambda: wish(run, 0.02)})
    np.testing.assert_allclose(found, [0.1] * 8 + [0.02] * 16, rtol=1e-4)
    assert not run.control_file.exists()
    (change,) = run.changes
    assert (change["step"], change["epochs"]) == (8, 2.0)
    assert (change["before"], change["learning_rate"]) == (pytest.approx(0.1), 0.02)


def test_schedule_goes_on_in_proportion(run: Run) -> None:
    actions = {2: lambda: wish(run, 0.01), 4: lambda: wish(run, 0.03)}
    found = rates(run, keras.optimizers.SGD(COSINE), actions)
    expected = np.array([float(COSINE(step)) for step in range(6 * STEPS)])
    factors = np.repeat([1, 0.01 / expected[8], 0.03 / expected[16]], 2 * STEPS)
    np.testing.assert_allclose(found, factors * expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("rate", [0.1, COSINE], ids=["constant", "cosine"])
def test_resumed_run_makes_the_same_changes_again(run: Run, rate) -> None:
    """One epoch is done anew, at whose beginning the change was made, and so was none before."""
    whole = rates(run, keras.optimizers.SGD(rate), {2: lambda: wish(run, 0.02)})
    again = rates(run, keras.optimizers.SGD(rate), {}, first=2)
    np.testing.assert_allclose(again, whole[8:], rtol=1e-3, atol=1e-6)
    # After the change: a schedule is brought to where it was, a rate comes from the checkpoint.
    later = rates(run, keras.optimizers.SGD(0.02 if rate == 0.1 else rate), {}, first=3)
    np.testing.assert_allclose(later, whole[12:], rtol=1e-3, atol=1e-6)
    assert len(run.changes) == 1


def test_change_within_an_epoch_is_made_again_at_its_step(run: Run) -> None:
    run.write_changes([{"step": 5, "epochs": 1.25, "before": 0.1, "learning_rate": 0.02}])
    found = rates(run, keras.optimizers.SGD(0.1), {}, first=1, last=3)
    np.testing.assert_allclose(found, [0.1] + [0.02] * 7, rtol=1e-4)


def test_all_groups_change_alike(run: Run) -> None:
    inputs = keras.Input((1,))
    layers = [keras.layers.Dense(1, use_bias=False) for _ in range(2)]
    model = keras.Model(inputs, layers[1](layers[0](inputs)))
    rules = [keras.optimizers.SGD(0.1), keras.optimizers.SGD(COSINE)]
    groups = [(rule, layer.trainable_variables) for rule, layer in zip(rules, layers, strict=True)]
    model.compile(GroupedOptimizer(groups), loss="mse")
    model.optimizer.build(model.trainable_variables)
    ones = np.ones((STEPS, 1), "float32")
    wish(run, 0.01)
    model.fit(ones, ones, batch_size=1, callbacks=[ByHand(run)], verbose=0)
    assert float(rules[0].learning_rate) == pytest.approx(0.01)
    assert float(rules[1].learning_rate) == pytest.approx(0.1 * float(COSINE(STEPS)), rel=1e-4)


BAD = {
    '{"learning_rate": 0.1': "no JSON",
    "0.1": "must have a learning_rate and nothing else",
    "{}": "must have a learning_rate and nothing else",
    '{"learning_rate": 0.1, "momentum": 0.9}': "nothing else",
    '{"learning_rate": "0.1"}': "no number",
    '{"learning_rate": true}': "no number",
    '{"learning_rate": 0}': "must be above 0",
    '{"learning_rate": NaN}': "must be above 0",
    '{"learning_rate": Infinity}': "must be above 0",
}


@pytest.mark.parametrize(("text", "words"), BAD.items())
def test_bad_wishes_are_told_apart(text: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        read_wish(text)


def test_bad_control_file_warns_once_and_changes_nothing(
    run: Run, capsys: pytest.CaptureFixture
) -> None:
    actions = {
        1: lambda: run.control_file.write_bytes(b"\xff"),
        4: lambda: wish(run, 0.02),
    }
    found = rates(run, keras.optimizers.SGD(0.1), actions)
    np.testing.assert_allclose(found, [0.1] * 16 + [0.02] * 8, rtol=1e-4)
    assert capsys.readouterr().err.count("control.json changes nothing") == 1


@pytest.mark.slow
def test_panda_changes_a_run_that_goes_on_after_a_kill(tmp_path, command) -> None:
    """A process of its own trains along half a cosine; the rest follows it, ten times lower."""
    arguments = ["--schedule", "cosine", "--epochs", "40", "--run", "cub", "--runs_dir", tmp_path]
    cub = Run(tmp_path / "house_prices" / "cub")
    process = start("-m", "pipelines.house_prices", *map(str, arguments))
    wait_for_epochs(cub, 1, process)
    asked = command(panda.main, cub.path, "--learning_rate", "0.0001")
    assert asked.status == 0
    assert "house_prices" in asked.out
    deadline = time.monotonic() + 60
    while not cub.changes or len(cub.history) <= cub.changes[0]["epochs"] + 1:
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not cub.finished
    resumed = command(train("house_prices"), *arguments, "--resume")
    assert resumed.status == 0, resumed.err
    (change,) = cub.changes
    top = cub.configuration.recipe.learning_rate
    steps = change["step"] / change["epochs"]
    for metrics in cub.history:
        if metrics["epoch"] == change["epochs"]:  # made either before or after it was noted
            continue
        done = metrics["epoch"] * steps
        height = top * (1 + math.cos(math.pi * done / (40 * steps))) / 2
        before = top * (1 + math.cos(math.pi * change["step"] / (40 * steps))) / 2
        factor = 1e-4 / before if metrics["epoch"] > change["epochs"] else 1
        assert metrics["learning_rate"] == pytest.approx(factor * height, rel=1e-2, abs=1e-8)
    assert json.loads((cub.path / "changes.jsonl").read_text())["learning_rate"] == 1e-4
    assert "changed by hand" in (cub.path / "report.md").read_text()
    shown = command(panda.main, cub.path, "--watch")
    assert "by hand after" in shown.out
    assert "finished" in shown.out


def test_panda_refuses_what_cannot_be(tmp_path, command, smoke_run) -> None:
    finished = smoke_run("house_prices")
    refusals = {
        (tmp_path, "--learning_rate", "0.1"): "is no run folder",
        (finished, "--learning_rate", "0.1"): "is finished",
        (finished, "--learning_rate", "-1"): "must be above 0, not -1.0",
        (finished, "--learning_rate", "nan"): "must be above 0, not nan",
    }
    for arguments, words in refusals.items():
        refused = command(panda.main, *arguments)
        assert refused.status == 2
        assert words in refused.err
    assert not Run(finished).control_file.exists()
