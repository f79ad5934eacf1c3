"""Network in network: 1x1 convolutions think about each pixel, and averages replace dense layers.

Paper: M. Lin, Q. Chen, S. Yan, "Network In Network", 2013, https://arxiv.org/abs/1312.4400,
section 4.2; the sizes are those of the configuration that its authors released for CIFAR-10.

Input [batch, height, width, channels], 8 pixels or more a side (the paper's 32x32x3); output
[batch, classes] float32 logits. ``features``: the last map before each pooling, strides 1, 2, 4.

966,986 parameters. Deviation: weights start as in He et al. 2015.
"""

from __future__ import annotations

import keras
from keras import layers
from keras.config import floatx

from models.layers.features import stride_map
from models.layers.picture import picture_input

SMALLEST_SIDE = 8

# By block: the side of the first kernel, and the maps of it and of two 1x1 convolutions after it;
# the last are as many as there are classes.
BLOCKS = ((5, (192, 160, 96)), (5, (192, 192, 192)), (3, (192, 192)))


def network_in_network(
    input_shape: tuple[int, int, int] = (32, 32, 3),
    num_classes: int = 10,
    *,
    dropout: float = 0.5,
) -> keras.Model:
    """Three small networks that slide over the picture, each a convolution and two of 1x1.

    Args:
        input_shape: height, width and channels of a picture.
        num_classes: number of classes.
        dropout: share of the values that a training step leaves out after each pooling.
    """
    x = inputs = picture_input("Network in network", input_shape, SMALLEST_SIDE)
    start = {"padding": "same", "activation": "relu", "kernel_initializer": "he_normal"}
    for block, (size, maps) in enumerate(BLOCKS, 1):
        for number, own in enumerate(maps, 1):
            name = f"block{block}_conv{number}"
            x = layers.Conv2D(own, size if number == 1 else 1, name=name, **start)(x)
        x = stride_map(x, 2 ** (block - 1))
        if block < len(BLOCKS):
            pool = layers.MaxPooling2D if block == 1 else layers.AveragePooling2D
            x = pool(3, 2, padding="same", name=f"block{block}_pool")(x)
            x = layers.Dropout(dropout, name=f"block{block}_dropout")(x)
    x = layers.Conv2D(num_classes, 1, name="class_maps")(x)
    outputs = layers.GlobalAveragePooling2D(dtype=floatx(), name="logits")(x)
    return keras.Model({"image": inputs}, outputs, name="network_in_network")
