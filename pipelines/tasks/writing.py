"""Writing: what tasks share whose answers are texts, written token by token."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from models.layers.reserved_tokens import BEGIN, END, PADDING
from pipelines.engine.application import Endpoint, UserError
from pipelines.engine.bootstrap import SummedFigure, ratio
from pipelines.engine.lazy import tensorflow as tf
from pipelines.tasks.decoding import Search, Wishes
from pipelines.tasks.task import Task


@keras.saving.register_keras_serializable(package="zoo")
class SmoothedCrossentropy(keras.losses.Loss):
    """Cross-entropy with 1 - ε + ε / V of the probability at the target and ε / V at all others.

    After Szegedy et al.: Rethinking the Inception Architecture for Computer Vision, 2016,
    https://arxiv.org/abs/1512.00567, section 7, for [...] ids and [..., V] logits.

    Args:
        smoothing: ε.
    """

    def __init__(self, smoothing: float, **kwargs) -> None:
        super().__init__(**kwargs)
        self.smoothing = smoothing

    def call(self, y_true, y_pred):
        true = keras.losses.sparse_categorical_crossentropy(y_true, y_pred, from_logits=True)
        if not self.smoothing:
            return true
        # -log p = log ∑ exp - logit, and so its mean over all tokens needs no softmax.
        even = ops.logsumexp(y_pred, axis=-1) - ops.mean(y_pred, axis=-1)
        return (1 - self.smoothing) * true + self.smoothing * even

    def get_config(self) -> dict:
        return {**super().get_config(), "smoothing": self.smoothing}


def hits(target, logits):
    """Whether no other token is more probable: [...] ids and [..., V] logits → [...] bool.

    A tie is a hit, where an argmax has the first of equals alone; among NaN there is none. To know
    the largest logit takes a processor a fraction of the time that to know its place takes.
    """
    chosen = ops.take_along_axis(logits, target[..., None], axis=-1)[..., 0]
    return chosen >= ops.max(logits, axis=-1)


class TokenAccuracy(keras.metrics.Mean):
    """The share of hits among all tokens.

    A mean of Keras's would first divide each batch by its length, so that a token of long texts
    counts less than one of short texts.
    """

    def update_state(self, y_true, y_pred, sample_weight=None):
        if sample_weight is not None:
            sample_weight = ops.reshape(sample_weight, [-1])
        super().update_state(ops.reshape(hits(y_true, y_pred), [-1]), sample_weight)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Writing(Search, Task):
    """Cross-entropy of the next token in training; a search of ``decoding.py`` in answers.

    Padding has weight 0 in the loss and in the accuracy, which are means over real tokens. The
    options of the search are explained in ``Search``.

    Args:
        label_smoothing: ε, the share of the target's probability that training spreads over all
            tokens.
    """

    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        """Raises UserError for numbers that no search and no loss can have."""
        super().__post_init__()
        if not 0 <= self.label_smoothing < 1:
            raise UserError(
                f"--task.label_smoothing must be at least 0 and below 1, not {self.label_smoothing}"
            )

    def compile_arguments(self) -> dict[str, Any]:
        return {
            "loss": SmoothedCrossentropy(self.label_smoothing, reduction="mean_with_sample_weight"),
            "weighted_metrics": [TokenAccuracy(name="token_accuracy")],
        }

    def forced(self, model: keras.Model, features: dict) -> dict:
        """How probable given texts are.

        Args:
            model: trained.
            features: what it reads, and ``target`` [B, T] ids with their end tokens.

        Returns:
            ``scores`` [B], log-probabilities; ``lengths`` [B], tokens without the end token;
            ``truncated`` [B], whether the text was cut.
        """
        target = features["target"]
        begin = ops.full_like(target[:, :1], BEGIN)
        inputs = {**features, "target": ops.concatenate([begin, target[:, :-1]], axis=1)}
        written = ops.logical_and(ops.not_equal(target, PADDING), ops.not_equal(target, END))
        return {
            "scores": self.assess(model, inputs, target)["reference_scores"],
            "lengths": _count(written),
            "truncated": truncated(target),
        }

    def assess(self, model: keras.Model, features: dict, target) -> dict:
        """Teacher forcing.

        Args:
            model: trained.
            features: what it reads, and as ``target`` [B, T] the ids before each of the target's.
            target: [B, T] ids.

        Returns:
            Of each, over its tokens without padding: ``reference_scores``, its log-probability,
            ``reference_tokens``, how many they are, the end token counted, and ``reference_hits``,
            how many of them were the most probable ones.
        """
        logits = model(features, training=False)
        chosen = ops.take_along_axis(ops.log_softmax(logits), target[..., None], axis=-1)[..., 0]
        real = ops.not_equal(target, PADDING)
        return {
            "reference_scores": ops.sum(ops.where(real, chosen, 0.0), axis=-1),
            "reference_tokens": _count(real),
            "reference_hits": _count(ops.logical_and(real, hits(target, logits))),
        }


def _count(flags):
    return ops.sum(ops.cast(flags, "int32"), axis=-1)


def truncated(ids):
    """Whether texts were cut, [B, T] ids → [B]: the end token is missing."""
    return ops.logical_not(ops.any(ops.equal(ids, END), axis=-1))


def forced_figures(answers: dict[str, list]) -> dict[str, SummedFigure]:
    """What ``Writing.assess`` found as figures of the split, where it was asked: a share of all
    tokens of the references, and the perplexity of a token."""
    if "reference_scores" not in answers:
        return {}
    tokens = np.array(answers["reference_tokens"])
    log_loss = ratio(-np.array(answers["reference_scores"]), tokens)
    return {
        "token_accuracy": ratio(np.array(answers["reference_hits"]), tokens),
        "perplexity": SummedFigure(log_loss.terms, lambda sums: np.exp(log_loss.of_sums(sums))),
    }


def wishing(default: Endpoint, respond: Callable, answer: Callable) -> Endpoint:
    """A signature that also asks for what each row wishes, as in ``Wishes``.

    Its samples are searched and drawn in turn.

    Args:
        default: the signature without wishes.
        respond: task, model, features, wishes → named numbers.
        answer: preprocessor, numbers, raw inputs → what the client reads.
    """
    dtypes = Wishes("float32", "int32", "int32", "float32", "int32")._asdict()

    def wished(task: Writing, model: keras.Model, features: dict) -> dict:
        inputs = {name: value for name, value in features.items() if name not in dtypes}
        return respond(task, model, inputs, Wishes(*(features[name] for name in dtypes)))

    def samples(preprocessor: Any, raw: dict) -> dict[str, tf.Tensor]:
        inputs = default.samples(preprocessor, raw)
        number = tf.range(tf.shape(next(iter(inputs.values())))[0])
        wishes = Wishes(
            length_penalty=tf.ones_like(number, tf.float32),
            beam_width=tf.fill(tf.shape(number), 2),
            maximum_length=tf.fill(tf.shape(number), 64),
            temperature=0.8 * tf.cast(number % 2, tf.float32),
            seed=number,
        )
        return inputs | wishes._asdict()

    return dataclasses.replace(
        default,
        inputs=lambda preprocessor: (
            default.inputs(preprocessor)
            | {name: tf.TensorSpec([None], dtype) for name, dtype in dtypes.items()}
        ),
        features=lambda preprocessor, batch: (
            default.features(preprocessor, batch) | {name: batch[name] for name in dtypes}
        ),
        respond=wished,
        answer=answer,
        samples=samples,
    )


def scoring(name: str, ids: Callable, given: Callable) -> Endpoint:
    """A signature that also takes a text and says how probable it is, as ``Writing.forced``.

    Args:
        name: of the text among the inputs.
        ids: preprocessor, raw inputs → the text's ids [B, (tokens)], the end token last.
        given: a raw batch of the source → such texts [B].
    """
    return Endpoint(
        inputs=lambda preprocessor: (
            preprocessor.signature | {name: tf.TensorSpec([None], tf.string)}
        ),
        features=lambda preprocessor, batch: preprocessor.model_inputs(
            preprocessor.features(batch) | {"target": ids(preprocessor, batch)}
        ),
        respond=lambda task, model, features: task.forced(model, features),
        answer=lambda preprocessor, response, inputs: response,
        samples=lambda preprocessor, raw: (
            Endpoint().samples(preprocessor, raw) | {name: given(raw)}
        ),
    )


def plain_text(value: bytes | str) -> str:
    """A string of TensorFlow's, or of Python's, as Python's."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
