"""Saddle points and plateaus: why gradients vanish far from any minimum."""

from __future__ import annotations

import numpy as np

from pipelines.experiments.laboratory.drawing import panels
from pipelines.experiments.laboratory.experiment import Claim, Experiment
from pipelines.experiments.laboratory.network import sigmoid
from pipelines.experiments.laboratory.paths import path

START = (1.0, 1e-3)
RATES = {"sgd": 0.05, "momentum": 0.05, "adam": 0.05}
STEPS = 200
DIMENSIONS = range(1, 6)
MATRICES = 50_000
NEURON_STEPS = 1000


def surface(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """x²/2 - y²/2 + y⁴/4: a saddle point at (0, 0), minima at (0, ±1)."""
    return x**2 / 2 - y**2 / 2 + y**4 / 4


def slope(point: np.ndarray) -> np.ndarray:
    """The gradient of ``surface``."""
    x, y = point
    return np.array([x, y**3 - y])


def run(seed: int) -> Experiment:
    """Does the experiment."""
    paths = {name: path(name, rate, slope, START, STEPS) for name, rate in RATES.items()}
    heights = {name: surface(*points.T) for name, points in paths.items()}
    left = {name: int(np.argmax(height < -0.2)) for name, height in heights.items()}
    near = int(
        (np.linalg.norm([slope(p) for p in paths["sgd"][: left["sgd"]]], axis=1) < 0.1).sum()
    )
    curvatures = np.linalg.eigvalsh([[0.0, -1.0], [-1.0, 0.0]])  # of (ab - 1)²/2 at a = b = 0
    shares = shares_of_minima(np.random.default_rng(seed))
    squared, logarithmic = neuron_begun_wrong()
    late = int(np.argmax(squared < 0.1)), int(np.argmax(logarithmic < 0.1))

    picture, axes = panels(4)
    sides = np.linspace(-1.3, 1.3, 100), np.linspace(-0.9, 1.4, 100)
    axes[0].contour(*sides, surface(*np.meshgrid(*sides)), 25, cmap="Greys_r", linewidths=0.7)
    for name, points in paths.items():
        axes[0].plot(*points.T, ".-", markersize=3, label=name)
        axes[1].plot(heights[name], label=f"{name}: away after {left[name]} steps")
    axes[0].plot(0, 0, "k*", markersize=12, label="saddle point")
    axes[0].set(xlabel="x", ylabel="y", title="Past a saddle point to a minimum at (0, 1)")
    axes[0].legend(loc="lower left", fontsize="small")
    axes[1].set(xlabel="step", ylabel="height", title="The plateau on the way")
    axes[1].legend(fontsize="small")
    axes[2].semilogy(list(shares), list(shares.values()), "o-")
    axes[2].set_xticks(list(shares))
    axes[2].set(
        xlabel="dimensions", ylabel="share that are minima", title="Where gradients are zero"
    )
    axes[3].plot(squared, label="squared error")
    axes[3].plot(logarithmic, label="cross-entropy")
    axes[3].set(
        xlabel="step", ylabel="probability of the wrong class", title="A neuron begun wrong"
    )
    axes[3].legend()
    return Experiment(
        setting="The zoo's optimizers start beside the ridge that leads to the saddle point of "
        f"x²/2 - y²/2 + y⁴/4, with a learning rate of {RATES['sgd']}.",
        claims=[
            Claim(
                "gradient descent stays long where the gradient is small, momentum and Adam less",
                left["sgd"] > left["momentum"] > 0 and left["sgd"] > left["adam"] > 0,
                f"Gradient descent takes {left['sgd']} steps to get away, {near} of them where "
                f"the gradient is shorter than 0.1; momentum takes {left['momentum']}, Adam "
                f"{left['adam']}.",
            ),
            Claim(
                "the zero weights of a network are a saddle point",
                bool(curvatures[0] < 0 < curvatures[1]),
                "The smallest network, (ab - 1)²/2, has such a point where both weights are zero: "
                f"its curvatures there are {curvatures[0]:.0f} and {curvatures[1]:.0f}.",
            ),
            Claim(
                "the more dimensions, the fewer points without gradient are minima",
                bool((np.diff(list(shares.values())) <= 0).all() and shares[5] < 0.01),
                f"If curvatures are random, {shares[1]:.0%} of the points without gradient are "
                f"minima in one dimension, {shares[2]:.1%} in two, {shares[3]:.1%} in three and "
                f"{shares[5]:.3%} in five: nearly all others are saddle points.",
            ),
            Claim(
                "squared error has a plateau where cross-entropy has none",
                late[0] > 5 * late[1] > 0,
                f"A sigmoid neuron that is sure of the wrong class takes {late[0]} steps to "
                f"learn by squared error and {late[1]} by cross-entropy, whose gradient does not "
                "vanish there.",
            ),
        ],
        picture=picture,
    )


def shares_of_minima(draw: np.random.Generator) -> dict[int, float]:
    """By dimensions, how many random symmetric matrices have only positive eigenvalues."""
    shares = {}
    for size in DIMENSIONS:
        matrices = draw.standard_normal((MATRICES, size, size))
        eigenvalues = np.linalg.eigvalsh(matrices + matrices.transpose(0, 2, 1))
        shares[size] = float((eigenvalues > 0).all(axis=1).mean())
    return shares


def neuron_begun_wrong() -> tuple[np.ndarray, np.ndarray]:
    """The probability that a neuron gives to the wrong class by step, for both costs."""
    curves = []
    for with_slope in (True, False):
        z, curve = 5.0, []
        for _ in range(NEURON_STEPS):
            wrong = sigmoid(z)
            curve.append(wrong)
            # The slope of wrong² is 2 wrong · g'(z); that of -ln(1 - wrong) is wrong.
            z -= 0.5 * (2 * wrong * wrong * (1 - wrong) if with_slope else wrong)
        curves.append(np.array(curve))
    return curves[0], curves[1]
