"""Random moves: cropped, mirrored, turned, slanted, scaled, warped; masks, boxes, points as well.

Each takes ``things`` as in ``pipelines/arrange/geometry.py``, draws for every example, and moves.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from pipelines.arrange.draws import Draws
from pipelines.arrange.geometry import (
    Motion,
    about,
    matrices,
    moved,
    placed,
    rotation,
    where,
)
from pipelines.engine.lazy import tensorflow as tf

WARP_NODES = 4  # along each side


def crop(things: dict, draw: Draws, preprocessor, *, share: float = 1 / 8) -> dict:
    """Moves by whole pixels, up to ``share`` of a side: He et al. 2015, section 4.2: 4 of 32."""
    height, width = things["image"].shape[1:3]
    reach = int(height * share), int(width * share)
    y, x = (draw.integer(0, 2 * most) for most in reach)
    fills = {"image": preprocessor.background, "mask": 0}
    pixels = {
        name: cut(things[name], y, x, reach, fill) for name, fill in fills.items() if name in things
    }
    down, right = (tf.cast(at, tf.float64) - most for at, most in zip((y, x), reach, strict=True))
    motion = Motion(matrices(tf.ones_like(down), 0, right, 0, 1, down))
    return things | pixels | placed(things, motion)


def cut(pixels: tf.Tensor, y: tf.Tensor, x: tf.Tensor, reach: tuple[int, int], fill: int):
    """Cuts [batch, height, width, channels] out of itself with ``reach`` pixels more around it.

    ``y`` and ``x``, int32 [batch], are the first row and column of each example.
    """
    height, width, channels = pixels.shape[1:]
    row = width * channels
    # Rows of bytes: TensorFlow is ten times slower at padding and at slicing pixels of three bytes.
    rows = tf.reshape(pixels, [-1, height, row])
    around = [[0, 0], [reach[0]] * 2, [reach[1] * channels] * 2]
    rows = tf.pad(rows, around, constant_values=tf.constant(fill, pixels.dtype))
    x *= channels
    found = tf.map_fn(
        lambda n: tf.slice(rows, [n, y[n], x[n]], [1, height, row])[0],
        tf.range(tf.shape(rows)[0]),
        fn_output_signature=tf.TensorSpec([height, row], pixels.dtype),
    )
    return tf.reshape(found, [-1, height, width, channels])


def mirror(things: dict, draw: Draws, preprocessor) -> dict:
    """Exchanges left and right of one example in two."""
    mirrored = draw.uniform(0, 1) < 0.5
    width = things["image"].shape[2]
    pixels = {
        name: where(mirrored, things[name], lambda some, _: left_right(some))
        for name in ("image", "mask")
        if name in things
    }
    sign = tf.where(mirrored, tf.constant(-1.0, tf.float64), 1)
    motion = Motion(about(matrices(sign, 0, 0, 0, 1, 0), width / 2, 0))
    return things | pixels | placed(things, motion)


def left_right(pixels: tf.Tensor) -> tf.Tensor:
    """Mirror images of [batch, height, width, channels]."""
    height, width, channels = pixels.shape[1:]
    # In three dimensions: TensorFlow takes eight times as long to reverse four.
    lines = tf.reverse(tf.reshape(pixels, [-1, width, channels]), [1])
    return tf.reshape(lines, [-1, height, width, channels])


def affine(
    things: dict,
    draw: Draws,
    preprocessor,
    *,
    turn: float = 0,
    slant: float = 0,
    zoom: float = 0,
    shift: float = 0,
    tilt: float = 0,
) -> dict:
    """Turns, slants, scales, moves and tilts about the picture's centre, in one transform.

    Args:
        things: what to move.
        draw: for each example, between nothing and the following, either way.
        preprocessor: its background fills what moves into the picture.
        turn: in radians.
        slant: the shift of a row, in pixels, by the row above or below.
        zoom: the logarithm of the scale.
        shift: a share of width and height.
        tilt: how much nearer one side comes than the centre, as in perspective.
    """
    height, width = things["image"].shape[1:3]
    angle, shear = draw.uniform(-turn, turn), draw.uniform(-slant, slant)
    scale = tf.exp(draw.uniform(-zoom, zoom))
    x, y = draw.uniform(-shift, shift) * width, draw.uniform(-shift, shift) * height
    g, h = draw.uniform(-tilt, tilt) * 2 / width, draw.uniform(-tilt, tilt) * 2 / height
    moves = (
        matrices(1 / scale, 0, x, 0, 1 / scale, y),
        rotation(angle),
        matrices(tf.ones_like(shear), shear, 0, 0, 1, 0, g, h),
    )
    matrix = about(functools.reduce(tf.matmul, moves), width / 2, height / 2)
    return moved(things, Motion(matrix), preprocessor.background)


def zoomed_crop(
    things: dict, draw: Draws, preprocessor, *, least: float = 0.08, stretch: float = 4 / 3
) -> dict:
    """Enlarges a part to the whole: Szegedy et al. 2014, "Going Deeper with Convolutions", 6.

    Args:
        things: what to move.
        draw: for each example.
        preprocessor: not needed, as the part lies within the picture.
        least: the smallest share of the picture's area; the largest is 1.
        stretch: the largest ratio of the part's proportions to those of the picture.
    """
    height, width = things["image"].shape[1:3]
    area, aspect = draw.uniform(least, 1), tf.exp(draw.uniform(-1, 1) * math.log(stretch))
    across, down = (tf.minimum(tf.sqrt(part), 1) for part in (area * aspect, area / aspect))
    left, top = (draw.uniform(0, 1) * (1 - share) for share in (across, down))
    motion = Motion(matrices(across, 0, left * width, 0, down, top * height))
    return moved(things, motion, preprocessor.background)


def warp(things: dict, draw: Draws, preprocessor, *, reach: float = 0.05) -> dict:
    """Displaces every place a little, and neighbours alike; the picture's frame stays.

    Simard, Steinkraus and Platt 2003, "Best Practices for Convolutional Neural Networks", section
    2, blur a field of random displacements. Here it is a spline over a grid of them.

    Args:
        things: what to move.
        draw: for each example and node of the grid.
        preprocessor: not needed, as the frame stays.
        reach: the largest displacement, as a share of the sides; up to 0.05 nothing is folded.
    """
    height, width = things["image"].shape[1:3]
    nodes = draw.uniform(-reach, reach, (WARP_NODES, WARP_NODES, 2)) * [width, height]
    down, across = spline(height, WARP_NODES), spline(width, WARP_NODES)
    field = tf.einsum("yi,bijc,xj->byxc", down, nodes, across)
    nowhere = tf.eye(3, batch_shape=[tf.shape(field)[0]], dtype=tf.float64)
    motion = Motion(nowhere, tf.cast(field, tf.float32))
    return moved(things, motion, preprocessor.background)


def spline(size: int, nodes: int) -> np.ndarray:
    """float64 [size, nodes]: what each node counts at each pixel's centre in a cubic B-spline.

    The outermost nodes lie two steps within the frame, where they count nothing any more.
    """
    places = (np.arange(size) + 0.5) / size * (nodes + 3)
    steps = np.abs(places[:, np.newaxis] - (np.arange(nodes) + 2))
    near, far = 2 / 3 - steps**2 + steps**3 / 2, np.maximum(2 - steps, 0) ** 3 / 6
    return np.where(steps < 1, near, far)
