"""Every architecture of the zoo, found in the files of ``models/``."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pathlib
import pkgutil
import re
from collections.abc import Callable, Mapping

import keras

from models.cards.cost import multiply_adds
from models.layers.official_weights import CONVENTIONS, Published
from models.layers.shapes_alone import shapes_alone

FOLDER = pathlib.Path(__file__).parents[1]


@dataclasses.dataclass(frozen=True)
class Family:
    """A file of ``models/``.

    Attributes:
        name: the module's name.
        title: what it is, in a line.
        papers: the addresses that its docstring gives.
        builders: its architectures, by name.
        weights: the published files of those that have some.
    """

    name: str
    title: str
    papers: tuple[str, ...]
    builders: Mapping[str, Callable[..., keras.Model]]
    weights: Mapping[str, Published]


@dataclasses.dataclass(frozen=True)
class Card:
    """An architecture with its default arguments.

    Attributes:
        name: the builder's name.
        inputs: the shape of each input without the batch; None: open.
        parameters: the number of values in its weights.
        multiply_adds: of one example, in convolutions and dense layers; None: not told by shapes.
        weights: where a file of weights for it is published, or None.
        pixels: what the published weights expect pixels to be, or None.
    """

    name: str
    inputs: dict[str, tuple[int | None, ...]]
    parameters: int
    multiply_adds: int | None
    weights: str | None
    pixels: str | None


def families() -> list[Family]:
    """All families, by the alphabet."""
    modules = pkgutil.iter_modules([str(FOLDER)])
    return [_family(m.name) for m in modules if not m.ispkg and m.name != "__main__"]


def _family(name: str) -> Family:
    module = importlib.import_module(f"models.{name}")
    builders = {
        function: value
        for function, value in vars(module).items()
        if inspect.isfunction(value)
        and value.__module__ == module.__name__
        and not function.startswith("_")
        and _is_builder(value)
    }
    title = module.__doc__.split("\n")[0]
    papers = re.findall(r"https?://[^\s,;:)]+[^\s,;:.)]", module.__doc__)
    return Family(name, title, tuple(papers), builders, getattr(module, "WEIGHTS", {}))


def _is_builder(function: Callable) -> bool:
    """Whether it returns a model and has a default, the paper's, for every argument."""
    signature = inspect.signature(function)
    required = [
        parameter
        for parameter in signature.parameters.values()
        if parameter.default is parameter.empty and parameter.kind != parameter.VAR_KEYWORD
    ]
    return str(signature.return_annotation).endswith("Model") and not required


def card(family: Family, name: str) -> Card:
    """The card of the architecture ``name`` of ``family``."""
    published = family.weights.get(name)
    with shapes_alone():
        model = family.builders[name]()
        tensors = getattr(model, "inputs", None) or []
        return Card(
            name,
            {tensor.name: tuple(tensor.shape[1:]) for tensor in tensors},
            model.count_params(),
            multiply_adds(model),
            published.url if published else None,
            pixels(published) if published else None,
        )


def pixels(published: Published) -> str:
    """What the weights expect, in words."""
    reverse, mean, deviation = CONVENTIONS[published.convention]
    if reverse:
        return f"blue, green, red: 0 to 255 minus {', '.join(map(str, mean))}"
    low, high = (f"{(value - mean[0]) / deviation[0]:g}" for value in (0, 255))
    return f"red, green, blue: {low} to {high}"
