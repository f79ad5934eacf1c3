"""Bias and variance by capacity: polynomials through noisy points.

The expected squared error is bias² + variance + noise (S. Geman et al., "Neural Networks and the
Bias/Variance Dilemma", 1992); over many training sets all three can be measured.
"""

from __future__ import annotations

import numpy as np

from pipelines.experiments.laboratory.drawing import panels
from pipelines.experiments.laboratory.experiment import Claim, Experiment

DEGREES = range(13)
SHOWN = (1, 4, 12)
POINTS = 25
SETS = 500
NOISE = 0.3


def truth(x: np.ndarray) -> np.ndarray:
    """What the points are scattered about."""
    return np.sin(1.5 * np.pi * x)


def run(seed: int) -> Experiment:
    """Does the experiment."""
    draw = np.random.default_rng(seed)
    x = np.linspace(-1, 1, POINTS)
    y = truth(x) + NOISE * draw.standard_normal((SETS, POINTS))
    unseen = np.linspace(-0.98, 0.98, 200)
    again = truth(unseen) + NOISE * draw.standard_normal((SETS, len(unseen)))
    answers, training, test, bias, variance = {}, [], [], [], []
    for degree in DEGREES:
        powers = np.polynomial.legendre.legvander(x, degree)
        weights = np.linalg.lstsq(powers, y.T, rcond=None)[0]
        answers[degree] = (np.polynomial.legendre.legvander(unseen, degree) @ weights).T
        training.append((((powers @ weights).T - y) ** 2).mean())
        test.append(((answers[degree] - again) ** 2).mean())
        bias.append(((answers[degree].mean(axis=0) - truth(unseen)) ** 2).mean())
        variance.append(answers[degree].var(axis=0).mean())
    best = int(np.argmin(test))
    off_by = np.abs(np.add(bias, variance) + NOISE**2 - test).max()

    picture, axes = panels(4)
    for panel, degree in zip(axes, SHOWN, strict=False):
        panel.plot(unseen, answers[degree][:20].T, color="tab:blue", linewidth=0.5, alpha=0.6)
        panel.plot(unseen, answers[degree].mean(axis=0), color="tab:orange", label="mean of all")
        panel.plot(unseen, truth(unseen), "k--", label="truth")
        panel.set(xlabel="x", ylim=(-2, 2), title=f"Degree {degree}: 20 training sets")
        panel.legend(loc="lower right")
    for values, style, label in (
        (bias, "-", "bias²"),
        (variance, "-", "variance"),
        (test, "k-", "test error"),
        (training, "k--", "training error"),
    ):
        axes[3].semilogy(list(DEGREES), np.maximum(values, 1e-5), style, label=label)
    axes[3].axhline(NOISE**2, color="lightgrey", zorder=0, label="noise")
    axes[3].set(xlabel="degree", ylabel="squared error", title="By capacity", ylim=(1e-4, 2))
    axes[3].legend(fontsize="small")
    low, high = DEGREES[0], DEGREES[-1]
    return Experiment(
        setting=f"Polynomials of degree {low} to {high} are fitted to {POINTS} noisy points of a "
        f"sine, each to {SETS} training sets.",
        claims=[
            Claim(
                "the error is bias², variance and noise together",
                bool(off_by < 0.01),
                f"Bias², variance and noise add up to the test error (within {off_by:.3f}).",
            ),
            Claim(
                "bias falls with capacity",
                bias[high] < 0.01 * bias[1],
                f"A line is wrong in the same way every time (bias² {bias[1]:.3f}, variance "
                f"{variance[1]:.3f}).",
            ),
            Claim(
                "variance rises with capacity",
                bool((np.diff(variance) > 0).all() and variance[high] > bias[high]),
                f"Degree {high} is right on average and differently wrong every time (bias² "
                f"{bias[high]:.4f}, variance {variance[high]:.3f}).",
            ),
            Claim(
                "the best capacity lies between, and training errors do not show it",
                0 < best < high and training[high] == min(training),
                f"Degree {best} is best on unseen points, {test[best]:.3f} against {test[1]:.3f} "
                f"and {test[high]:.3f}, while the training error falls all the way, to "
                f"{training[high]:.3f}, below the noise of {NOISE**2:.3f}.",
            ),
        ],
        picture=picture,
    )
