"""The kernels of a model, whatever built it: how they begin, and what large ones cost.

A kernel is what a layer multiplies its inputs with: the weights that Keras calls so, of dense,
convolutional and recurrent layers. Biases, the scales of normalization and embeddings are none.
"""

from __future__ import annotations

import logging

import keras

from models.layers.initialization import Initialization, initializer

log = logging.getLogger(__name__)


def kernels(model: keras.Model) -> list[keras.Variable]:
    """The kernels that are trained, in the order in which the model has them."""
    return [weight for weight in model.trainable_variables if weight.name.endswith("kernel")]


def initialize(model: keras.Model, name: Initialization) -> None:
    """Draws all kernels anew."""
    for kernel in kernels(model):
        kernel.assign(initializer(name)(kernel.shape, kernel.dtype))


def warn_of_symmetry(model: keras.Model) -> None:
    """Warns of kernels below the last one that are all zero."""
    symmetric = [kernel.path for kernel in kernels(model)[:-1] if not keras.ops.any(kernel != 0)]
    if symmetric:
        log.warning(
            "zeros in hidden layers (%s): all units of a layer compute the same and get the same "
            "gradient, so that they stay one unit; only the last bias learns at first",
            ", ".join(symmetric[:3]) + ", ..." * (len(symmetric) > 3),
        )


def regularize(model: keras.Model, l1: float, l2: float, examples: int) -> None:
    """Adds λ / 2m times the sums of all kernels' absolute values and squares to the loss.

    Nothing of it is saved with the model: it is a matter of fitting alone.

    Args:
        model: before it is fitted.
        l1: λ of the absolute values.
        l2: λ of the squares.
        examples: m, of the training split.
    """
    if l1 or l2:
        for kernel in kernels(model):
            kernel.regularizer = keras.regularizers.L1L2(l1 / (2 * examples), l2 / (2 * examples))
