"""Squeeze and excitation: the whole picture decides how much each map counts."""

from __future__ import annotations

from keras import layers


def squeeze_excitation(
    x,
    squeezed: int,
    activations: tuple[str, str],
    names: tuple[str, str, str, str],
    kernel_initializer=lambda: "glorot_uniform",
):
    """Each map times a weight that two small layers compute from the means of all maps.

    J. Hu, L. Shen, G. Sun, "Squeeze-and-Excitation Networks", 2017,
    https://arxiv.org/abs/1709.01507. [batch, height, width, maps] → the same shape.

    Args:
        x: maps.
        squeezed: the units between the two layers.
        activations: of the first layer and of the second, whose values are the weights.
        names: of the mean, the two layers and the product.
        kernel_initializer: makes the initializer of a kernel.
    """
    mean, reduce, expand, product = names
    y = layers.GlobalAveragePooling2D(keepdims=True, name=mean)(x)
    for units, activation, name in zip(
        (squeezed, x.shape[-1]), activations, (reduce, expand), strict=True
    ):
        y = layers.Conv2D(
            units, 1, activation=activation, kernel_initializer=kernel_initializer(), name=name
        )(y)
    return layers.Multiply(name=product)([x, y])
