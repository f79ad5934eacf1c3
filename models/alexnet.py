"""AlexNet: the network that made deep learning the way to recognise pictures.

Papers: A. Krizhevsky, I. Sutskever, G. E. Hinton, "ImageNet Classification with Deep Convolutional
Neural Networks", 2012, https://papers.nips.cc/paper/4824 (figure 2 and section 3);
A. Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014,
https://arxiv.org/abs/1404.5997 (the network in one tower).

Input [batch, height, width, channels], 67 pixels or more a side; output [batch, classes] float32
logits. ``features``: the last map before each pooling, strides 4 to 16.

Parameters: 60,965,224 in two towers (section 3.2 speaks of 60 million); 62,378,344 with the same
widths in one; 61,100,840 with those of 2014.

Deviations: weights start as in He et al. 2015 with biases of zero, instead of at a deviation of
0.01 with some biases of one, because training then begins without a plateau; pictures are 227
pixels a side, which is what the paper's strides need (it says 224). The two towers are two halves
of one network: the paper's two GPUs computed the same.
"""

from __future__ import annotations

import keras
from keras import layers, ops
from keras.config import floatx

from models.layers.features import stride_map
from models.layers.normalization import LocalResponseNormalization
from models.layers.picture import picture_input

SMALLEST_SIDE = 67

# The maps of the five convolutions: figure 2, both GPUs together, and the network of 2014.
MAPS_2012 = (96, 256, 384, 384, 256)
MAPS_2014 = (64, 192, 384, 256, 256)
KERNELS = (11, 5, 3, 3, 3)
# Figure 2: in two towers, the layers that read the maps of their own tower only.
SPLIT = (2, 4, 5)


def convolution(x, number: int, maps: int, towers: int):
    """The ``number``-th convolution with its rectifier; each tower reads its share of the maps."""

    def tower(x, maps, name):
        return layers.Conv2D(
            maps,
            KERNELS[number - 1],
            strides=4 if number == 1 else 1,
            padding="valid" if number == 1 else "same",
            activation="relu",
            kernel_initializer="he_normal",
            name=name,
        )(x)

    if towers == 1 or number not in SPLIT:
        return tower(x, maps, f"conv{number}")
    shares = ops.split(x, towers, axis=-1)
    parts = [
        tower(share, maps // towers, f"conv{number}_tower{t}") for t, share in enumerate(shares, 1)
    ]
    return layers.Concatenate(name=f"conv{number}")(parts)


def network(
    name: str,
    maps: tuple[int, ...],
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    towers: int,
    local_normalization: bool,
    dropout: float,
) -> keras.Model:
    """Five convolutions, of which the first, second and last are pooled, and three dense layers."""
    x = inputs = picture_input("AlexNet", input_shape, SMALLEST_SIDE)
    for number, own in enumerate(maps, 1):
        x = convolution(x, number, own, towers)
        if number in (1, 2) and local_normalization:
            x = LocalResponseNormalization(name=f"norm{number}")(x)
        if number in (1, 2, 5):
            x = stride_map(x, {1: 4, 2: 8, 5: 16}[number])
            x = layers.MaxPooling2D(3, 2, name=f"pool{number}")(x)
    x = layers.Flatten(name="flatten")(x)
    for number in (6, 7):
        x = layers.Dense(
            4096, activation="relu", kernel_initializer="he_normal", name=f"fc{number}"
        )(x)
        x = layers.Dropout(dropout, name=f"dropout{number}")(x)
    outputs = layers.Dense(num_classes, dtype=floatx(), name="logits")(x)
    return keras.Model({"image": inputs}, outputs, name=name)


def alexnet(
    input_shape: tuple[int, int, int] = (227, 227, 3),
    num_classes: int = 1000,
    *,
    towers: int = 2,
    dropout: float = 0.5,
) -> keras.Model:
    """AlexNet as published in 2012.

    Args:
        input_shape: height, width and channels of a picture.
        num_classes: number of classes.
        towers: how many towers the second, fourth and fifth convolution are split into, 1 or 2.
        dropout: share of the units of the two hidden dense layers that a training step leaves out.
    """
    if towers not in (1, 2):
        raise ValueError(f"AlexNet has 1 or 2 towers, received towers={towers}")
    return network(
        "alexnet",
        MAPS_2012,
        input_shape,
        num_classes,
        towers=towers,
        local_normalization=True,
        dropout=dropout,
    )


def alexnet_one_tower(
    input_shape: tuple[int, int, int] = (227, 227, 3),
    num_classes: int = 1000,
    *,
    dropout: float = 0.5,
) -> keras.Model:
    """AlexNet as published in 2014: one narrower tower, without local normalisation.

    Args:
        input_shape: height, width and channels of a picture.
        num_classes: number of classes.
        dropout: share of the units of the two hidden dense layers that a training step leaves out.
    """
    return network(
        "alexnet_one_tower",
        MAPS_2014,
        input_shape,
        num_classes,
        towers=1,
        local_normalization=False,
        dropout=dropout,
    )
