"""Residual networks: each block learns what to add to its input.

Paper: K. He, X. Zhang, S. Ren, J. Sun, "Deep Residual Learning for Image Recognition", 2015,
https://arxiv.org/abs/1512.03385, section 4.2 (the networks for CIFAR-10).

Input [batch, height, width, channels] of any size (the paper's 32x32x3); output [batch, classes]
float32 logits. The last activation before the picture shrinks is named after its stride
(``stride_1``, ``stride_2``, ``stride_4``), see ``models.layers.features``.

Trainable parameters with shortcuts of option A: 269,722 (20 layers), 464,154 (32), 658,586 (44),
853,018 (56), 1,727,962 (110); with option B 272,474 (20 layers).

Deviations: none. Weight decay (1e-4) and the steps of the learning rate belong to the recipe.
"""

from __future__ import annotations

from typing import Literal

import keras
from keras import layers, ops

from models.layers.features import stride_name

# Section 4.2: the channels of the three stages; each has n blocks of two layers, 6n + 2 in all.
CIFAR_CHANNELS = (16, 32, 64)

Shortcut = Literal["A", "B"]


def convolution(x, channels: int, size: int, stride: int = 1, name: str | None = None):
    """Convolution without bias (normalisation has one), "same" padding, initialised as by He."""
    return layers.Conv2D(
        channels,
        size,
        strides=stride,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)


def normalised(x, name: str):
    """Batch normalisation."""
    return layers.BatchNormalization(name=f"{name}_bn")(x)


def shortcut(x, channels: int, stride: int, option: Shortcut, name: str):
    """The input of a block in the shape of its output (section 3.3, options A and B).

    A: every ``stride``-th pixel, missing channels filled with zeros. B: a 1x1 projection.
    """
    if stride == 1 and x.shape[-1] == channels:
        return x
    if option == "B":
        return normalised(convolution(x, channels, 1, stride, f"{name}_0"), f"{name}_0")
    missing = channels - x.shape[-1]
    padding = ((0, 0), (0, 0), (0, 0), (missing // 2, missing - missing // 2))
    return ops.pad(layers.MaxPooling2D(1, stride, name=f"{name}_0_every")(x), padding)


def basic_block(x, channels: int, stride: int, option: Shortcut, name: str, output: str):
    """Two 3x3 convolutions beside the shortcut; ``output`` names the last activation."""
    y = normalised(convolution(x, channels, 3, stride, f"{name}_1"), f"{name}_1")
    y = layers.ReLU(name=f"{name}_1_relu")(y)
    y = normalised(convolution(y, channels, 3, 1, f"{name}_2"), f"{name}_2")
    y = layers.Add(name=f"{name}_add")([shortcut(x, channels, stride, option, name), y])
    return layers.ReLU(name=output)(y)


def cifar_resnet(
    depth: int, input_shape: tuple[int, int, int], num_classes: int, option: Shortcut
) -> keras.Model:
    """The network of section 4.2 with ``depth`` = 6n + 2 weighted layers."""
    blocks = (depth - 2) // 6
    x = inputs = keras.Input(input_shape, name="image")
    x = normalised(convolution(x, CIFAR_CHANNELS[0], 3, name="stem"), "stem")
    x = layers.ReLU(name="stem_relu")(x)
    for stage, channels in enumerate(CIFAR_CHANNELS):
        for block in range(blocks):
            name = f"stage{stage + 1}_block{block + 1}"
            stride = 2 if stage > 0 and block == 0 else 1
            output = stride_name(2**stage) if block == blocks - 1 else f"{name}_out"
            x = basic_block(x, channels, stride, option, name, output)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    outputs = layers.Dense(
        num_classes, kernel_initializer="he_normal", dtype="float32", name="logits"
    )(x)
    return keras.Model({"image": inputs}, outputs, name=f"resnet{depth}")


def resnet20(
    input_shape: tuple[int, int, int] = (32, 32, 3),
    num_classes: int = 10,
    *,
    option: Shortcut = "A",
) -> keras.Model:
    """ResNet-20 for CIFAR: 8.75 % test error on CIFAR-10 in the paper.

    Args:
        input_shape: height, width and channels of a picture.
        num_classes: number of classes.
        option: shortcuts where the shape changes, A: padded with zeros, B: projected.
    """
    return cifar_resnet(20, input_shape, num_classes, option)


def resnet32(
    input_shape: tuple[int, int, int] = (32, 32, 3),
    num_classes: int = 10,
    *,
    option: Shortcut = "A",
) -> keras.Model:
    """ResNet-32 for CIFAR: 7.51 % test error on CIFAR-10 in the paper.

    Args:
        input_shape: height, width and channels of a picture.
        num_classes: number of classes.
        option: shortcuts where the shape changes, A: padded with zeros, B: projected.
    """
    return cifar_resnet(32, input_shape, num_classes, option)


def resnet44(
    input_shape: tuple[int, int, int] = (32, 32, 3),
    num_classes: int = 10,
    *,
    option: Shortcut = "A",
) -> keras.Model:
    """ResNet-44 for CIFAR: 7.17 % test error on CIFAR-10 in the paper.

    Args:
        input_shape: height, width and channels of a picture.
        num_classes: number of classes.
        option: shortcuts where the shape changes, A: padded with zeros, B: projected.
    """
    return cifar_resnet(44, input_shape, num_classes, option)


def resnet56(
    input_shape: tuple[int, int, int] = (32, 32, 3),
    num_classes: int = 10,
    *,
    option: Shortcut = "A",
) -> keras.Model:
    """ResNet-56 for CIFAR: 6.97 % test error on CIFAR-10 in the paper.

    Args:
        input_shape: height, width and channels of a picture.
        num_classes: number of classes.
        option: shortcuts where the shape changes, A: padded with zeros, B: projected.
    """
    return cifar_resnet(56, input_shape, num_classes, option)


def resnet110(
    input_shape: tuple[int, int, int] = (32, 32, 3),
    num_classes: int = 10,
    *,
    option: Shortcut = "A",
) -> keras.Model:
    """ResNet-110 for CIFAR: 6.43 % test error on CIFAR-10 in the paper.

    The paper starts it with a learning rate of 0.01 until it begins to learn (warm-up).

    Args:
        input_shape: height, width and channels of a picture.
        num_classes: number of classes.
        option: shortcuts where the shape changes, A: padded with zeros, B: projected.
    """
    return cifar_resnet(110, input_shape, num_classes, option)
