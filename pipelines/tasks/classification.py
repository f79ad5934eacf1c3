"""Classification: which of several classes an example belongs to."""

from __future__ import annotations

import dataclasses
import logging
import math
import pathlib
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from keras.config import floatx

from pipelines.engine.application import UserError, listed
from pipelines.engine.bootstrap import ratio
from pipelines.looking_inside.figures import draw_inside
from pipelines.preprocess.table import TablePreprocessor
from pipelines.tasks.column_importance import draw_importance
from pipelines.tasks.contact_sheet import draw_contact_sheet
from pipelines.tasks.examples import draw_titled, pictures, texts
from pipelines.tasks.task import Evaluation, Figure, Scores, Task

WORST_MISTAKES = 20

log = logging.getLogger(__name__)


@keras.saving.register_keras_serializable(package="zoo")
class SmoothedCrossentropy(keras.losses.Loss):
    """Cross-entropy of float32 logits [batch, classes] with the target, in nats.

    Targets are class indices [batch] or, where examples were mixed, shares of the classes [batch,
    classes].

    Args:
        label_smoothing: the share of the target that is spread evenly over all classes
            (C. Szegedy et al., "Rethinking the Inception Architecture", 2015, section 7).
    """

    def __init__(self, label_smoothing: float = 0.0, name: str = "crossentropy", **kwargs):
        super().__init__(name=name, **kwargs)
        self.label_smoothing = label_smoothing

    def call(self, y_true, y_pred):
        log_probabilities = ops.log_softmax(ops.cast(y_pred, floatx()))
        if is_mixed(y_true):
            true = ops.sum(ops.cast(y_true, floatx()) * log_probabilities, axis=-1)
        else:
            indices = ops.cast(ops.expand_dims(y_true, -1), "int32")
            true = ops.squeeze(ops.take_along_axis(log_probabilities, indices, axis=-1), -1)
        even = ops.mean(log_probabilities, axis=-1)
        return -((1 - self.label_smoothing) * true + self.label_smoothing * even)

    def get_config(self):
        return {**super().get_config(), "label_smoothing": self.label_smoothing}


class Accuracy(keras.metrics.MeanMetricWrapper):
    """The share of examples whose largest logit is that of the class, or of the largest share."""

    def __init__(self, name: str = "accuracy", **kwargs):
        super().__init__(fn=hits, name=name, **kwargs)


def hits(y_true, y_pred):
    """1 where the largest logit of [batch, classes] is the target's class, else 0."""
    truth = ops.argmax(y_true, axis=-1) if is_mixed(y_true) else y_true
    return ops.cast(ops.equal(ops.cast(truth, "int32"), ops.argmax(y_pred, axis=-1)), "float32")


