"""Augmentation: pictures that could as well have been taken, drawn anew in every epoch.

Each augmentation is geometry (one projective transform of a picture, however many moves it is made
of) and light. All numbers are drawn by hashing (seed, epoch, index) of an example, so that they
depend on nothing that came before: a resumed run draws the same.
"""

from __future__ import annotations

from typing import Literal

from pipelines.arrange.draws import keys, uniform
from pipelines.engine.lazy import tensorflow as tf

Augment = Literal["none", "crop", "crop_flip", "crop_flip_light", "affine"]


def arrange(
    dataset, preprocessor, *, training: bool, seed: int, batch_size: int, augment: Augment = "none"
):
    """Batches with uint8 ``image`` [batch, height, width, channels] → the same, augmented.

    Args:
        dataset: batches as dicts with ``features``, ``epoch`` and ``index``.
        preprocessor: its ``background`` fills what moves into the picture.
        training: whether to augment at all.
        seed: of the draws, beside epoch and index.
        batch_size: examples in a batch.
        augment: none; crop: moved by up to an eighth; crop_flip: and mirrored half of the time;
            crop_flip_light: and brighter or darker, with more or less contrast; affine: slightly
            moved, turned, scaled and slanted, for signs whose mirror image is another sign.
    """
    if not training or augment == "none":
        return dataset
    moves, lights = AUGMENTATIONS[augment]

    def augmented(batch):
        draw = Draws(seed, batch["epoch"], batch["index"])
        images = tf.cast(batch["features"]["image"], tf.float32)
        images = moved(images, moves, draw, preprocessor.background)
        for light in lights:
            images = light(images, draw)
        return {**batch, "features": {**batch["features"], "image": images}}

    return dataset.map(augmented, num_parallel_calls=tf.data.AUTOTUNE)


class Draws:
    """Uniform random numbers, one per example and call, fixed by (seed, epoch, index).

    Args:
        seed: of the run.
        epoch: int64 [batch].
        index: int64 [batch], the example's place in its split.
    """

    def __init__(self, seed: int, epoch, index):
        self.example = (seed, epoch, index)
        self.count = 0

    def uniform(self, low: float, high: float):
        """float64 [batch], from ``low`` to ``high``; other numbers at every call."""
        self.count += 1
        return low + (high - low) * uniform(keys(*self.example, self.count))

    def integer(self, low: int, high: int):
        """float64 [batch] of whole numbers, from ``low`` to ``high``, both included."""
        return tf.minimum(tf.floor(self.uniform(low, high + 1)), high)


def moved(images, moves, draw: Draws, background: int):
    """``images`` [batch, height, width, channels] after all ``moves``, resampled once."""
    height, width = images.shape[1:3]
    matrix = matrices(1, 0, 0, 0, 1, 0, like=draw.uniform(0, 1))
    for move in moves:
        matrix = tf.matmul(matrix, move(height, width, draw))
    # Moves are about the picture's centre; the operation counts from the corner.
    one = tf.ones_like(matrix[:, 0, 0])
    y, x = (height - 1) / 2, (width - 1) / 2
    to_centre = matrices(1, 0, -x, 0, 1, -y, like=one)
    matrix = tf.matmul(matrices(1, 0, x, 0, 1, y, like=one), tf.matmul(matrix, to_centre))
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=tf.cast(tf.reshape(matrix, [-1, 9])[:, :8], tf.float32),
        output_shape=[height, width],
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
        fill_value=float(background),
    )


def matrices(a, b, c, d, e, f, *, like):
    """[batch, 3, 3]: new pixel (x, y) shows the old one at (ax + by + c, dx + ey + f).

    In float64, because the last bits of a cosine differ with an example's place in the batch.
    """
    row = [tf.zeros_like(like) + value for value in (a, b, c, d, e, f, 0, 0, 1)]
    return tf.reshape(tf.stack(row, axis=1), [-1, 3, 3])


def shift(height: int, width: int, draw: Draws):
    """By whole pixels, up to an eighth of a side: He et al. 2015, section 4.2: 4 of 32."""
    x = draw.integer(-(width // 8), width // 8)
    y = draw.integer(-(height // 8), height // 8)
    return matrices(1, 0, x, 0, 1, y, like=x)


def mirror(height: int, width: int, draw: Draws):
    """Left and right exchanged, for one example in two."""
    sign = 1 - 2 * draw.integer(0, 1)
    return matrices(sign, 0, 0, 0, 1, 0, like=sign)


def affine(height: int, width: int, draw: Draws):
    """Turned and slanted by up to 0.15 (radians, pixels), scaled by 10 %, moved by 5 %."""
    angle, slant = draw.uniform(-0.15, 0.15), draw.uniform(-0.15, 0.15)
    scale = tf.exp(draw.uniform(-0.1, 0.1))
    x, y = draw.uniform(-0.05, 0.05) * width, draw.uniform(-0.05, 0.05) * height
    cos, sin = tf.cos(angle) / scale, tf.sin(angle) / scale
    return matrices(cos, slant * cos - sin, x, sin, slant * sin + cos, y, like=x)


def brightness(images, draw: Draws):
    """Up to 32 grey levels brighter or darker."""
    return tf.clip_by_value(images + per_picture(draw.uniform(-32, 32)), 0, 255)


def contrast(images, draw: Draws):
    """Differences from the picture's mean up to 30 % larger or smaller."""
    mean = tf.reduce_mean(images, axis=[1, 2, 3], keepdims=True)
    factor = per_picture(draw.uniform(0.7, 1.3))
    return tf.clip_by_value(mean + factor * (images - mean), 0, 255)


def per_picture(numbers):
    """[batch] → float32 [batch, 1, 1, 1]."""
    return tf.cast(numbers, tf.float32)[:, None, None, None]


# By name: moves, composed into one transform, and changes of light, one after another.
AUGMENTATIONS = {
    "crop": ((shift,), ()),
    "crop_flip": ((shift, mirror), ()),
    "crop_flip_light": ((shift, mirror), (brightness, contrast)),
    "affine": ((affine,), ()),
}
