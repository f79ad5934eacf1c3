"""Inception-ResNet: Inception modules as what residual blocks add to their input.

Paper: C. Szegedy, S. Ioffe, V. Vanhoucke, A. Alemi, "Inception-v4, Inception-ResNet and the Impact
of Residual Connections on Learning", 2016, https://arxiv.org/abs/1602.07261 (figures 15 to 19).

Input [batch, height, width, channels], 75 pixels or more a side (the paper's 299x299x3); output
[batch, classes] float32 logits. ``features``: the last map of each size, strides 2 to 32 (nominal:
valid convolutions lose some pixels).

55,873,736 parameters (55,813,192 trainable), 54,336,736 without the top.

Deviations, all of them those of the published weights: the stem and the first module are those of
Inception v3, the residuals are scaled by 0.17, 0.10 and 0.20 (the paper: between 0.1 and 0.3), and
the last block by 1 without a rectifier behind it.
"""

from __future__ import annotations

import keras
from keras import layers
from keras.config import floatx

from models.inception import chain, module, normalised_convolution, stem
from models.layers.features import stride_map
from models.layers.official_weights import Published, initialised
from models.layers.picture import picture_input

SMALLEST_SIDE = 75

# Figures 16, 17 and 19: the branches of a residual block, the scale of the residual, and how many
# there are.
BLOCK35 = ([(32, 1)], [(32, 1), (32, 3)], [(32, 1), (48, 3), (64, 3)]), 0.17, 10
BLOCK17 = ([(192, 1)], [(128, 1), (160, (1, 7)), (192, (7, 1))]), 0.10, 20
BLOCK8 = ([(192, 1)], [(192, 1), (224, (1, 3)), (256, (3, 1))]), 0.20, 9

FOLDER = "https://storage.googleapis.com/tensorflow/keras-applications/inception_resnet_v2"
FILE = "inception_resnet_v2_weights_tf_dim_ordering_tf_kernels"
WEIGHTS = {
    "inception_resnet_v2": Published(
        f"{FOLDER}/{FILE}.h5",
        "e693bd0210a403b3192acc6073ad2e96",
        f"{FOLDER}/{FILE}_notop.h5",
        "d19885ff4a710c122648d3b5c3b684e4",
        convention="tf",
    )
}


def residual_block(x, name: str, branches, scale: float):
    """``x`` plus ``scale`` times what the branches find, in as many maps as ``x`` has."""
    found = [chain(x, f"{name}_branch{n}", *branch) for n, branch in enumerate(branches, 1)]
    mixed = layers.Concatenate(name=f"{name}_mixed")(found)
    residual = layers.Conv2D(x.shape[-1], 1, name=f"{name}_conv")(mixed)
    return layers.Add(name=f"{name}_add")([x, residual * scale])


def residual_blocks(x, name: str, branches, scale: float, count: int):
    """Residual blocks one after another, each rectified."""
    for number in range(1, count + 1):
        x = residual_block(x, f"{name}_{number}", branches, scale)
        x = layers.ReLU(name=f"{name}_{number}_relu")(x)
    return x


def inception_resnet_v2(
    input_shape: tuple[int, int, int] = (299, 299, 3),
    num_classes: int = 1000,
    *,
    weights: str | None = None,
) -> keras.Model:
    """Inception-ResNet v2.

    Args:
        input_shape: height, width and channels of a picture.
        num_classes: number of classes.
        weights: path of an official file, or imagenet to download it.
    """
    inputs = picture_input("Inception-ResNet v2", input_shape, SMALLEST_SIDE)
    branches = [[(96, 1)], [(48, 1), (64, 5)], [(64, 1), (96, 3), (96, 3)]]
    x = module(stem(inputs), "mixed_5b", branches, 64)
    x = stride_map(residual_blocks(x, "block35", *BLOCK35), 8)
    branches = [[(384, 3, "/2")], [(256, 1), (256, 3), (384, 3, "/2")]]
    x = module(x, "mixed_6a", branches, None)
    x = stride_map(residual_blocks(x, "block17", *BLOCK17), 16)
    branches = [
        [(256, 1), (384, 3, "/2")],
        [(256, 1), (288, 3, "/2")],
        [(256, 1), (288, 3), (320, 3, "/2")],
    ]
    x = module(x, "mixed_7a", branches, None)
    x = residual_blocks(x, "block8", *BLOCK8)
    x = residual_block(x, "block8_10", BLOCK8[0], scale=1.0)
    x = stride_map(normalised_convolution(x, 1536, 1, "conv_7b"), 32)
    x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
    outputs = layers.Dense(num_classes, dtype=floatx(), name="predictions")(x)
    model = keras.Model({"image": inputs}, outputs, name="inception_resnet_v2")
    return initialised(model, weights, WEIGHTS[model.name])
