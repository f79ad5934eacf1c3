"""Pictures with one label each, all of them or some: some of the classes, some examples a class."""

from __future__ import annotations

import collections
from collections.abc import Sequence

import numpy as np

from pipelines.engine.application import UserError, choose
from pipelines.engine.lazy import tensorflow as tf
from pipelines.sources.source import Source
from pipelines.sources.splits import rank


class LabelledPictures(Source):
    """Examples with ``id``, encoded ``image`` and ``label``.

    A subclass implements ``all_examples``; ``load`` makes the choice, the same for all sources.

    Args:
        classes: the labels to keep, separated by commas; none: all.
        examples_per_class: training examples of each class to keep (all, where there are fewer);
            none: all. Which ones depends on their ids and the seed alone, and a larger number keeps
            those of a smaller one. Validation and test stay whole.
        subset_seed: of that choice.
    """

    def __init__(
        self,
        *,
        classes: str | None = None,
        examples_per_class: int | None = None,
        subset_seed: int = 0,
    ):
        self.classes = None if classes is None else [name.strip() for name in classes.split(",")]
        self.examples_per_class = examples_per_class
        self.subset_seed = subset_seed
        if self.classes is not None and len(set(self.classes)) < 2:
            raise UserError(f"--source.classes {classes}: expected several, separated by commas")
        if examples_per_class is not None and examples_per_class < 1:
            raise UserError(
                f"--source.examples_per_class must be at least 1, not {examples_per_class}"
            )

    @property
    def fields(self) -> dict[str, tf.TensorSpec]:
        return {name: tf.TensorSpec((), tf.string) for name in ("id", "image", "label")}

    def all_examples(self, split: str) -> tf.data.Dataset:
        """Every example of ``split``, as ``load`` promises them."""
        raise NotImplementedError

    def load(self, split: str) -> tf.data.Dataset:
        dataset = self.all_examples(choose("split", split, self.splits))
        per_class = self.examples_per_class if split == "train" else None
        if self.classes is None and per_class is None:
            return dataset
        names = dataset.map(lambda example: (example["id"], example["label"]))
        ids, labels = (_text(column) for column in zip(*names.as_numpy_iterator(), strict=True))
        if split == "train":  # a small validation or test split may lack a class
            for name in self.classes or ():
                choose("class", name, sorted(set(labels)))
        keep = tf.constant(self._chosen(ids, labels, per_class))
        return (
            dataset.enumerate()
            .filter(lambda number, _: keep[number])
            .map(lambda _, example: example)
        )

    def _chosen(
        self, ids: Sequence[str], labels: Sequence[str], per_class: int | None
    ) -> np.ndarray:
        """bool [examples]: which to keep."""
        wanted = set(self.classes or labels)
        keep, kept = np.zeros(len(ids), bool), collections.Counter()
        for row in sorted(range(len(ids)), key=lambda row: rank(ids[row], self.subset_seed)):
            label = labels[row]
            keep[row] = label in wanted and (per_class is None or kept[label] < per_class)
            kept[label] += 1
        return keep


def _text(values: Sequence[bytes]) -> list[str]:
    return [value.decode("utf-8", "surrogateescape") for value in values]
