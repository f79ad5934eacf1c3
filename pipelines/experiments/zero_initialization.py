"""Symmetry: hidden units that begin equal stay equal, whether from zeros or from a constant."""

from __future__ import annotations

import numpy as np

from pipelines.experiments.laboratory.drawing import panels
from pipelines.experiments.laboratory.experiment import Claim, Experiment
from pipelines.experiments.laboratory.network import Adam, Network, small, train

UNITS = 8
STEPS = 600


def run(seed: int) -> Experiment:
    """Does the experiment."""
    from sklearn.datasets import make_moons

    x, y = make_moons(400, noise=0.15, random_state=seed)
    beginnings = {
        "zeros": lambda draw: 0.0 * draw,
        "all 0.5": lambda draw: 0.5 + 0.0 * draw,
        "random × 0.01": lambda draw: draw,
    }
    costs, networks = {}, {}
    for name, change in beginnings.items():
        network = Network((2, UNITS, 2), seed, activation="tanh", deviation=small)
        network.weights = [change(weight) for weight in network.weights]
        costs[name] = train(network, x, y, Adam(0.02), epochs=STEPS)
        networks[name] = network
    units = {name: distinct_units(network) for name, network in networks.items()}
    errors = {name: network.error(x, y) for name, network in networks.items()}
    neuron = Network((2, 2), seed, deviation=lambda inputs: 0.0)
    train(neuron, x, y, Adam(0.02), epochs=STEPS)

    picture, axes = panels(4)
    for name in beginnings:
        axes[0].plot(costs[name], label=name)
    axes[0].set(xlabel="step", ylabel="cost", title="Learning from three beginnings")
    axes[0].legend(title="first weights")
    limit = max(np.abs(network.weights[0]).max() for network in networks.values())
    for panel, (name, network) in zip(axes[1:], networks.items(), strict=True):
        weights = np.vstack([network.weights[0], network.biases[0]])
        image = panel.imshow(weights, cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto")
        panel.set(xlabel="hidden unit", title=f"From {name}: {units[name]} different of {UNITS}")
        panel.set_yticks(range(3), ["$w_1$", "$w_2$", "b"])
    picture.colorbar(image, ax=axes[3], label="weight after training")
    return Experiment(
        setting=f"A network with {UNITS} tanh units learns two half-moons three times, {STEPS} "
        "steps of Adam, and only its first weights differ.",
        claims=[
            Claim(
                "from zeros nothing but the output's bias learns",
                units["zeros"] == 1 and abs(costs["zeros"][-1] - np.log(2)) < 1e-3,
                f"From zeros the cost stays at {costs['zeros'][-1]:.3f}, ln 2, the cost of a "
                "guess: all gradients of weights are zero.",
            ),
            Claim(
                "from a constant all hidden units stay one unit",
                units["all 0.5"] == 1 and errors["all 0.5"] > 3 * errors["random × 0.01"],
                f"From a constant the weights do move, but all {UNITS} units alike: they are one "
                f"unit, and {errors['all 0.5']:.1%} of the points stay wrong.",
            ),
            Claim(
                "small random weights break the symmetry",
                units["random × 0.01"] == UNITS and errors["random × 0.01"] < 0.05,
                f"From small random weights the units become {units['random × 0.01']} different "
                f"ones, and {errors['random × 0.01']:.1%} are wrong.",
            ),
            Claim(
                "without hidden units zeros are harmless",
                neuron.error(x, y) < 0.2,
                f"Without a hidden layer there is no symmetry to break: logistic regression from "
                f"zeros ends with {neuron.error(x, y):.1%} wrong.",
            ),
        ],
        picture=picture,
    )


def distinct_units(network: Network) -> int:
    """How many hidden units have weights, in and out, that no other has."""
    inward, outward = network.weights
    return len(np.unique(np.vstack([inward, network.biases[0], outward.T]).round(9), axis=1).T)
