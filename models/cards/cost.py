"""What one example costs: multiply-adds, told by the shapes of the layers."""

from __future__ import annotations

import math

import keras
from keras import layers

from models.layers.normalization import ChannelNormalization

CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
# A few operations a value: papers leave them out.
FREE = (layers.BatchNormalization, layers.LayerNormalization, ChannelNormalization)


def multiply_adds(model: keras.Model) -> int | None:
    """The multiply-adds of convolutions and dense layers for one example.

    A floating-point operation (FLOP) is one multiplication or one addition, so a network takes
    twice as many; papers on image networks mostly mean multiply-adds when they say FLOPs.

    Returns:
        the number, or None where the shapes do not tell it: for open sides, and for other layers
        that own weights and do not say their ``multiply_adds`` themselves.
    """
    if not isinstance(model, keras.Model) or not hasattr(model, "operations"):
        return None
    costs = [_cost(layer) for layer in model.layers]
    return None if None in costs else sum(costs)


def _cost(layer: keras.Layer) -> int | None:
    if isinstance(layer, keras.Model):
        return multiply_adds(layer)
    if hasattr(layer, "multiply_adds"):
        return layer.multiply_adds
    if isinstance(layer, FREE) or not layer.weights:
        return 0
    if isinstance(layer, layers.Dense):
        places = layer.output.shape[1:-1]
    elif isinstance(layer, TRANSPOSED):
        places = layer.input.shape[1:-1]
    elif isinstance(layer, (*CONVOLUTIONS, *DEPTHWISE)):
        places = layer.output.shape[1:-1]
    else:
        return None
    return None if None in places else math.prod(places) * math.prod(layer.kernel.shape)
