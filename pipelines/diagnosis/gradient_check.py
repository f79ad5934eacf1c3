"""Gradient checking: whether the gradients that train a model are the slopes of its loss.

The gradient of a weight by back-propagation, a, is compared with central differences of the loss,
b = (J(θ + ε) - J(θ - ε)) / 2ε for one entry after the other, at some entries of each weight: half
of them those of the largest gradients, the others drawn at random. What is reported is

    ‖a - b‖ / (‖a‖ + ‖b‖)

Up to 1e-7 the gradient is right, and so it is where rounding can explain the difference; up to 1e-5
it is as right as can be seen where an activation has a kink; up to 1e-3 it is worth a look; above
that it is wrong.

All of it happens in float64, on a few training examples as the model reads them in training: with
its regularization, and with dropout that leaves out the same units every time. Weights are first
moved a little at random, since biases that begin at zero leave many a ReLU right on its kink. They
are checked as they begin and as they were trained: some mistakes show only once weights are large.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from pipelines.diagnosis.findings import Findings, Request, Section, table
from pipelines.engine.application import UserError
from pipelines.engine.data import training_data
from pipelines.engine.kernels import regularize
from pipelines.engine.lazy import tensorflow as tf

ROWS = 4  # examples in the batch
ENTRIES = 4  # of each weight
NOISE = 1e-3  # the deviation of what is added to weights
# Kinks are rare within small steps, and rounding is small beside large ones; the first that agrees.
STEPS = (1e-5, 1e-6, 1e-7)
ROUNDING = 1e-14  # relative error of a loss in float64
RIGHT, KINKED, WRONG = 1e-7, 1e-5, 1e-3

Loss = Callable[[], Any]


def gradient_check(opened: Any, request: Request) -> Findings:
    """Checks the gradients of a run's model.

    Args:
        opened: a run.
        request: not asked.

    Raises:
        UserError: for data that cannot be read, or a model that cannot compute in float64.
    """
    assembly, recipe = _for_few(opened), opened.assembly.configuration.recipe
    data = training_data(assembly, limit=ROWS)
    batch = next(iter(data.training(0)))
    keras.utils.set_random_seed(recipe.seed)
    with double_precision():
        model = assembly.learner(data.model_arguments).build()
        regularize(model, recipe.l1, recipe.l2, data.examples)
        model.compile(**opened.task.compile_arguments())
        began = relative_differences(model, batch, recipe.seed)
        model.set_weights(opened.model.get_weights())
        trained = relative_differences(model, batch, recipe.seed)
    names = [weight.path for weight in model.trainable_variables]
    text = _text(names, began, trained)
    worst = np.maximum(began, trained)
    return Findings(advice(names, worst), [Section("Gradient check", text)])


def _for_few(opened: Any) -> Any:
    """The run's assembly for the whole model, with small batches, nothing of it downloaded."""
    configuration = opened.assembly.configuration
    recipe = dataclasses.replace(configuration.recipe, batch_size=ROWS)
    builder = opened.assembly.builder
    if "weights" in configuration.model:
        builder = functools.partial(builder, weights=None)
    return dataclasses.replace(
        opened.assembly,
        configuration=dataclasses.replace(configuration, recipe=recipe),
        builder=builder,
        transfer=None,
    )


@contextlib.contextmanager
def double_precision() -> Iterator[None]:
    """For as long as it lasts, models and losses are made to compute in float64."""
    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    try:
        yield
    finally:
        keras.config.set_floatx(floatx)
        keras.config.set_dtype_policy(policy)


def relative_differences(model: keras.Model, batch: tuple, seed: int) -> np.ndarray:
    """The relative difference of each of the model's trained weights; moves the weights.

    Args:
        model: built and compiled in float64.
        batch: (inputs, target) or (inputs, target, weight).
        seed: of the noise, and of the entries.

    Raises:
        UserError: for a model that does not compute in float64.
    """
    coarse = [layer for layer in model._flatten_layers() if layer.compute_dtype != "float64"]
    if coarse:
        raise UserError(
            f"{coarse[0].path} computes in {coarse[0].compute_dtype}, too coarse to see gradients; "
            "where it asks for that, let it ask for keras.config.floatx()"
        )
    draw = np.random.default_rng(seed)
    weights = model.trainable_variables
    for weight in weights:
        weight.assign(weight + NOISE * draw.normal(size=weight.shape))
    loss = _repeatable_loss(model, batch)
    value, gradients = _back_propagated(loss, weights)
    rounding = ROUNDING * max(1.0, abs(float(value)))
    return np.array(
        [
            _relative_difference(weight, gradient.numpy(), loss, rounding, draw)
            for weight, gradient in zip(weights, gradients, strict=True)
        ]
    )


