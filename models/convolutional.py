"""Plain convolutional networks over time (1-D), pictures (2-D) and volumes or films (3-D).

The pattern of Y. LeCun et al., "Gradient-Based Learning Applied to Document Recognition", 1998,
section II.A, in any number of dimensions: convolutions that share their weights over all places,
each followed by a pooling that halves the map, and a classifier on top. One number of spatial
dimensions is a matter of the input's shape alone.

Input [batch, steps, channels], [batch, height, width, channels] or [batch, frames, height, width,
channels]; output [batch, classes] float32 logits. ``features``: the last map of each block,
strides 1, 2, 4 …

Parameters with the defaults (28x28x1, ten classes): 94,634, of which 94,186 are trained.
"""

from __future__ import annotations

import keras
from keras import layers
from keras.config import floatx

from models.layers.features import stride_map

# By the number of spatial dimensions.
CONVOLUTION = {1: layers.Conv1D, 2: layers.Conv2D, 3: layers.Conv3D}
POOLING = {1: layers.MaxPooling1D, 2: layers.MaxPooling2D, 3: layers.MaxPooling3D}
AVERAGE = {
    1: layers.GlobalAveragePooling1D,
    2: layers.GlobalAveragePooling2D,
    3: layers.GlobalAveragePooling3D,
}


def convolutional_network(
    input_shape: tuple[int, ...] = (28, 28, 1),
    num_classes: int = 10,
    *,
    maps: tuple[int, ...] = (32, 64, 128),
    kernel_size: int = 3,
    dropout: float = 0.0,
    input_name: str = "image",
) -> keras.Model:
    """A block of convolution, normalisation, rectifier and pooling for each entry of ``maps``.

    Args:
        input_shape: one, two or three spatial sizes, then the channels.
        num_classes: number of classes.
        maps: the number of maps of each block.
        kernel_size: the side of every kernel.
        dropout: share of the averages that a training step leaves out before the classifier.
        input_name: the name of the input.
    """
    dimensions = len(input_shape) - 1
    if dimensions not in CONVOLUTION:
        raise ValueError(
            "a convolutional network has 1, 2 or 3 spatial dimensions and channels, "
            f"received input_shape={tuple(input_shape)}"
        )
    smallest = 2 ** (len(maps) - 1)
    if any(side is not None and side < smallest for side in input_shape[:-1]):
        raise ValueError(
            f"{len(maps)} blocks need {smallest} or more places along each dimension, "
            f"received input_shape={tuple(input_shape)}"
        )
    x = inputs = keras.Input(input_shape, name=input_name)
    for block, own in enumerate(maps):
        x = CONVOLUTION[dimensions](
            own,
            kernel_size,
            padding="same",
            use_bias=False,
            kernel_initializer="he_normal",
            name=f"block{block + 1}_conv",
        )(x)
        x = layers.BatchNormalization(name=f"block{block + 1}_bn")(x)
        x = stride_map(layers.ReLU(name=f"block{block + 1}_relu")(x), 2**block)
        if block < len(maps) - 1:
            x = POOLING[dimensions](2, name=f"block{block + 1}_pool")(x)
    x = AVERAGE[dimensions](name="pool")(x)
    x = layers.Dropout(dropout, name="dropout")(x)
    outputs = layers.Dense(num_classes, dtype=floatx(), name="logits")(x)
    return keras.Model({input_name: inputs}, outputs, name="convolutional_network")
