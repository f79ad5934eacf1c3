"""The weights that keras.applications publishes, read unchanged into the zoo's builders.

The files are HDF5 in the layout of Keras 2: the k-th layer with weights in the file belongs to the
k-th in ``model.layers``, which Keras orders by depth; names play no part. So a builder that wires
its branches in another order would silently get another branch's kernels of the same shape: that
each of them gets its own is tested against keras.applications.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import pathlib
from collections.abc import Iterator
from typing import Literal

import h5py
import keras
import numpy as np

IMAGENET_CLASSES = 1000

# What a model's pixels are, by the name of the convention: whether the channels stand as blue,
# green, red, and the mean and the deviation, by channel, that bytes are reduced by.
Convention = Literal["bytes", "tf", "caffe"]
CONVENTIONS: dict[Convention, tuple[bool, tuple[float, ...], tuple[float, ...]]] = {
    "bytes": (False, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "tf": (False, (127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
    "caffe": (True, (103.939, 116.779, 123.68), (1.0, 1.0, 1.0)),
}


@dataclasses.dataclass(frozen=True)
class Published:
    """A model's files of weights for ImageNet's 1000 classes, with what belongs to them.

    Args:
        url: the file with the top.
        md5: its hash, where one is published.
        headless_url: the file without the top.
        headless_md5: its hash, where one is published.
        convention: what the weights expect pixels to be, by its name in ``CONVENTIONS``.
    """

    url: str
    md5: str | None
    headless_url: str
    headless_md5: str | None
    convention: Convention


@dataclasses.dataclass(frozen=True)
class Loaded:
    """How much of a model came out of a file.

    Attributes:
        file: the file.
        values: the number of values read.
        total: the number of values that the model has.
        fresh: why the top was left as it was, or nothing.
        fresh_layers: the names of the layers with weights in a top that was left as it was.
    """

    file: str
    values: int
    total: int
    fresh: str = ""
    fresh_layers: tuple[str, ...] = ()

    def __str__(self) -> str:
        share = f"{self.values:,} of {self.total:,} values ({self.values / self.total:.1%})"
        return f"weights: {share} from {self.file}" + (f"; {self.fresh}" if self.fresh else "")


def initialised(
    model: keras.Model, weights: str | None, published: Published | None, *, top: int = 1
) -> keras.Model:
    """``model``, with the published weights if they are asked for; says how many were read.

    Args:
        model: freshly built.
        weights: "imagenet" to download the official file, the path of one, or None.
        published: the files of this variant, or None where there are none.
        top: the number of layers with weights in the model's top.

    Raises:
        ValueError: for a file that cannot be had, is damaged or belongs to another architecture.
    """
    if weights is None:
        return model
    if weights == "imagenet":
        if published is None:
            raise ValueError(f"no official weights are published for this variant of {model.name}")
        weights = _download(published, headless=model.output_shape[-1] != IMAGENET_CLASSES)
    loaded = load_official(model, weights, top)
    _tell(loaded)
    model.fresh_layers = loaded.fresh_layers  # which are no part of a backbone
    return model


@functools.cache
def _tell(loaded: Loaded) -> None:
    """Prints it once, though a run builds its network several times."""
    print(loaded)


def load_official(model: keras.Model, file: str, top: int = 1) -> Loaded:
    """Reads an official file, with or without top; all of the backbone or nothing.

    A top that differs (another number of classes, another size of picture) keeps its own weights.

    Args:
        model: a classifier, built.
        file: the path of the HDF5 file.
        top: the number of layers with weights in the model's top.

    Raises:
        ValueError: for a file that is missing, damaged or of another architecture; names the first
            layer that differs, on both sides.
    """
    if not pathlib.Path(file).is_file():
        raise ValueError(f"there is no weights file {file}")
    own = [(layer, _in_legacy_order(layer)) for layer in model.layers if layer.weights]
    backbone = len(own) - top
    total = sum(_size(variables) for _, variables in own)
    try:
        with h5py.File(file, "r") as opened:
            saved = list(_layers(opened, file))
            same = _number_of_equal_layers(own, saved)
            if same < backbone or len(saved) not in (backbone, len(own)):
                raise ValueError(f"{file} is not of {model.name}: {_difference(own, saved, same)}")
            read = len(own) if same == len(own) else backbone
            for (_, variables), (_, arrays) in zip(own[:read], saved, strict=False):
                for variable, array in zip(variables, arrays, strict=True):
                    variable.assign(np.asarray(array))
            fresh = "" if read == len(own) else f"the top is new: {_difference(own, saved, same)}"
    except (OSError, KeyError, RuntimeError) as error:
        raise ValueError(f"{file} is damaged or no HDF5 file: {error}") from None
    fresh_layers = tuple(layer.name for layer, _ in own[read:])
    values = sum(_size(variables) for _, variables in own[:read])
    return Loaded(str(file), values, total, fresh, fresh_layers)


def _download(published: Published, headless: bool) -> str:
    url = published.headless_url if headless else published.url
    md5 = published.headless_md5 if headless else published.md5
    try:
        return keras.utils.get_file(origin=url, cache_subdir="models", file_hash=md5)
    except Exception as error:  # Keras raises bare exceptions for what goes wrong on the way
        reason = " ".join(str(error).split())
        raise ValueError(
            f"cannot download {url}; fetch it elsewhere and give its path as weights: {reason}"
        ) from None


def _in_legacy_order(layer: keras.Layer) -> list:
    return layer.trainable_weights + layer.non_trainable_weights


def _size(variables: list) -> int:
    return sum(math.prod(variable.shape) for variable in variables)


def _layers(opened: h5py.File, file: str) -> Iterator[tuple[str, list[h5py.Dataset]]]:
    """The name and the arrays of each layer with weights, in the file's order."""
    group = opened.get("model_weights", opened)
    names = list(_names(group, "layer_names"))
    if not names:
        raise ValueError(
            f"{file} is no weights file of keras.applications: it lists no layer_names (files "
            "*.weights.h5 of Keras 3 are read by model.load_weights)"
        )
    for name in names:
        arrays = [group[name][weight] for weight in _names(group[name], "weight_names")]
        if arrays:
            yield name, arrays


def _names(group: h5py.Group, attribute: str) -> Iterator[str]:
    """A list of names, which Keras cuts into numbered attributes where it is long."""
    pieces = [attribute] if attribute in group.attrs else []
    pieces += itertools.takewhile(
        lambda piece: piece in group.attrs, (f"{attribute}{n}" for n in itertools.count())
    )
    for piece in pieces:
        for name in group.attrs[piece]:
            yield name.decode() if isinstance(name, bytes) else str(name)


def _number_of_equal_layers(own: list, saved: list) -> int:
    """How many layers, from the first on, have arrays of the same shapes on both sides."""
    pairs = zip(own, saved, strict=False)
    equal = [_shapes(variables) == _shapes(arrays) for (_, variables), (_, arrays) in pairs]
    return equal.index(False) if False in equal else len(equal)


def _shapes(arrays: list) -> list[tuple[int, ...]]:
    return [tuple(array.shape) for array in arrays]


def _difference(own: list, saved: list, position: int) -> str:
    """The layers at ``position`` on both sides, in words."""

    def described(layers: list, name: str) -> str:
        if position >= len(layers):
            return f"no more than {len(layers)} layers with weights"
        return f"{name} {', '.join(map(str, _shapes(layers[position][1])))}"

    here = described(own, own[position][0].name if position < len(own) else "")
    there = described(saved, saved[position][0] if position < len(saved) else "")
    return f"layer {position + 1} is {here} in the model, {there} in the file"
