"""Fully connected networks, from none to many hidden layers: the fundamentals.

- ``linear_regression``: one unit without activation, trained on squared errors.
- ``logistic_regression``: one unit whose sigmoid is the probability of the second of two classes
  (D. R. Cox, "The Regression Analysis of Binary Sequences", 1958).
- ``softmax_regression``: one unit for each class.
- ``shallow_network``: one hidden layer; ``deep_network``: several; ``mlp``: several, and a number
  as output (D. E. Rumelhart, G. E. Hinton, R. J. Williams, "Learning Representations by
  Back-propagating Errors", 1986, https://doi.org/10.1038/323533a0).

Input ``columns`` [batch, num_features] float32; output float32, logits [batch, num_classes] or a
value [batch, 1]. The two logits of logistic regression are 0 and the unit's z, whose softmax is the
sigmoid of z. n features and c classes are n + 1 parameters for the first two, c (n + 1) for softmax
regression; a hidden layer of u units adds u (n + 1) and is itself the n of the next.

A hidden layer is z = W a + b, batch normalization and activation in either order, then dropout
(inverted: what stays is scaled up in training, so that answers need no scaling). Hidden layers
begin with He's weights and the last with Xavier's; without hidden layers weights begin at zero,
since nothing there is symmetric. How else they may begin, and L1 and L2, concern any model: see
the recipe in ``pipelines/engine/application.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import keras
from keras import layers, ops
from keras.config import floatx

from models.layers.initialization import initializer

Activation = Literal["sigmoid", "tanh", "relu", "leaky_relu", "linear"]
Normalization = Literal["none", "before", "after"]


def perceptron(
    num_features: int,
    outputs: int,
    units: Sequence[int] = (),
    *,
    activation: Activation = "relu",
    negative_slope: float = 0.01,
    dropout: float = 0.0,
    batch_normalization: Normalization = "none",
) -> keras.Model:
    """A network of dense layers without a last activation.

    Args:
        num_features: numbers that are read.
        outputs: numbers that are written.
        units: of each hidden layer.
        activation: of the hidden layers.
        negative_slope: of leaky ReLU below zero: 0.01 in the courses and in Maas et al. 2013, 0.2
            or 0.3 in Keras.
        dropout: share of the hidden units that are left out of a training step.
        batch_normalization: none, or where in a hidden layer: before the activation (Ioffe and
            Szegedy 2015, https://arxiv.org/abs/1502.03167) or after it.
    """
    x = inputs = keras.Input((num_features,), name="columns")
    for number, size in enumerate(units, start=1):
        x = layers.Dense(
            size,
            use_bias=batch_normalization != "before",  # which has a bias of its own
            kernel_initializer=initializer("he"),
            name=f"hidden_{number}",
        )(x)
        if batch_normalization == "before":
            x = layers.BatchNormalization(momentum=0.9, name=f"normalization_{number}")(x)
        x = _activated(activation, negative_slope, f"activation_{number}")(x)
        if batch_normalization == "after":
            x = layers.BatchNormalization(momentum=0.9, name=f"normalization_{number}")(x)
        if dropout:
            x = layers.Dropout(dropout, name=f"dropout_{number}")(x)
    last = initializer("xavier" if units else "zeros")
    outputs = layers.Dense(outputs, kernel_initializer=last, dtype=floatx(), name="output")(x)
    return keras.Model({"columns": inputs}, outputs)


def _activated(name: Activation, negative_slope: float, layer_name: str) -> layers.Layer:
    if name == "leaky_relu":
        return layers.LeakyReLU(negative_slope, name=layer_name)
    return layers.Activation(name, name=layer_name)


def linear_regression(num_features: int = 13) -> keras.Model:
    """A weighted sum of the features.

    Args:
        num_features: numbers that are read.
    """
    return perceptron(num_features, 1)


def mlp(num_features: int = 13, *, units: int = 128, depth: int = 2, **options: Any) -> keras.Model:
    """A multilayer perceptron that answers with a number; the options of ``perceptron``.

    Args:
        num_features: numbers that are read.
        units: of each hidden layer.
        depth: hidden layers.
        options: of ``perceptron``.
    """
    return perceptron(num_features, 1, (units,) * depth, **options)


def logistic_regression(num_features: int = 30, num_classes: int = 2) -> keras.Model:
    """One sigmoid unit, for two classes.

    Args:
        num_features: numbers that are read.
        num_classes: 2.

    Raises:
        ValueError: for another number of classes.
    """
    if num_classes != 2:
        raise ValueError(
            f"logistic regression parts two classes, received num_classes={num_classes}; "
            "softmax_regression parts any number"
        )
    unit = perceptron(num_features, 1)
    return keras.Model({"columns": unit.inputs[0]}, ops.pad(unit.output, ((0, 0), (1, 0))))


def softmax_regression(num_features: int = 4, num_classes: int = 3) -> keras.Model:
    """One unit for each class.

    Args:
        num_features: numbers that are read.
        num_classes: number of classes.
    """
    return perceptron(num_features, num_classes)


def shallow_network(
    num_features: int = 30, num_classes: int = 2, *, units: int = 16, **options: Any
) -> keras.Model:
    """One hidden layer; the options of ``perceptron``.

    Args:
        num_features: numbers that are read.
        num_classes: number of classes.
        units: of the hidden layer.
        options: of ``perceptron``.
    """
    return perceptron(num_features, num_classes, (units,), **options)


def deep_network(
    num_features: int = 30, num_classes: int = 2, *, units: int = 16, depth: int = 4, **options: Any
) -> keras.Model:
    """Several hidden layers; the options of ``perceptron``.

    Args:
        num_features: numbers that are read.
        num_classes: number of classes.
        units: of each hidden layer.
        depth: hidden layers.
        options: of ``perceptron``.
    """
    return perceptron(num_features, num_classes, (units,) * depth, **options)
