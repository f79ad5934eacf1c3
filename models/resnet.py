"""Residual networks: each block learns what to add to its input.

Paper: K. He, X. Zhang, S. Ren, J. Sun, "Deep Residual Learning for Image Recognition", 2015,
https://arxiv.org/abs/1512.03385: table 1 (ImageNet) and section 4.2 (CIFAR-10).

Input [batch, height, width, channels], 32 pixels or more a side for ImageNet's networks (the
paper's 224x224x3), any for CIFAR's (32x32x3); output [batch, classes] float32 logits. ``features``:
the last map of each stage, strides 4 to 32 for ImageNet's networks and 1 to 4 for CIFAR's.

With ``shortcuts="none"`` each is its plain counterpart, which shows what the shortcuts are for: the
deeper a plain network is, the worse it learns (the paper's figures 1 and 4).

Parameters (trainable):

    18 layers  11,699,112 (11,689,512)      101 layers  44,707,176 (44,601,832)
    34 layers  21,814,696 (21,797,672)      152 layers  60,419,944 (60,268,520)
    50 layers  25,636,712 (25,583,592)

and, without the biases that the published weights of 50 layers and more have in front of each
normalisation, 25,610,152 (25,557,032), 44,654,504 (44,549,160) and 60,344,232 (60,192,808).
CIFAR's, trainable, with shortcuts A: 269,722 (20 layers), 464,154 (32), 658,586 (44), 853,018 (56),
1,727,962 (110); with B 272,474 (20 layers).

Deviations: none. Weight decay (1e-4) and the steps of the learning rate belong to the recipe.
``version="1.5"`` halves the picture in the 3x3 convolution of a bottleneck, as most later work
does, instead of in the 1x1 convolution before it.
"""

from __future__ import annotations

from typing import Any, Literal

import keras
from keras import layers, ops
from keras.config import floatx

from models.layers.features import stride_map
from models.layers.official_weights import Published, initialised
from models.layers.picture import picture_input

SMALLEST_SIDE = 32

# Table 1: the number of blocks in each of the four stages, and their channels.
BASIC_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
BOTTLENECKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
CHANNELS = (64, 128, 256, 512)

# Section 4.2: the channels of the three stages; each has n blocks of two layers, 6n + 2 in all.
CIFAR_CHANNELS = (16, 32, 64)

# As the published weights were trained with.
EPSILON = 1.001e-5

Shortcut = Literal["A", "B", "none"]

FOLDER = "https://storage.googleapis.com/tensorflow/keras-applications/resnet"
FILE = "weights_tf_dim_ordering_tf_kernels"
WEIGHTS = {
    name: Published(
        f"{FOLDER}/{name}_{FILE}.h5",
        md5,
        f"{FOLDER}/{name}_{FILE}_notop.h5",
        headless_md5,
        convention="caffe",
    )
    for name, md5, headless_md5 in (
        ("resnet50", "2cb95161c43110f7111970584f804107", "4d473c1dd8becc155b73f8504c6f6626"),
        ("resnet101", "f1aeb4b969a6efcfb50fad2f0c20cfc5", "88cf7a10940856eca736dc7b7e228a21"),
        ("resnet152", "100835be76be38e30d865e96f2aaae62", "ee4c566cf9a93f14d82f913c2dc6dd0c"),
    )
}


def normalised_convolution(
    x, channels: int, size: int, stride: int = 1, *, bias: bool = False, name: str, padding="same"
):
    """Convolution, initialised as by He, and batch normalisation, which has a bias of its own."""
    x = layers.Conv2D(
        channels,
        size,
        strides=stride,
        padding=padding,
        use_bias=bias,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)
    return layers.BatchNormalization(epsilon=EPSILON, name=f"{name}_bn")(x)


