"""Artificial data synthesis and its trap: a thousand examples with one background.

The courses' example is an hour of noise from a car, added to ten thousand hours of speech: it
sounds real to a person, and a network learns that hour by heart. Here the speech is digits, and the
noise are patches of photographs.
"""

from __future__ import annotations

import numpy as np

from pipelines.experiments.laboratory.digits import digits
from pipelines.experiments.laboratory.drawing import panels
from pipelines.experiments.laboratory.experiment import Claim, Experiment
from pipelines.experiments.laboratory.network import Adam, Network, train

PHOTOGRAPHS = ("camera", "coins", "page", "brick", "gravel", "moon")
SIDE = 8
REDUCED = 4  # photographs to a fourth, so that a patch is not of one shade
EPOCHS = 40
WAYS = {"clean digits": 0, "one background": 1, "many backgrounds": 4000}


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
    """Digits in bright ink on half-bright backgrounds, both [examples, 64]."""
    return np.maximum(scans, 0.6 * backgrounds)


def run(seed: int) -> Experiment:
    """Does the experiment."""
    draw = np.random.default_rng(seed)
    x, y = digits("train")
    dev, dev_labels = digits("validation")
    real = written_on(patches(draw, len(dev), half=1), dev)
    recorded = patches(draw, max(WAYS.values()), half=0)
    errors, shown = {}, {}
    for name, backgrounds in WAYS.items():
        network, rule = Network((64, 128, 10), seed), Adam(1e-3)
        made = [x, dev]
        for _ in range(EPOCHS):  # each epoch puts the digits on backgrounds anew
            if backgrounds:
                made = [
                    written_on(recorded[draw.integers(backgrounds, size=len(scans))], scans)
                    for scans in (x, dev)
                ]
            train(
                network, made[0], y, rule, epochs=1, batch_size=32, seed=int(draw.integers(2**31))
            )
        shown[name] = made[0]
        errors[name] = [network.error(part, dev_labels) for part in (made[1], real)]
    clean, one, many = WAYS

    picture, axes = panels(5)
    for panel, (name, pictures) in zip(
        axes, (shown | {"reality (dev)": real}).items(), strict=False
    ):
        tiles = pictures[:25].reshape(5, 5, SIDE, SIDE).transpose(0, 2, 1, 3).reshape(5 * SIDE, -1)
        panel.imshow(tiles, cmap="gray", vmin=0, vmax=1)
        panel.set(title=name if name.startswith("reality") else f"training: {name}")
        panel.set_axis_off()
    places = np.arange(len(WAYS))
    labels = ("digits made like the training ones", "reality")
    for shift, label in enumerate(labels):
        values = [100 * each[shift] for each in errors.values()]
        bars = axes[4].bar(places + 0.38 * shift, values, 0.36, label=label)
        axes[4].bar_label(bars, fmt="%.1f")
    axes[4].set_xticks(places + 0.19, [name.replace(" ", "\n") for name in WAYS])
    axes[4].set(ylabel="error on unseen digits, %", title="What the dev set says")
    axes[4].legend(fontsize="small")
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
                "one background, used for all, looks solved and is not",
                errors[one][0] < 0.1 and errors[one][1] > 3 * errors[one][0],
                f"With one patch behind all digits the error on digits made in the same way is "
                f"{errors[one][0]:.1%}, but in reality {errors[one][1]:.1%}: that patch is learnt "
                "by heart, and a dev set with the same patch does not show it.",
            ),
            Claim(
                "many backgrounds do help",
                errors[many][1] < 0.6 * min(errors[clean][1], errors[one][1]),
                f"With {WAYS[many]:,} patches the error in reality is {errors[many][1]:.1%}, and "
                f"the error on digits made in the same way, {errors[many][0]:.1%}, tells the "
                "truth.",
            ),
        ],
        picture=picture,
    )
