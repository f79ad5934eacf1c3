"""Why random search beats a grid: only some hyperparameters matter.

J. Bergstra and Y. Bengio, "Random Search for Hyper-Parameter Optimization", 2012,
https://www.jmlr.org/papers/v13/bergstra12a.html.
"""

from __future__ import annotations

import numpy as np

from pipelines.experiments.laboratory.digits import digits
from pipelines.experiments.laboratory.drawing import panels
from pipelines.experiments.laboratory.experiment import Claim, Experiment
from pipelines.experiments.laboratory.network import Adam, Network, train

RATES = np.linspace(-4, 0, 33)  # powers of ten
EPSILONS = np.linspace(-10, -4, 7)
SIDE = 3  # of the grid, so that it has as many trials as are drawn
REPEATS = 2000
EXAMPLES = 500
EPOCHS = 4
BATCH = 32


def run(seed: int) -> Experiment:
    """Does the experiment."""
    from scipy.interpolate import RegularGridInterpolator

    x, y = (each[:EXAMPLES] for each in digits("train"))
    dev, dev_labels = digits("validation")
    errors = np.empty((len(RATES), len(EPSILONS)))
    for row, rate in enumerate(RATES):
        for column, epsilon in enumerate(EPSILONS):
            network = Network((64, 32, 10), seed)
            rule = Adam(10**rate, epsilon=10**epsilon)
            train(network, x, y, rule, epochs=EPOCHS, batch_size=BATCH, seed=seed)
            errors[row, column] = network.error(dev, dev_labels)
    surface = RegularGridInterpolator((RATES, EPSILONS), errors)
    draw = np.random.default_rng(seed)
    # Nobody knows where the best rate lies: each repeat searches three decades that begin anywhere.
    beginnings = draw.uniform(-4, -3, REPEATS)
    grids = np.stack([grid(start) for start in beginnings])
    drawn = np.stack([at_random(start, draw) for start in beginnings])
    best_grid, best_drawn = (surface(trials).min(axis=1) for trials in (grids, drawn))
    spread = [float(np.ptp(errors.mean(axis=axis))) for axis in (1, 0)]
    tried = [len(np.unique(trials[0, :, 0].round(9))) for trials in (grids, drawn)]
    reached = float(errors.mean(axis=1).min())

    picture, axes = panels(3)
    for panel, trials, title in (
        (axes[0], grids[0], f"Grid: {tried[0]} learning rates"),
        (axes[1], drawn[0], f"Random: {tried[1]} learning rates"),
    ):
        image = panel.pcolormesh(RATES, EPSILONS, errors.T, cmap="viridis_r", shading="nearest")
        panel.scatter(*trials.T, c="red", edgecolors="white", s=50)
        panel.vlines(trials[:, 0], -10.5, -10.2, color="red")
        panel.set(title=title, xlabel="lg of the learning rate", ylabel="lg of Adam's ε")
    picture.colorbar(image, ax=axes[1], label="dev error")
    bins = np.linspace(errors.min(), max(best_grid.max(), best_drawn.max()), 40)
    for best, label in ((best_grid, "grid"), (best_drawn, "random")):
        axes[2].hist(100 * best, 100 * bins, alpha=0.6, label=f"{label}: mean {best.mean():.2%}")
    axes[2].set(xlabel="best dev error found, %", ylabel="searches", title=f"{REPEATS:,} searches")
    axes[2].legend()
    return Experiment(
        setting=f"A network learns {EXAMPLES} digits by {EPOCHS} epochs of Adam for each of "
        f"{errors.size} pairs of a learning rate and an ε; then {REPEATS:,} searches of {SIDE**2} "
        "trials each look for the best pair.",
        claims=[
            Claim(
                "one of the two hyperparameters hardly matters",
                spread[0] > 10 * spread[1],
                f"The learning rate moves the dev error by {100 * spread[0]:.0f} points, ε over "
                f"six decades by {100 * spread[1]:.1f}.",
            ),
            Claim(
                "a grid tries few values of each, random search a new one each time",
                tried == [SIDE, SIDE**2],
                f"With {SIDE**2} trials the grid tries {tried[0]} learning rates, random search "
                f"{tried[1]}.",
            ),
            Claim(
                "random search finds the better ones on average",
                best_drawn.mean() < best_grid.mean(),
                f"So its best has a dev error of {best_drawn.mean():.2%} on average, the grid's "
                f"{best_grid.mean():.2%} (at the best learning rate of all: {reached:.2%}); it is "
                f"as good or better in {(best_drawn <= best_grid).mean():.0%} of the searches.",
            ),
        ],
        picture=picture,
    )


def grid(start: float) -> np.ndarray:
    """[trials, 2] every pair of three learning rates and three ε, three decades from ``start``."""
    pairs = np.meshgrid(np.linspace(start, start + 3, SIDE), np.linspace(-10, -4, SIDE))
    return np.stack(pairs, axis=-1).reshape(-1, 2)


def at_random(start: float, draw: np.random.Generator) -> np.ndarray:
    """[trials, 2] as many, each drawn anew on the scale of the logarithm."""
    return np.stack([draw.uniform(start, start + 3, SIDE**2), draw.uniform(-10, -4, SIDE**2)], 1)