def is_mixed(target) -> bool:
    """Whether targets are shares of classes [batch, classes] instead of indices [batch]."""
    return len(target.shape) == 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classification(Task):
    """One class per example, from logits.

    Args:
        top_k: the number of labels in an answer, the most probable first.
        label_smoothing: the share of each target that is spread over all classes in the loss.
        error_weights: how much more than others an error about an example of a class counts in the
            figure ``weighted_error``, as "class=10,other=2"; none: there is no such figure.
    """

    top_k: int = 5
    label_smoothing: float = 0.0
    error_weights: str | None = None

    def __post_init__(self) -> None:
        """Raises UserError for weights that there cannot be."""
        self.weights_of([])

    def compile_arguments(self) -> dict[str, Any]:
        return {
            "loss": SmoothedCrossentropy(self.label_smoothing),
            "metrics": [Accuracy()],
        }

    def respond(self, model: keras.Model, features: dict) -> dict:
        """``indices`` int32 and ``probabilities`` float32, [batch, k], the most probable first."""
        return self._ranked(_probabilities(model, features))

    def respond_together(self, members: Sequence[tuple[keras.Model, dict]], views: int = 1) -> dict:
        """As ``respond``, from the mean of the probabilities over views and models."""
        found = [_probabilities(model, features) for model, features in members]
        return self._ranked(mean_over_members(found, views))

    def _ranked(self, probabilities) -> dict:
        k = min(self.top_k, probabilities.shape[-1])
        probabilities, indices = ops.top_k(probabilities, k)
        return {"indices": ops.cast(indices, "int32"), "probabilities": probabilities}

    def scores(self, answers: dict[str, list], examples: dict[str, list]) -> Scores:
        """Compares ``labels`` [k] of each answer with ``label`` of its example.

        Precision, recall and F1 (the harmonic mean of the two, one number for both) are means over
        the classes that occur among the examples; each is 0 where it is 0 / 0.
        """
        from sklearn.metrics import precision_recall_fscore_support

        ranked, truth = texts(answers["labels"]), texts(examples["label"])
        given, k = ranked[:, 0], ranked.shape[1]
        errors = (given != truth).astype("float64")
        precision, recall, f1, _ = precision_recall_fscore_support(
            truth, given, labels=np.unique(truth), average="macro", zero_division=0
        )
        values = {
            "accuracy": 1 - errors.mean(),
            "error": errors.mean(),
            f"top_{k}_accuracy": (ranked == truth[:, None]).any(axis=1).mean(),
            "macro_precision": precision,
            "macro_recall": recall,
            "macro_f1": f1,
        }
        summed = {}
        if self.error_weights:
            weights = self.weights_of(truth)
            summed["weighted_error"] = ratio(weights * errors, weights)
        values = {name: float(value) for name, value in values.items()}
        values |= {name: figure.value for name, figure in summed.items()}
        return Scores(values, "wrong label (0 or 1)", errors, summed)

    def weights_of(self, truth: Sequence[str]) -> np.ndarray:
        """[examples] what an error about each counts, given their classes.

        Raises:
            UserError: for ``error_weights`` that cannot be read, or are not positive.
        """
        weights = {}
        for pair in listed(self.error_weights):
            name, _, weight = pair.rpartition("=")
            try:
                weights[name] = float(weight)
            except ValueError:
                weights[name] = 0.0
            if not name or not 0 < weights[name] < math.inf:
                raise UserError(f"--task.error_weights {pair}: write it as class=10, above 0")
        absent = weights.keys() - set(truth)
        if len(truth) and absent:
            log.warning("--task.error_weights: no example is of %s", ", ".join(sorted(absent)))
        return np.array([weights.get(label, 1.0) for label in truth])

    def figures(self, evaluation: Evaluation, folder: pathlib.Path) -> list[Figure]:
        """The confusion matrix; for pictures also mistakes, augmentation, a look inside.

        For tables also which columns matter.
        """
        figures = [draw_confusion(evaluation, folder)]
        if isinstance(evaluation.preprocessor, TablePreprocessor):
            figures.append(draw_importance(self, evaluation, folder))
        if "image" in evaluation.source.fields and evaluation.scores.errors.any():
            figures.append(draw_mistakes(evaluation, folder))
        if "image" in evaluation.source.fields and evaluation.training_views:
            figures.append(draw_contact_sheet(evaluation, folder))
        if "image" in evaluation.source.fields and evaluation.look_inside:
            figures += draw_inside(evaluation, folder)
        return [figure for figure in figures if figure]


def _probabilities(model: keras.Model, features: dict):
    """float32 [batch, classes]"""
    return ops.softmax(ops.cast(model(features, training=False), floatx()))


def mean_over_members(found: Sequence[Any], views: int):
    """Several models' probabilities [batch * views, classes] → their mean [batch, classes]."""
    by_view = [ops.reshape(rows, (-1, views, rows.shape[-1])) for rows in found]
    return ops.mean(ops.concatenate(by_view, axis=1), axis=1)


def draw_confusion(evaluation: Evaluation, folder: pathlib.Path) -> Figure:
    """Draws how often each class is taken for each other."""
    from matplotlib.figure import Figure as Canvas
    from sklearn.metrics import confusion_matrix

    truth = texts(evaluation.examples["label"])
    given = texts(evaluation.answers["labels"])[:, 0]
    known = list(evaluation.preprocessor.labels)
    labels = known + sorted(set(truth) - set(known))
    counts = confusion_matrix(truth, given, labels=labels)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)

    side = min(2.5 + 0.5 * len(labels), 24)
    canvas = Canvas(figsize=(side, side), layout="constrained")
    axes = canvas.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if len(labels) <= 40:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                colour = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, count, ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(len(labels)), labels, rotation=90 if max(map(len, labels)) > 2 else 0)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_xlabel("answer")
    axes.set_ylabel("truth")
    axes.set_title(f"{evaluation.split}: {int(counts.trace()):,} of {len(truth):,} right")
    canvas.savefig(folder / "confusion.png", dpi=110)
    caption = "Examples by true class (rows) and answered class (columns); shades are row shares."
    return Figure("confusion.png", "Confusion matrix", caption)


def draw_mistakes(evaluation: Evaluation, folder: pathlib.Path) -> Figure:
    """Draws the pictures whose wrong label was given with the highest probability."""
    truth, ranked = texts(evaluation.examples["label"]), texts(evaluation.answers["labels"])
    confidence = np.array(evaluation.answers["probabilities"])[:, 0]
    wrong = np.flatnonzero(evaluation.scores.errors)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:WORST_MISTAKES]
    pixels = pictures(evaluation, worst)

    titles = [
        f"{truth[example]}, not {ranked[example, 0]}\n{confidence[example]:.1%} sure"
        for example in worst
    ]
    draw_titled(pixels, titles, folder / "mistakes.png")
    caption = (
        f"{len(worst)} of {len(wrong)} wrong answers in {evaluation.split}, the surest first, "
        "as the model sees them: the true label, the answer and its probability."
    )
    return Figure("mistakes.png", "Worst mistakes", caption)
