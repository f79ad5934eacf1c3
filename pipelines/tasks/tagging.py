"""Multi-task tagging: whether each of several tags is there; a missing label counts nowhere."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from keras.config import floatx

from pipelines.engine.bootstrap import SummedFigure
from pipelines.preprocess.tags import MISSING
from pipelines.tasks.classification import mean_over_members
from pipelines.tasks.contact_sheet import draw_contact_sheet
from pipelines.tasks.examples import draw_titled, pictures, texts
from pipelines.tasks.task import Evaluation, Figure, Scores, Task

THERE = 0.5  # a tag with a larger probability is answered to be there
WORST_MISTAKES = 20
SHOWN_TAGS = 3  # wrong ones above a picture
LETTERS = 20  # of a tag that fit above a picture


@keras.saving.register_keras_serializable(package="zoo")
class KnownCrossentropy(keras.losses.Loss):
    """Binary cross-entropy of logits [batch, tags], in nats a known label.

    Targets [batch, tags] are 1 (there), 0 (not there) or -1 (missing). The losses of a batch are
    such that their mean is that over all its known labels, whatever examples they belong to: one
    example with a single label counts no more than one label of another.
    """

    def __init__(self, name: str = "crossentropy", **kwargs):
        super().__init__(name=name, **kwargs)

    def call(self, y_true, y_pred):
        logits, truth = ops.cast(y_pred, floatx()), ops.cast(y_true, floatx())
        known = ops.cast(ops.not_equal(truth, MISSING), floatx())
        # -log of the sigmoid, or of one less it, without overflow.
        losses = known * (ops.softplus(logits) - truth * logits)
        labels = ops.mean(ops.sum(known, axis=-1))
        return ops.sum(losses, axis=-1) / ops.maximum(labels, keras.config.epsilon())


@keras.saving.register_keras_serializable(package="zoo")
class KnownF1(keras.metrics.F1Score):
    """The mean of the tags' F1 over the known labels, from logits."""

    def __init__(self, name: str = "macro_f1", average: str = "macro", **kwargs):
        super().__init__(average, name=name, **{"threshold": THERE, **kwargs})

    def update_state(self, y_true, y_pred, sample_weight=None):
        # Neither there nor answered: no F1 counts that.
        known = ops.cast(ops.not_equal(y_true, MISSING), "float32")
        truth = known * ops.cast(y_true, "float32")
        return super().update_state(truth, known * ops.sigmoid(y_pred), sample_weight)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tagging(Task):
    """Several tags per example, each there or not, from one logit each."""

    def compile_arguments(self) -> dict[str, Any]:
        return {"loss": KnownCrossentropy(), "metrics": [KnownF1()]}

    def respond(self, model: keras.Model, features: dict) -> dict:
        """``indices`` int32 and ``probabilities`` float32, [batch, tags], most probable first."""
        return _ranked(_probabilities(model, features))

    def respond_together(self, members: Sequence[tuple[keras.Model, dict]], views: int = 1) -> dict:
        """As ``respond``, from the mean of the probabilities over views and models."""
        found = [_probabilities(model, features) for model, features in members]
        return _ranked(mean_over_members(found, views))

    def scores(self, answers: dict[str, list], examples: dict[str, list]) -> Scores:
        """Compares ``tags`` and ``probabilities`` of each answer with the labels of its example.

        Only known labels count, so that an example without any has no error. The macro F1 is the
        mean over the tags that are there in some example.
        """
        labels = Labels.of(answers, examples)
        counts = labels.counts()
        wrong = (labels.answered != labels.truth) & labels.known
        known = labels.known.sum(axis=1)
        by_tag = {
            f"{name} of {tag}": SummedFigure(counts[:, :, number], figure)
            for number, tag in enumerate(labels.tags)
            for name, figure in (("f1", f1), ("precision", precision), ("recall", recall))
        }
        summed = {
            "macro_f1": SummedFigure(
                counts.reshape(len(counts), -1), functools.partial(macro_f1, tags=len(labels.tags))
            ),
            "error": SummedFigure(np.stack([wrong.sum(axis=1), known], axis=1), share_wrong),
            **by_tag,
        }
        values = {name: figure.value for name, figure in summed.items()}
        errors = wrong.sum(axis=1) / np.maximum(known, 1)
        return Scores(values, "share of an example's known tags that are wrong", errors, summed)

    def figures(self, evaluation: Evaluation, folder: pathlib.Path) -> list[Figure]:
        """How well each tag is found, the worst mistakes, and augmentation."""
        figures = [draw_tags(evaluation, folder)]
        if evaluation.scores.errors.any():
            figures.append(draw_mistakes(evaluation, folder))
        if evaluation.training_views:
            figures.append(draw_contact_sheet(evaluation, folder, _told(evaluation)))
        return [figure for figure in figures if figure]


