"""Gradient checking: right gradients pass, a planted mistake is found and named."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from pipelines import diagnose
from pipelines.diagnosis.gradient_check import (
    advice,
    double_precision,
    relative_differences,
    verdict,
)
from pipelines.engine.application import UserError, application_names

NAMES = application_names()
FEW = np.random.default_rng(0).normal(size=(8, 3)), np.arange(8.0)[:, None]


@ops.custom_gradient
def twice_too_steep(x):
    """x, with a gradient that is twice what it should be."""

    def gradient(*arguments, upstream=None):
        return 2.0 * (arguments[0] if upstream is None else upstream)

    return x, gradient


class Steep(keras.layers.Layer):
    """A dense layer with a mistake in the gradient of its kernel."""

    def __init__(self, units: int, **options):
        super().__init__(**options)
        self.units = units

    def build(self, input_shape):
        self.kernel = self.add_weight(name="kernel", shape=(input_shape[-1], self.units))

    def call(self, x):
        return ops.matmul(x, twice_too_steep(self.kernel.value))


def network(*hidden: keras.layers.Layer) -> keras.Model:
    x = inputs = keras.Input((3,))
    x = keras.layers.Dense(5, "tanh", name="lower")(x)
    for layer in hidden:
        x = layer(x)
    model = keras.Model(inputs, keras.layers.Dense(1, name="upper")(x))
    model.compile(loss=keras.losses.MeanSquaredError())
    return model


def checked(make, seed: int = 0) -> tuple[list[str], np.ndarray]:
    """Paths and relative differences of the weights of a network made in float64."""
    keras.utils.set_random_seed(seed)
    with double_precision():
        model = make()
        return [w.path for w in model.trainable_variables], relative_differences(model, FEW, seed)


def test_right_gradients_are_right_with_dropout_normalization_and_penalties() -> None:
    def make() -> keras.Model:
        penalty = keras.regularizers.L1L2(0.01, 0.1)
        return network(
            keras.layers.Dense(6, "relu", kernel_regularizer=penalty),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
        )

    names, differences = checked(make)
    assert len(names) == 8
    assert max(differences) < 1e-6
    (sentence,) = advice(names, differences)
    assert sentence.startswith("The gradients of all 8 weights are right")
    assert keras.config.floatx() == "float32"
    assert keras.config.dtype_policy().name == "float32"


def test_a_wrong_gradient_is_named() -> None:
    names, differences = checked(lambda: network(Steep(4, name="steep")))
    found = dict(zip(names, differences, strict=True))
    # ‖2g - g‖ / (‖2g‖ + ‖g‖)
    assert found.pop("steep/kernel") == pytest.approx(1 / 3, rel=1e-4)
    assert max(found.values()) <= 1e-7
    (sentence,) = advice(names, differences)
    assert sentence.startswith("Gradients are wrong at steep/kernel (3.3e-01). ")


def test_a_mistake_on_the_way_down_is_looked_for_above_the_last_wrong_weight() -> None:
    names, differences = checked(lambda: network(keras.layers.Lambda(twice_too_steep)))
    assert [verdict(d) for d in differences] == ["wrong", "wrong", "right", "right"]
    (sentence,) = advice(names, differences)
    assert "look first at the layer of lower/bias, and at what reads its output" in sentence


def test_a_layer_that_stays_coarse_is_named() -> None:
    with pytest.raises(UserError, match=r"^half computes in float32, .* ask for keras\.config"):
        checked(lambda: network(keras.layers.Dense(2, dtype="float32", name="half")))


@pytest.mark.parametrize(
    ("difference", "words"),
    [(1e-8, "right"), (1e-6, "right but for kinks"), (1e-4, "doubtful"), (0.1, "wrong")],
)
def test_verdicts(difference: float, words: str) -> None:
    assert verdict(difference) == words


QUICK = "tabular_classification"


@pytest.mark.parametrize(
    "name", [QUICK, *(pytest.param(n, marks=pytest.mark.slow) for n in NAMES if n != QUICK)]
)
def test_the_command_checks_a_run_of_every_application(name: str, command, smoke_run) -> None:
    run = smoke_run(name)
    result = command(diagnose.main, run, "--gradient_check")
    assert result.status == 0, result.err
    assert "weights are right" in result.out
    text = (run / "gradient_check.md").read_text()
    assert "| weight | as it began | as trained | verdict |" in text
    assert "wrong |" not in text