def added_to_shortcut(
    y, x, stride: int, shortcuts: Shortcut, *, bias: bool = False, name: str, output: str
):
    """What a block computed, ``y``, beside its input ``x`` in the same shape, rectified.

    The shapes are made equal by option A or B of section 3.3: every ``stride``-th pixel, missing
    channels filled with zeros, or a 1x1 projection.
    """
    channels = y.shape[-1]
    if shortcuts != "none":
        if stride > 1 or x.shape[-1] != channels:
            if shortcuts == "B":
                x = normalised_convolution(x, channels, 1, stride, bias=bias, name=f"{name}_0")
            else:
                missing = channels - x.shape[-1]
                padding = ((0, 0), (0, 0), (0, 0), (missing // 2, missing - missing // 2))
                x = ops.pad(layers.MaxPooling2D(1, stride, name=f"{name}_0_every")(x), padding)
        y = layers.Add(name=f"{name}_add")([x, y])
    return layers.ReLU(name=output)(y)


def basic_block(x, channels: int, stride: int, shortcuts: Shortcut, name: str):
    """Two 3x3 convolutions beside the shortcut."""
    y = normalised_convolution(x, channels, 3, stride, name=f"{name}_1")
    y = layers.ReLU(name=f"{name}_1_relu")(y)
    y = normalised_convolution(y, channels, 3, name=f"{name}_2")
    return added_to_shortcut(y, x, stride, shortcuts, name=name, output=f"{name}_out")


def bottleneck(
    x, channels: int, stride: int, shortcuts: Shortcut, name: str, *, version: str, bias: bool
):
    """A 3x3 convolution between two of 1x1, the last with 4 x ``channels``, beside the shortcut."""
    first, middle = (stride, 1) if version == "1" else (1, stride)
    y = normalised_convolution(x, channels, 1, first, bias=bias, name=f"{name}_1")
    y = layers.ReLU(name=f"{name}_1_relu")(y)
    y = normalised_convolution(y, channels, 3, middle, bias=bias, name=f"{name}_2")
    y = layers.ReLU(name=f"{name}_2_relu")(y)
    y = normalised_convolution(y, 4 * channels, 1, bias=bias, name=f"{name}_3")
    return added_to_shortcut(y, x, stride, shortcuts, bias=bias, name=name, output=f"{name}_out")


def stem(depth: int, input_shape: tuple[int, int, int], *, bias: bool):
    """ImageNet's pictures, and their maps a quarter of the size (table 1, conv1 and pool)."""
    x = inputs = picture_input(f"ResNet-{depth}", input_shape, SMALLEST_SIDE)
    x = layers.ZeroPadding2D(3, name="conv1_pad")(x)
    x = normalised_convolution(x, 64, 7, 2, bias=bias, name="conv1", padding="valid")
    x = stride_map(layers.ReLU(name="conv1_relu")(x), 2)
    x = layers.ZeroPadding2D(1, name="pool1_pad")(x)
    return inputs, layers.MaxPooling2D(3, 2, name="pool1_pool")(x)


def stages(x, counts: tuple[int, ...], all_channels: tuple[int, ...], block, first_stride: int):
    """Blocks of the same channels in a row; each row but the first begins by halving the maps.

    Args:
        x: the maps that the stem computed.
        counts: the number of blocks in each stage.
        all_channels: the channels of each stage.
        block: ``block(x, channels, stride, name=...)``.
        first_stride: how much smaller ``x`` is than the picture.
    """
    for stage, (count, channels) in enumerate(zip(counts, all_channels, strict=True)):
        for number in range(1, count + 1):
            stride = 2 if stage > 0 and number == 1 else 1
            x = block(x, channels, stride, name=f"conv{stage + 2}_block{number}")
        x = stride_map(x, first_stride * 2**stage)
    return x


def classified(x, inputs, num_classes: int, name: str) -> keras.Model:
    """The network from ``inputs`` to the logits of the pooled maps ``x``."""
    x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
    outputs = layers.Dense(
        num_classes, kernel_initializer="he_normal", dtype=floatx(), name="predictions"
    )(x)
    return keras.Model({"image": inputs}, outputs, name=name)


def basic_resnet(
    depth: int,
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    shortcuts: Shortcut = "B",
) -> keras.Model:
    """The networks of table 1 that are made of basic blocks.

    Args:
        depth: 18 or 34.
        input_shape: height, width and channels of a picture.
        num_classes: number of classes.
        shortcuts: where the shape changes, A: padded with zeros, B: projected; none: nowhere.
    """
    inputs, x = stem(depth, input_shape, bias=False)

    def block(x, channels, stride, name):
        return basic_block(x, channels, stride, shortcuts, name)

    x = stages(x, BASIC_BLOCKS[depth], CHANNELS, block, first_stride=4)
    return classified(x, inputs, num_classes, f"resnet{depth}")


def bottleneck_resnet(
    depth: int,
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    shortcuts: Shortcut = "B",
    version: Literal["1", "1.5"] = "1",
    bias: bool = True,
    weights: str | None = None,
) -> keras.Model:
    """The networks of table 1 that are made of bottlenecks.

    Args:
        depth: 50, 101 or 152.
        input_shape: height, width and channels of a picture.
        num_classes: number of classes.
        shortcuts: where the shape changes, A: padded with zeros, B: projected; none: nowhere.
        version: where a stage halves its maps, 1: in its first 1x1 convolution, 1.5: in the 3x3.
        bias: whether convolutions have a bias before the normalisation, as the published weights.
        weights: path of an official file, or imagenet to download it.
    """
    inputs, x = stem(depth, input_shape, bias=bias)

    def block(x, channels, stride, name):
        return bottleneck(x, channels, stride, shortcuts, name, version=version, bias=bias)

    x = stages(x, BOTTLENECKS[depth], CHANNELS, block, first_stride=4)
    model = classified(x, inputs, num_classes, f"resnet{depth}")
    return initialised(model, weights, WEIGHTS[model.name])


def cifar_resnet(
    depth: int,
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    shortcuts: Shortcut = "A",
) -> keras.Model:
    """The network of section 4.2.

    Args:
        depth: 6n + 2 layers with weights.
        input_shape: height, width and channels of a picture.
        num_classes: number of classes.
        shortcuts: where the shape changes, A: padded with zeros, B: projected; none: nowhere.
    """
    x = inputs = picture_input(f"ResNet-{depth}", input_shape, 1)
    x = normalised_convolution(x, CIFAR_CHANNELS[0], 3, name="conv1")
    x = layers.ReLU(name="conv1_relu")(x)

    def block(x, channels, stride, name):
        return basic_block(x, channels, stride, shortcuts, name)

    x = stages(x, 3 * ((depth - 2) // 6,), CIFAR_CHANNELS, block, first_stride=1)
    return classified(x, inputs, num_classes, f"resnet{depth}")


def resnet18(
    input_shape: tuple[int, int, int] = (224, 224, 3), num_classes: int = 1000, **options: Any
) -> keras.Model:
    """ResNet-18; the options are those of ``basic_resnet``."""
    return basic_resnet(18, input_shape, num_classes, **options)


def resnet34(
    input_shape: tuple[int, int, int] = (224, 224, 3), num_classes: int = 1000, **options: Any
) -> keras.Model:
    """ResNet-34; the options are those of ``basic_resnet``."""
    return basic_resnet(34, input_shape, num_classes, **options)


def resnet50(
    input_shape: tuple[int, int, int] = (224, 224, 3), num_classes: int = 1000, **options: Any
) -> keras.Model:
    """ResNet-50; the options are those of ``bottleneck_resnet``."""
    return bottleneck_resnet(50, input_shape, num_classes, **options)


def resnet101(
    input_shape: tuple[int, int, int] = (224, 224, 3), num_classes: int = 1000, **options: Any
) -> keras.Model:
    """ResNet-101; the options are those of ``bottleneck_resnet``."""
    return bottleneck_resnet(101, input_shape, num_classes, **options)


def resnet152(
    input_shape: tuple[int, int, int] = (224, 224, 3), num_classes: int = 1000, **options: Any
) -> keras.Model:
    """ResNet-152; the options are those of ``bottleneck_resnet``."""
    return bottleneck_resnet(152, input_shape, num_classes, **options)


def resnet20(
    input_shape: tuple[int, int, int] = (32, 32, 3), num_classes: int = 10, **options: Any
) -> keras.Model:
    """ResNet-20 for CIFAR, 8.75 % test error in the paper; the options of ``cifar_resnet``."""
    return cifar_resnet(20, input_shape, num_classes, **options)


def resnet32(
    input_shape: tuple[int, int, int] = (32, 32, 3), num_classes: int = 10, **options: Any
) -> keras.Model:
    """ResNet-32 for CIFAR, 7.51 % test error in the paper; the options of ``cifar_resnet``."""
    return cifar_resnet(32, input_shape, num_classes, **options)


def resnet44(
    input_shape: tuple[int, int, int] = (32, 32, 3), num_classes: int = 10, **options: Any
) -> keras.Model:
    """ResNet-44 for CIFAR, 7.17 % test error in the paper; the options of ``cifar_resnet``."""
    return cifar_resnet(44, input_shape, num_classes, **options)


def resnet56(
    input_shape: tuple[int, int, int] = (32, 32, 3), num_classes: int = 10, **options: Any
) -> keras.Model:
    """ResNet-56 for CIFAR, 6.97 % test error in the paper; the options of ``cifar_resnet``."""
    return cifar_resnet(56, input_shape, num_classes, **options)


def resnet110(
    input_shape: tuple[int, int, int] = (32, 32, 3), num_classes: int = 10, **options: Any
) -> keras.Model:
    """ResNet-110 for CIFAR, 6.43 % test error in the paper; the options of ``cifar_resnet``.

    The paper starts it with a learning rate of 0.01 until it begins to learn (warm-up).
    """
    return cifar_resnet(110, input_shape, num_classes, **options)