def _probabilities(model: keras.Model, features: dict):
    """float32 [batch, tags]"""
    return ops.sigmoid(ops.cast(model(features, training=False), "float32"))


def _ranked(probabilities) -> dict:
    probabilities, indices = ops.top_k(probabilities, probabilities.shape[-1])
    return {"indices": ops.cast(indices, "int32"), "probabilities": probabilities}


@dataclasses.dataclass(frozen=True)
class Labels:
    """Answers beside the truth, [examples, tags] each.

    Attributes:
        tags: by the alphabet.
        probabilities: float.
        answered: bool, whether the tag is answered to be there.
        truth: bool, whether it is; False where that is missing.
        known: bool, where it is not missing.
    """

    tags: list[str]
    probabilities: np.ndarray
    answered: np.ndarray
    truth: np.ndarray
    known: np.ndarray

    @classmethod
    def of(cls, answers: dict[str, list], examples: dict[str, list]) -> Labels:
        """Reads ``tags`` and ``probabilities`` of answers, ``present`` and ``absent`` of examples.

        A tag that no answer knows is left out.
        """
        names, found = texts(answers["tags"]), np.array(answers["probabilities"], float)
        tags = sorted(set(names[0]))
        order = np.argsort(names, axis=1)
        probabilities = np.take_along_axis(found, order, axis=1)
        present, absent = (_listed(examples[name], tags) for name in ("present", "absent"))
        return cls(tags, probabilities, probabilities > THERE, present, present | absent)

    def counts(self) -> np.ndarray:
        """float [examples, 3, tags]: tags found rightly, found wrongly, and missed."""
        right = self.truth & self.answered
        invented = self.known & ~self.truth & self.answered
        missed = self.truth & ~self.answered
        return np.stack([right, invented, missed], axis=1).astype(float)


def _listed(lists: Sequence[str | bytes], tags: Sequence[str]) -> np.ndarray:
    """[examples] tags, one a line → bool [examples, tags]."""
    return np.array([np.isin(tags, text.splitlines()) for text in texts(lists)])


def share_wrong(sums: np.ndarray) -> np.ndarray:
    """Of [..., 2] wrong and known labels; 0 where none is known."""
    return _share(sums[..., 0], sums[..., 1])


def precision(sums: np.ndarray) -> np.ndarray:
    """Of [..., 3] counts, see ``Labels.counts``; 0 where nothing was answered."""
    right, invented, _ = np.moveaxis(sums, -1, 0)
    return _share(right, right + invented)


def recall(sums: np.ndarray) -> np.ndarray:
    """Of [..., 3] counts; 0 where nothing was there."""
    right, _, missed = np.moveaxis(sums, -1, 0)
    return _share(right, right + missed)


def f1(sums: np.ndarray) -> np.ndarray:
    """The harmonic mean of both."""
    right, invented, missed = np.moveaxis(sums, -1, 0)
    return _share(2 * right, 2 * right + invented + missed)


