"""Colour and light of pictures: uint8 [batch, height, width, channels] → the same.

Every change takes an amount for each example. Changes that are linear in a pixel's colour
(brightness, contrast, saturation, hue, shifts) are one matrix and one offset, so that pixels are
rounded once. The other ones are those of Pillow's ``ImageOps`` and ``ImageEnhance``, by which
RandAugment is defined.
"""

from __future__ import annotations

import math

import numpy as np

from pipelines.arrange.draws import Draws
from pipelines.arrange.geometry import to_bytes
from pipelines.engine.lazy import tensorflow as tf

LEVELS = 256
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
# Luma and two axes of colour, in which hue is an angle: the YIQ of NTSC television.
YIQ = np.array([LUMA, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112)])


def jitter(
    things: dict,
    draw: Draws,
    preprocessor,
    *,
    brightness: float = 0,
    contrast: float = 0,
    saturation: float = 0,
    hue: float = 0,
) -> dict:
    """Changes light and colour, by up to so much either way.

    Args:
        things: ``image``.
        draw: for each example.
        preprocessor: not needed.
        brightness: a share of all values.
        contrast: a share of the differences from the picture's mean.
        saturation: a share of the differences from grey.
        hue: a share of the circle of colours.
    """
    changed = recoloured(
        things["image"],
        brightness=draw.uniform(1 - brightness, 1 + brightness),
        contrast=draw.uniform(1 - contrast, 1 + contrast),
        saturation=draw.uniform(1 - saturation, 1 + saturation),
        hue=draw.uniform(-hue, hue),
    )
    return things | {"image": changed}


def principal_colours(things: dict, draw: Draws, preprocessor, *, deviation: float = 0.1) -> dict:
    """Adds to all pixels of a picture what colours of the training pictures differ by.

    Krizhevsky, Sutskever and Hinton 2012, section 4.1: along each principal component of the
    colours, a normal random number times the component's eigenvalue. Only the root of that, the
    standard deviation along the component, is of the unit of a pixel, and is what is meant here.

    Args:
        things: ``image``.
        draw: for each example and component.
        preprocessor: its covariance was learned from the training pictures.
        deviation: of the random numbers.
    """
    variances, components = np.linalg.eigh(preprocessor.covariance)
    scales = np.sqrt(np.maximum(variances, 0))
    amounts = draw.normal(deviation, scales.shape) * scales
    shift = tf.reduce_sum(amounts[:, tf.newaxis, :] * components, axis=-1)
    same = tf.eye(len(scales), batch_shape=[tf.shape(shift)[0]], dtype=tf.float64)
    return things | {"image": linear(things["image"], same, shift)}


def recoloured(
    images: tf.Tensor,
    *,
    brightness: tf.Tensor | float = 1.0,
    contrast: tf.Tensor | float = 1.0,
    saturation: tf.Tensor | float = 1.0,
    hue: tf.Tensor | float = 0.0,
) -> tf.Tensor:
    """Pictures of other contrast, then brightness, saturation and hue.

    Args:
        images: uint8 [batch, height, width, channels]; grey ones have no saturation and no hue.
        brightness: float64 [batch]: factor of all values.
        contrast: float64 [batch]: factor of the differences from the picture's mean luma.
        saturation: float64 [batch]: factor of the differences from the pixel's own luma.
        hue: float64 [batch]: share of the circle by which colours turn; their luma stays.
    """
    channels = images.shape[3]
    luma, same = np.array(LUMA if channels == 3 else [1.0]), np.eye(channels)
    mean = tf.reduce_sum(channel_means(images) * luma, axis=-1)
    # A grey that is added has neither saturation nor hue to be changed.
    grey = mean * (1 - contrast) * brightness
    factor, share, hue = (
        (tf.ones_like(mean) * amount)[:, tf.newaxis, tf.newaxis]
        for amount in (contrast * brightness, saturation, hue)
    )
    matrix = factor * same @ (share * same + (1 - share) * luma[:, np.newaxis])
    if channels == 3:
        matrix @= turned(hue[:, 0, 0])
    return linear(images, matrix, tf.tile(grey[:, tf.newaxis], [1, channels]))


def turned(hue: tf.Tensor) -> tf.Tensor:
    """float64 [batch, 3, 3]: turns colours, as row vectors, about the axis of greys."""
    cos, sin = tf.cos(2 * math.pi * hue), tf.sin(2 * math.pi * hue)
    one, zero = tf.ones_like(hue), tf.zeros_like(hue)
    turn = tf.reshape(tf.stack([one, zero, zero, zero, cos, sin, zero, -sin, cos], 1), [-1, 3, 3])
    return YIQ.T @ turn @ np.linalg.inv(YIQ.T)


