"""Augmentation: pictures that could as well have been taken, drawn anew in every epoch.

A recipe is a row of steps. All numbers are drawn by hashing (seed, epoch, index) of an example, so
that they depend on nothing that came before: a resumed run draws the same. Pictures stay uint8.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import numpy as np

from pipelines.arrange.colour import jitter, principal_colours
from pipelines.arrange.draws import Draws
from pipelines.arrange.mixing import cutmix, cutout, mixup
from pipelines.arrange.moves import affine, crop, mirror, warp, zoomed_crop
from pipelines.arrange.rand_augment import rand_augment
from pipelines.engine.application import UserError
from pipelines.engine.lazy import tensorflow as tf

Augment = Literal[
    "none",
    "basic",
    "crop",
    "crop_flip",
    "crop_flip_light",
    "affine",
    "warp",
    "alexnet",
    "inception",
    "cutout",
    "mixup",
    "cutmix",
    "randaugment",
]
Step = Callable[..., dict]  # (things, draw, preprocessor) → things


def recipes(operations: int = 2, magnitude: float = 9) -> dict[Augment, tuple[Step, ...]]:
    """The steps of every augmentation by name, with RandAugment's two numbers."""
    slightly = partial(affine, turn=0.15, slant=0.15, zoom=0.1, shift=0.05)
    return {
        "basic": (mirror, slightly, partial(jitter, brightness=0.2, contrast=0.2, saturation=0.2)),
        "crop": (crop,),
        "crop_flip": (crop, mirror),
        "crop_flip_light": (crop, mirror, partial(jitter, brightness=0.25, contrast=0.3)),
        "affine": (slightly,),
        "warp": (slightly, warp),
        # Parts of 224 of 256 pixels in the paper, so that places differ by 32.
        "alexnet": (partial(crop, share=1 / 14), mirror, principal_colours),
        "inception": (
            zoomed_crop,
            mirror,
            partial(jitter, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.05),
        ),
        "cutout": (crop, mirror, cutout),
        "mixup": (crop, mirror, mixup),
        "cutmix": (crop, mirror, cutmix),
        "randaugment": (
            crop,
            mirror,
            partial(rand_augment, operations=operations, magnitude=magnitude),
        ),
    }


def arrange(
    dataset,
    preprocessor,
    *,
    training: bool,
    seed: int,
    batch_size: int,
    augment: Augment = "none",
    operations: int = 2,
    magnitude: float = 9,
    class_weights: Literal["none", "balanced"] = "none",
):
    """Batches with uint8 ``image`` [batch, height, width, channels] → the same, augmented.

    Args:
        dataset: batches as dicts with ``features``, ``target``, ``epoch`` and ``index``.
        preprocessor: what it learned of the training pictures, and its ``background``.
        training: whether to do anything at all.
        seed: of the draws, beside epoch and index.
        batch_size: examples in a batch.
        augment: none; basic: mirrored, slightly moved and turned, in other light; crop: moved by up
            to an eighth; crop_flip: and mirrored half of the time; crop_flip_light: and in other
            light; affine: slightly moved, turned, scaled and slanted, for signs whose mirror image
            is another sign; warp: and locally displaced; alexnet, inception: as these networks were
            trained; cutout, mixup, cutmix, randaugment: crop_flip and what the name says.
        operations: how many operations randaugment applies to a picture.
        magnitude: how strong they are, from 0 to 10 and beyond.
        class_weights: balanced: examples of rare classes count more in the loss, so that all
            classes count the same.

    Raises:
        UserError: for a negative number of operations or magnitude.
    """
    if operations < 0 or magnitude < 0:
        raise UserError(
            "randaugment needs --arrange.operations and --arrange.magnitude of at least 0, not "
            f"{operations} and {magnitude:g}"
        )
    if not training:
        return dataset
    steps = recipes(operations, magnitude)[augment] if augment != "none" else ()

    def arranged(batch: dict) -> dict:
        draw = Draws(seed, batch["epoch"], batch["index"])
        things = {**batch["features"], "target": batch["target"]}
        things = augmented(things, steps, draw, preprocessor)
        batch = {**batch, "target": things.pop("target"), "features": things}
        if class_weights == "balanced":
            batch["weight"] = balanced(batch["target"], preprocessor.counts)
        return batch

    # Nothing here is Python to be turned into a graph, which would take seconds.
    plain = tf.autograph.experimental.do_not_convert(arranged)
    return dataset.map(plain, num_parallel_calls=tf.data.AUTOTUNE)


def augmented(things: dict, steps: Sequence[Step], draw: Draws, preprocessor) -> dict:
    """Applies steps to a batch: ``image``, and what else there is as in ``geometry.py``."""
    for step in steps:
        things = step(things, draw, preprocessor)
    return things


def balanced(target: tf.Tensor, counts: Sequence[int]) -> tf.Tensor:
    """float32 [batch]: weights that are 1 on average and sum to the same for every class.

    Args:
        target: class indices [batch], or shares of the classes [batch, classes].
        counts: training examples of each class.
    """
    counts = np.array(counts)
    weights = tf.constant(counts.sum() / (len(counts) * counts), tf.float32)
    if target.shape.rank == 1:
        return tf.gather(weights, target)
    return tf.reduce_sum(target * weights, axis=-1)
