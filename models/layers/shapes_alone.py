"""Building a network for its shapes, without the arrays of its weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras


@contextlib.contextmanager
def shapes_alone() -> Iterator[None]:
    """Networks built inside know every shape and own no values; the largest takes a second.

    They are of no use afterwards: Keras forgets what it would still have had to make, and all other
    global state of the session with it, such as the numbers in generated names.
    """
    try:
        with keras.StatelessScope(initialize_variables=False):
            yield
    finally:
        keras.utils.clear_session()
