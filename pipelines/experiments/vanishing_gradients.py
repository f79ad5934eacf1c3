"""Exploding and vanishing gradients, by depth, by first weights and by activation.

The gradients are those of the biases: they have only come backwards through the layers, while a
weight's also carries the signal that came forwards, which vanishes and explodes likewise.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pipelines.experiments.laboratory.drawing import panels
from pipelines.experiments.laboratory.experiment import Claim, Experiment
from pipelines.experiments.laboratory.network import Network, he, small, xavier

WIDTH = 64
DEPTHS = (2, 5, 10, 20, 30, 40, 50)
EXAMPLES = 64
DEVIATIONS = {
    "0.01": small,
    "Xavier, √(1/n)": xavier,
    "He, √(2/n)": he,
    "twice He's": lambda n: 2 * he(n),
}
FITTING = {"relu": he, "tanh": xavier, "sigmoid": xavier}


def run(seed: int) -> Experiment:
    """Does the experiment."""
    deepest = DEPTHS[-1]
    norms = {name: gradient_norms(deepest, "relu", d, seed) for name, d in DEVIATIONS.items()}
    ratios = {
        name: [first_to_last(gradient_norms(depth, "relu", d, seed)) for depth in DEPTHS]
        for name, d in DEVIATIONS.items()
    }
    activations = {
        name: first_to_last(gradient_norms(deepest, name, d, seed)) for name, d in FITTING.items()
    }
    shrunk, grown = 0.5**deepest, 1.5**deepest

    picture, axes = panels(3)
    for name, each in norms.items():
        axes[0].semilogy(range(1, deepest + 1), each, label=name)
        axes[1].semilogy(DEPTHS, ratios[name], "o-")
    axes[0].set(xlabel="layer", ylabel="length of the gradient", title=f"ReLU, {deepest} layers")
    axes[0].legend(title="deviation of the weights", fontsize="small")
    axes[1].axhline(1, color="lightgrey", zorder=0)
    axes[1].set(xlabel="layers", ylabel="first layer : last layer", title="ReLU, by depth")
    for name, deviation in FITTING.items():
        each = gradient_norms(deepest, name, deviation, seed)
        axes[2].semilogy(range(1, deepest + 1), each, label=f"{name}, {deviation.__name__}")
    axes[2].set(
        xlabel="layer", ylabel="length of the gradient", title=f"{deepest} layers, fitting weights"
    )
    axes[2].legend()
    small_one, xavier_one, he_one, _ = (each[-1] for each in ratios.values())
    fitting, too_long = norms["He, √(2/n)"][0], norms["twice He's"][0]
    return Experiment(
        setting=f"Networks of {WIDTH} units a layer, not trained yet: how long is the gradient by "
        "each layer's biases?",
        claims=[
            Claim(
                "powers vanish and explode",
                shrunk < 1e-10 and grown > 1e6,
                f"If each of {deepest} layers multiplies by 0.5, {shrunk:.0e} is left; by 1.5, "
                f"{grown:.0e}.",
            ),
            Claim(
                "small weights make gradients vanish",
                small_one < 1e-10,
                f"With ReLU and weights of deviation 0.01 the first layer's gradient is "
                f"{small_one:.0e} of the last's.",
            ),
            Claim(
                "too large weights make the gradient explode",
                too_long > 1e6 * fitting,
                f"With twice He's deviation the first layer's gradient is "
                f"{too_long:.0e} long, with He's {fitting:.0e}.",
            ),
            Claim(
                "He's deviation keeps the gradient through ReLU",
                0.02 < he_one < 50,
                f"With He's, which makes up for the half that ReLU cuts off, the two are "
                f"{he_one:.2g} to 1; with Xavier's {xavier_one:.0e}.",
            ),
            Claim(
                "the sigmoid loses the gradient whatever the weights",
                activations["sigmoid"] < 1e-10 and activations["tanh"] > 1e-4,
                f"tanh with Xavier's keeps {activations['tanh']:.2g}, but the sigmoid, whose "
                f"slope is at most 1/4, {activations['sigmoid']:.0e}.",
            ),
        ],
        picture=picture,
    )


def gradient_norms(
    depth: int, activation: str, deviation: Callable[[int], float], seed: int
) -> np.ndarray:
    """[depth] the length of the gradient by each layer's biases, the first layer first."""
    sizes = (WIDTH,) * depth + (10,)
    network = Network(sizes, seed, activation=activation, deviation=deviation)
    draw = np.random.default_rng(seed)
    x, y = draw.standard_normal((EXAMPLES, WIDTH)), draw.integers(10, size=EXAMPLES)
    _, gradients = network.gradients(x, y)
    return np.array([np.linalg.norm(each) for each in gradients[1::2]])


def first_to_last(norms: np.ndarray) -> float:
    """The first layer's gradient in units of the last layer's."""
    return float(norms[0] / norms[-1])
