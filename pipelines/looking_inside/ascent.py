"""Activation maximisation: the picture that excites a unit, or speaks for a class, most.

D. Erhan, Y. Bengio, A. Courville, P. Vincent, "Visualizing Higher-Layer Features of a Deep
Network", 2009: from noise up the gradient of the activation. What keeps the picture from becoming
noise of high frequency is that each step moves it a little before it looks (jitter; A. Mordvintsev,
C. Olah, M. Tyka, "Inceptionism", 2015) and blurs it a little afterwards (J. Yosinski et al.,
"Understanding Neural Networks Through Deep Visualization", 2015, https://arxiv.org/abs/1506.06579).
A class is its logit, not its probability, which could grow by what speaks against other classes
(K. Simonyan, A. Vedaldi, A. Zisserman, 2013, https://arxiv.org/abs/1312.6034).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pipelines.engine.lazy import tensorflow as tf

STEPS = 48
FIRST_STEP, LAST_STEP = 40.0, 6.0  # grey levels of 255, in the root mean square over the picture
BLUR = 0.8, 0.4  # the share of each pixel that its neighbours give, at first and in the end
NOISE = 20.0  # grey levels, standard deviation, of the beginning
JITTER = 1 / 16  # of a side, each way

BINOMIAL = np.outer([1, 2, 1], [1, 2, 1]) / 16


def ascend(excitement: Callable, start: np.ndarray, seed: int = 0) -> np.ndarray:
    """Pictures with a higher value of ``excitement`` each.

    Args:
        excitement: differentiable: float32 pixels from 0 to 255, [n, height, width, channels] →
            the values of the pictures [n].
        start: [n, height, width, channels] where they begin.
        seed: of noise and jitter.

    Returns:
        float32 pixels from 0 to 255.
    """
    random = np.random.default_rng(seed)
    pixels = start + random.normal(0, NOISE, start.shape)
    pixels = tf.constant(np.clip(pixels, 0, 255), tf.float32)
    reach = [int(side * JITTER) for side in start.shape[1:3]]
    kernel = tf.constant(np.tile(BINOMIAL[..., None, None], [1, 1, start.shape[-1], 1]), tf.float32)

    @tf.function(autograph=False)
    def climb(pixels: tf.Tensor, shift: tf.Tensor, step: tf.Tensor, blur: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(pixels)
            value = excitement(tf.roll(pixels, shift, axis=[1, 2]))
        gradient = tape.gradient(value, pixels)
        size = tf.sqrt(tf.reduce_mean(tf.square(gradient), axis=[1, 2, 3], keepdims=True))
        pixels += step * gradient / (size + 1e-12)
        around = tf.pad(pixels, [[0, 0], [1, 1], [1, 1], [0, 0]], "SYMMETRIC")
        blurred = tf.nn.depthwise_conv2d(around, kernel, [1, 1, 1, 1], "VALID")
        return tf.clip_by_value(pixels + blur * (blurred - pixels), 0, 255)

    for number in range(STEPS):
        left = 1 - number / (STEPS - 1)
        shift = [random.integers(-most, most + 1) for most in reach]
        pixels = climb(
            pixels,
            tf.constant(shift, tf.int32),
            tf.constant(LAST_STEP * (FIRST_STEP / LAST_STEP) ** left, tf.float32),
            tf.constant(BLUR[1] + (BLUR[0] - BLUR[1]) * left, tf.float32),
        )
    return pixels.numpy()
