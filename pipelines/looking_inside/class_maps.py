"""Class-activation maps: where in a picture a network finds what speaks for a class.

B. Zhou et al., "Learning Deep Features for Discriminative Localization", 2015,
https://arxiv.org/abs/1512.04150, weigh the last maps of a network that ends in their means and a
dense layer by that layer's weights. R. R. Selvaraju et al., "Grad-CAM", 2016,
https://arxiv.org/abs/1610.02391, weigh the maps of any network by the mean of the class's gradient
over each, which is the same, up to a factor, where the older way is possible.
"""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np

from pipelines.engine.lazy import tensorflow as tf
from pipelines.looking_inside.receptive_field import LocalMap

LEAST_SIDE = 5  # places along each side, so that a map shows where


def map_to_show(maps: list[LocalMap]) -> LocalMap:
    """The last map of a side that shows where; the first of all if there is none."""
    large = [one for one in maps if min(one.tensor.shape[1:3]) >= LEAST_SIDE]
    return large[-1] if large else maps[0]


def class_maps(
    model: keras.Model, maps: LocalMap, inputs: Callable, pixels: np.ndarray, classes: np.ndarray
) -> np.ndarray:
    """What of each picture speaks for a class.

    Args:
        model: pictures → logits.
        maps: those of the network to weigh.
        inputs: pixels from 0 to 255 → the model's inputs.
        pixels: [n, height, width, channels].
        classes: [n] indices.

    Returns:
        float32 [n, rows, columns], from 0 to 1 in each picture; all 0 where nothing does.
    """
    both = keras.Model(model.input, [maps.tensor, model.outputs[0]])
    scaled = inputs(pixels)
    with tf.GradientTape() as tape:
        tape.watch(tf.nest.flatten(scaled))  # the weights may be frozen
        activations, logits = both(scaled, training=False)
        chosen = tf.gather(logits, tf.constant(classes, tf.int32), axis=1, batch_dims=1)
    weights = tf.reduce_mean(tape.gradient(chosen, activations), axis=[1, 2], keepdims=True)
    weighed = tf.nn.relu(tf.reduce_sum(tf.cast(weights * activations, tf.float32), axis=-1))
    largest = tf.reduce_max(weighed, axis=[1, 2], keepdims=True)
    return tf.math.divide_no_nan(weighed, largest).numpy()
