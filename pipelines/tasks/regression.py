"""Regression: a number for each example."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from pipelines.engine.bootstrap import SummedFigure, mean
from pipelines.tasks.column_importance import draw_importance
from pipelines.tasks.task import Evaluation, Figure, Scores, Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class Regression(Task):
    """One number per example, from a network's single output.

    Args:
        loss: squared errors, whose best guess is the mean; absolute ones, whose best guess is the
            median; or squared ones that go over into absolute ones at a standardized error of 1
            (P. J. Huber, "Robust Estimation of a Location Parameter", 1964).
    """

    loss: Literal["squared", "absolute", "huber"] = "squared"

    def compile_arguments(self) -> dict[str, Any]:
        losses = {
            "squared": keras.losses.MeanSquaredError,
            "absolute": keras.losses.MeanAbsoluteError,
            "huber": keras.losses.Huber,
        }
        # Of the standardized target: 1 is what always answering the mean would reach.
        return {
            "loss": losses[self.loss](),
            "metrics": [keras.metrics.RootMeanSquaredError(name="root_mean_squared_error")],
        }

    def respond(self, model: keras.Model, features: dict) -> dict:
        """``value`` float32 [batch], standardized."""
        return {"value": ops.cast(model(features, training=False), "float32")[:, 0]}

    def scores(self, answers: dict[str, list], examples: dict[str, list]) -> Scores:
        """Compares ``value`` of each answer with ``target`` of its example, in the target's unit.

        R² is the share of the variance among the examples that the answers explain.
        """
        given, truth = (
            np.array(values, float) for values in (answers["value"], examples["target"])
        )
        errors = given - truth
        terms = np.stack([errors**2, np.ones_like(truth), truth, truth**2], axis=1)
        summed = {
            "rmse": SummedFigure(terms, _root_mean_square),
            "mae": mean(np.abs(errors)),
            "r2": SummedFigure(terms, _explained),
        }
        values = {name: figure.value for name, figure in summed.items()}
        return Scores(values, "absolute error, in the target's unit", np.abs(errors), summed)

    def figures(self, evaluation: Evaluation, folder: pathlib.Path) -> list[Figure]:
        """Answers against the truth, what is left between them, and which columns matter."""
        truth = np.array(evaluation.examples["target"], float)
        given = np.array(evaluation.answers["value"], float)
        return [
            draw_answers(truth, given, evaluation, folder),
            draw_residuals(truth, given, folder),
            draw_importance(self, evaluation, folder),
        ]


def _root_mean_square(sums: np.ndarray) -> np.ndarray:
    return np.sqrt(sums[..., 0] / sums[..., 1])


def _explained(sums: np.ndarray) -> np.ndarray:
    """1 - squared errors / squared deviations from the mean; NaN where nothing deviates."""
    squared, count, total, squares = np.moveaxis(sums, -1, 0)
    deviations = squares - total**2 / count
    return 1 - squared / np.where(deviations > 1e-12 * squares, deviations, np.nan)


def draw_answers(
    truth: np.ndarray, given: np.ndarray, evaluation: Evaluation, folder: pathlib.Path
) -> Figure:
    """Draws answered against true values."""
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(5.6, 5.2), layout="constrained")
    axes = canvas.subplots()
    axes.scatter(truth, given, s=8, alpha=_opacity(truth), linewidths=0)
    ends = min(truth.min(), given.min()), max(truth.max(), given.max())
    axes.plot(ends, ends, color="black", linewidth=0.8)
    axes.set(xlabel="truth", ylabel="answer", title=f"{evaluation.split}: {len(truth):,} examples")
    axes.ticklabel_format(scilimits=(-3, 6))
    canvas.savefig(folder / "answers.png", dpi=110)
    caption = "Answered against true values; what is answered right lies on the line."
    return Figure("answers.png", "Answers", caption)


def draw_residuals(truth: np.ndarray, given: np.ndarray, folder: pathlib.Path) -> Figure:
    """Draws errors against answers, and how often errors of each size occur."""
    from matplotlib.figure import Figure as Canvas

    errors = given - truth
    canvas = Canvas(figsize=(9, 4), layout="constrained")
    left, right = canvas.subplots(1, 2, sharey=True, width_ratios=(2, 1))
    left.scatter(given, errors, s=8, alpha=_opacity(truth), linewidths=0)
    left.axhline(0, color="black", linewidth=0.8)
    left.set(xlabel="answer", ylabel="answer - truth")
    left.ticklabel_format(scilimits=(-3, 6))
    right.hist(errors, bins=60, orientation="horizontal")
    right.axhline(0, color="black", linewidth=0.8)
    right.set(xlabel="examples")
    canvas.savefig(folder / "residuals.png", dpi=110)
    caption = (
        "What is left between answer and truth. A good fit leaves no pattern: a bend means that "
        "the model is too stiff, a funnel that errors grow with the value (then try the logarithm: "
        "--preprocess.target_scale log)."
    )
    return Figure("residuals.png", "Residuals", caption)


def _opacity(points: np.ndarray) -> float:
    return float(np.clip(600 / len(points), 0.3, 0.8))
