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
(inverted: what stays is scaled up in training, so that answers need no scaling). Regularization is
of W alone, not of b. ``l2`` is Keras's, the factor of the sum of squares that is added to the
*mean* loss of a batch. The courses add λ / (2m) times that sum, m being the number of training
examples: their λ is ``l2`` = λ / (2m) here. Likewise ``l1`` = λ / (2m) of the sum of absolute
values; some books divide by m alone.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Literal

import keras
from keras import layers, ops
from keras.config import floatx

from models.layers.initialization import Initialization, initializer

Activation = Literal["sigmoid", "tanh", "relu", "leaky_relu", "linear"]
Normalization = Literal["none", "before", "after"]

log = logging.getLogger(__name__)


def perceptron(
    num_features: int,
    outputs: int,
    units: Sequence[int] = (),
    *,
    activation: Activation = "relu",
    negative_slope: float = 0.01,
    initialization: Initialization = "he",
    l1: float = 0.0,
    l2: float = 0.0,
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
        initialization: of the weights of hidden layers; the last layer is Xavier's, zeros if they
            are. From zeros all units of a hidden layer stay the same.
        l1: what the absolute values of the weights cost.
        l2: what their squares cost; λ / (2m) in the courses' terms.
        dropout: share of the hidden units that are left out of a training step.
        batch_normalization: none, or where in a hidden layer: before the activation (Ioffe and
            Szegedy 2015, https://arxiv.org/abs/1502.03167) or after it.
    """
    if units and initialization == "zeros":
        log.warning(
            "zeros in a hidden layer: all its units compute the same and get the same gradient, so "
            "that they stay one unit; only the last layer's bias learns at first"
        )
    last = initialization if initialization in ("zeros", "small") else "xavier"
    weights = {"kernel_regularizer": keras.regularizers.L1L2(l1, l2) if l1 or l2 else None}
    x = inputs = keras.Input((num_features,), name="columns")
    for number, size in enumerate(units, start=1):
        x = layers.Dense(
            size,
            use_bias=batch_normalization != "before",  # which has a bias of its own
            kernel_initializer=initializer(initialization),
            name=f"hidden_{number}",
            **weights,
        )(x)
        if batch_normalization == "before":
            x = layers.BatchNormalization(momentum=0.9, name=f"normalization_{number}")(x)
        x = _activated(activation, negative_slope, f"activation_{number}")(x)
        if batch_normalization == "after":
            x = layers.BatchNormalization(momentum=0.9, name=f"normalization_{number}")(x)
        if dropout:
            x = layers.Dropout(dropout, name=f"dropout_{number}")(x)
    outputs = layers.Dense(
        outputs, kernel_initializer=initializer(last), dtype=floatx(), name="output", **weights
    )(x)
    return keras.Model({"columns": inputs}, outputs)


def _activated(name: Activation, negative_slope: float, layer_name: str) -> layers.Layer:
    if name == "leaky_relu":
        return layers.LeakyReLU(negative_slope, name=layer_name)
    return layers.Activation(name, name=layer_name)


def linear_regression(
    num_features: int = 13,
    *,
    initialization: Initialization = "zeros",
    l1: float = 0.0,
    l2: float = 0.0,
) -> keras.Model:
    """A weighted sum of the features.

    Args:
        num_features: numbers that are read.
        initialization: of the weights.
        l1: what the absolute values of the weights cost.
        l2: what their squares cost; λ / (2m) in the courses' terms.
    """
    return perceptron(num_features, 1, initialization=initialization, l1=l1, l2=l2)


def mlp(num_features: int = 13, *, units: int = 128, depth: int = 2, **options: Any) -> keras.Model:
    """A multilayer perceptron that answers with a number; the options of ``perceptron``.

    Args:
        num_features: numbers that are read.
        units: of each hidden layer.
        depth: hidden layers.
        options: of ``perceptron``.
    """
    return perceptron(num_features, 1, (units,) * depth, **options)


def logistic_regression(
    num_features: int = 30,
    num_classes: int = 2,
    *,
    initialization: Initialization = "zeros",
    l1: float = 0.0,
    l2: float = 0.0,
) -> keras.Model:
    """One sigmoid unit, for two classes.

    Args:
        num_features: numbers that are read.
        num_classes: 2.
        initialization: of the weights.
        l1: what the absolute values of the weights cost.
        l2: what their squares cost; λ / (2m) in the courses' terms.

    Raises:
        ValueError: for another number of classes.
    """
    if num_classes != 2:
        raise ValueError(
            f"logistic regression parts two classes, received num_classes={num_classes}; "
            "softmax_regression parts any number"
        )
    unit = perceptron(num_features, 1, initialization=initialization, l1=l1, l2=l2)
    return keras.Model({"columns": unit.inputs[0]}, ops.pad(unit.output, ((0, 0), (1, 0))))


def softmax_regression(
    num_features: int = 4,
    num_classes: int = 3,
    *,
    initialization: Initialization = "zeros",
    l1: float = 0.0,
    l2: float = 0.0,
) -> keras.Model:
    """One unit for each class.

    Args:
        num_features: numbers that are read.
        num_classes: number of classes.
        initialization: of the weights.
        l1: what the absolute values of the weights cost.
        l2: what their squares cost; λ / (2m) in the courses' terms.
    """
    return perceptron(num_features, num_classes, initialization=initialization, l1=l1, l2=l2)


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
