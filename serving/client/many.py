"""Many examples on their way: cut into batches without reading ahead, with a progress bar."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import numbers
import pathlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from serving.client.errors import InputError, as_input_error
from serving.client.signature import Field, Signature, same_size


@dataclasses.dataclass(frozen=True)
class Batch:
    """Some examples in a row.

    Attributes:
        start: the number of the first.
        size: how many.
        rows: the inputs with a value for each.
        constants: the inputs with one value for all.
    """

    start: int
    size: int
    rows: Mapping[str, Sequence]
    constants: Mapping[str, Any]

    @property
    def inputs(self) -> dict[str, Any]:
        """All inputs by name."""
        return {**self.constants, **self.rows}

    def split(self) -> Iterator[Batch]:
        """Each example as a batch of its own."""
        for row in range(self.size):
            values = {name: value[row : row + 1] for name, value in self.rows.items()}
            yield Batch(self.start + row, 1, values, self.constants)


class Rows:
    """The inputs of many examples.

    Attributes:
        count: how many there are; None if only reading them all can tell.

    Raises:
        InputError: if no input holds many examples, or they hold unequal numbers of them.
    """

    def __init__(self, signature: Signature, values: Mapping[str, Any]):
        opened = {n: _open(n, value, signature.inputs[n]) for n, value in values.items()}
        rows = {n: value for n, value in opened.items() if _is_many(value, signature.inputs[n])}
        if not rows:
            raise InputError("no input holds many examples")
        self._constants = {name: value for name, value in opened.items() if name not in rows}
        self._take = {name: _reader(value) for name, value in rows.items()}
        self.count = same_size({n: len(v) for n, v in rows.items() if hasattr(v, "__len__")})

    def batches(self, size: int) -> Iterator[Batch]:
        """Batches of ``size``; the last may be smaller.

        Raises:
            InputError: if one input ends before another.
        """
        for start in itertools.count(step=size):
            rows = {name: take(start, start + size) for name, take in self._take.items()}
            found = same_size({name: start + len(value) for name, value in rows.items()}) - start
            if found:
                yield Batch(start, found, rows, self._constants)
            if found < size:
                return


def _open(name: str, value: Any, field: Field) -> Any:
    """The array in an .npy file without reading it yet; any other value as it is."""
    if not isinstance(value, pathlib.Path) or field.dtype == "string":
        return value
    with as_input_error(name, str(field)):
        return np.load(value, mmap_mode="r", allow_pickle=False)


def _is_many(value: Any, field: Field) -> bool:
    """Whether a value holds examples: it has not one axis less than the input, as a single one."""
    rank = _rank(value, field)
    if field.shape is None:
        return rank != 0
    return field.batched and rank != len(field.shape) - 1


def _rank(value: Any, field: Field) -> int | None:
    """The number of a value's axes; None where only reading it could tell."""
    if isinstance(value, list | tuple):
        inner = _rank(value[0], field) if value else None
        return None if inner is None else 1 + inner
    if isinstance(value, pathlib.Path):
        return 0 if field.dtype == "string" else None
    if isinstance(value, str | bytes | numbers.Number):
        return 0
    return getattr(value, "ndim", None)


def _reader(value: Any) -> Callable[[int, int], Sequence]:
    """A function that gives the examples from one number to another, called in order."""
    if isinstance(value, list | tuple) or hasattr(value, "shape"):  # arrays, also those of files
        return lambda start, stop: value[start:stop]
    try:
        iterator = iter(value)
    except TypeError:
        raise InputError(f"{value!r} is no iterable of examples") from None
    return lambda start, stop: list(itertools.islice(iterator, stop - start))


@contextlib.contextmanager
def progress_bar(shown: bool, title: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on standard error for as long as the block runs, moved on by what is handed out."""
    if not shown:
        yield lambda done: None
        return
    # Imported here, since few ask for it and all would wait for it.
    from rich.console import Console
    from rich.progress import Progress

    # Of what the caller prints, only what goes to the same screen passes through the bar.
    redirect = sys.stdout.isatty()
    with Progress(console=Console(stderr=True), redirect_stdout=redirect) as bar:
        yield functools.partial(bar.advance, bar.add_task(title, total=total))
