"""The knobs of any fit: each changes what it is for, by the formula that it is known by."""

from __future__ import annotations

import dataclasses
import logging
import typing

import keras
import numpy as np
import pytest

from models.fully_connected import deep_network, logistic_regression, perceptron
from models.layers.initialization import Initialization
from pipelines.engine.answers import open_run
from pipelines.engine.application import Recipe, UserError, load_application
from pipelines.engine.assembly import assemble
from pipelines.engine.cli import train_run
from pipelines.engine.configuration import Command, parse
from pipelines.engine.data import raw_batches, training_data
from pipelines.engine.kernels import initialize, regularize, warn_of_symmetry
from pipelines.engine.optimizer import AveragingOptimizer, optimizer
from pipelines.engine.schedule import learning_rate
from tests.conftest import train

TABLE = "tabular_classification"
SLOPES = np.array([3.0, -1.0, 2.0, 4.0])  # of one weight, step after step

# The decay of the learning rate -------------------------------------------------------------------

STEPS_PER_EPOCH, EPOCHS, RATE = 7, 12, 0.2

# Options, and the share of the rate in epoch e, counted from 0, at step t, counted from 1.
DECAYS = {
    "inverse_time": ({"decay": 0.5}, lambda e, t: 1 / (1 + 0.5 * e)),
    "inverse_time by one": ({}, lambda e, t: 1 / (1 + e)),
    "exponential": ({}, lambda e, t: 0.95**e),
    "exponential staircase": ({"decay": 0.5, "decay_epochs": 4}, lambda e, t: 0.5 ** (e // 4)),
    "inverse_sqrt_epoch": ({}, lambda e, t: 1 / np.sqrt(e + 1)),
    "inverse_sqrt": ({}, lambda e, t: 1 / np.sqrt(t)),
    "manual": ({"rates": "3:0.1,9:0.02"}, lambda e, t: 1 if e < 2 else 0.5 if e < 8 else 0.1),
    "manual from the start": ({"rates": "1:0.1"}, lambda e, t: 0.5),
    "exponential after warm-up": (
        {"warmup_steps": 5},
        lambda e, t: 0.95**e * min(1, t / 5),
    ),
}


@pytest.mark.parametrize("name", DECAYS)
def test_learning_rate_decays_by_its_formula_and_comes_back_from_json(name: str) -> None:
    options, share = DECAYS[name]
    recipe = Recipe(learning_rate=RATE, epochs=EPOCHS, schedule=name.partition(" ")[0], **options)
    schedule = learning_rate(recipe, STEPS_PER_EPOCH * EPOCHS)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
    for step in range(STEPS_PER_EPOCH * EPOCHS):
        expected = RATE * share(step // STEPS_PER_EPOCH, step + 1)
        assert float(schedule(step)) == pytest.approx(expected, rel=1e-5)
        assert float(again(step)) == float(schedule(step))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule": "cosine", "decay": 0.5}, "--decay is read by --schedule inverse_time or exp"),
        ({"decay_epochs": 2}, "--decay_epochs is read by .*, not by constant"),
        ({"schedule": "steps", "rates": "2:0.1"}, "--rates is read by --schedule manual"),
        ({"schedule": "manual"}, "manual needs --rates, such as"),
        ({"schedule": "manual", "rates": "2=0.1"}, "pairs such as .* not 2=0.1"),
        ({"schedule": "manual", "rates": "0:0.1"}, "epochs from 1 on and rates above 0"),
        ({"schedule": "exponential", "decay": 0.0}, "--decay must be above 0"),
        ({"momentum": 1.0}, "--momentum must be at least 0 and below 1"),
        ({"ema": 1.0}, "--ema must be at least 0 and below 1"),
        ({"ema": 0.9, "averaged_epochs": 5}, "--ema and --averaged_epochs exclude each other"),
        ({"l2": -1.0}, "--l2 must be at least 0"),
    ],
)
def test_numbers_that_nothing_reads_or_can_be_are_refused(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Recipe(**options)


def test_rates_by_hand_are_read_from_the_command_line() -> None:
    recipe = parse(load_application(TABLE), ["--schedule=manual", "--rates", "5:0.01"])[0].recipe
    assert recipe.manual_rates == {5: 0.01}


# Update rules ------------------------------------------------------------------------------------


def path(**options) -> list[float]:
    """Where a weight of 1 is after each step along the slopes."""
    rule = optimizer(Recipe(learning_rate=0.1, **options), total_steps=len(SLOPES))
    weight = keras.Variable([1.0])
    rule.build([weight])
    places = []
    for slope in SLOPES:
        rule.apply([keras.ops.convert_to_tensor([slope], "float32")])
        places.append(float(weight[0]))
    return places


def by_hand(rule: str, *, beta: float = 0.0, beta_2: float = 0.0, epsilon: float = 1e-7):
    """The same by the formulas of the books."""
    weight, v, s, places = 1.0, 0.0, 0.0, []
    for t, g in enumerate(SLOPES, start=1):
        v = beta * v + (1 - beta) * g
        s = beta_2 * s + (1 - beta_2) * g * g
        weight -= (
            0.1
            * {
                "sgd": lambda g=g: g,
                # α is larger by 1 / (1 - β) in Keras's form.
                "momentum": lambda v=v: v / (1 - beta),
                "rmsprop": lambda g=g, s=s: g / np.sqrt(s + epsilon),
                # ε joins the root before that is corrected.
                "adam": lambda t=t, v=v, s=s: (
                    v / (1 - beta**t) / ((np.sqrt(s) + epsilon) / np.sqrt(1 - beta_2**t))
                ),
            }[rule]()
        )
        places.append(weight)
    return places


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"optimizer": "sgd"}, by_hand("sgd")),
        ({"optimizer": "momentum"}, by_hand("momentum", beta=0.9)),
        ({"optimizer": "momentum", "momentum": 0.5}, by_hand("momentum", beta=0.5)),
        ({"optimizer": "rmsprop"}, by_hand("rmsprop", beta_2=0.9)),
        (
            {"optimizer": "rmsprop", "rho": 0.6, "epsilon": 0.5},
            by_hand("rmsprop", beta_2=0.6, epsilon=0.5),
        ),
        ({"optimizer": "adam"}, by_hand("adam", beta=0.9, beta_2=0.999)),
        (
            {"optimizer": "adam", "beta_1": 0.5, "beta_2": 0.7, "epsilon": 0.5},
            by_hand("adam", beta=0.5, beta_2=0.7, epsilon=0.5),
        ),
    ],
)
def test_update_rules_are_those_of_the_books(options: dict, expected: list[float]) -> None:
    np.testing.assert_allclose(path(**options), expected, rtol=1e-5)


