"""A look at the pixels of networks that scale them themselves."""

from __future__ import annotations

import warnings

import keras
import numpy as np
from keras import layers


@keras.saving.register_keras_serializable(package="zoo")
class BytePixels(layers.Layer):
    """Hands pixels from 0 to 255 on as they are; warns of pictures that show nothing above 1.

    [batch, height, width, channels] → the same. It sees what a model is called with; where the call
    is traced into a graph, as ``predict``, ``fit`` and an export do, there are no values to see.
    """

    def __init__(self, **kwargs):
        super().__init__(autocast=False, **kwargs)

    def call(self, x):
        try:
            largest = np.max(np.asarray(x), initial=0)
        except (NotImplementedError, TypeError):  # as TensorFlow and JAX say that it is traced
            return x
        if 0 < largest <= 1:
            warnings.warn(
                f"the network expects pixels from 0 to 255, none of these is above {largest:g}: "
                "do not divide them by 255",
                stacklevel=2,
            )
        return x

    def compute_output_shape(self, input_shape):
        return input_shape
