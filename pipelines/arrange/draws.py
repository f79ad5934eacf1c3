"""Random numbers that are a function of what they are for, for whole batches at once.

TensorFlow's stateless generators take one seed for a whole tensor, so that a draw depends on its
place in the batch. Here every element has a key of its own, made of seed, epoch, example, position
and purpose: whatever else is in the batch, the draw is the same. That is a counter-based generator
(Salmon et al. 2011, "Parallel Random Numbers: As Easy as 1, 2, 3") with SplitMix64 (Steele, Lea,
Flood 2014, "Fast Splittable Pseudorandom Number Generators") as the mixing function.
"""

from __future__ import annotations

from pipelines.engine.lazy import tensorflow as tf


def keys(*parts: tf.Tensor | int) -> tf.Tensor:
    """Mixes integers into uint64 keys of the shape to which ``parts`` broadcast."""
    mixed = tf.zeros([], tf.uint64)
    for part in parts:
        mixed = _mix(mixed + tf.cast(part, tf.uint64))
    return mixed


def uniform(keys: tf.Tensor) -> tf.Tensor:
    """uint64 keys → float64 of the same shape, uniform in [0, 1)."""
    return tf.cast(_shift(keys, 11), tf.float64) * 2.0**-53


def _mix(state: tf.Tensor) -> tf.Tensor:
    state += tf.constant(0x9E3779B97F4A7C15, tf.uint64)
    state = tf.bitwise.bitwise_xor(state, _shift(state, 30))
    state *= tf.constant(0xBF58476D1CE4E5B9, tf.uint64)
    state = tf.bitwise.bitwise_xor(state, _shift(state, 27))
    state *= tf.constant(0x94D049BB133111EB, tf.uint64)
    return tf.bitwise.bitwise_xor(state, _shift(state, 31))


def _shift(number: tf.Tensor, bits: int) -> tf.Tensor:
    return tf.bitwise.right_shift(number, tf.constant(bits, tf.uint64))
