"""Geometry: pictures, and the masks, boxes and points on them, that move together.

Places are (x, y) in pixels from the top left corner: a picture covers [0, width] by [0, height],
and the centre of its first pixel is (0.5, 0.5). A motion says, as sampling needs it, which place of
the old picture each place of the new one shows; boxes and points go the other way.

What moves, by name, where it is there:

    image    uint8 [batch, height, width, channels]
    mask     the same in any type, of classes or instances; 0 moves in from outside
    boxes    float32 [batch, n, 4]: left, top, right, bottom; those without area are padding
    points   float32 [batch, n, 2]: x, y

After a move, ``boxes_kept`` and ``points_kept``, bool [batch, n], say which are in the picture.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from pipelines.engine.lazy import tensorflow as tf

KEPT_SHARE = 0.25  # of a box's area; where less is left in the picture, the object has gone
INVERSIONS = 20  # steps to where a displaced point has gone; each leaves 3/4 of an error at most


@dataclasses.dataclass(frozen=True)
class Motion:
    """Which place of the old picture each place of the new one shows.

    Attributes:
        matrix: float64 [batch, 3, 3]: (x, y, 1) → the same on the old picture, up to a factor.
        field: None, or float32 [batch, height, width, 2]: what is added to (x, y) of each pixel's
            centre before the matrix. Its slope is less than 3/4, so that nothing is folded.
    """

    matrix: tf.Tensor
    field: tf.Tensor | None = None

    def of(self, rows: tf.Tensor) -> Motion:
        """The motion of these examples."""
        field = None if self.field is None else tf.gather(self.field, rows)
        return Motion(tf.gather(self.matrix, rows), field)

    def origins(self, height: int, width: int) -> tf.Tensor:
        """float32 [batch, height, width, 2]: the places that the new pixels' centres show."""
        columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
        places = tf.constant(np.stack([columns, rows], axis=-1)[np.newaxis], tf.float32)
        if self.field is not None:
            places += self.field
        flat = tf.reshape(places, [-1, height * width, 2])
        found = transform(flat, tf.cast(self.matrix, tf.float32))
        return tf.reshape(found, [-1, height, width, 2])

    def destinations(self, points: tf.Tensor) -> tf.Tensor:
        """[batch, n, 2] on the old picture → float64, where they are on the new one."""
        displaced = transform(tf.cast(points, tf.float64), tf.linalg.inv(self.matrix))
        found = displaced
        for _ in range(0 if self.field is None else INVERSIONS):
            found = displaced - tf.cast(bilinear(self.field, found), tf.float64)
        return found


def moved(things: dict, motion: Motion, background: int, chosen: tf.Tensor | None = None) -> dict:
    """Moves everything that has a place.

    Args:
        things: named as above; what has another name stays as it is.
        motion: how to move.
        background: grey level of what moves into the picture.
        chosen: bool [batch]: whose pixels to touch; the motion leaves all others in place. None:
            everyone's.
    """
    ways = {"image": functools.partial(move_image, background=background), "mask": move_mask}

    def pixels(name: str) -> tf.Tensor:
        if chosen is None:
            return ways[name](things[name], motion)
        return where(chosen, things[name], lambda part, rows: ways[name](part, motion.of(rows)))

    return things | {name: pixels(name) for name in ways if name in things} | placed(things, motion)


def placed(things: dict, motion: Motion) -> dict:
    """The boxes and points among ``things``, moved, and which of them are kept."""
    height, width = things["image"].shape[1:3]
    found = {}
    for name, way in (("boxes", move_boxes), ("points", move_points)):
        if name in things:
            found[name], kept = way(things[name], motion, height, width)
            found[f"{name}_kept"] = kept & things.get(f"{name}_kept", True)
    return found


def where(chosen: tf.Tensor, pixels: tf.Tensor, function: Callable) -> tf.Tensor:
    """``pixels``, with ``function(pixels of some, their numbers)`` in place of the chosen examples.

    Only those are computed.
    """
    rows = tf.dynamic_partition(tf.range(tf.size(chosen)), tf.cast(chosen, tf.int32), 2)
    others, some = (tf.gather(pixels, part) for part in rows)
    return stitched(rows, [others, function(some, rows[1])])


def stitched(rows: list[tf.Tensor], parts: list[tf.Tensor]) -> tf.Tensor:
    """The batch in which the examples of these numbers have these pixels.

    The parts are [some, height, width, channels]; every number occurs once.
    """
    height, width, channels = parts[0].shape[1:]
    # A picture is a row of bytes, because TensorFlow is slow at moving pixels of three.
    flat = [tf.reshape(part, [-1, height * width * channels]) for part in parts]
    return tf.reshape(tf.dynamic_stitch(rows, flat), [-1, height, width, channels])


def matrices(a, b, c, d, e, f, g=0.0, h=0.0) -> tf.Tensor:
    """float64 [batch, 3, 3]: (x, y) shows the old (ax + by + c, dx + ey + f) / (gx + hy + 1).

    At least ``a`` is float64 [batch]; the others are that or numbers.
    """
    row = [tf.zeros_like(a) + value for value in (a, b, c, d, e, f, g, h, 1)]
    return tf.reshape(tf.stack(row, axis=1), [-1, 3, 3])


def about(matrix: tf.Tensor, x: float, y: float) -> tf.Tensor:
    """The same move with (x, y) in the part of the corner (0, 0)."""
    one = tf.ones_like(matrix[:, 0, 0])
    there, back = matrices(one, 0, -x, 0, one, -y), matrices(one, 0, x, 0, one, y)
    return back @ matrix @ there


