"""EfficientNet: one small network, searched for, and a rule that scales it up.

Paper: M. Tan, Q. V. Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural
Networks", 2019, https://arxiv.org/abs/1905.11946 (table 1 and equation 3).

Input [batch, height, width, channels] of pixels from 0 to 255, which the network scales itself, 32
pixels or more a side; output [batch, classes] float32 logits. ``features``: the last map of each
size, strides 2 to 32.

    network  width  depth  pixels    parameters   trainable
    B0         1.0    1.0     224     5,330,571   5,288,548
    B1         1.0    1.1     240     7,856,239   7,794,184
    B2         1.1    1.2     260     9,177,569   9,109,994
    B3         1.2    1.4     300    12,320,535  12,233,232
    B4         1.4    1.8     380    19,466,823  19,341,616
    B5         1.6    2.2     456    30,562,527  30,389,784
    B6         1.8    2.6     528    43,265,143  43,040,704
    B7         2.0    3.1     600    66,658,687  66,347,960

of which seven belong to the normalisation of the pixels: the mean and the variance of the three
channels, and a count.

Deviations: those of the published weights. They were trained on pixels divided by the variance of
their channel where the normalisation divides by its root, so that another such division follows;
it is there whether or not the weights are loaded, for one network is not to be two.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import keras
import numpy as np
from keras import layers
from keras.config import floatx

from models.layers.byte_pixels import BytePixels
from models.layers.features import Strides, stride_map
from models.layers.normalization import ChannelNormalization
from models.layers.official_weights import Published, initialised
from models.layers.picture import halving_padding, picture_input
from models.layers.squeeze_excitation import squeeze_excitation
from models.mobilenet import rounded

SMALLEST_SIDE = 32


@dataclasses.dataclass(frozen=True)
class Stage:
    """A row of table 1: blocks of the same kind.

    Args:
        kernel: side of the depthwise convolution.
        blocks: number of blocks.
        maps: maps of the output.
        expansion: maps inside the block, per input map.
        stride: of the first block.
    """

    kernel: int
    blocks: int
    maps: int
    expansion: int
    stride: int


STAGES = (
    Stage(3, 1, 16, 1, 1),
    Stage(3, 2, 24, 6, 2),
    Stage(5, 2, 40, 6, 2),
    Stage(3, 3, 80, 6, 2),
    Stage(5, 3, 112, 6, 1),
    Stage(5, 4, 192, 6, 2),
    Stage(3, 1, 320, 6, 1),
)
STEM, HEAD = 32, 1280

# By network: the factors of width and depth, and the dropout in front of the classifier.
SCALES = {
    "b0": (1.0, 1.0, 0.2),
    "b1": (1.0, 1.1, 0.2),
    "b2": (1.1, 1.2, 0.3),
    "b3": (1.2, 1.4, 0.3),
    "b4": (1.4, 1.8, 0.4),
    "b5": (1.6, 2.2, 0.4),
    "b6": (1.8, 2.6, 0.5),
    "b7": (2.0, 3.1, 0.5),
}

# The standard deviations of ImageNet's channels, on pixels from 0 to 1.
DEVIATIONS = (0.229, 0.224, 0.225)

FOLDER = "https://storage.googleapis.com/keras-applications"
WEIGHTS = {
    f"efficientnet_{name}": Published(
        f"{FOLDER}/efficientnet{name}.h5",
        md5,
        f"{FOLDER}/efficientnet{name}_notop.h5",
        headless_md5,
        convention="bytes",
    )
    for name, md5, headless_md5 in (
        ("b0", "902e53a9f72be733fc0bcb005b3ebbac", "50bc09e76180e00e4465e1a485ddc09d"),
        ("b1", "1d254153d4ab51201f1646940f018540", "74c4e6b3e1f6a1eea24c589628592432"),
        ("b2", "b15cce36ff4dcbd00b6dd88e7857a6ad", "111f8e2ac8aa800a7a99e3239f7bfb39"),
        ("b3", "ffd1fdc53d0ce67064dc6a9c7960ede0", "af6d107764bb5b1abb91932881670226"),
        ("b4", "18c95ad55216b8f92d7e70b3a046e2fc", "ebc24e6d6c33eaebbd558eafbeedf1ba"),
        ("b5", "ace28f2a6363774853a83a0b21b9421a", "38879255a25d3c92d5e44e04ae6cec6f"),
        ("b6", "165f6e37dce68623721b423839de8be5", "9ecce42647a20130c1f39a5d4cb75743"),
        ("b7", "8c03f828fec3ef71311cd463b6759d99", "cbcfe4450ddf6f3ad90b1b398090fe4a"),
    )
}


def compound_scaling(phi: float) -> tuple[float, float, float]:
    """Equation 3: the factors of depth, width and the picture's side for 2^phi times the work.

    The published networks round them: B1 is phi = 0.5, B2 to B7 are 1 to 6.

    Args:
        phi: the compound coefficient.
    """
    return 1.2**phi, 1.1**phi, 1.15**phi


def start() -> keras.initializers.Initializer:
    """How the kernels of convolutions start."""
    return keras.initializers.VarianceScaling(2.0, "fan_out", "truncated_normal")


def scaled_blocks(blocks: int, depth: float) -> int:
    """``depth`` times as many blocks, rounded up."""
    return math.ceil(blocks * depth)


def normalised_convolution(x, maps: int, name: str, activation: str | None, prefix: str = ""):
    """A 1x1 convolution, batch normalisation and, where there is one, an activation."""
    x = layers.Conv2D(
        maps,
        1,
        padding="same",
        use_bias=False,
        kernel_initializer=start(),
        name=f"{prefix}{name}_conv",
    )(x)
    x = layers.BatchNormalization(name=f"{prefix}{name}_bn")(x)
    return layers.Activation(activation, name=f"{prefix}{name}_activation")(x) if activation else x


def block(x, maps: int, expansion: int, kernel: int, stride: int, drop: float, name: str):
    """An inverted residual block with squeeze and excitation.

    Args:
        x: maps.
        maps: maps of the output.
        expansion: maps inside the block, per input map.
        kernel: side of the depthwise convolution.
        stride: of the depthwise convolution.
        drop: share of the examples for which a training step leaves the block out.
        name: what its layers' names begin with.
    """
    y = x
    if expansion > 1:
        y = normalised_convolution(y, expansion * x.shape[-1], "expand", "swish", name)
    if stride == 2:
        y = layers.ZeroPadding2D(halving_padding(y, kernel), name=f"{name}dwconv_pad")(y)
    y = layers.DepthwiseConv2D(
        kernel,
        strides=stride,
        padding="valid" if stride == 2 else "same",
        use_bias=False,
        depthwise_initializer=start(),
        name=f"{name}dwconv",
    )(y)
    y = layers.BatchNormalization(name=f"{name}bn")(y)
    y = layers.Activation("swish", name=f"{name}activation")(y)
    parts = ("squeeze", "reduce", "expand", "excite")
    names = tuple(f"{name}se_{part}" for part in parts)
    y = squeeze_excitation(y, max(1, x.shape[-1] // 4), ("swish", "sigmoid"), names, start)
    y = normalised_convolution(y, maps, "project", None, name)
    if stride == 2 or x.shape[-1] != maps:
        return y
    if drop > 0:
        y = layers.Dropout(drop, noise_shape=(None, 1, 1, 1), name=f"{name}drop")(y)
    return layers.Add(name=f"{name}add")([y, x])


def standardised(x):
    """Pixels from 0 to 255 → as the published weights expect them."""
    # In float32, whatever the model computes in: so the weights were trained.
    x = ChannelNormalization(name="normalization")(x * float(np.float32(1 / 255)))
    if x.shape[-1] != len(DEVIATIONS):
        return x
    return x * np.array([1 / math.sqrt(d) for d in DEVIATIONS], "float32")


def efficientnet(
    scale: str,
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    drop_connect: float = 0.2,
    weights: str | None = None,
) -> keras.Model:
    """The network of table 1, scaled.

    Args:
        scale: b0 to b7.
        input_shape: height, width and channels of a picture.
        num_classes: number of classes.
        drop_connect: share of the examples for which a training step leaves out the last block;
            it rises to this evenly from none at the first.
        weights: path of an official file, or imagenet to download it.
    """
    width, depth, dropout = SCALES[scale]
    inputs = picture_input("EfficientNet", input_shape, SMALLEST_SIDE)
    x = standardised(BytePixels(name="pixels")(inputs))
    x = layers.ZeroPadding2D(halving_padding(x, 3), name="stem_conv_pad")(x)
    x = layers.Conv2D(
        rounded(STEM * width),
        3,
        strides=2,
        use_bias=False,
        kernel_initializer=start(),
        name="stem_conv",
    )(x)
    x = layers.BatchNormalization(name="stem_bn")(x)
    x = layers.Activation("swish", name="stem_activation")(x)
    strides, number = Strides(2), 0
    total = sum(scaled_blocks(stage.blocks, depth) for stage in STAGES)
    for position, stage in enumerate(STAGES, 1):
        maps = rounded(stage.maps * width)
        for repeat in range(scaled_blocks(stage.blocks, depth)):
            stride = stage.stride if repeat == 0 else 1
            name = f"block{position}{chr(ord('a') + repeat)}_"
            drop = drop_connect * number / total
            x = strides.before(x, stride)
            x = block(x, maps, stage.expansion, stage.kernel, stride, drop, name)
            number += 1
    x = normalised_convolution(stride_map(x, 32), rounded(HEAD * width), "top", "swish")
    x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
    x = layers.Dropout(dropout, name="top_dropout")(x)
    outputs = layers.Dense(
        num_classes,
        kernel_initializer=keras.initializers.VarianceScaling(1 / 3, "fan_out", "uniform"),
        dtype=floatx(),
        name="predictions",
    )(x)
    model = keras.Model({"image": inputs}, outputs, name=f"efficientnet_{scale}")
    return initialised(model, weights, WEIGHTS[model.name])


def efficientnet_b0(
    input_shape: tuple[int, int, int] = (224, 224, 3), num_classes: int = 1000, **options: Any
) -> keras.Model:
    """EfficientNet-B0; the options are those of ``efficientnet``."""
    return efficientnet("b0", input_shape, num_classes, **options)


def efficientnet_b1(
    input_shape: tuple[int, int, int] = (240, 240, 3), num_classes: int = 1000, **options: Any
) -> keras.Model:
    """EfficientNet-B1; the options are those of ``efficientnet``."""
    return efficientnet("b1", input_shape, num_classes, **options)


def efficientnet_b2(
    input_shape: tuple[int, int, int] = (260, 260, 3), num_classes: int = 1000, **options: Any
) -> keras.Model:
    """EfficientNet-B2; the options are those of ``efficientnet``."""
    return efficientnet("b2", input_shape, num_classes, **options)


def efficientnet_b3(
    input_shape: tuple[int, int, int] = (300, 300, 3), num_classes: int = 1000, **options: Any
) -> keras.Model:
    """EfficientNet-B3; the options are those of ``efficientnet``."""
    return efficientnet("b3", input_shape, num_classes, **options)


def efficientnet_b4(
    input_shape: tuple[int, int, int] = (380, 380, 3), num_classes: int = 1000, **options: Any
) -> keras.Model:
    """EfficientNet-B4; the options are those of ``efficientnet``."""
    return efficientnet("b4", input_shape, num_classes, **options)


def efficientnet_b5(
    input_shape: tuple[int, int, int] = (456, 456, 3), num_classes: int = 1000, **options: Any
) -> keras.Model:
    """EfficientNet-B5; the options are those of ``efficientnet``."""
    return efficientnet("b5", input_shape, num_classes, **options)


def efficientnet_b6(
    input_shape: tuple[int, int, int] = (528, 528, 3), num_classes: int = 1000, **options: Any
) -> keras.Model:
    """EfficientNet-B6; the options are those of ``efficientnet``."""
    return efficientnet("b6", input_shape, num_classes, **options)


def efficientnet_b7(
    input_shape: tuple[int, int, int] = (600, 600, 3), num_classes: int = 1000, **options: Any
) -> keras.Model:
    """EfficientNet-B7; the options are those of ``efficientnet``."""
    return efficientnet("b7", input_shape, num_classes, **options)
