"""MobileNets: convolutions taken apart into one per map and one per pixel, for small machines.

Papers: A. G. Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision
Applications", 2017, https://arxiv.org/abs/1704.04861 (table 1); M. Sandler et al., "MobileNetV2:
Inverted Residuals and Linear Bottlenecks", 2018, https://arxiv.org/abs/1801.04381 (table 2);
A. Howard et al., "Searching for MobileNetV3", 2019, https://arxiv.org/abs/1905.02244 (tables 1, 2).

Input [batch, height, width, channels], 32 pixels or more a side (the papers' 224x224x3); output
[batch, classes] float32 logits. MobileNetV3 takes pixels from 0 to 255 and scales them itself.
``features``: the last narrow map of each size, strides 2 to 32.

Parameters (trainable; without the top):

    MobileNet           4,253,864 (4,231,976; 3,228,864)
    MobileNetV2         3,538,984 (3,504,872; 2,257,984)
    MobileNetV3-Small   2,554,968 (2,542,856;   939,120)
    MobileNetV3-Large   5,507,432 (5,483,032; 2,996,352)

Deviations: those of the published weights; the pictures are padded where the authors' TensorFlow
code pads them, and the first layer of MobileNetV3 is not narrowed by ``width``.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
from keras import layers
from keras.config import floatx

from models.layers.byte_pixels import BytePixels
from models.layers.features import Strides, stride_map
from models.layers.official_weights import Published, initialised
from models.layers.picture import halving_padding, picture_input
from models.layers.squeeze_excitation import squeeze_excitation

SMALLEST_SIDE = 32
FOLDER = "https://storage.googleapis.com/tensorflow/keras-applications"

# 2017, table 1: stride and maps of each pair of a depthwise and a pointwise convolution.
SEPARABLE = (
    (1, 64),
    (2, 128),
    (1, 128),
    (2, 256),
    (1, 256),
    (2, 512),
    *5 * ((1, 512),),
    (2, 1024),
    (1, 1024),
)

# 2018, table 2: expansion, maps, number of blocks, stride of the first.
INVERTED = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


@dataclasses.dataclass(frozen=True)
class Bneck:
    """A row of tables 1 and 2 of 2019.

    Args:
        expansion: maps inside the block, per input map.
        maps: maps of the output.
        stride: of the depthwise convolution.
        kernel: side of the depthwise convolution.
        excitation: whether maps are weighed by squeeze and excitation.
        hard_swish: the activation, else a rectifier.
    """

    expansion: float
    maps: int
    stride: int
    kernel: int
    excitation: bool
    hard_swish: bool


LARGE = (
    Bneck(1, 16, 1, 3, False, False),
    Bneck(4, 24, 2, 3, False, False),
    Bneck(3, 24, 1, 3, False, False),
    Bneck(3, 40, 2, 5, True, False),
    Bneck(3, 40, 1, 5, True, False),
    Bneck(3, 40, 1, 5, True, False),
    Bneck(6, 80, 2, 3, False, True),
    Bneck(2.5, 80, 1, 3, False, True),
    Bneck(2.3, 80, 1, 3, False, True),
    Bneck(2.3, 80, 1, 3, False, True),
    Bneck(6, 112, 1, 3, True, True),
    Bneck(6, 112, 1, 3, True, True),
    Bneck(6, 160, 2, 5, True, True),
    Bneck(6, 160, 1, 5, True, True),
    Bneck(6, 160, 1, 5, True, True),
)
SMALL = (
    Bneck(1, 16, 2, 3, True, False),
    Bneck(72 / 16, 24, 2, 3, False, False),
    Bneck(88 / 24, 24, 1, 3, False, False),
    Bneck(4, 40, 2, 5, True, True),
    Bneck(6, 40, 1, 5, True, True),
    Bneck(6, 40, 1, 5, True, True),
    Bneck(3, 48, 1, 5, True, True),
    Bneck(3, 48, 1, 5, True, True),
    Bneck(6, 96, 2, 5, True, True),
    Bneck(6, 96, 1, 5, True, True),
    Bneck(6, 96, 1, 5, True, True),
)

# The published files of MobileNetV3, by size and width: the hashes with and without the top.
V3_HASHES = {
    "large_224_0.75": ("765b44a33ad4005b3ac83185abf1d0eb", "40af19a13ebea4e2ee0c676887f69a2e"),
    "large_224_1.0": ("59e551e166be033d707958cf9e29a6a7", "07fb09a5933dd0c8eaafa16978110389"),
    "large_minimalistic_224_1.0": (
        "675e7b876c45c57e9e63e6d90a36599c",
        "ec5221f64a2f6d1ef965a614bdae7973",
    ),
    "small_224_0.75": ("cb65d4e5be93758266aa0a7f2c6708b7", "ebdb5cc8e0b497cd13a7c275d475c819"),
    "small_224_1.0": ("8768d4c2e7dee89b9d02b2d03d65d862", "d3e8ec802a04aa4fc771ee12a9a9b836"),
    "small_minimalistic_224_1.0": (
        "99cd97fb2fcdad2bf028eb838de69e37",
        "cde8136e733e811080d9fcd8a252f7e4",
    ),
}


def rounded(maps: float) -> int:
    """The multiple of eight nearest to ``maps``, at least eight and no less than 90 % of it."""
    multiple = max(8, int(maps + 4) // 8 * 8)
    return multiple + 8 if multiple < 0.9 * maps else multiple


def normalised_convolution(
    x,
    maps: int,
    size: int,
    name: str,
    normalisation: str,
    activation: layers.Layer | None = None,
    *,
    stride: int = 1,
    momentum: float = 0.999,
):
    """A convolution without bias, batch normalisation and, where there is one, an activation."""
    x = layers.Conv2D(maps, size, strides=stride, padding="same", use_bias=False, name=name)(x)
    x = layers.BatchNormalization(momentum=momentum, name=normalisation)(x)
    return activation(x) if activation else x


def depthwise_convolution(
    x,
    size: int,
    stride: int,
    names: tuple[str, str, str],
    activation: layers.Layer,
    *,
    momentum: float = 0.999,
    padding: tuple | None = None,
):
    """A convolution of each map by itself, batch normalisation and an activation.

    Args:
        x: maps.
        size: the side of the kernel.
        stride: of the convolution.
        names: of the padding, the convolution and the normalisation.
        activation: the activation.
        momentum: of the normalisation's moving statistics.
        padding: zeros around the maps where the stride is 2; None: centred.
    """
    if stride == 2:
        x = layers.ZeroPadding2D(padding or halving_padding(x, size), name=names[0])(x)
    x = layers.DepthwiseConv2D(
        size,
        strides=stride,
        padding="valid" if stride == 2 else "same",
        use_bias=False,
        name=names[1],
    )(x)
    return activation(layers.BatchNormalization(momentum=momentum, name=names[2])(x))


def mobilenet(
    input_shape: tuple[int, int, int] = (224, 224, 3),
    num_classes: int = 1000,
    *,
    width: float = 1.0,
    dropout: float = 0.001,
    weights: str | None = None,
) -> keras.Model:
    """MobileNet.

    Args:
        input_shape: height, width and channels of a picture.
        num_classes: number of classes.
        width: factor of the number of maps (section 3.3).
        dropout: share of the pooled values that a training step leaves out.
        weights: path of an official file, or imagenet to download it.
    """

    def relu6(name):
        return layers.ReLU(6.0, name=name)

    x = inputs = picture_input("MobileNet", input_shape, SMALLEST_SIDE)
    x = normalised_convolution(
        x,
        int(32 * width),
        3,
        "conv1",
        "conv1_bn",
        relu6("conv1_relu"),
        stride=2,
        momentum=0.99,
    )
    strides = Strides(2)
    for number, (stride, maps) in enumerate(SEPARABLE, 1):
        depthwise, pointwise = f"conv_dw_{number}", f"conv_pw_{number}"
        x = depthwise_convolution(
            strides.before(x, stride),
            3,
            stride,
            (f"conv_pad_{number}", depthwise, f"{depthwise}_bn"),
            relu6(f"{depthwise}_relu"),
            momentum=0.99,
            padding=((0, 1), (0, 1)),
        )
        x = normalised_convolution(
            x,
            int(maps * width),
            1,
            pointwise,
            f"{pointwise}_bn",
            relu6(f"{pointwise}_relu"),
            momentum=0.99,
        )
    x = layers.GlobalAveragePooling2D(keepdims=True, name="avg_pool")(stride_map(x, 32))
    x = layers.Dropout(dropout, name="dropout")(x)
    model = _classified(x, inputs, num_classes, "conv_preds", "mobilenet")
    return initialised(model, weights, _published_v1(width, input_shape))


def mobilenet_v2(
    input_shape: tuple[int, int, int] = (224, 224, 3),
    num_classes: int = 1000,
    *,
    width: float = 1.0,
    weights: str | None = None,
) -> keras.Model:
    """MobileNetV2.

    Args:
        input_shape: height, width and channels of a picture.
        num_classes: number of classes.
        width: factor of the number of maps; below 1 it spares the last convolution (section 6.1).
        weights: path of an official file, or imagenet to download it.
    """

    def relu6(name):
        return layers.ReLU(6.0, name=name)

    x = inputs = picture_input("MobileNetV2", input_shape, SMALLEST_SIDE)
    x = normalised_convolution(
        x, rounded(32 * width), 3, "Conv1", "bn_Conv1", relu6("Conv1_relu"), stride=2
    )
    strides = Strides(2)
    rows = [
        (expansion, maps, first_stride if position == 0 else 1)
        for expansion, maps, count, first_stride in INVERTED
        for position in range(count)
    ]
    for number, (expansion, maps, stride) in enumerate(rows):
        name = f"block_{number}" if number else "expanded_conv"
        y = x = strides.before(x, stride)
        if expansion > 1:
            y = normalised_convolution(
                y,
                expansion * x.shape[-1],
                1,
                f"{name}_expand",
                f"{name}_expand_BN",
                relu6(f"{name}_expand_relu"),
            )
        y = depthwise_convolution(
            y,
            3,
            stride,
            (f"{name}_pad", f"{name}_depthwise", f"{name}_depthwise_BN"),
            relu6(f"{name}_depthwise_relu"),
        )
        y = normalised_convolution(
            y, rounded(int(maps * width)), 1, f"{name}_project", f"{name}_project_BN"
        )
        x = _residual(x, y, stride, f"{name}_add")
    last = rounded(1280 * max(1.0, width))
    x = normalised_convolution(stride_map(x, 32), last, 1, "Conv_1", "Conv_1_bn", relu6("out_relu"))
    x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
    outputs = layers.Dense(num_classes, dtype=floatx(), name="predictions")(x)
    model = keras.Model({"image": inputs}, outputs, name="mobilenet_v2")
    return initialised(model, weights, _published_v2(width, input_shape))


def mobilenet_v3(
    size: str,
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    width: float = 1.0,
    minimalistic: bool = False,
    dropout: float = 0.2,
    weights: str | None = None,
) -> keras.Model:
    """The network of table 1 or 2 of 2019.

    Args:
        size: small or large.
        input_shape: height, width and channels of a picture.
        num_classes: number of classes.
        width: factor of the number of maps of the blocks.
        minimalistic: without 5x5 kernels, hard swish and squeeze and excitation.
        dropout: share of the last hidden values that a training step leaves out.
        weights: path of an official file, or imagenet to download it.
    """

    def activation(hard_swish, name):
        if hard_swish and not minimalistic:
            return layers.Activation("hard_swish", name=name)
        return layers.ReLU(name=name)

    rows, hidden = {"small": (SMALL, 1024), "large": (LARGE, 1280)}[size]
    inputs = picture_input("MobileNetV3", input_shape, SMALLEST_SIDE)
    # In float32, whatever the model computes in: so the weights were trained.
    x = BytePixels(name="pixels")(inputs) * float(np.float32(1 / 127.5)) - 1.0
    x = normalised_convolution(
        x, 16, 3, "conv", "conv_bn", activation(True, "conv_activation"), stride=2
    )
    strides = Strides(2)
    for number, row in enumerate(rows):
        name = f"expanded_conv_{number}" if number else "expanded_conv"
        y = x = strides.before(x, row.stride)
        inside = rounded(x.shape[-1] * row.expansion)
        if number:
            y = normalised_convolution(
                y,
                inside,
                1,
                f"{name}_expand",
                f"{name}_expand_bn",
                activation(row.hard_swish, f"{name}_expand_activation"),
            )
        y = depthwise_convolution(
            y,
            3 if minimalistic else row.kernel,
            row.stride,
            (f"{name}_depthwise_pad", f"{name}_depthwise", f"{name}_depthwise_bn"),
            activation(row.hard_swish, f"{name}_depthwise_activation"),
        )
        if row.excitation and not minimalistic:
            parts = ("avg_pool", "conv", "conv_1", "mul")
            names = tuple(f"{name}_squeeze_excite_{part}" for part in parts)
            y = squeeze_excitation(y, rounded(inside / 4), ("relu", "hard_sigmoid"), names)
        maps = rounded(row.maps * width)
        y = normalised_convolution(y, maps, 1, f"{name}_project", f"{name}_project_bn")
        x = _residual(x, y, row.stride, f"{name}_add")
    x = stride_map(x, 32)
    x = normalised_convolution(
        x,
        rounded(6 * x.shape[-1]),
        1,
        "conv_1",
        "conv_1_bn",
        activation(True, "conv_1_activation"),
    )
    x = layers.GlobalAveragePooling2D(keepdims=True, name="avg_pool")(x)
    hidden = rounded(hidden * width) if width > 1 else hidden
    x = layers.Conv2D(hidden, 1, name="conv_2")(x)
    x = layers.Dropout(dropout, name="dropout")(activation(True, "conv_2_activation")(x))
    model = _classified(x, inputs, num_classes, "logits", f"mobilenet_v3_{size}")
    return initialised(model, weights, _published_v3(size, width, minimalistic), top=2)


def mobilenet_v3_small(
    input_shape: tuple[int, int, int] = (224, 224, 3), num_classes: int = 1000, **options: Any
) -> keras.Model:
    """MobileNetV3-Small; the options are those of ``mobilenet_v3``."""
    return mobilenet_v3("small", input_shape, num_classes, **options)


def mobilenet_v3_large(
    input_shape: tuple[int, int, int] = (224, 224, 3), num_classes: int = 1000, **options: Any
) -> keras.Model:
    """MobileNetV3-Large; the options are those of ``mobilenet_v3``."""
    return mobilenet_v3("large", input_shape, num_classes, **options)


def _residual(x, y, stride: int, name: str):
    """``y`` plus the block's input where both have the same shape."""
    same = stride == 1 and x.shape[-1] == y.shape[-1]
    return layers.Add(name=name)([x, y]) if same else y


