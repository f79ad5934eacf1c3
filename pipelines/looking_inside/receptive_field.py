"""Which pixels of the picture each place of a network's maps sees.

The place i of a map sees ``size`` pixels along each side, from the pixel ``start + stride · i`` on.
A convolution or a pooling of k pixels with stride s and p zeros in front makes of this

    size + (k - 1) · stride,    start - p · stride,    stride · s

(V. Dumoulin, F. Visin, "A guide to convolution arithmetic for deep learning", 2016,
https://arxiv.org/abs/1603.07285, and A. Araujo et al., "Computing Receptive Fields of Convolutional
Neural Networks", Distill, 2019). What depends on the whole picture, as the mean over a map does,
has no place; where it only weighs a map, as in squeeze and excitation, the map keeps its own.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
from keras import layers


@dataclasses.dataclass(frozen=True)
class Window:
    """The pixels that the places of a map see along one side of the picture.

    Attributes:
        start: the first pixel that place 0 sees; negative where it sees padding.
        size: how many pixels a place sees.
        stride: pixels from a place to the next.
    """

    start: int = 0
    size: int = 1
    stride: int = 1

    def seen_through(self, size: int, stride: int, before: int) -> Window:
        """After a window of ``size`` places and ``stride``, with ``before`` zeros in front."""
        return Window(
            self.start - before * self.stride,
            self.size + (size - 1) * self.stride,
            self.stride * stride,
        )

    def joined(self, other: Window) -> Window:
        """The pixels that either of two maps of one size sees."""
        start = min(self.start, other.start)
        end = max(self.start + self.size, other.start + other.size)
        return Window(start, end - start, max(self.stride, other.stride))

    def at(self, place: int) -> int:
        """The first pixel that a place sees."""
        return self.start + self.stride * place


Field = tuple[Window, Window]  # along the rows and along the columns


@dataclasses.dataclass(frozen=True)
class LocalMap:
    """A map whose places see a part of the picture.

    Attributes:
        name: of the convolution that makes it.
        tensor: [batch, rows, columns, units], normalised and rectified as the next layer reads it.
        field: what its places see.
    """

    name: str
    tensor: keras.KerasTensor
    field: Field


def local_maps(model: keras.Model) -> list[LocalMap]:
    """The maps of all convolutions of a network that reads one picture, in order of computation."""
    fields: dict[int, Field | None] = {id(model.inputs[0]): (Window(), Window())}
    readers: dict[int, list[keras.Operation]] = {}
    found = []
    for operation in model.operations:
        if isinstance(operation, layers.InputLayer):
            continue
        inputs = keras.tree.flatten(operation.input)
        known = [(tensor, fields[id(tensor)]) for tensor in inputs if fields.get(id(tensor))]
        for tensor in inputs:
            readers.setdefault(id(tensor), []).append(operation)
        for output in keras.tree.flatten(operation.output):
            fields[id(output)] = _field(operation, known, output)
        if hasattr(operation, "kernel_size") and fields[id(operation.output)]:
            found.append(operation)
    return [
        LocalMap(layer.name, as_read(layer.output, readers), fields[id(layer.output)])
        for layer in found
    ]


def _field(
    operation: keras.Operation, known: list[tuple[keras.KerasTensor, Field]], output: Any
) -> Field | None:
    """What the places of an output see; None where it has none."""
    if not known or len(output.shape) != 4:
        return None
    size = getattr(operation, "kernel_size", None) or getattr(operation, "pool_size", None)
    sides = known[0][0].shape[1:3]
    if size:
        dilation = getattr(operation, "dilation_rate", (1, 1))
        sizes = [(k - 1) * d + 1 for k, d in zip(size, dilation, strict=True)]
        strides = operation.strides
        before = [0, 0]
        if operation.padding == "same":
            before = [
                max((-(-side // s) - 1) * s + k - side, 0) // 2
                for side, k, s in zip(sides, sizes, strides, strict=True)
            ]
        return _through(known[0][1], sizes, strides, before)
    if isinstance(operation, layers.ZeroPadding2D):
        return _through(known[0][1], (1, 1), (1, 1), [first for first, _ in operation.padding])
    joined = [field for tensor, field in known if tensor.shape[1:3] == output.shape[1:3]]
    if not joined:
        return None
    rows, columns = joined[0]
    for more_rows, more_columns in joined[1:]:
        rows, columns = rows.joined(more_rows), columns.joined(more_columns)
    return rows, columns


def _through(field: Field, sizes, strides, before) -> Field:
    rows, columns = (
        window.seen_through(*numbers)
        for window, *numbers in zip(field, sizes, strides, before, strict=True)
    )
    return rows, columns


def as_read(tensor: keras.KerasTensor, readers: dict[int, list]) -> keras.KerasTensor:
    """What becomes of a convolution's map by normalisation and activation alone."""
    while len(readers.get(id(tensor), ())) == 1:
        (reader,) = readers[id(tensor)]
        if not isinstance(reader, layers.BatchNormalization | layers.ReLU | layers.Activation):
            break
        tensor = reader.output
    return tensor


def last_of_each_scale(maps: list[LocalMap]) -> list[LocalMap]:
    """The last map at each stride, the finest first."""
    return list({one.field[0].stride: one for one in maps}.values())
