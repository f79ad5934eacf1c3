"""Models of a class of their own that a file can bring back."""

from __future__ import annotations

import keras


class RemadeModel(keras.Model):
    """A model whose file has the arguments that it was made with, so that it can be made again.

    Keras keeps the arguments of layers (numbers, strings and collections of them) for their
    ``get_config``; ``keras.Model`` (3.15) only withholds a model's from what keeps them.
    """

    def __new__(cls, *args, **kwargs):
        return keras.layers.Layer.__new__(cls, *args, **kwargs)