def rotation(angle: tf.Tensor) -> tf.Tensor:
    """Turns the picture counterclockwise by ``angle``, float64 [batch], in radians."""
    cos, sin = tf.cos(angle), tf.sin(angle)
    return matrices(cos, -sin, 0, sin, cos, 0)


def transform(points: tf.Tensor, matrix: tf.Tensor) -> tf.Tensor:
    """Points [batch or 1, n, 2] by matrices [batch, 3, 3] → [batch, n, 2]."""
    # Not by a matrix product, whose last bits depend on how many rows it has.
    x, y = tf.unstack(points, axis=-1)

    def row(i: int) -> tf.Tensor:
        return matrix[:, i, 0, tf.newaxis] * x + matrix[:, i, 1, tf.newaxis] * y + matrix[:, i, 2:]

    factor = row(2)
    return tf.stack([row(0) / factor, row(1) / factor], axis=-1)


def move_image(images: tf.Tensor, motion: Motion, background: int) -> tf.Tensor:
    """uint8 [batch, height, width, channels] → the same, interpolated between four pixels."""
    height, width = images.shape[1:3]
    pixels = tf.cast(images, tf.float32)
    if motion.field is not None:
        around = [[0, 0], [1, 1], [1, 1], [0, 0]]
        pixels = tf.pad(pixels, around, constant_values=float(background))
        return to_bytes(bilinear(pixels, motion.origins(height, width) + 1))
    # The operation counts from the centre of the first pixel.
    matrix = about(motion.matrix, -0.5, -0.5)
    matrix /= matrix[:, 2:, 2:]
    moved_pixels = tf.raw_ops.ImageProjectiveTransformV3(
        images=pixels,
        transforms=tf.cast(tf.reshape(matrix, [-1, 9])[:, :8], tf.float32),
        output_shape=[height, width],
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
        fill_value=float(background),
    )
    return to_bytes(moved_pixels)


def move_mask(masks: tf.Tensor, motion: Motion) -> tf.Tensor:
    """[batch, height, width, channels] → the same, each pixel being the nearest old one."""
    height, width, channels = masks.shape[1:]
    x, y = tf.unstack(tf.cast(tf.floor(motion.origins(height, width)), tf.int32), axis=-1)
    inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
    flat = tf.reshape(masks, [-1, height * width, channels])
    found = tf.gather(flat, tf.where(inside, y * width + x, 0), batch_dims=1)
    return found * tf.cast(inside, masks.dtype)[..., tf.newaxis]


def move_points(points: tf.Tensor, motion: Motion, height: int, width: int):
    """[batch, n, 2] → where they are now, and bool [batch, n]: whether in the picture."""
    found = motion.destinations(points)
    inside = tf.reduce_all((found >= 0) & (found <= [width, height]), axis=-1)
    return tf.cast(found, points.dtype), inside


def move_boxes(boxes: tf.Tensor, motion: Motion, height: int, width: int):
    """[batch, n, 4] → upright boxes around them, clipped, and bool [batch, n]: whether still there.

    What is in a box may reach anywhere in it; so the new one is around the old one's corners and,
    for warps, the middles of its sides.
    """
    left, top, right, bottom = tf.unstack(tf.cast(boxes, tf.float64), axis=-1)
    x, y = (left + right) / 2, (top + bottom) / 2
    columns = tf.stack([left, x, right, left, right, left, x, right], axis=-1)
    rows = tf.stack([top, top, top, y, y, bottom, bottom, bottom], axis=-1)
    outlines = tf.stack([columns, rows], axis=-1)
    examples, count = tf.shape(boxes)[0], tf.shape(boxes)[1]
    found = motion.destinations(tf.reshape(outlines, [examples, count * 8, 2]))
    found = tf.reshape(found, [examples, count, 8, 2])
    low, high = tf.reduce_min(found, axis=2), tf.reduce_max(found, axis=2)
    size = tf.constant([width, height], tf.float64)
    clipped = [tf.clip_by_value(corner, 0, size) for corner in (low, high)]
    area, left_over = tf.reduce_prod(high - low, -1), tf.reduce_prod(clipped[1] - clipped[0], -1)
    kept = (left_over > 0) & (left_over >= KEPT_SHARE * area)
    return tf.cast(tf.concat(clipped, axis=-1), boxes.dtype), kept


def bilinear(values: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """Between pixels of [batch, height, width, n] at places [batch, ..., 2] → [batch, ..., n].

    Beyond the centres of the outermost pixels their values go on.
    """
    height, width, count = values.shape[1:]
    last = tf.constant([width - 1, height - 1], places.dtype)
    places = tf.clip_by_value(places - 0.5, 0, last)
    corner = tf.floor(places)
    share = tf.cast(places - corner, values.dtype)
    x, y = tf.unstack(tf.cast(corner, tf.int32), axis=-1)
    flat = tf.reshape(values, [-1, height * width, count])

    def across(y: tf.Tensor) -> tf.Tensor:
        left = tf.gather(flat, y * width + x, batch_dims=1)
        right = tf.gather(flat, y * width + tf.minimum(x + 1, width - 1), batch_dims=1)
        return left + share[..., :1] * (right - left)

    upper, lower = across(y), across(tf.minimum(y + 1, height - 1))
    return upper + share[..., 1:] * (lower - upper)


def to_bytes(pixels: tf.Tensor) -> tf.Tensor:
    """float32 → the nearest uint8."""
    return tf.cast(tf.clip_by_value(pixels, 0, 255) + 0.5, tf.uint8)
