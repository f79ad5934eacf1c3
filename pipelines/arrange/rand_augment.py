"""RandAugment (Cubuk, Zoph, Shlens and Le 2019): a few operations of one strength, drawn at random.

The operations are the fourteen of the paper's section 3, with the ranges of AutoAugment (Cubuk et
al. 2018, table 6), over which magnitudes from 0 to 10 are spread evenly; larger ones, which the
paper takes for large networks, go on along the same line. Deviations from the authors' code:
pictures turn and slant about their centre and are interpolated between four pixels.

Examples are sorted by what they drew, so that every operation runs on its own examples alone.
"""

from __future__ import annotations

import math

from pipelines.arrange.colour import (
    autocontrast,
    equalize,
    posterize,
    recoloured,
    sharpen,
    solarize,
)
from pipelines.arrange.draws import Draws
from pipelines.arrange.geometry import Motion, about, matrices, moved, rotation, stitched
from pipelines.engine.lazy import tensorflow as tf

STRONGEST = 10  # the magnitude at the end of the ranges
TURN = math.radians(30)
SHEAR = 0.3
TRANSLATION = 150 / 331  # of a side: AutoAugment's pixels, on pictures of 331
ENHANCEMENT = 0.9  # factors from 0.1 to 1.9
LOST_BITS = 4

MOVES = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
# Of pictures and levels from -1 to 1; where there is one way alone, the sign has no meaning.
ENHANCEMENTS = {
    "color": lambda images, level: recoloured(images, saturation=1 + ENHANCEMENT * level),
    "contrast": lambda images, level: recoloured(images, contrast=1 + ENHANCEMENT * level),
    "brightness": lambda images, level: recoloured(images, brightness=1 + ENHANCEMENT * level),
    "sharpness": lambda images, level: sharpen(images, 1 + ENHANCEMENT * level),
    "posterize": lambda images, level: posterize(images, 8 - whole(LOST_BITS * tf.abs(level))),
    "solarize": lambda images, level: solarize(images, whole(256 * (1 - tf.abs(level)))),
    "autocontrast": lambda images, level: autocontrast(images),
    "equalize": lambda images, level: equalize(images),
}
OPERATIONS = ("identity", *MOVES, *ENHANCEMENTS)


def rand_augment(
    things: dict, draw: Draws, preprocessor, *, operations: int = 2, magnitude: float = 9
) -> dict:
    """Applies ``operations`` operations of this magnitude, one after another.

    Args:
        things: as in ``pipelines/arrange/geometry.py``: masks, boxes and points move as well.
        draw: for each example, which operations, and which way they go.
        preprocessor: its background fills what moves into the picture.
        operations: how many, N in the paper.
        magnitude: how strong, M in the paper.
    """
    for _ in range(operations):
        kind = draw.integer(0, len(OPERATIONS) - 1)
        sign = tf.where(draw.uniform(0, 1) < 0.5, tf.constant(-1.0, tf.float64), 1)
        things = operated(things, kind, sign * magnitude / STRONGEST, preprocessor.background)
    return things


def operated(things: dict, kind: tf.Tensor, level: tf.Tensor, background: int) -> dict:
    """One operation on each example.

    Args:
        things: what to change.
        kind: int32 [batch], a place in ``OPERATIONS``.
        level: float64 [batch], 1 or -1 at the end of the ranges.
        background: grey level of what moves into the picture.
    """
    matrix = move(kind, level, *things["image"].shape[1:3])
    moves = (kind >= 1) & (kind <= len(MOVES))
    things = moved(things, Motion(matrix), background, chosen=moves)
    return things | {"image": enhanced(things["image"], kind, level)}


def move(kind: tf.Tensor, level: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """float64 [batch, 3, 3]: what moving operations do; the identity for the others."""

    def amount(operation: str, most: float) -> tf.Tensor:
        return tf.where(kind == OPERATIONS.index(operation), level * most, 0)

    right = amount("translate_x", TRANSLATION * width)
    down = amount("translate_y", TRANSLATION * height)
    one = tf.ones_like(level)
    other = matrices(one, amount("shear_x", SHEAR), right, amount("shear_y", SHEAR), one, down)
    return about(rotation(amount("rotate", TURN)) @ other, width / 2, height / 2)


def enhanced(images: tf.Tensor, kind: tf.Tensor, level: tf.Tensor) -> tf.Tensor:
    """What the operations of light and colour do; the others leave a picture as it is."""
    group = tf.maximum(kind - len(MOVES), 0)
    groups = len(ENHANCEMENTS) + 1
    rows = tf.dynamic_partition(tf.range(tf.size(kind)), group, groups)
    parts = [tf.gather(images, part) for part in rows]
    changes = zip(ENHANCEMENTS.values(), rows[1:], parts[1:], strict=True)
    changed = [change(part, tf.gather(level, own)) for change, own, part in changes]
    return stitched(rows, [parts[0], *changed])


def whole(numbers: tf.Tensor) -> tf.Tensor:
    """float64 → the nearest int32, but not below 0: beyond the range's end there is no more."""
    return tf.cast(tf.maximum(tf.round(numbers), 0), tf.int32)
