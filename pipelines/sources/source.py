"""What a source is: raw named examples, with their splits, licence and citation."""

from __future__ import annotations

from typing import ClassVar, Literal

from pipelines.engine.lazy import tensorflow as tf


class Source:
    """Raw examples by split.

    A subclass takes its options as keyword-only constructor arguments (``--source.<keyword>``).
    An argument named ``data_dir``, ``strict`` or ``download`` receives the bare option of that
    name. The constructor is cheap; files are looked at by ``load``.

    Attributes:
        place: where examples come from: an installed package or a seed, the user's files, or the
            TensorFlow Datasets catalogue.
        blocks: whether ``load`` yields blocks of rows (any number of rows each) instead of single
            examples.
        skipped: what ``load`` left out, one "file: reason" each.
    """

    place: ClassVar[Literal["built in", "files", "catalogue"]]
    licence: ClassVar[str]
    citation: ClassVar[str]
    splits: tuple[str, ...] = ("train", "validation", "test")
    blocks: ClassVar[bool] = False
    skipped: tuple[str, ...] = ()

    @property
    def fields(self) -> dict[str, tf.TensorSpec]:
        """The spec of each field of one example; ``id`` (a stable, unique string) among them."""
        raise NotImplementedError

    def load(self, split: str) -> tf.data.Dataset:
        """The examples of ``split`` in a stable order, as dicts of tensors named as in ``fields``.

        Raises:
            UserError: for data that are missing, empty or (with ``strict``) damaged.
        """
        raise NotImplementedError
