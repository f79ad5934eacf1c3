"""Sources whose examples are rows of text that fit in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pipelines.engine.application import UserError, choose
from pipelines.engine.lazy import tensorflow as tf
from pipelines.sources.source import Source


class StringRows(Source):
    """Examples whose fields are all strings.

    Attributes:
        columns: the fields, in the order of a row.
    """

    columns: ClassVar[tuple[str, ...]]

    def rows(self, split: str) -> Sequence[tuple[str, ...]]:
        """The examples of ``split``, each a tuple of the fields in ``columns``."""
        raise NotImplementedError

    @property
    def fields(self) -> dict[str, tf.TensorSpec]:
        return {name: tf.TensorSpec((), tf.string) for name in self.columns}

    def load(self, split: str) -> tf.data.Dataset:
        rows = self.rows(choose("split", split, self.splits))
        if not rows:
            raise UserError(f"too few examples: none is left for the split {split!r}")
        # Lists, since tf.data takes a tuple for a structure of many tensors.
        columns = map(list, zip(*rows, strict=True))
        return tf.data.Dataset.from_tensor_slices(dict(zip(self.columns, columns, strict=True)))
