"""Sources of small pictures that are stored as one array of pixels."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from pipelines.engine.application import UserError
from pipelines.engine.lazy import tensorflow as tf
from pipelines.sources.labelled_pictures import LabelledPictures


@dataclasses.dataclass(frozen=True)
class Pixels:
    """Labelled pictures: uint8 pixels [examples, height, width, channels]."""

    ids: Sequence[str]
    pixels: np.ndarray
    labels: Sequence[str]

    def __getitem__(self, rows: slice | Sequence[int]) -> Pixels:
        ids, labels = np.asarray(self.ids)[rows], np.asarray(self.labels)[rows]
        return Pixels(ids.tolist(), self.pixels[rows], labels.tolist())


class PixelArrays(LabelledPictures):
    """Pictures of one size, handed out as PNG bytes, which is what a client would send."""

    def pictures(self, split: str) -> Pixels:
        """The examples of ``split``."""
        raise NotImplementedError

    def all_examples(self, split: str) -> tf.data.Dataset:
        pictures = self.pictures(split)
        if not pictures.ids:
            raise UserError(f"too few examples: none is left for the split {split!r}")
        columns = {"id": pictures.ids, "image": pictures.pixels, "label": pictures.labels}
        dataset = tf.data.Dataset.from_tensor_slices(columns).batch(256)
        return dataset.map(encode, num_parallel_calls=tf.data.AUTOTUNE).unbatch()


def encode(batch: dict) -> dict:
    """uint8 pixels ``image`` [batch, height, width, channels] → the bytes of PNG files."""
    # Not compressed: these files live no longer than until they are decoded again.
    return batch | {"image": tf.io.encode_png(batch["image"], compression=0)}
