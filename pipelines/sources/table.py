"""What sources of tables have in common: rows in memory, column by column, handed out in blocks."""

from __future__ import annotations

import functools
from typing import ClassVar

import numpy as np

from pipelines.engine.application import UserError, choose
from pipelines.engine.lazy import tensorflow as tf
from pipelines.sources.source import Source
from pipelines.sources.splits import complete

BLOCK = 4096  # rows that are handed out together


class Table(Source):
    """Examples with a value in each of several columns, and a number or a class to predict.

    A column holds numbers (float32, NaN where one is missing) or texts (bytes, empty where one is
    missing). What is to be predicted is the field ``target`` (float32) or ``label`` (a string).
    """

    blocks = True
    truth: ClassVar[str] = "target"

    @functools.cached_property
    def columns(self) -> dict[str, np.ndarray]:
        """All rows: ``id``, ``split`` and ``truth`` [rows], and the columns by name."""
        raise NotImplementedError

    @property
    def fields(self) -> dict[str, tf.TensorSpec]:
        return {
            name: tf.TensorSpec((), tf.float32 if values.dtype.kind == "f" else tf.string)
            for name, values in self.columns.items()
            if name != "split"
        }

    def load(self, split: str) -> tf.data.Dataset:
        chosen = self.columns["split"] == choose("split", split, self.splits).encode()
        if not chosen.any():
            raise UserError(f"too few examples: none is left for the split {split!r}")
        rows, fields = np.flatnonzero(chosen), self.fields

        # Not from tensors of all rows: they would be in memory twice.
        def values(start: np.ndarray) -> list[np.ndarray]:
            block = rows[start : start + BLOCK]
            return [self.columns[name][block] for name in fields]

        def read(start: tf.Tensor) -> dict[str, tf.Tensor]:
            kinds = [spec.dtype for spec in fields.values()]
            found = tf.numpy_function(values, [start], kinds, stateful=False)
            return {
                name: tf.ensure_shape(column, [None])
                for name, column in zip(fields, found, strict=True)
            }

        return tf.data.Dataset.range(0, len(rows), BLOCK).map(read)


def numbered(name: str, count: int) -> np.ndarray:
    """The ids of ``count`` rows of a table that has none of its own."""
    return np.array([f"{name}/{row:06d}" for row in range(count)], "S")


def cut_rows(ids: np.ndarray, held_out: float, strata: np.ndarray | None = None) -> np.ndarray:
    """[rows] bytes: the split of each row of a table that came without splits.

    Args:
        ids: [rows] what stays the same of a row.
        held_out: the share of the rows for each of validation and test.
        strata: [rows] something (the label) whose values shall be cut in equal shares.
    """
    labels = None if strata is None else strata.tolist()
    splits = complete([None] * len(ids), ids.astype(str).tolist(), strata=labels, held_out=held_out)
    return np.array(splits, "S")
