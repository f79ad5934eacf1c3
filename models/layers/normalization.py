"""Normalisation other than by batches."""

from __future__ import annotations

import keras
from keras import layers, ops
from keras.config import floatx


@keras.saving.register_keras_serializable(package="zoo")
class LocalResponseNormalization(layers.Layer):
    """Divides each value by what the neighbouring maps show at the same pixel.

    y_i = x_i / (k + alpha * Σ x_j²)^beta, over the ``size`` maps j around i: A. Krizhevsky et al.,
    "ImageNet Classification with Deep Convolutional Neural Networks", 2012, section 3.3.
    [batch, height, width, maps] → the same shape.

    Args:
        size: the number of maps in the sum, odd.
        k: what is added to the sum.
        alpha: the weight of the sum.
        beta: the exponent.
    """

    def __init__(
        self, size: int = 5, k: float = 2.0, alpha: float = 1e-4, beta: float = 0.75, **kwargs
    ):
        super().__init__(**kwargs)
        self.size, self.k, self.alpha, self.beta = size, k, alpha, beta

    def call(self, x):
        maps, reach = x.shape[-1], self.size // 2
        squares = ops.square(ops.cast(x, floatx()))  # of float16 they would overflow at 256
        squares = ops.pad(squares, ((0, 0), (0, 0), (0, 0), (reach, reach)))
        total = sum(squares[..., first : first + maps] for first in range(self.size))
        return x * ops.cast((self.k + self.alpha * total) ** -self.beta, x.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        own = {"size": self.size, "k": self.k, "alpha": self.alpha, "beta": self.beta}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="zoo")
class ChannelNormalization(layers.Layer):
    """Subtracts a mean and divides by a deviation, by channel, both read from a file of weights.

    [batch, height, width, channels] → the same shape. It owns what ``keras.layers.Normalization``
    owns (mean, variance and a count), but unlike that layer it runs where TensorFlow is missing.
    """

    def build(self, input_shape):
        shape = (input_shape[-1],)
        options = {"trainable": False}
        self.mean = self.add_weight(name="mean", shape=shape, initializer="zeros", **options)
        self.variance = self.add_weight(name="variance", shape=shape, initializer="ones", **options)
        self.count = self.add_weight(
            name="count", shape=(), initializer="zeros", dtype="int32", **options
        )

    def call(self, x):
        return (x - self.mean) / ops.maximum(ops.sqrt(self.variance), keras.config.epsilon())

    def compute_output_shape(self, input_shape):
        return input_shape
