"""Gradient descent, momentum, RMSprop and Adam on an elongated bowl."""

from __future__ import annotations

import numpy as np

from pipelines.experiments.laboratory.drawing import panels
from pipelines.experiments.laboratory.experiment import Claim, Experiment
from pipelines.experiments.laboratory.paths import path

CURVATURE = np.array([1.0, 50.0])
START = (-10.0, 1.0)
STEPS = 80
RATES = {"sgd": 0.038, "momentum": 0.01, "rmsprop": 0.2, "adam": 0.5}
CLOSE = 0.01  # of the height of the start


def height(points: np.ndarray) -> np.ndarray:
    """Half of x² + 50 y²."""
    return (CURVATURE * points**2).sum(axis=-1) / 2


def crossings(y: np.ndarray) -> int:
    """How often a way goes from one side of the valley to the other, by more than a trace."""
    sides = np.sign(y[np.abs(y) > 1e-3])
    return int((np.diff(sides) != 0).sum())


def by_formula(rate: float, beta: float) -> np.ndarray:
    """Momentum as the courses write it: v = β v + (1 - β) dW, W := W - α v."""
    point, v, points = np.array(START), np.zeros(2), [np.array(START)]
    for _ in range(STEPS):
        v = beta * v + (1 - beta) * CURVATURE * point
        point = point - rate * v
        points.append(point)
    return np.stack(points)


def run(seed: int) -> Experiment:
    """Does the experiment; nothing is drawn."""
    paths = {n: path(n, rate, lambda p: CURVATURE * p, START, STEPS) for n, rate in RATES.items()}
    heights = {name: height(points) for name, points in paths.items()}
    goal = CLOSE * height(np.array(START))
    steps = {name: int(np.argmax(each < goal)) for name, each in heights.items()}
    turns = {name: crossings(points[: steps[name] + 1, 1]) for name, points in paths.items()}
    courses = by_formula(RATES["momentum"] / (1 - 0.9), 0.9)
    off_by = np.abs(courses - paths["momentum"]).max()
    round_bowl = path("sgd", 1.0, lambda p: p, START, 1)

    picture, axes = panels(4, rows=2)
    sides = np.linspace(-11, 4, 120), np.linspace(-1.6, 1.6, 120)
    levels = goal * np.array([0.1, 1, 4, 10, 25, 50, 80, 120])
    for panel, (name, points) in zip(axes, paths.items(), strict=True):
        surface = height(np.stack(np.meshgrid(*sides), axis=-1))
        panel.contour(*sides, surface, levels, colors="lightgrey", linewidths=0.8)
        panel.plot(*points[: steps[name] + 1].T, ".-", linewidth=0.8, markersize=4)
        panel.plot(0, 0, "k*")
        panel.set(title=f"{name}, learning rate {RATES[name]}: {steps[name]} steps")
        panel.set(xlabel="x, curvature 1", ylabel="y, curvature 50", ylim=(-1.6, 1.6))
    first = steps["sgd"]
    return Experiment(
        setting="The zoo's optimizers run down x²/2 + 25 y² from (-10, 1), each with a learning "
        "rate that suits it, until a hundredth of the height is left.",
        claims=[
            Claim(
                "gradient descent swings across and creeps along",
                turns["sgd"] > 0.5 * first > 0,
                f"Gradient descent takes {first} steps and crosses the valley in {turns['sgd']} of "
                f"them: its learning rate, {RATES['sgd']}, may not exceed 2/50, for the steep "
                "side's sake.",
            ),
            *(
                Claim(
                    f"{name} needs fewer steps than gradient descent",
                    0 < steps[name] < first,
                    f"{said} takes {steps[name]} steps and crosses {turns[name]} times.",
                )
                for name, said in (
                    (
                        "momentum",
                        "Momentum, whose mean over the last ten gradients cancels swings,",
                    ),
                    ("rmsprop", "RMSprop, which divides by the size of each side's gradients,"),
                    ("adam", "Adam, which does both,"),
                )
            ),
            Claim(
                "Keras's momentum is the courses' with another learning rate",
                bool(off_by < 1e-3),
                f"The courses' momentum, v = 0.9 v + 0.1 dW, takes the same way with ten times the "
                f"learning rate (the points differ by {off_by:.0e}).",
            ),
            Claim(
                "on a round bowl gradient descent arrives in one step",
                bool(height(round_bowl[-1]) < goal),
                "If both sides had the curvature 1, as normalized inputs would give it, one step "
                "of gradient descent would do.",
            ),
        ],
        picture=picture,
    )
