"""What a preprocessor is: the only owner of decoding, scaling, resizing and tokenising."""

from __future__ import annotations

import pathlib
import types
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pipelines.engine.application import UserError
from pipelines.engine.lazy import tensorflow as tf


class Preprocessor:
    """Turns raw batches into model inputs and responses into answers, wherever a model runs.

    A subclass takes its options as keyword-only constructor arguments
    (``--preprocess.<keyword>``). Every method but ``fit``, ``save`` and ``restore`` works on whole
    batches in TensorFlow and is traced into the export.

    Attributes:
        supplies: names of the builder arguments that ``model_arguments`` returns.
        encoded: raw inputs that are encoded pictures or sound, too large for tables of answers.
        labels: the classes by their indices, where answers are classes.
        tolerant: whether there may be in an example what ``fit`` has not seen, as unknown words
            are, so that a smoke run fits it to a few.
        missing: inputs that may be left out where people type them, and what then stands for them.
    """

    supplies: ClassVar[tuple[str, ...]] = ()
    encoded: ClassVar[tuple[str, ...]] = ()
    labels: Sequence[str] = ()
    tolerant: bool = False
    missing: Mapping[str, Any] = types.MappingProxyType({})

    def fit(self, dataset: tf.data.Dataset) -> None:
        """Learns vocabulary, mean and variance … from the raw batches of the training split."""

    def features(self, batch: dict) -> dict:
        """Raw batch → compact features that are worth caching (uint8 pictures, ragged tokens)."""
        raise NotImplementedError

    def views(self, batch: dict, count: int) -> dict:
        """``features`` of ``count`` views of each example, one after another: a mean is asked for.

        Raises:
            UserError: where there are no such views.
        """
        if count == 1:
            return self.features(batch)
        raise UserError("--crops is for pictures")

    def model_inputs(self, features: dict) -> dict:
        """Features → the builder's named inputs: dense, scaled; the last step before the model."""
        return features

    def target(self, batch: dict):
        """Raw batch → what the loss compares with (a tensor, or a dict of them)."""
        raise NotImplementedError

    def answer(self, response: dict, inputs: dict) -> dict:
        """Numbers of ``Task.respond`` → what a person wants to read: labels, text, offsets."""
        return response

    def adopt(self, folder: pathlib.Path) -> None:
        """Takes over what another model's weights expect of their inputs, after ``fit``.

        Args:
            folder: where the preprocessor of that model was saved.
        """
        raise NotImplementedError

    @property
    def signature(self) -> dict[str, tf.TensorSpec]:
        """The raw inputs as a client sends them, batch dimension first and open."""
        raise NotImplementedError

    def model_arguments(self) -> dict:
        """What a builder must know of the data, by the names in ``supplies``."""
        return {}

    @property
    def trackables(self) -> list:
        """Tables and tokenizers that an export must hold on to."""
        return []

    def save(self, folder: pathlib.Path) -> None:
        """Writes what ``fit`` learned into the empty folder ``folder``."""

    def restore(self, folder: pathlib.Path) -> None:
        """Reads what ``save`` wrote, in place of ``fit``."""
