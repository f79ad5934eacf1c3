"""What a task is: loss, metrics, the response inside the graph, and the scores of answers."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from pipelines.engine.application import UserError
from pipelines.engine.bootstrap import SummedFigure


@dataclasses.dataclass(frozen=True)
class Scores:
    """How good answers are.

    Attributes:
        values: named figures of the whole split, the most important first.
        unit: what one entry of ``errors`` counts, e.g. "wrong label (0 or 1)".
        errors: [examples] float, one error per example, 0 where the answer is right.
        summed: those of the figures that are functions of sums over the examples: they have
            bootstrap intervals.
    """

    values: dict[str, float]
    unit: str
    errors: np.ndarray
    summed: Mapping[str, SummedFigure] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Everything that a report may draw from.

    Attributes:
        model: the trained model.
        preprocessor: the fitted preprocessor.
        source: the source of the examples.
        split: the split's name.
        answers: by name, a list with one entry per example: numpy values or arrays.
        examples: the raw fields of the same examples, without pictures and sound, by name.
        scores: what the task made of them.
        training_views: ``training_views(examples, epochs)``: batches with ``features`` and
            ``target`` of the first training examples, as they are and then as they were in each of
            the first epochs; None if nobody wants to see them.
        look_inside: whether to draw what goes on inside the model.
        baselines: by name, the figures of what other programs answered.
    """

    model: keras.Model
    preprocessor: Any
    source: Any
    split: str
    answers: dict[str, list]
    examples: dict[str, list]
    scores: Scores
    training_views: Callable[[int, int], list[dict]] | None = None
    look_inside: bool = False
    baselines: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Figure:
    """A picture of the report: its file name in the run folder, a title, and what it shows."""

    file: str
    title: str
    caption: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """A kind of question with its kind of answer. Fields are options, ``--task.<keyword>``."""

    def compile_arguments(self) -> dict[str, Any]:
        """Loss and metrics as keyword arguments of ``keras.Model.compile``."""
        raise NotImplementedError

    def respond(self, model: keras.Model, features: dict) -> dict:
        """Named numbers for a batch of model inputs, in ``keras.ops``, traced into the export."""
        raise NotImplementedError

    def assess(self, model: keras.Model, features: dict, target) -> dict:
        """What the model thinks of the truth: named numbers [batch] that join the answers.

        Args:
            model: trained.
            features: its inputs, as in training.
            target: what it was to predict, as in training.
        """
        return {}

    def respond_together(self, members: Sequence[tuple[keras.Model, dict]], views: int = 1) -> dict:
        """As ``respond``, one response from several models and several views of each example.

        Args:
            members: models with the model inputs of each, [batch * views] rows.
            views: how many rows that follow one another are views of one example.

        Raises:
            UserError: where responses have no mean.
        """
        raise UserError(
            f"answers of {type(self).__name__} have no mean: evaluate one run, as it is, at a time"
        )

    def scores(self, answers: dict[str, list], examples: dict[str, list]) -> Scores:
        """Compares the answers with the truth in the examples; one entry per example in both."""
        raise NotImplementedError

    def figures(self, evaluation: Evaluation, folder: pathlib.Path) -> list[Figure]:
        """Draws the task's own pictures of an evaluation as PNG files into ``folder``."""
        return []
