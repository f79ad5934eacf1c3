"""End to end against two stages: which is better depends on how many examples there are.

The courses' example, the age of a child from an X-ray of a bone, in one dimension: a profile
across a picture, in which a bone is a bright stretch. It grows with age, and it becomes denser.
"""

from __future__ import annotations

import numpy as np

from pipelines.experiments.laboratory.drawing import panels
from pipelines.experiments.laboratory.experiment import Claim, Experiment
from pipelines.experiments.laboratory.network import Adam, Network, squared_error, train

PIXELS = 48
NOISE = 0.08
EXAMPLES = (30, 100, 300, 1000, 3000, 10_000, 30_000)
TEST = 3000
STEPS = 6000
BATCH = 64


def x_rays(count: int, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Profiles [count, PIXELS] and ages in years [count, 1]."""
    age = draw.uniform(2, 16, count)
    length = 8 + 1.4 * age + 1.8 * draw.standard_normal(count)
    density = 0.5 + 0.025 * age + 0.04 * draw.standard_normal(count)
    start = 2 + draw.random(count) * (PIXELS - 4 - length)
    pixels = np.arange(PIXELS)
    inside = np.clip(pixels - start[:, None] + 0.5, 0, 1)
    inside *= np.clip((start + length)[:, None] - pixels + 0.5, 0, 1)
    profiles = density[:, None] * inside + NOISE * draw.standard_normal((count, PIXELS))
    return profiles, age[:, None]


def bone_length(profiles: np.ndarray) -> np.ndarray:
    """The first stage, made by hand: how many pixels are bright, whatever their place and shade."""
    return (profiles > 0.3).sum(axis=1)


def two_stages(x: np.ndarray, y: np.ndarray, unseen: np.ndarray) -> np.ndarray:
    """The ages of unseen profiles by length, the second stage being a line through the examples."""
    line = np.polynomial.Polynomial.fit(bone_length(x), y[:, 0], 1)
    return line(bone_length(unseen))[:, None]


def end_to_end(x: np.ndarray, y: np.ndarray, unseen: np.ndarray, seed: int) -> np.ndarray:
    """The ages of unseen profiles by one network, from pixels to years."""
    network = Network((PIXELS, 64, 64, 1), seed)
    scale = y.mean(), y.std()
    steps_an_epoch = -(-len(x) // BATCH)
    train(
        network,
        x,
        (y - scale[0]) / scale[1],
        Adam(1e-3),
        epochs=min(STEPS // steps_an_epoch, 400),
        batch_size=BATCH,
        loss=squared_error,
        seed=seed,
    )
    return network(unseen) * scale[1] + scale[0]


def unusual_brightness(profiles: np.ndarray) -> np.ndarray:
    """[examples] how much brighter a bone is than bones of its length are."""
    length, inside = bone_length(profiles), profiles > 0.3
    brightness = (profiles * inside).sum(axis=1) / length
    return brightness - np.polynomial.Polynomial.fit(length, brightness, 1)(length)


def run(seed: int) -> Experiment:
    """Does the experiment."""
    draw = np.random.default_rng(seed)
    unseen, ages = x_rays(TEST, draw)
    x, y = x_rays(EXAMPLES[-1], draw)
    by_stages, by_network = [], []
    for count in EXAMPLES:
        staged = two_stages(x[:count], y[:count], unseen)
        direct = end_to_end(x[:count], y[:count], unseen, seed)
        by_stages.append(np.abs(staged - ages).mean())
        by_network.append(np.abs(direct - ages).mean())
    seen = np.corrcoef(unusual_brightness(unseen), (direct - staged)[:, 0])[0, 1]
    guess = np.abs(ages - y.mean()).mean()

    picture, axes = panels(3)
    for age in (3, 9, 15):
        nearest = int(np.abs(ages[:, 0] - age).argmin())
        axes[0].step(range(PIXELS), unseen[nearest], where="mid", label=f"{age} years")
    axes[0].axhline(0.3, color="grey", linestyle=":", label="threshold of stage 1")
    axes[0].set(xlabel="pixel", ylabel="brightness", title="X-rays of a bone, in one dimension")
    axes[0].set_ylim(top=1.6)
    axes[0].legend(fontsize="small", ncols=2, loc="upper center")
    axes[1].plot(bone_length(unseen[:500]), ages[:500], ".", markersize=3)
    axes[1].set(
        xlabel="length found by stage 1, pixels",
        ylabel="age, years",
        title="Stage 2: length to age",
    )
    axes[2].loglog(EXAMPLES, by_stages, "s-", label="two stages")
    axes[2].loglog(EXAMPLES, by_network, "o-", label="end to end")
    axes[2].axhline(guess, color="lightgrey", label="the mean age for all")
    axes[2].set(
        xlabel="training examples", ylabel="mean error, years", title="Little and much data"
    )
    axes[2].set_yticks([0.5, 1, 2, 4], ["0.5", "1", "2", "4"])
    axes[2].minorticks_off()
    axes[2].legend(fontsize="small")
    few, many = EXAMPLES[0], EXAMPLES[-1]
    crossing = [n for n, a, b in zip(EXAMPLES, by_network, by_stages, strict=True) if a < b]
    return Experiment(
        setting="The age of a child from the X-ray profile of a bone, either in two stages, the "
        "length by a rule made by hand and a line from length to age, or by one network from "
        f"pixels to years; {TEST:,} unseen profiles.",
        claims=[
            Claim(
                "with little data two stages are better",
                by_stages[0] < 0.8 * by_network[0],
                f"With {few} examples two stages err by {by_stages[0]:.2f} years, the network by "
                f"{by_network[0]:.2f}: the rule knows where to look, the network has to find out.",
            ),
            Claim(
                "two stages stop improving",
                abs(by_stages[-1] / by_stages[2] - 1) < 0.05,
                f"More examples do not help the two stages: {by_stages[2]:.2f} with "
                f"{EXAMPLES[2]}, {by_stages[-1]:.2f} with {many:,}.",
            ),
            Claim(
                "with much data the network is better",
                by_network[-1] < 0.95 * by_stages[-1],
                f"The network errs by {by_network[-1]:.2f} with {many:,} and is ahead from "
                f"{min(crossing, default=many):,} on.",
            ),
            Claim(
                "the network uses what the first stage throws away",
                bool(seen > 0.5),
                "It also sees how dense the bone is, which the first stage throws away: the "
                "brighter a bone for its length, the older it says than the two stages do "
                f"(correlation {seen:.2f}).",
            ),
        ],
        picture=picture,
    )
