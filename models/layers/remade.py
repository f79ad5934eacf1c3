"""Models of a class of their own that a file can bring back."""

from __future__ import annotations

import keras


class RemadeModel(keras.Model):
    """A model whose file has the arguments that it was made with, so that it can be made again.

    Keras keeps the arguments of a layer (numbers, strings and collections of them) for its
    ``get_config``; but ``keras.Model.__new__`` of Keras 3.15 does not hand on a model's.
    """

    def __new__(cls, *args, **kwargs):
        return keras.layers.Layer.__new__(cls, *args, **kwargs)
