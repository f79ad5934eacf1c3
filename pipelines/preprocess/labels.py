"""From the names of classes to their indices and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pipelines.engine.lazy import tensorflow as tf
from pipelines.preprocess.checks import checked


def sort_labels(labels: Iterable[str]) -> list[str]:
    """Labels in the order of their class indices: numbers by value, all else by alphabet."""
    labels = sorted(labels)
    return sorted(labels, key=int) if all(label.isdecimal() for label in labels) else labels


def class_indices(label, labels: Sequence[str]):
    """[batch] strings → int32 [batch] class indices.

    Raises:
        tf.errors.InvalidArgumentError: names a label that the training split lacks.
    """
    matches = tf.equal(label[:, tf.newaxis], tf.constant(labels))
    unknown = tf.boolean_mask(label, ~tf.reduce_any(matches, axis=1))
    first = tf.strings.reduce_join(unknown[:1])
    message = tf.strings.join(["label '", first, "' occurs in no training example"])
    indices = tf.argmax(tf.cast(matches, tf.int32), axis=1, output_type=tf.int32)
    return checked(indices, tf.equal(tf.size(unknown), 0), message)


def named_classes(response: dict, labels: Sequence[str]) -> dict:
    """``indices`` and ``probabilities`` [batch, k] → ``labels`` and ``probabilities``."""
    names = tf.gather(tf.constant(labels), response["indices"])
    return {"labels": names, "probabilities": response["probabilities"]}
