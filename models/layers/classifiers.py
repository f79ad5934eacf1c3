"""The image classifiers of the zoo by their names, for networks that are built on any of them."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable

import keras


def classifier_builder(name: str) -> Callable[..., keras.Model]:
    """The builder of an image classifier; ValueError where there is none of that name."""
    # Only now, since the catalogue knows those who ask too.
    from models.cards.catalogue import families

    builders = {
        builder: build
        for family in families()
        for builder, build in family.builders.items()
        if {"input_shape", "num_classes"} <= set(inspect.signature(build).parameters)
    }
    if name not in builders:
        near = difflib.get_close_matches(name, builders, n=len(builders), cutoff=0.0)
        raise ValueError(f"no backbone {name!r} in the zoo; there is: {', '.join(near)}")
    return builders[name]
