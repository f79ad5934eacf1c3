"""Activation functions: their slopes, and how a deep network learns with each."""

from __future__ import annotations

import numpy as np

from pipelines.experiments.laboratory.drawing import panels
from pipelines.experiments.laboratory.experiment import Claim, Experiment
from pipelines.experiments.laboratory.network import (
    ACTIVATIONS,
    GradientDescent,
    Network,
    train,
    xavier,
)

SIZES = (2, 16, 16, 16, 2)
STEPS = 1000
RATE = 0.3


def run(seed: int) -> Experiment:
    """Does the experiment."""
    from sklearn.datasets import make_circles

    x, y = make_circles(300, noise=0.08, factor=0.5, random_state=seed)
    networks = {
        name: Network(SIZES, seed, activation=name, deviation=xavier) for name in ACTIVATIONS
    }
    costs = {
        name: train(network, x, y, GradientDescent(RATE), epochs=STEPS)
        for name, network in networks.items()
    }
    errors = {name: network.error(x, y) for name, network in networks.items()}
    first = {name: np.argmax(np.array(each) < 0.35) for name, each in costs.items()}
    linear = networks["linear"]
    product = np.linalg.multi_dot(linear.weights)
    off_by = np.abs(linear(x) - linear(np.zeros((1, 2))) - x @ product).max()
    slopes = {name: float(slope(np.array(5.0))) for name, (_, slope) in ACTIVATIONS.items()}
    curved = [first[name] for name in ("tanh", "relu", "leaky_relu")]

    picture, axes = panels(3)
    z = np.linspace(-6, 6, 400)
    # Wide lines first: some curves lie on others.
    for (name, (value, slope)), width in zip(ACTIVATIONS.items(), (5, 3, 2, 3, 1), strict=True):
        axes[0].plot(z, value(z), linewidth=width, label=name.replace("_", " "))
        axes[1].plot(z, slope(z), linewidth=width)
        axes[2].semilogx(range(1, STEPS + 1), costs[name], linewidth=width)
    axes[0].set(xlabel="z", title="Activation g(z)", ylim=(-2, 4))
    axes[0].legend()
    axes[1].set(xlabel="z", title="Slope g'(z)", ylim=(-0.05, 1.1))
    axes[2].set(xlabel="step", ylabel="cost", title="Three hidden layers on two circles")
    return Experiment(
        setting=f"Networks with three hidden layers of 16 units learn two concentric circles by "
        f"{STEPS:,} steps of batch gradient descent, with the same first weights and the same "
        f"learning rate of {RATE}.",
        claims=[
            Claim(
                "sigmoid and tanh saturate, ReLU does not",
                slopes["sigmoid"] < 0.01 and slopes["tanh"] < 0.01 and slopes["relu"] == 1,
                f"At z = 5 the slope of the sigmoid is {slopes['sigmoid']:.4f}, of tanh "
                f"{slopes['tanh']:.4f}, of ReLU {slopes['relu']:.0f}; the sigmoid's is nowhere "
                f"above {ACTIVATIONS['sigmoid'][1](z).max():.2f}.",
            ),
            Claim(
                "layers without activation are one linear layer",
                bool(off_by < 1e-9 and errors["linear"] > 0.3),
                "Without an activation the four layers are one matrix, their product (answers "
                f"differ by {off_by:.0e}), and {errors['linear']:.0%} of the points stay wrong.",
            ),
            Claim(
                "tanh and the ReLUs learn where the sigmoid stands still",
                bool(min(curved) > 0 and first["sigmoid"] == 0),
                f"tanh, ReLU and leaky ReLU bring the cost below half of its beginning after "
                f"{curved[0]}, {curved[1]} and {curved[2]} steps; the sigmoid's is still "
                f"{costs['sigmoid'][-1]:.2f} at the end.",
            ),
        ],
        picture=picture,
    )