def iris(batch_size: str):
    options = ["--dataset", "iris", "--batch_size", batch_size]
    assembly = assemble(parse(load_application(TABLE), options)[0])
    assembly.preprocessor.fit(raw_batches(assembly.source, "train"))
    return assembly


@pytest.mark.parametrize("batch_size", ["all", "30", "1"])
def test_gradient_descent_is_of_all_examples_of_some_or_of_one(batch_size: str) -> None:
    data = training_data(iris(batch_size))
    rows = data.examples if batch_size == "all" else int(batch_size)
    assert next(iter(data.training(0)))[1].shape[0] == rows
    assert data.steps_per_epoch == -(-data.examples // rows)


def test_a_batch_of_all_that_is_cut_in_arrangement_is_refused() -> None:
    cut = dataclasses.replace(iris("all"), arrange=lambda batches, *_, **__: batches.rebatch(40))
    with pytest.raises(UserError, match="--batch_size all is one step an epoch, which here is"):
        training_data(cut)


# Regularization ----------------------------------------------------------------------------------


def test_l1_and_l2_cost_the_courses_lambda_over_two_m_of_kernels_alone(tmp_path) -> None:
    model = perceptron(4, 2, (3, 3), batch_normalization="after")
    for weight in model.trainable_variables:
        weight.assign(keras.random.normal(weight.shape))
    model.save(tmp_path / "plain.keras")
    regularize(model, l1=0.3, l2=0.7, examples=50)
    kernels = [w for w in model.get_weights() if w.ndim == 2]
    assert len(kernels) == 3
    absolute, squares = (sum(np.sum(f(w)) for w in kernels) for f in (np.abs, np.square))
    expected = 0.3 / (2 * 50) * absolute + 0.7 / (2 * 50) * squares
    assert float(sum(model.losses)) == pytest.approx(expected, rel=1e-5)
    model.save(tmp_path / "regularized.keras")
    for name in ("plain", "regularized"):
        assert not keras.saving.load_model(tmp_path / f"{name}.keras").losses


def test_l2_shrinks_as_a_weight_decay_of_lambda_over_m_does() -> None:
    """Where the loss itself is flat, a step leaves 1 - α λ / m of the kernel."""
    model = perceptron(3, 1)
    model.get_layer("output").set_weights([np.array([[1.0], [-2.0], [3.0]]), np.array([5.0])])
    regularize(model, l1=0.0, l2=2.0, examples=10)
    rate = 0.1
    model.compile(optimizer(Recipe(optimizer="sgd", learning_rate=rate), 1), lambda y, z: 0 * z)
    model.train_on_batch({"columns": np.ones((4, 3))}, np.zeros(4))
    kernel, bias = model.get_layer("output").get_weights()
    np.testing.assert_allclose(kernel[:, 0], np.array([1, -2, 3]) * (1 - rate * 2 / 10), rtol=1e-6)
    assert bias[0] == 5


def test_convolutional_and_recurrent_kernels_cost_and_embeddings_do_not() -> None:
    sequence = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(5, 3)(sequence)
    x = keras.layers.SeparableConv1D(4, 2, name="convolution")(x)
    model = keras.Model(sequence, keras.layers.Bidirectional(keras.layers.GRU(2))(x))
    regularize(model, l1=0.0, l2=1.0, examples=1)
    assert len(model.losses) == 2 + 4


# Where weights begin -----------------------------------------------------------------------------

DEVIATIONS = {
    "zeros": 0.0,
    "small": 0.01,
    "he": np.sqrt(2 / 400),
    "xavier": np.sqrt(1 / 400),
    "glorot": np.sqrt(2 / 800),
}


def test_every_initializer_is_an_option() -> None:
    options, _ = typing.get_args(typing.get_type_hints(Recipe)["initializer"])
    assert options == Initialization
    assert set(typing.get_args(options)) == set(DEVIATIONS)


@pytest.mark.parametrize("name", DEVIATIONS)
def test_kernels_begin_with_the_stated_deviation(name: str) -> None:
    keras.utils.set_random_seed(0)
    model = perceptron(400, 1, (400, 400))
    initialize(model, name)
    first, second = (model.get_layer(f"hidden_{n}").get_weights() for n in (1, 2))
    assert first[0].std() == pytest.approx(DEVIATIONS[name], rel=0.02)
    assert not first[1].any()
    assert np.array_equal(first[0], second[0]) == (name == "zeros")


def test_the_option_reaches_the_kernels_of_any_network() -> None:
    options = ["--architecture", "show_and_tell", "--initializer", "zeros"]
    configuration, _ = parse(load_application("image_captioning"), options)
    arguments = {"input_shape": (32, 32, 3), "vocabulary_size": 9}
    model = assemble(configuration).learner(arguments).build()
    kernels = [w for w in model.trainable_variables if w.name.endswith("kernel")]
    assert any(len(kernel.shape) == 4 for kernel in kernels)
    assert {kernel.name for kernel in kernels} == {"kernel", "recurrent_kernel"}
    assert not any(kernel.numpy().any() for kernel in kernels)


def test_published_weights_are_not_drawn_anew() -> None:
    options = ["--architecture=vgg16", "--model.weights=imagenet", "--initializer=he"]
    with pytest.raises(UserError, match=r"--initializer and --model\.weights exclude each other"):
        parse(load_application("image_classification"), options)


def test_zeros_in_a_hidden_layer_warn_and_stay_symmetric(caplog) -> None:
    model = deep_network(3, 2, units=4, depth=2)
    initialize(model, "zeros")
    with caplog.at_level(logging.WARNING):
        warn_of_symmetry(model)
    assert "hidden_1/kernel, hidden_2/kernel" in caplog.text
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x = np.random.default_rng(0).normal(size=(32, 3))
    model.fit({"columns": x}, (x[:, 0] > 0).astype(int), epochs=2, verbose=0)
    for name in ("hidden_1", "hidden_2"):
        kernel, bias = model.get_layer(name).get_weights()
        assert (kernel == kernel[:, :1]).all()
        assert (bias == bias[0]).all()


def test_zeros_without_a_hidden_layer_do_not_warn(caplog) -> None:
    warn_of_symmetry(logistic_regression(3))
    assert not caplog.text


# Averaged weights --------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.99])
def test_weights_are_averaged_with_correction_for_the_start_from_zero(beta: float) -> None:
    rule = AveragingOptimizer(optimizer(Recipe(optimizer="sgd", learning_rate=0.1), 4), beta)
    weight = keras.Variable([1.0])
    rule.build([weight])
    v = 0.0
    for t, slope in enumerate(SLOPES, start=1):
        rule.apply([keras.ops.convert_to_tensor([slope], "float32")])
        v = beta * v + (1 - beta) * float(weight[0])
        own = float(weight[0])
        with rule.averages_in_place():
            assert float(weight[0]) == pytest.approx(v / (1 - beta**t), rel=1e-5)
        assert float(weight[0]) == own


KNOBS = ("--ema=0.8", "--l1=0.1", "--l2=0.5", "--initializer=glorot", "--optimizer=momentum")


def fitted(folder, epochs: int, *arguments: str, resume: bool = False):
    options = [f"--epochs={epochs}", "--dataset=iris", "--schedule=inverse_time", *arguments]
    configuration, _ = parse(load_application(TABLE), options)
    keras.utils.set_random_seed(0)
    command = Command(run="fitted", runs_dir=str(folder), smoke=True, resume=resume)
    return train_run(assemble(configuration), command)


def test_averages_are_validated_and_kept_and_go_on_after_a_stop(tmp_path) -> None:
    whole = fitted(tmp_path / "whole", 3, *KNOBS)
    fitted(tmp_path / "parts", 1, *KNOBS)
    parts = fitted(tmp_path / "parts", 3, *KNOBS, resume=True)
    kept = [open_run(run.path).model for run in (whole, parts)]
    for one, other in zip(*(model.get_weights() for model in kept), strict=True):
        np.testing.assert_array_equal(one, other)
    last = np.load(whole.last_checkpoint)
    averages = [last[name] for name in last.files if name.endswith("_average")]
    weights = [last[name] for name in last.files if name.startswith("model:")]
    best = np.load(whole.best_checkpoint)
    losses = [epoch["val_loss"] for epoch in whole.history]
    assert np.argmin(losses) == len(losses) - 1, "else the last averages are not those kept"
    for name, average, weight in zip(best.files, averages, weights, strict=True):
        np.testing.assert_array_equal(best[name], average)
        assert not np.array_equal(average, weight)
    # What was validated is what is kept.
    assembly = open_run(whole.path).assembly
    data = training_data(assembly, limit=2 * assembly.configuration.recipe.batch_size)
    model = kept[0]
    regularize(model, l1=0.1, l2=0.5, examples=data.examples)
    model.compile(**assembly.task.compile_arguments())
    loss, _ = model.evaluate(data.validation, steps=data.validation_steps, verbose=0)
    assert loss == pytest.approx(losses[-1], rel=1e-5)


def test_every_field_of_the_recipe_is_explained_on_the_command_line(command) -> None:
    shown = command(train(TABLE), "--help")
    assert shown.status == 0
    for field in dataclasses.fields(Recipe):
        _, _, rest = shown.out.partition(f"\n  --{field.name} ")
        assert len(rest.partition("\n  --")[0].split()) > 5, field.name
