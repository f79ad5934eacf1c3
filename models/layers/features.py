"""Intermediate maps of a convolutional network, for those that serve as backbones."""

from __future__ import annotations

import keras
from keras import layers

PREFIX = "stride_"


def stride_map(x, stride: int):
    """Names the last map that is ``stride`` times smaller than the picture; changes nothing.

    The name is a layer's of its own, so that the layers that own weights keep their published ones.
    """
    return layers.Identity(name=f"{PREFIX}{stride}")(x)


class Strides:
    """Names the map in front of each halving by its stride.

    Args:
        stride: how much smaller the first map is than the picture.
    """

    def __init__(self, stride: int):
        self.stride = stride

    def before(self, x, stride: int):
        """``x``, named if a layer of ``stride`` is about to halve it."""
        if stride == 1:
            return x
        x = stride_map(x, self.stride)
        self.stride *= 2
        return x


def features(model: keras.Model) -> keras.Model:
    """The model that shares ``model``'s weights and answers its maps by stride.

    The outputs are a dict such as {"stride_1": [batch, height, width, channels], "stride_2":
    [batch, height / 2, …], …}, the largest maps first.

    Raises:
        ValueError: where no layer is named after its stride.
    """
    maps = {layer.name: layer.output for layer in model.layers if layer.name.startswith(PREFIX)}
    if not maps:
        raise ValueError(f"{model.name} names no maps by stride: it is no backbone")
    return keras.Model(model.input, maps, name=f"{model.name}_features")