def linear(images: tf.Tensor, matrix: tf.Tensor, offset: tf.Tensor) -> tf.Tensor:
    """Each pixel's colour, a row vector, times ``matrix`` plus ``offset``.

    ``images`` are uint8 [batch, height, width, channels], ``matrix`` [batch, channels, channels]
    and ``offset`` [batch, channels] float64.
    """
    _, height, width, channels = images.shape
    pixels = tf.cast(tf.reshape(images, [-1, height * width, channels]), tf.float32)
    pixels = pixels @ tf.cast(matrix, tf.float32)
    offsets = tf.tile(tf.cast(offset, tf.float32), [1, height * width])
    rows = tf.reshape(pixels, [-1, height * width * channels]) + offsets
    return tf.reshape(to_bytes(rows), tf.shape(images))


def posterize(images: tf.Tensor, bits: tf.Tensor) -> tf.Tensor:
    """Keeps the first ``bits``, int32 [batch], 0 to 8, of every value."""
    kept = tf.cast(LEVELS - tf.bitwise.left_shift(1, 8 - bits), tf.uint8)
    return tf.bitwise.bitwise_and(images, kept[:, tf.newaxis, tf.newaxis, tf.newaxis])


def solarize(images: tf.Tensor, threshold: tf.Tensor) -> tf.Tensor:
    """Inverts values of at least ``threshold``, int32 [batch], 0 to 256."""
    rows = as_rows(images)
    bright = tf.cast(rows, tf.int32) >= threshold[:, tf.newaxis]
    inverted = tf.bitwise.bitwise_xor(rows, tf.cast(bright, tf.uint8) * 255)
    return tf.reshape(inverted, tf.shape(images))


def autocontrast(images: tf.Tensor) -> tf.Tensor:
    """Stretches each channel of each picture to the range from 0 to 255."""
    low, high = tf.reduce_min(images, [1, 2]), tf.reduce_max(images, [1, 2])
    flat = tf.cast(low == high, tf.float64)  # stays as it is
    low, high = tf.cast(low, tf.float64), tf.cast(high, tf.float64)
    scale = flat + (1 - flat) * 255 / (high - low + flat)
    return linear(images, tf.linalg.diag(scale), (flat - 1) * low * scale)


def equalize(images: tf.Tensor) -> tf.Tensor:
    """Spreads the values of each channel of each picture evenly over 0 to 255."""
    channels, pixels = images.shape[3], images.shape[1] * images.shape[2]
    values = tf.cast(as_rows(images), tf.int32)
    # Histograms of a picture's channels lie one after another.
    places = values + np.tile(np.arange(channels, dtype=np.int32) * LEVELS, pixels)
    counts = tf.raw_ops.DenseBincount(
        input=places, size=channels * LEVELS, weights=tf.zeros([0], tf.int32), binary_output=False
    )
    counts = tf.reshape(counts, [-1, channels, LEVELS])
    used = tf.where(counts > 0, tf.range(LEVELS), 0)
    brightest = tf.gather(counts, tf.reduce_max(used, axis=-1), batch_dims=2)
    step = ((pixels - brightest) // (LEVELS - 1))[..., tf.newaxis]
    below = tf.cumsum(counts, axis=-1, exclusive=True)
    spread = tf.minimum((below + step // 2) // tf.maximum(step, 1), LEVELS - 1)
    table = tf.where(step > 0, spread, tf.range(LEVELS))
    table = tf.reshape(tf.cast(table, tf.uint8), [-1, channels * LEVELS])
    return tf.reshape(tf.gather(table, places, batch_dims=1), tf.shape(images))


def sharpen(images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Differences from the smoothed picture times ``factor``, float64 [batch]; the edge stays.

    A smoothed pixel is the mean of nine, the middle one counting five times.
    """
    _, height, width, channels = images.shape
    if min(height, width) < 3:
        return images
    rows = tf.cast(tf.reshape(images, [-1, height, width * channels]), tf.float32)
    three = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    nine = three[..., : -2 * channels] + three[..., channels:-channels] + three[..., 2 * channels :]
    middle = rows[:, 1:-1, channels:-channels]
    gain = tf.cast(factor - 1, tf.float32)[:, tf.newaxis, tf.newaxis]
    change = gain * (middle - (nine + 4 * middle) / 13)
    rows += tf.pad(change, [[0, 0], [1, 1], [channels, channels]])
    return tf.reshape(to_bytes(rows), tf.shape(images))


def channel_means(images: tf.Tensor) -> tf.Tensor:
    """[batch, height, width, channels] → float64 [batch, channels]."""
    pixels = images.shape[1] * images.shape[2]
    # Sums of integers are exact in whatever order they are taken.
    return tf.cast(tf.reduce_sum(tf.cast(images, tf.int32), [1, 2]), tf.float64) / pixels


def as_rows(images: tf.Tensor) -> tf.Tensor:
    """All values of a picture in one row, because TensorFlow is slow with rows of three."""
    return tf.reshape(images, [-1, images.shape[1:].num_elements()])
