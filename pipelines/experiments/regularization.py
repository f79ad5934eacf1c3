"""Overfitting, and what L2 and dropout do against it."""

from __future__ import annotations

import numpy as np

from pipelines.experiments.laboratory.drawing import draw_errors, draw_regions, panels
from pipelines.experiments.laboratory.experiment import Claim, Experiment
from pipelines.experiments.laboratory.network import Adam, Network, train

EXAMPLES = 80
NOISE = 0.35
SIZES = (2, 100, 100, 2)
EPOCHS = 800
LAMBDA = 0.8  # of the courses' λ / (2m)
DROPOUT = 0.5
DRAWS = 5  # of the training examples
WAYS = {
    "no regularization": {},
    f"L2, λ = {LAMBDA}": {"l2": LAMBDA / (2 * EXAMPLES)},
    f"dropout {DROPOUT}": {"dropout": DROPOUT},
}


def run(seed: int) -> Experiment:
    """Does the experiment."""
    from sklearn.datasets import make_moons

    unseen = make_moons(4000, noise=NOISE, random_state=seed + 10_000)
    errors = {name: [] for name in WAYS}
    lengths = {name: [] for name in WAYS}
    shown = {}
    for number in range(DRAWS):
        x, y = make_moons(EXAMPLES, noise=NOISE, random_state=seed + number)
        for name, options in WAYS.items():
            network = Network(SIZES, seed + number, **options)
            train(network, x, y, Adam(0.01), epochs=EPOCHS)
            errors[name].append((network.error(x, y), network.error(*unseen)))
            lengths[name].append(np.sqrt(sum((w**2).sum() for w in network.weights)))
            shown.setdefault(name, (network, x, y))
    means = {name: np.mean(each, axis=0) for name, each in errors.items()}
    length = {name: np.mean(each) for name, each in lengths.items()}
    none, l2, dropout = WAYS

    picture, axes = panels(4)
    for panel, (name, (network, x, y)) in zip(axes, shown.items(), strict=False):
        draw_regions(panel, network, x, y)
        training, dev = errors[name][0]
        panel.set_title(f"{name}\ntraining {training:.1%}, unseen {dev:.1%}")
    axes[0].legend(loc="upper right")
    draw_errors(axes[3], means, ("training points", "unseen points"))
    axes[3].set_title(f"Mean of {DRAWS} training sets")
    return Experiment(
        setting=f"A network of {SIZES[1]} and {SIZES[2]} ReLU units learns {EXAMPLES} points of "
        f"two overlapping half-moons, {DRAWS} times with other points; 4,000 others are unseen.",
        claims=[
            Claim(
                "without regularization the network overfits",
                means[none][1] > means[none][0] + 0.05,
                f"Without regularization {means[none][0]:.1%} of the training points and "
                f"{means[none][1]:.1%} of the unseen ones are wrong.",
            ),
            Claim(
                "L2 gives up training points for unseen ones",
                means[l2][0] > means[none][0]
                and means[l2][1] < means[none][1]
                and length[l2] < 0.7 * length[none],
                f"L2 shrinks the length of all weights from {length[none]:.1f} to "
                f"{length[l2]:.1f} and turns this into {means[l2][0]:.1%} and {means[l2][1]:.1%}.",
            ),
            Claim(
                "dropout gives up training points for unseen ones",
                means[dropout][0] > means[none][0] and means[dropout][1] < means[none][1],
                f"Dropout turns it into {means[dropout][0]:.1%} and {means[dropout][1]:.1%}.",
            ),
        ],
        picture=picture,
    )
