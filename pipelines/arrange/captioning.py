"""What fitting a captioner does to pictures and captions: augmentation and teacher forcing."""

from __future__ import annotations

from typing import Literal

from pipelines.arrange.draws import Draws
from pipelines.arrange.image import augmented, recipes
from pipelines.arrange.translation import teacher_forced
from pipelines.engine.lazy import tensorflow as tf

# Those that change no word of a caption; a mirror changes left and right, if these are told.
Augment = Literal["none", "basic", "crop", "crop_flip", "crop_flip_light", "affine", "warp"]


def arrange(
    dataset: tf.data.Dataset,
    preprocessor,
    *,
    training: bool,
    seed: int,
    batch_size: int,
    augment: Augment = "none",
    pad_to: int = 4,
) -> tf.data.Dataset:
    """One caption of each picture an epoch: all in turn, so that each counts the same.

    In validation it is always the first.

    Args:
        dataset: batches of uint8 ``image`` and of all captions' ids, as dicts with ``features``,
            ``target``, ``epoch`` and ``index``.
        preprocessor: what it learned of the training pictures, and its ``background``.
        training: whether captions take turns, and whether to augment.
        seed: of the augmentation, beside epoch and index.
        batch_size: examples a batch.
        augment: as in image classification.
        pad_to: lengths are filled up to a multiple of this; the larger, the fewer shapes a
            compiling backend meets.
    """
    steps = recipes()[augment] if training and augment != "none" else ()

    def arranged(batch: dict) -> dict:
        captions, epoch, index = batch["target"], batch["epoch"], batch["index"]
        turn = epoch + index if training else tf.zeros_like(index)
        chosen = captions.row_starts() + turn % captions.row_lengths()
        draw = Draws(seed, epoch, index)
        batch = {**batch, "features": augmented(batch["features"], steps, draw, preprocessor)}
        return teacher_forced(batch, tf.gather(captions.values, chosen), pad_to)

    # Nothing here is Python to be turned into a graph, which would take seconds.
    plain = tf.autograph.experimental.do_not_convert(arranged)
    return dataset.map(plain, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
