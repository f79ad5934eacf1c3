"""Artificial data synthesis and its trap: a thousand examples with one background.

The courses' example is an hour of noise from a car, added to ten thousand hours of speech: it
sounds real to a person, and a network learns that hour by heart. Here the speech is digits, and the
noise are patches of photographs.
"""

from __future__ import annotations

import numpy as np

from pipelines.experiments.laboratory.digits import digits
from pipelines.experiments.laboratory.drawing import draw_errors, panels
from pipelines.experiments.laboratory.experiment import Claim, Experiment
from pipelines.experiments.laboratory.network import Adam, Network, train

PHOTOGRAPHS = ("camera", "coins", "page", "brick", "gravel", "moon")
SIDE = 8
REDUCED = 4  # photographs to a fourth, so that a patch is not of one shade
EPOCHS = 30
RECORDED = 4000
TRIED = 5  # patches that are the one background in turn


def patches(draw: np.random.Generator, count: int, half: int) -> np.ndarray:
    """[count, 64] shades from 0 to 1, cut from the left (0) or right (1) halves of photographs."""
    import skimage.data

    found = np.empty((count, SIDE * SIDE))
    photographs = []
    for name in PHOTOGRAPHS:
        shades = getattr(skimage.data, name)()[::REDUCED, ::REDUCED] / 255
        middle = shades.shape[1] // 2
        photographs.append(shades[:, middle:] if half else shades[:, :middle])
    for number in range(count):
        photograph = photographs[draw.integers(len(photographs))]
        top, left = (draw.integers(side - SIDE + 1) for side in photograph.shape)
        found[number] = photograph[top : top + SIDE, left : left + SIDE].ravel()
    return found


def written_on(backgrounds: np.ndarray, scans: np.ndarray) -> np.ndarray:
    """Digits in bright ink on darkened backgrounds, both [examples, 64]."""
    return np.maximum(scans, 0.8 * backgrounds)


def sheet(pictures: np.ndarray) -> np.ndarray:
    """The first sixteen of [examples, 64] as one picture, with white lines between."""
    tiles = np.pad(
        pictures[:16].reshape(4, 4, SIDE, SIDE), ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=1
    )
    return tiles.transpose(0, 2, 1, 3).reshape(4 * (SIDE + 2), -1)


def learned(
    backgrounds: np.ndarray, x: np.ndarray, y: np.ndarray, seed: int
) -> tuple[Network, np.ndarray]:
    """A network that has learned digits on these backgrounds, and what it saw in its last epoch."""
    draw = np.random.default_rng(seed)
    network, rule = Network((64, 128, 10), seed), Adam(1e-3)
    for epoch in range(EPOCHS):  # each puts the digits on backgrounds anew
        made = written_on(backgrounds[draw.integers(len(backgrounds), size=len(x))], x)
        train(network, made, y, rule, epochs=1, batch_size=32, seed=seed + epoch)
    return network, made


def run(seed: int) -> Experiment:
    """Does the experiment."""
    draw = np.random.default_rng(seed)
    x, y = digits("train")
    dev, dev_labels = digits("validation")
    real = written_on(patches(draw, len(dev), half=1), dev)
    recorded = patches(draw, RECORDED, half=0)
    ways = {
        "clean digits": [np.zeros((1, SIDE * SIDE))],
        "one background": [recorded[[number]] for number in range(TRIED)],
        "many backgrounds": [recorded],
    }
    clean, one, many = ways
    errors, shown = {}, {}
    for name, each in ways.items():
        found = []
        for backgrounds in each:
            network, made = learned(backgrounds, x, y, seed)
            alike = written_on(backgrounds[draw.integers(len(backgrounds), size=len(dev))], dev)
            found.append([network.error(part, dev_labels) for part in (alike, real)])
            shown[name] = made
        errors[name] = np.mean(found, axis=0)
    gaps = {name: 100 * (outside - alike) for name, (alike, outside) in errors.items()}

    picture, axes = panels(4)
    for panel, (title, pictures) in zip(
        axes,
        {
            f"Training: {one}": shown[one],
            f"Training: {many}": shown[many],
            "Reality": real,
        }.items(),
        strict=False,
    ):
        panel.imshow(sheet(pictures), cmap="gray", vmin=0, vmax=1)
        panel.set_title(title)
        panel.set_axis_off()
    draw_errors(axes[3], errors, ("unseen digits, made like the training ones", "reality"))
    axes[3].set_title("What the dev set says")
    return Experiment(
        setting=f"A network learns {len(x):,} digits that are to be read on patches of "
        "photographs, of which there are none labelled: backgrounds are put behind clean digits. "
        f"Reality is {len(dev)} other digits on patches of the photographs' other halves.",
        claims=[
            Claim(
                "clean digits do not prepare for backgrounds",
                errors[clean][1] > errors[clean][0] + 0.1,
                f"Trained on clean digits, it gets {errors[clean][0]:.1%} of clean ones wrong and "
                f"{errors[clean][1]:.1%} in reality.",
            ),
            Claim(
                "one background behind all digits deceives the dev set that is made with it",
                errors[one][1] > 2 * errors[one][0],
                f"With one patch behind all digits ({TRIED} were tried) the error on digits made "
                f"in the same way is {errors[one][0]:.1%} on average, but in reality "
                f"{errors[one][1]:.1%}: the network knows that patch and no other, and a dev set "
                "with the same patch does not show it.",
            ),
            Claim(
                "many backgrounds help, and their dev set is nearer to the truth",
                errors[many][1] < 0.7 * errors[one][1] and gaps[many] < 0.5 * gaps[one],
                f"With {RECORDED:,} patches the error in reality is {errors[many][1]:.1%}, "
                f"{gaps[many]:.1f} points from that on digits made in the same way, instead of "
                f"{gaps[one]:.1f}.",
            ),
        ],
        picture=picture,
    )
