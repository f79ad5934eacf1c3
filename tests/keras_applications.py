"""Builders of the zoo beside what keras.applications builds for the same architecture."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from typing import Any

import keras


@dataclasses.dataclass(frozen=True)
class Peer:
    """A builder and its counterpart in keras.applications.

    Args:
        builder: ``module.function`` in ``models/``.
        reference: the function of keras.applications.
        shape: of the pictures, small.
        own: keywords of the builder.
        theirs: keywords of the reference.
    """

    builder: str
    reference: Callable[..., keras.Model]
    shape: tuple[int, int, int] = (45, 52, 3)
    own: dict[str, Any] = dataclasses.field(default_factory=dict)
    theirs: dict[str, Any] = dataclasses.field(default_factory=dict)

    def build(self, **keywords) -> keras.Model:
        module, name = self.builder.split(".")
        function = getattr(importlib.import_module(f"models.{module}"), name)
        return function(self.shape, **self.own, **keywords)

    def build_reference(self) -> keras.Model:
        return self.reference(
            weights=None, input_shape=self.shape, classifier_activation=None, **self.theirs
        )

    def __str__(self) -> str:
        return "-".join([self.builder, *(f"{k}={v}" for k, v in self.own.items())])
