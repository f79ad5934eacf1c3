"""Many examples on their way: cut into batches without reading ahead, with a progress bar."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import pathlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from serving.client.errors import InputError
from serving.client.signature import Signature, same_size


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
        rows = {
            name: value
            for name, value in values.items()
            if signature.inputs[name].batched or signature.inputs[name].shape is None
            if not _has_no_axis(value)
        }
        if not rows:
            raise InputError("no input holds many examples")
        self._constants = {name: value for name, value in values.items() if name not in rows}
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


def _has_no_axis(value: Any) -> bool:
    return isinstance(value, str | bytes | pathlib.Path | int | float | complex) or (
        isinstance(value, np.ndarray | np.generic) and value.ndim == 0
    )


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
    # Imported here: it takes as long to import as all the rest of the client.
    from rich.console import Console
    from rich.progress import Progress

    # Of what the caller prints, only what goes to the same screen passes through the bar.
    redirect = sys.stdout.isatty()
    with Progress(console=Console(stderr=True), redirect_stdout=redirect) as bar:
        yield functools.partial(bar.advance, bar.add_task(title, total=total))
