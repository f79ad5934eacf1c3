"""Several views of one picture, for an answer that is the mean of the answers to all of them.

Five are the four corners and the centre of the picture in 8/7 of its size, ten are these and their
mirror images: A. Krizhevsky, I. Sutskever, G. E. Hinton, "ImageNet Classification with Deep
Convolutional Neural Networks", 2012, section 4.1, which cuts 224 of 256 pixels. 48 are the ten and
the whole picture, mirrored as well, at 8/7, 9/7, 10/7 and 11/7: C. Szegedy et al., "Going Deeper
with Convolutions", 2014, section 7, whose 144 do so with three squares of an oblong picture; here
all pictures have one shape by then. Signs, whose mirror image is another sign, want five.
"""

from __future__ import annotations

import copy
from typing import Any

from pipelines.engine.application import UserError
from pipelines.engine.lazy import tensorflow as tf

# By the number of views: the sizes beside the plain one that they are cut from.
SCALES = {5: (8 / 7,), 10: (8 / 7,), 48: (8 / 7, 9 / 7, 10 / 7, 11 / 7)}


def crops(preprocessor: Any, images: tf.Tensor, count: int) -> tf.Tensor:
    """[batch] encoded pictures → uint8 [batch * count, height, width, channels].

    The views of a picture follow one another.

    Args:
        preprocessor: an ``ImagePreprocessor``, for the size of the views and how to get there.
        images: encoded pictures.
        count: 5, 10 or 48.

    Raises:
        UserError: for another count.
    """
    if count not in SCALES:
        raise UserError(f"--crops is 1, {', '.join(map(str, SCALES))}, not {count}")
    views = []
    for scale in SCALES[count]:
        views += _corners_and_centre(enlarged(preprocessor, scale), images, preprocessor.size)
        views += [preprocessor.features({"image": images})["image"]] if count == 48 else []
    if count != 5:
        views += [tf.reverse(view, [2]) for view in views]
    return tf.reshape(tf.stack(views, axis=1), [-1, *views[0].shape[1:]])


def enlarged(preprocessor: Any, scale: float) -> Any:
    """The same preprocessor for pictures that are larger, margins and all."""
    larger = copy.copy(preprocessor)
    larger.size = tuple(round(scale * side) for side in preprocessor.size)
    larger.margin = round(scale * preprocessor.margin)
    larger.inner = tuple(side - 2 * larger.margin for side in larger.size)
    return larger


def _corners_and_centre(larger: Any, images: tf.Tensor, size: tuple[int, int]) -> list[tf.Tensor]:
    pixels = larger.features({"image": images})["image"]
    height, width = size
    down, right = (whole - part for whole, part in zip(larger.size, size, strict=True))
    places = ((0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2))
    return [pixels[:, y : y + height, x : x + width] for y, x in places]