def _classified(x, inputs, num_classes: int, convolution: str, name: str) -> keras.Model:
    """The network from ``inputs`` to the logits of ``x`` [batch, 1, 1, maps], by convolution."""
    x = layers.Conv2D(num_classes, 1, dtype=floatx(), name=convolution)(x)
    return keras.Model({"image": inputs}, layers.Flatten(name="predictions")(x), name=name)


def _trained_side(input_shape: tuple[int, int, int], sides: tuple[int, ...]) -> int:
    """The side of the pictures whose weights fit best: the same one, or 224."""
    height, width = input_shape[:2]
    return height if height == width and height in sides else 224


def _published_v1(width: float, input_shape: tuple[int, int, int]) -> Published | None:
    names = {1.0: "1_0", 0.75: "7_5", 0.5: "5_0", 0.25: "2_5"}
    if width not in names:
        return None
    side = _trained_side(input_shape, (128, 160, 192))
    file = f"{FOLDER}/mobilenet/mobilenet_{names[width]}_{side}_tf"
    return Published(f"{file}.h5", None, f"{file}_no_top.h5", None, convention="tf")


def _published_v2(width: float, input_shape: tuple[int, int, int]) -> Published | None:
    if width not in (0.35, 0.5, 0.75, 1.0, 1.3, 1.4):
        return None
    side = _trained_side(input_shape, (96, 128, 160, 192))
    file = f"mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{float(width)}_{side}"
    file = f"{FOLDER}/mobilenet_v2/{file}"
    return Published(f"{file}.h5", None, f"{file}_no_top.h5", None, convention="tf")


def _published_v3(size: str, width: float, minimalistic: bool) -> Published | None:
    variant = f"{size}{'_minimalistic' * minimalistic}_224_{float(width)}"
    if variant not in V3_HASHES:
        return None
    md5, headless_md5 = V3_HASHES[variant]
    file = f"{FOLDER}/mobilenet_v3/weights_mobilenet_v3_{variant}_float"
    return Published(f"{file}.h5", md5, f"{file}_no_top_v2.h5", headless_md5, convention="bytes")


# The published files of the variants that are the defaults.
WEIGHTS = {
    "mobilenet": _published_v1(1.0, (224, 224, 3)),
    "mobilenet_v2": _published_v2(1.0, (224, 224, 3)),
    "mobilenet_v3_small": _published_v3("small", 1.0, minimalistic=False),
    "mobilenet_v3_large": _published_v3("large", 1.0, minimalistic=False),
}
