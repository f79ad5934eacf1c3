"""Batch normalization under covariate shift: inside a network, and of its inputs.

S. Ioffe and C. Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing
Internal Covariate Shift", 2015, https://arxiv.org/abs/1502.03167; figure 1 is the first here.
"""

from __future__ import annotations

import numpy as np

from pipelines.experiments.laboratory.digits import digits
from pipelines.experiments.laboratory.drawing import draw_errors, panels
from pipelines.experiments.laboratory.experiment import Claim, Experiment
from pipelines.experiments.laboratory.network import (
    GradientDescent,
    Network,
    cross_entropy,
    descent,
    xavier,
)

SIZES = (64, 32, 32, 32, 10)
WATCHED = 2  # the last hidden layer
EPOCHS = 20
BATCH = 64
RATE = 2.0
WAYS = {"without": False, "with batch normalization": True}


def faded(x: np.ndarray) -> np.ndarray:
    """The same pictures with little contrast on a grey ground."""
    return 0.4 * x + 0.5


def run(seed: int) -> Experiment:
    """Does the experiment."""
    x, y = digits("train")
    dev, dev_labels = digits("validation")
    costs, inputs, networks = {}, {}, {}
    for name, normalized in WAYS.items():
        network = Network(
            SIZES, seed, activation="sigmoid", deviation=xavier, batch_normalization=normalized
        )
        costs[name], inputs[name] = [], []
        rule = GradientDescent(RATE)
        for _ in descent(network, x, y, rule, epochs=EPOCHS, batch_size=BATCH, seed=seed):
            z = network.inputs_of_activations(x[:256], batch_statistics=True)
            inputs[name].append(z[WATCHED])
            costs[name].append(cross_entropy(z[-1], y[:256])[0])
        networks[name] = network
    plain, normal = networks.values()
    drifts = {name: drift(np.stack(each)) for name, each in inputs.items()}
    adapted = normal.inputs_of_activations(faded(dev), batch_statistics=True)[-1].argmax(axis=1)
    errors = {
        "without": (plain.error(dev, dev_labels), plain.error(faded(dev), dev_labels)),
        "with, mean of\ntraining": (
            normal.error(dev, dev_labels),
            normal.error(faded(dev), dev_labels),
        ),
        "with, mean of\nthese": (
            normal.error(dev, dev_labels),
            float((adapted != dev_labels).mean()),
        ),
    }
    return Experiment(
        setting=f"Three hidden layers of {SIZES[1]} sigmoid units learn the digits by {EPOCHS} "
        f"epochs of gradient descent with a learning rate of {RATE}, with and without batch "
        "normalization of Z.",
        claims=claims(costs, drifts, list(errors.values())),
        picture=draw(costs, inputs, errors),
    )


def drift(z: np.ndarray) -> float:
    """How far the mean input of a unit moves in training, in the unit's own deviations.

    Args:
        z: [steps, examples, units].
    """
    return float((np.ptp(z.mean(axis=1), axis=0) / z.std(axis=1).mean(axis=0)).mean())


def claims(costs: dict, drifts: dict, errors: list[tuple[float, float]]) -> list[Claim]:
    """What is to be seen."""
    ends = [each[-1] for each in costs.values()]
    (plain, plain_faded), (normal, normal_faded), (_, adapted) = errors
    without, normalized = drifts.values()
    return [
        Claim(
            "the inputs of the last hidden layer drift less",
            normalized < 0.5 * without,
            f"Without it the mean input of a unit of the last hidden layer wanders over "
            f"{without:.1f} of its standard deviations while the layers before it learn, with it "
            f"over {normalized:.1f}.",
        ),
        Claim(
            "the network learns faster at the same rate",
            ends[1] < 0.2 * ends[0],
            f"The cost ends at {ends[1]:.3f} instead of {ends[0]:.2f}, and {normal:.1%} of the "
            f"unseen digits are wrong instead of {plain:.1%}.",
        ),
        Claim(
            "it does not by itself survive a shift of the network's inputs",
            normal_faded > normal + 0.2,
            f"A shift of the inputs is another matter: of the same digits faded, "
            f"{normal_faded:.1%} are wrong ({plain_faded:.1%} without), since the moving averages "
            "are of other pictures.",
        ),
        Claim(
            "averages of the shifted inputs repair it",
            adapted < 0.5 * normal_faded,
            f"With mean and variance taken anew over the faded digits, and no weight changed, "
            f"{adapted:.1%} are.",
        ),
    ]


def draw(costs: dict, inputs: dict, errors: dict):
    """The drift of one unit's input, the costs, and the errors on faded digits."""
    picture, axes = panels(4)
    for panel, (name, steps) in zip(axes, inputs.items(), strict=False):
        z = np.stack(steps)
        unit = np.ptp(z.mean(axis=1), axis=0).argsort()[z.shape[2] // 2]  # a typical one
        low, middle, high = np.percentile(z[:, :, unit], [15, 50, 85], axis=1)
        panel.fill_between(range(len(z)), low, high, alpha=0.3, label="15 to 85 %")
        panel.plot(middle, label="median")
        panel.set(xlabel="step", ylabel="input of a last-layer unit", title=name.capitalize())
    axes[0].legend()
    for name, each in costs.items():
        axes[2].plot(each, label=name)
    axes[2].set(xlabel="step", ylabel="cost", title="The same learning rate")
    axes[2].legend()
    draw_errors(axes[3], errors, ("unseen digits", "the same, faded"), "%.0f")
    axes[3].set_title("Inputs that shift")
    return picture
