"""Random numbers that are a function of what they are for, for whole batches at once.

TensorFlow's stateless generators take one seed for a whole tensor, so that a draw depends on its
place in the batch. Here every element has a key of its own, made of seed, epoch, example, position
and purpose: whatever else is in the batch, the draw is the same. That is a counter-based generator
(Salmon et al. 2011, "Parallel Random Numbers: As Easy as 1, 2, 3") with SplitMix64 (Steele, Lea,
Flood 2014, "Fast Splittable Pseudorandom Number Generators") as the mixing function.
"""

from __future__ import annotations

import math

import numpy as np

from pipelines.engine.lazy import tensorflow as tf

QUANTILES = 4096  # steps of the table from which numbers of a beta distribution are read


def keys(*parts: tf.Tensor | int) -> tf.Tensor:
    """Mixes integers into uint64 keys of the shape to which ``parts`` broadcast."""
    mixed = tf.zeros([], tf.uint64)
    for part in parts:
        mixed = _mix(mixed + tf.cast(part, tf.uint64))
    return mixed


def uniform(keys: tf.Tensor) -> tf.Tensor:
    """uint64 keys → float64 of the same shape, uniform in [0, 1)."""
    return tf.cast(_shift(keys, 11), tf.float64) * 2.0**-53


class Draws:
    """Random numbers for a batch, other ones at every call, fixed by (seed, epoch, index).

    They are float64, because the last bits of float32 functions differ with an example's place in
    the batch.

    Args:
        seed: of the run.
        epoch: int64 [batch].
        index: int64 [batch], the example's place in its split.
    """

    def __init__(self, seed: int, epoch: tf.Tensor, index: tf.Tensor):
        self.examples = keys(seed, epoch, index)
        self.count = 0

    def uniform(self, low: float, high: float, shape: tuple[int, ...] = ()) -> tf.Tensor:
        """float64 [batch, *shape], from ``low`` to ``high``."""
        return low + (high - low) * self._shares(shape)

    def integer(self, low: int, high: int) -> tf.Tensor:
        """int32 [batch], from ``low`` to ``high``, both included."""
        return low + tf.cast((high + 1 - low) * self._shares(), tf.int32)

    def other_example(self) -> tf.Tensor:
        """int32 [batch]: for each example the place of another one of the batch."""
        size = tf.size(self.examples)
        steps = 1 + tf.cast(tf.cast(size - 1, tf.float64) * self._shares(), tf.int32)
        return (tf.range(size) + steps) % size

    def normal(self, deviation: float, shape: tuple[int, ...] = ()) -> tf.Tensor:
        """float64 [batch, *shape] of mean 0: Box and Muller 1958."""
        radius = tf.sqrt(-2 * tf.math.log1p(-self._shares(shape)))
        return deviation * radius * tf.cos(2 * math.pi * self._shares(shape))

    def beta(self, concentration: float) -> tf.Tensor:
        """float64 [batch] of the beta distribution both of whose parameters are the same."""
        from scipy.special import betaincinv

        steps = np.linspace(0, 1, QUANTILES + 1)
        table = tf.constant(betaincinv(concentration, concentration, steps))
        place = QUANTILES * self._shares()
        step = tf.cast(place, tf.int32)
        low, high = tf.gather(table, step), tf.gather(table, step + 1)
        return low + (place - tf.floor(place)) * (high - low)

    def _shares(self, shape: tuple[int, ...] = ()) -> tf.Tensor:
        self.count += 1
        examples = tf.reshape(self.examples, [-1] + [1] * len(shape))
        positions = tf.reshape(tf.range(math.prod(shape), dtype=tf.int64), shape)
        return uniform(keys(examples, self.count, *([positions] if shape else [])))


def _mix(state: tf.Tensor) -> tf.Tensor:
    state += tf.constant(0x9E3779B97F4A7C15, tf.uint64)
    state = tf.bitwise.bitwise_xor(state, _shift(state, 30))
    state *= tf.constant(0xBF58476D1CE4E5B9, tf.uint64)
    state = tf.bitwise.bitwise_xor(state, _shift(state, 27))
    state *= tf.constant(0x94D049BB133111EB, tf.uint64)
    return tf.bitwise.bitwise_xor(state, _shift(state, 31))


def _shift(number: tf.Tensor, bits: int) -> tf.Tensor:
    return tf.bitwise.right_shift(number, tf.constant(bits, tf.uint64))