def _repeatable_loss(model: keras.Model, batch: tuple) -> Loss:
    """The loss of the batch in training, with all that training changes but the weights put back.

    So random generators draw the same again, and running statistics stay as they are.
    """
    inputs, target, *weight = tf.nest.map_structure(_in_double, batch)
    others = [(other, keras.ops.convert_to_numpy(other)) for other in model.non_trainable_variables]

    @tf.function(autograph=False)
    def loss():
        for variable, value in others:
            variable.assign(value)
        outputs = model(inputs, training=True)
        return model.compute_loss(inputs, target, outputs, *weight, training=True)

    return loss


def _in_double(values: tf.Tensor) -> tf.Tensor:
    values = tf.convert_to_tensor(values)
    return tf.cast(values, tf.float64) if values.dtype.is_floating else values


def _back_propagated(loss: Loss, weights: list[keras.Variable]) -> tuple[tf.Tensor, list]:
    """The loss and its gradients; zeros where the loss does not depend on a weight."""
    variables = [weight.value for weight in weights]
    with tf.GradientTape() as tape:
        value = loss()
    gradients = tape.gradient(value, variables, unconnected_gradients="zero")
    return value, [tf.convert_to_tensor(gradient) for gradient in gradients]


def _relative_difference(
    weight: keras.Variable,
    gradient: np.ndarray,
    loss: Loss,
    rounding: float,
    draw: np.random.Generator,
) -> float:
    places = _entries(gradient, draw)
    back_propagated = np.array([gradient[place] for place in places])
    slopes, errors = np.transpose(
        [_slope(weight, place, gradient[place], loss, rounding) for place in places]
    )
    difference = np.linalg.norm(back_propagated - slopes)
    lengths = np.linalg.norm(back_propagated) + np.linalg.norm(slopes)
    relative = float(difference / lengths) if difference else 0.0
    return min(relative, RIGHT) if difference <= np.linalg.norm(errors) else relative


def _entries(gradient: np.ndarray, draw: np.random.Generator) -> list[tuple[int, ...]]:
    """Places of the largest gradients, and as many others."""
    count = min(ENTRIES, gradient.size)
    largest = np.argsort(-np.abs(gradient), axis=None)[: -(-count // 2)]
    others = np.setdiff1d(draw.choice(gradient.size, count, replace=False), largest)
    chosen = [*largest, *others][:count]
    return [np.unravel_index(number, gradient.shape) for number in chosen]


def _slope(
    weight: keras.Variable, place: tuple[int, ...], expected: float, loss: Loss, rounding: float
) -> tuple[float, float]:
    """The central difference of the loss, and its rounding error, by the step that agrees best."""
    variable, value = weight.value, float(keras.ops.convert_to_numpy(weight[place]))

    def loss_at(moved: float) -> float:
        variable.scatter_nd_update([place], [moved])
        return float(loss())

    found = []
    for step in STEPS:
        slope = (loss_at(value + step) - loss_at(value - step)) / (2 * step)
        found.append((slope, rounding / step))
        if abs(slope - expected) <= RIGHT * abs(expected) + rounding / step:
            break
    variable.scatter_nd_update([place], [value])
    return min(found, key=lambda pair: abs(pair[0] - expected))


def advice(names: Sequence[str], differences: Sequence[float]) -> list[str]:
    """What to do about the relative differences of weights, in the order of the model."""
    found = [
        (f"{name} ({difference:.1e})", name, verdict(difference))
        for name, difference in zip(names, differences, strict=True)
    ]
    wrong = [weight for weight in found if weight[2] == "wrong"]
    doubtful = [weight for weight in found if weight[2] == "doubtful"]
    sentences = []
    if wrong:
        sentences.append(
            f"Gradients are wrong at {', '.join(text for text, *_ in wrong)}. Errors travel from "
            f"the loss towards the inputs: look first at the layer of {wrong[-1][1]}, and at what "
            "reads its output."
        )
    if doubtful:
        sentences.append(f"Gradients may be wrong at {', '.join(text for text, *_ in doubtful)}.")
    if not sentences:
        sentences.append(
            f"The gradients of all {len(found)} weights are right: they differ from central "
            f"differences by at most {max(differences):.1e} of their length."
        )
    return sentences


def verdict(difference: float) -> str:
    """What a relative difference says."""
    for bound, words in ((RIGHT, "right"), (KINKED, "right but for kinks"), (WRONG, "doubtful")):
        if difference <= bound:
            return words
    return "wrong"


def _text(names: Sequence[str], began: Sequence[float], trained: Sequence[float]) -> str:
    rows = [
        [name, f"{first:.1e}", f"{later:.1e}", verdict(max(first, later))]
        for name, first, later in zip(names, began, trained, strict=True)
    ]
    return "\n".join(
        [
            "Relative differences ‖a - b‖ / (‖a‖ + ‖b‖) of gradients a by back-propagation and b "
            f"by central differences, in float64, at up to {ENTRIES} entries of each weight: up to "
            f"{RIGHT:.0e} right, above {WRONG:.0e} wrong, between them as activations have kinks.",
            "",
            table(["weight", "as it began", "as trained", "verdict"], rows),
        ]
    )
