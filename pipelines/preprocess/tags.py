"""Pictures with tags: pixels as in ``image.py``, and which tags are told to be there or not."""

from __future__ import annotations

import collections
from typing import ClassVar

from pipelines.engine.application import UserError
from pipelines.engine.lazy import tensorflow as tf
from pipelines.preprocess.image import ImagePreprocessor
from pipelines.preprocess.labels import sort_labels

MISSING = -1
"""What a target says of a tag of which nobody said whether it is there (1) or not (0)."""


class TagPreprocessor(ImagePreprocessor):
    """Reads ``present`` and ``absent``: the tags that are there and that are not, one a line.

    A tag in neither is missing; one that training did not tell of is none. ``labels`` are the tags,
    ``counts`` in how many training pictures each of them is.

    Args:
        pictures: options of ``PicturePreprocessor``.
    """

    supplies: ClassVar[tuple[str, ...]] = ("input_shape", "num_tags")
    tolerant = True

    def fit(self, dataset) -> None:
        """Learns the tags and the colours from raw batches of ``image`` and both lists.

        Raises:
            UserError: if there is no tag.
        """
        there, all_tags = collections.Counter(), set()
        told = self.learn_colours(dataset, lambda batch: (batch["present"], batch["absent"]))
        for present, absent in told:
            there.update(tag for text in present for tag in _lines(text))
            all_tags.update(tag for text in absent for tag in _lines(text))
        self.labels = sort_labels(all_tags | set(there))
        if not self.labels:
            raise UserError("no training picture is told to have or not to have a tag")
        self.counts = [there[tag] for tag in self.labels]

    def target(self, batch: dict):
        """int32 [batch, tags]: 1 where a tag is there, 0 where it is not, else ``MISSING``."""
        present, absent = (self._listed(batch[name]) for name in ("present", "absent"))
        return tf.where(present, 1, tf.where(absent, 0, MISSING))

    def _listed(self, texts):
        """[batch] tags, one a line → bool [batch, tags]."""
        tags = tf.strings.split(texts, "\n").to_tensor()
        return tf.reduce_any(tags[:, tf.newaxis] == tf.constant(self.labels)[:, tf.newaxis], axis=2)

    def answer(self, response: dict, inputs: dict) -> dict:
        """``indices`` and ``probabilities`` [batch, tags] → ``tags`` and ``probabilities``."""
        return {
            "tags": tf.gather(tf.constant(self.labels), response["indices"]),
            "probabilities": response["probabilities"],
        }

    def model_arguments(self) -> dict:
        return {"input_shape": (*self.size, self.channels), "num_tags": len(self.labels)}


def _lines(text: bytes) -> list[str]:
    return text.decode().splitlines()
