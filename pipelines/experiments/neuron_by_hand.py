"""A neuron and a two-layer network by hand: loops against vectors, gradients against Keras's."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from pipelines.experiments.laboratory.drawing import draw_regions, panels
from pipelines.experiments.laboratory.experiment import Claim, Experiment
from pipelines.experiments.laboratory.network import (
    Adam,
    Network,
    cross_entropy,
    sigmoid,
    train,
)

RATE = 0.3
STEPS = 300
REPEATS = 5  # of each timing; the shortest counts


def gradient_by_loops(
    w: list[float], b: float, x: list[list[float]], y: list[int]
) -> tuple[list[float], float]:
    """dw and db of logistic regression, as the formulas stand: a sum over examples and features."""
    dw, db = [0.0] * len(w), 0.0
    for features, label in zip(x, y, strict=True):
        z = b
        for weight, feature in zip(w, features, strict=True):
            z += weight * feature
        dz = 1 / (1 + np.exp(-z)) - label
        for number, feature in enumerate(features):
            dw[number] += dz * feature / len(x)
        db += dz / len(x)
    return dw, db


def gradient(w: np.ndarray, b: float, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float]:
    """The same in two products of matrices; x [examples, features], y [examples]."""
    dz = sigmoid(x @ w + b) - y
    return x.T @ dz / len(x), dz.mean()


def run(seed: int) -> Experiment:
    """Does the experiment."""
    from sklearn.datasets import load_breast_cancer, make_moons

    measured, y = load_breast_cancer(return_X_y=True)
    x = (measured - measured.mean(axis=0)) / measured.std(axis=0)
    slow, (loops, _) = shortest(lambda: gradient_by_loops([0.1] * 30, 0.1, x.tolist(), y.tolist()))
    fast, (vectors, _) = shortest(lambda: gradient(np.full(30, 0.1), 0.1, x, y))
    costs, right = train_neuron(x, y)
    off_by = np.abs(loops - vectors).max()

    moons, classes = make_moons(400, noise=0.15, random_state=seed)
    line, network = Network((2, 2), seed), Network((2, 8, 2), seed, activation="tanh")
    for model in (line, network):
        train(model, moons, classes, Adam(0.05), epochs=400)
    errors = [model.error(moons, classes) for model in (line, network)]
    by_hand, by_keras = both_gradients(x, y, seed)
    difference = np.linalg.norm(by_hand - by_keras) / np.linalg.norm(by_hand + by_keras)

    picture, axes = panels(4)
    axes[0].plot(costs)
    axes[0].set(xlabel="step", ylabel="cost J(w, b)", title="A neuron learns: breast cancer")
    for panel, model, error, name in (
        (axes[1], line, errors[0], "One neuron"),
        (axes[2], network, errors[1], "Two layers, 8 hidden units"),
    ):
        draw_regions(panel, model, moons, classes)
        panel.set_title(f"{name}: {error:.1%} wrong")
    axes[1].legend(loc="upper right")
    ends = [min(by_hand.min(), by_keras.min()), max(by_hand.max(), by_keras.max())]
    axes[3].plot(ends, ends, color="lightgrey", zorder=0)
    axes[3].plot(by_keras, by_hand, ".")
    axes[3].set(xlabel="Keras's", ylabel="by hand", title=f"{len(by_hand)} partial derivatives")
    return Experiment(
        setting="Logistic regression and networks of one hidden layer are written in NumPy, "
        f"trained on {len(x)} breast-cancer examples of 30 features and on two half-moons.",
        claims=[
            Claim(
                "loops and vectors give the same gradient",
                bool(off_by < 1e-12),
                f"Written as loops, one gradient took {1e3 * slow:.1f} ms, as products of matrices "
                f"{1e3 * fast:.3f} ms, a ratio of {slow / fast:,.0f}; the results differ by "
                f"{off_by:.0e} at most.",
            ),
            Claim(
                "the cost of the neuron falls at every step",
                bool((np.diff(costs) < 0).all() and right > 0.95),
                f"The neuron's cost falls at each of {STEPS} steps, from {costs[0]:.3f} to "
                f"{costs[-1]:.3f}, and {right:.1%} of the examples end up right.",
            ),
            Claim(
                "a hidden layer separates what no line separates",
                errors[1] < 0.5 * errors[0],
                f"On the half-moons one neuron leaves {errors[0]:.1%} of the points wrong, 8 "
                f"hidden units {errors[1]:.1%}.",
            ),
            Claim(
                "the gradients by hand are Keras's",
                bool(difference < 1e-5),
                "With L2 and batch normalization the gradients by hand differ from Keras's, which "
                f"computes in float32, by {difference:.0e} of their length.",
            ),
        ],
        picture=picture,
    )


def shortest(action: Callable) -> tuple[float, tuple]:
    """The shortest of a few timings in seconds, and what the action returns."""
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        result = action()
        seconds.append(time.perf_counter() - started)
    return min(seconds), result


def train_neuron(x: np.ndarray, y: np.ndarray) -> tuple[list[float], float]:
    """Batch gradient descent from zeros: the cost before each step, the share right at the end."""
    w, b, costs = np.zeros(x.shape[1]), 0.0, []
    for _ in range(STEPS):
        probability = sigmoid(x @ w + b)
        costs.append(-np.log(np.where(y == 1, probability, 1 - probability)).mean())
        dw, db = gradient(w, b, x, y)
        w, b = w - RATE * dw, b - RATE * db
    return costs, ((x @ w + b > 0) == y).mean()


def both_gradients(x: np.ndarray, y: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """All partial derivatives of one network with the same weights, by hand and by Keras."""
    import keras
    import tensorflow as tf

    from models.fully_connected import perceptron
    from pipelines.engine.kernels import regularize

    network = Network((30, 8, 2), seed, activation="tanh", l2=0.01, batch_normalization=True)
    model = perceptron(30, 2, (8,), activation="tanh", batch_normalization="before")
    regularize(model, l1=0.0, l2=network.l2 * 2 * len(x), examples=len(x))
    for variable, value in zip(model.trainable_variables, network.parameters, strict=True):
        variable.assign(value)
    with tf.GradientTape() as tape:
        logits = model({"columns": x.astype("float32")}, training=True)
        costs = keras.losses.sparse_categorical_crossentropy(y, logits, from_logits=True)
        cost = tf.reduce_mean(costs) + sum(model.losses)
    by_keras = tape.gradient(cost, [variable.value for variable in model.trainable_variables])
    _, by_hand = network.gradients(x, y, cross_entropy)
    return (
        np.concatenate([part.ravel() for part in by_hand]),
        np.concatenate([keras.ops.convert_to_numpy(part).ravel() for part in by_keras]),
    )
