"""Augmentation: pictures that could as well have been taken, drawn anew in every epoch.

Each augmentation is a move and changes of light. All numbers are drawn by hashing (seed, epoch,
index) of an example, so that they depend on nothing that came before: a resumed run draws the same.
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
    move, lights = AUGMENTATIONS[augment]

    def augmented(batch):
        draw = Draws(seed, batch["epoch"], batch["index"])
        images = move(batch["features"]["image"], draw, preprocessor.background)
        if lights:
            images = tf.cast(images, tf.float32)
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
        return low + (high - low) * self._shares()

    def integer(self, low: int, high: int):
        """int32 [batch], from ``low`` to ``high``, both included."""
        return low + tf.cast((high + 1 - low) * self._shares(), tf.int32)

    def _shares(self):
        self.count += 1
        return uniform(keys(*self.example, self.count))


def crop(images, draw: Draws, background: int):
    """Moves by whole pixels, up to an eighth of a side: He et al. 2015, section 4.2: 4 of 32.

    ``images`` and the result are uint8 [batch, height, width, channels].
    """
    height, width, channels = images.shape[1:]
    top, left, row = height // 8, width // 8, width * channels
    # Rows of bytes: TensorFlow is ten times slower at padding and at slicing pixels of three bytes.
    rows = tf.reshape(images, [-1, height, row])
    around = [[0, 0], [top, top], [left * channels, left * channels]]
    rows = tf.pad(rows, around, constant_values=tf.constant(background, images.dtype))
    y, x = draw.integer(0, 2 * top), draw.integer(0, 2 * left) * channels
    moved = tf.map_fn(
        lambda n: tf.slice(rows, [n, y[n], x[n]], [1, height, row])[0],
        tf.range(tf.shape(rows)[0]),
        fn_output_signature=tf.TensorSpec([height, row], images.dtype),
    )
    return tf.reshape(moved, [-1, height, width, channels])


def crop_flip(images, draw: Draws, background: int):
    """As ``crop``; left and right are exchanged for one example in two."""
    mirrored = draw.uniform(0, 1) < 0.5
    return mirror(crop(images, draw, background), mirrored)


def mirror(images, mirrored):
    """Exchanges left and right of the pictures [batch, height, width, channels] that are named.

    Only those are touched, in three dimensions: reversing all of them, in four, and choosing
    takes eight times as long.
    """
    _, height, width, channels = images.shape
    there, others = tf.where(mirrored)[:, 0], tf.where(~mirrored)[:, 0]
    columns = tf.reshape(tf.gather(images, there), [-1, width, channels])
    reversed_ = tf.reshape(tf.reverse(columns, [1]), [-1, height, width, channels])
    order = tf.argsort(tf.concat([there, others], 0))
    return tf.gather(tf.concat([reversed_, tf.gather(images, others)], 0), order)


def affine(images, draw: Draws, background: int):
    """Turns and slants by up to 0.15 (radians, pixels), scales by 10 %, moves by 5 %.

    ``images`` are uint8 [batch, height, width, channels], the result float32 of the same shape:
    all moves are one transform, so that pixels are interpolated once. The transform is computed in
    float64, because the last bits of a cosine differ with an example's place in the batch.
    """
    height, width = images.shape[1:3]
    angle, slant = draw.uniform(-0.15, 0.15), draw.uniform(-0.15, 0.15)
    scale = tf.exp(draw.uniform(-0.1, 0.1))
    x, y = draw.uniform(-0.05, 0.05) * width, draw.uniform(-0.05, 0.05) * height
    cos, sin = tf.cos(angle) / scale, tf.sin(angle) / scale
    move = matrices(cos, slant * cos - sin, x, sin, slant * sin + cos, y)
    # Moves are about the picture's centre; the operation counts from the corner.
    one = tf.ones_like(angle)
    y, x = (height - 1) / 2, (width - 1) / 2
    to_centre, back = matrices(one, 0, -x, 0, one, -y), matrices(one, 0, x, 0, one, y)
    matrix = tf.matmul(back, tf.matmul(move, to_centre))
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(images, tf.float32),
        transforms=tf.cast(tf.reshape(matrix, [-1, 9])[:, :8], tf.float32),
        output_shape=[height, width],
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
        fill_value=float(background),
    )


def matrices(a, b, c, d, e, f):
    """[batch, 3, 3]: new pixel (x, y) shows the old one at (ax + by + c, dx + ey + f)."""
    row = [tf.zeros_like(a) + value for value in (a, b, c, d, e, f, 0, 0, 1)]
    return tf.reshape(tf.stack(row, axis=1), [-1, 3, 3])


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


# By name: the move, and changes of light, one after another.
AUGMENTATIONS = {
    "crop": (crop, ()),
    "crop_flip": (crop_flip, ()),
    "crop_flip_light": (crop_flip, (brightness, contrast)),
    "affine": (affine, ()),
}