def macro_f1(sums: np.ndarray, tags: int) -> np.ndarray:
    """The mean of the F1 over tags that occur, of [..., 3 · tags] counts."""
    by_tag = np.moveaxis(sums.reshape(*sums.shape[:-1], 3, tags), -2, -1)
    occurs = by_tag[..., 0] + by_tag[..., 2] > 0
    return _share((f1(by_tag) * occurs).sum(-1), occurs.sum(-1))


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros(np.shape(whole)), where=np.asarray(whole) > 0)


def draw_tags(evaluation: Evaluation, folder: pathlib.Path) -> Figure:
    """Draws F1, precision and recall of each tag with their intervals."""
    from matplotlib.figure import Figure as Canvas

    tags = Labels.of(evaluation.answers, evaluation.examples).tags
    canvas = Canvas(figsize=(6.4, 1.6 + 0.5 * len(tags)), layout="constrained")
    axes = canvas.subplots()
    places = np.arange(len(tags))
    for name, marker in (("precision", "<"), ("recall", ">")):
        values = [evaluation.scores.values[f"{name} of {tag}"] for tag in tags]
        axes.plot(values, places, marker, label=name, alpha=0.7)
    figures = [evaluation.scores.summed[f"f1 of {tag}"] for tag in tags]
    values = np.array([figure.value for figure in figures])
    reach = np.abs(np.array([figure.interval() for figure in figures]).T - values)
    axes.errorbar(values, places, xerr=reach, fmt="o", capsize=3, label="F1")
    axes.set_yticks(range(len(tags)), tags)
    axes.invert_yaxis()
    axes.set(
        xlim=(0, 1.02), title=f"{evaluation.split}: {len(evaluation.scores.errors):,} examples"
    )
    axes.grid(axis="x", alpha=0.4)
    axes.legend(loc="lower left")
    canvas.savefig(folder / "tags.png", dpi=110)
    caption = "How well each tag is found, over the known labels; F1 with its 95 % interval."
    return Figure("tags.png", "Tags", caption)


def draw_mistakes(evaluation: Evaluation, folder: pathlib.Path) -> Figure:
    """Draws the pictures in which the surest answers are wrong."""
    labels = Labels.of(evaluation.answers, evaluation.examples)
    wrong = (labels.answered != labels.truth) & labels.known
    sure = np.where(wrong, np.abs(labels.probabilities - THERE), 0)
    examples = np.flatnonzero(wrong.any(axis=1))
    worst = examples[np.argsort(-sure[examples].max(axis=1), kind="stable")][:WORST_MISTAKES]
    pixels = pictures(evaluation, worst)

    titles = []
    for example in worst:
        tags = np.argsort(-sure[example])[:SHOWN_TAGS]
        lines = [_mistake(labels, example, tag) for tag in tags if wrong[example, tag]]
        titles.append("\n".join(lines))
    draw_titled(pixels, titles, folder / "mistakes.png")
    caption = (
        f"{len(worst)} of {len(examples)} pictures with a wrong tag in {evaluation.split}, the "
        "surest first, as the model sees them: what was missed, and what was seen that is not "
        "there, each with the probability that was given to the tag."
    )
    return Figure("mistakes.png", "Worst mistakes", caption)


def _mistake(labels: Labels, example: int, tag: int) -> str:
    what = "missed" if labels.truth[example, tag] else "not there"
    share = labels.probabilities[example, tag]
    return f"{labels.tags[tag][:LETTERS]}: {what}, {share:.0%}"


def _told(evaluation: Evaluation):
    """The function from a target to what stands above its picture: the tags that are there."""

    def title(target: np.ndarray) -> str:
        there = [
            evaluation.preprocessor.labels[tag][:LETTERS] for tag in np.flatnonzero(target == 1)
        ]
        return "\n".join(there[:SHOWN_TAGS]) + (" …" if len(there) > SHOWN_TAGS else "")

    return title
