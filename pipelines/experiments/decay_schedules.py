"""Learning-rate decay: constant rates stay in the noise, decaying ones come to rest."""

from __future__ import annotations

import keras
import numpy as np

from pipelines.experiments.laboratory.drawing import panels
from pipelines.experiments.laboratory.experiment import Claim, Experiment

EPOCHS = 60
STEPS = 20  # of an epoch
REPEATS = 500
START = 20.0  # distance from the minimum in deviations of the noise
RATE = 0.3

# The learning rate as a function of the epoch, counted from 0, and of the step, from 1.
SCHEDULES = {
    "constant": lambda epoch, t: RATE + 0.0 * epoch,
    "constant, a thirtieth": lambda epoch, t: RATE / 30 + 0.0 * epoch,
    "1/(1 + d·epoch)": lambda epoch, t: RATE / (1 + 0.5 * epoch),
    "0.95^epoch": lambda epoch, t: RATE * 0.95**epoch,
    "k/√epoch": lambda epoch, t: RATE / np.sqrt(epoch + 1),
    "k/√t": lambda epoch, t: RATE * np.sqrt(STEPS) / np.sqrt(np.maximum(t, STEPS)),
    "staircase": lambda epoch, t: RATE * 0.5 ** (epoch // 10),
}


def run(seed: int) -> Experiment:
    """Does the experiment."""
    t = np.arange(1, EPOCHS * STEPS + 1)
    rates = {name: schedule((t - 1) // STEPS, t) for name, schedule in SCHEDULES.items()}
    noise = np.random.default_rng(seed).standard_normal((len(t), REPEATS))
    distances = {name: distance(each, noise) for name, each in rates.items()}
    ends = {name: float(np.sqrt((each[-STEPS:] ** 2).mean())) for name, each in distances.items()}
    floor = np.sqrt(RATE / (2 - RATE))
    third = 3 * STEPS
    decaying = [name for name in SCHEDULES if not name.startswith("constant")]
    off_by = max(np.abs(by_keras(name, t) - rates[name]).max() for name in KERAS)

    picture, axes = panels(2)
    for name in SCHEDULES:
        style = "--" if name == "k/√t" else "-"  # which is k/√epoch made smooth
        axes[0].semilogy(t / STEPS, rates[name], style, label=name)
        axes[1].semilogy(t / STEPS, distances[name], style, label=f"{name}: {ends[name]:.3f}")
    axes[0].set(xlabel="epoch", ylabel="learning rate", title="Schedules")
    axes[0].set_ylim(top=3)
    axes[0].legend(fontsize="small", ncols=2)
    axes[1].set(xlabel="epoch", ylabel="distance from the minimum", title="Where they lead")
    axes[1].legend(fontsize="small", title="at the end")
    return Experiment(
        setting=f"Stochastic gradient descent looks for the mean of a stream of numbers with "
        f"deviation 1, from {START:.0f} away: {EPOCHS} epochs of {STEPS} steps, root mean square "
        f"of {REPEATS} repeats.",
        claims=[
            Claim(
                "a constant rate stays in the noise that its size decides",
                abs(ends["constant"] / floor - 1) < 0.1,
                f"With the learning rate {RATE} it arrives soon and then wanders "
                f"{ends['constant']:.3f} from the minimum, as theory has it: √(α/(2 - α)) is "
                f"{floor:.3f}.",
            ),
            Claim(
                "a small constant rate comes close, but late",
                ends["constant, a thirtieth"] < 0.5 * ends["constant"]
                and distances["constant, a thirtieth"][third] > 5 * distances["constant"][third],
                f"A thirtieth of it ends at {ends['constant, a thirtieth']:.3f}, but after three "
                f"epochs it is still {distances['constant, a thirtieth'][third]:.1f} away, the "
                f"large one {distances['constant'][third]:.2f}.",
            ),
            Claim(
                "every decay is both soon near and closer at the end",
                all(ends[name] < 0.75 * ends["constant"] for name in decaying)
                and all(distances[name][third] < 1 for name in decaying),
                "The decays do both: "
                + ", ".join(f"{name} ends at {ends[name]:.3f}" for name in decaying)
                + ".",
            ),
            Claim(
                "Keras's schedules are these formulas",
                bool(off_by < 1e-6),
                f"Keras's InverseTimeDecay and ExponentialDecay, in steps of an epoch, give the "
                f"same rates (they differ by {off_by:.0e}).",
            ),
        ],
        picture=picture,
    )


def distance(rates: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """[steps] root mean square over the repeats of w := w - α (w - number); the mean is 0."""
    w, found = np.full(noise.shape[1], START), []
    for rate, numbers in zip(rates, noise, strict=True):
        w = w - rate * (w - numbers)
        found.append(np.sqrt((w**2).mean()))
    return np.array(found)


KERAS = {
    "1/(1 + d·epoch)": keras.optimizers.schedules.InverseTimeDecay(
        RATE, decay_steps=STEPS, decay_rate=0.5, staircase=True
    ),
    "0.95^epoch": keras.optimizers.schedules.ExponentialDecay(
        RATE, decay_steps=STEPS, decay_rate=0.95, staircase=True
    ),
}


def by_keras(name: str, t: np.ndarray) -> np.ndarray:
    """The learning rate of each step, which Keras counts from 0, by Keras."""
    return keras.ops.convert_to_numpy(KERAS[name](keras.ops.convert_to_tensor(t - 1)))
