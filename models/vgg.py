"""VGG: depth from small convolutions, 3x3 pixels each.

Paper: K. Simonyan, A. Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
Recognition", 2014, https://arxiv.org/abs/1409.1556, table 1, columns D and E.

Input [batch, height, width, channels], 32 pixels or more a side (the paper's 224x224x3); output
[batch, classes] float32 logits. ``features``: the last map of each block, strides 1 to 16.

Parameters: 138,357,544 (16 layers), 143,667,240 (19); without the three dense layers 14,714,688
and 20,024,384.

Deviations: weights start as in Glorot and Bengio 2010, which the authors found after their
submission to need no shallower network trained first. At another size of picture the first dense
layer has another number of inputs.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers
from keras.config import floatx

from models.layers.features import stride_map
from models.layers.official_weights import Published, initialised
from models.layers.picture import picture_input

SMALLEST_SIDE = 32
CHANNELS = (64, 128, 256, 512, 512)

# Table 1: the convolutions of each block, by the number of layers with weights.
CONVOLUTIONS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}

FOLDER = "https://storage.googleapis.com/tensorflow/keras-applications"
FILE = "weights_tf_dim_ordering_tf_kernels"
WEIGHTS = {
    "vgg16": Published(
        f"{FOLDER}/vgg16/vgg16_{FILE}.h5",
        "64373286793e3c8b2b4e3219cbf3544b",
        f"{FOLDER}/vgg16/vgg16_{FILE}_notop.h5",
        "6d6bbae143d832006294945121d1f1fc",
        convention="caffe",
    ),
    "vgg19": Published(
        f"{FOLDER}/vgg19/vgg19_{FILE}.h5",
        "cbe5617147190e668d6c5d5026f83318",
        f"{FOLDER}/vgg19/vgg19_{FILE}_notop.h5",
        "253f8cb515780f3b799900260a226db6",
        convention="caffe",
    ),
}


def vgg(
    depth: int,
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    dropout: float = 0.5,
    weights: str | None = None,
) -> keras.Model:
    """The network of table 1 with ``depth`` layers that own weights.

    Args:
        depth: 16 or 19.
        input_shape: height, width and channels of a picture.
        num_classes: number of classes.
        dropout: share of the units of the two hidden dense layers that a training step leaves out.
        weights: path of an official file, or imagenet to download it.
    """
    x = inputs = picture_input(f"VGG-{depth}", input_shape, SMALLEST_SIDE)
    for block, (count, channels) in enumerate(zip(CONVOLUTIONS[depth], CHANNELS, strict=True), 1):
        for number in range(1, count + 1):
            name = f"block{block}_conv{number}"
            x = layers.Conv2D(channels, 3, padding="same", activation="relu", name=name)(x)
        x = stride_map(x, 2 ** (block - 1))
        x = layers.MaxPooling2D(2, name=f"block{block}_pool")(x)
    x = layers.Flatten(name="flatten")(x)
    for name in ("fc1", "fc2"):
        x = layers.Dense(4096, activation="relu", name=name)(x)
        x = layers.Dropout(dropout, name=f"{name}_dropout")(x)
    outputs = layers.Dense(num_classes, dtype=floatx(), name="predictions")(x)
    model = keras.Model({"image": inputs}, outputs, name=f"vgg{depth}")
    return initialised(model, weights, WEIGHTS[model.name], top=3)


def vgg16(
    input_shape: tuple[int, int, int] = (224, 224, 3), num_classes: int = 1000, **options: Any
) -> keras.Model:
    """VGG-16, configuration D; the options are those of ``vgg``."""
    return vgg(16, input_shape, num_classes, **options)


def vgg19(
    input_shape: tuple[int, int, int] = (224, 224, 3), num_classes: int = 1000, **options: Any
) -> keras.Model:
    """VGG-19, configuration E; the options are those of ``vgg``."""
    return vgg(19, input_shape, num_classes, **options)
