"""What a network that no longer changes makes of its inputs: computed once and kept on the disk.

A file is named after everything that its values depend on: the network's wiring, its weights, and
the inputs themselves (so the data, and how they were decoded and scaled). Whoever asks for the same
values again, in another run or another application, reads them; nothing can be out of date.
"""

from __future__ import annotations

import contextlib
import hashlib
import pathlib
import sys
from collections.abc import Iterable, Mapping

import keras
import numpy as np
from rich.progress import track

from pipelines.engine.application import UserError
from pipelines.engine.cache import cache_folder
from pipelines.engine.run import replacing


def activations(network: keras.Model, batches: Iterable[Mapping[str, np.ndarray]]) -> np.ndarray:
    """The network's output for every row, as it answers (not as in training).

    Says in one line whether it was computed or read.

    Args:
        network: named inputs → one tensor [batch, ...].
        batches: the named inputs, all rows in their order; gone through twice, so no generator.

    Returns:
        float32 [rows, ...], mapped from the disk: only what is looked at is in memory.

    Raises:
        UserError: if the disk refuses.
    """
    key, rows = _key(network, batches)
    file = cache_folder() / "activations" / f"{key}.npy"
    kept = _opened(file)
    if kept is None:
        _write(file, network, batches, rows)
        kept = _opened(file)
        print(f"activations: {rows:,} examples computed once, kept in {file}")
    else:
        print(f"activations: {rows:,} examples read from {file}")
    return kept


def _key(network: keras.Model, batches: Iterable[Mapping[str, np.ndarray]]) -> tuple[str, int]:
    """A name for the values, and the number of rows."""
    hashing = hashlib.blake2b(_wiring(network).encode(), digest_size=16)
    for weight in network.weights:
        hashing.update(np.ascontiguousarray(keras.ops.convert_to_numpy(weight)))
    rows = 0
    for batch in batches:
        for name in sorted(batch):
            hashing.update(np.ascontiguousarray(batch[name]))
        rows += len(batch[name])
    return hashing.hexdigest(), rows


def _wiring(network: keras.Model) -> str:
    """The network's configuration; names, which count up within a process, become positions."""
    text = network.to_json()
    for position, layer in enumerate([network, *network.operations]):
        text = text.replace(f'"{layer.name}"', f'"{position}"')
    return text


def _opened(file: pathlib.Path) -> np.ndarray | None:
    with contextlib.suppress(OSError, EOFError, ValueError):  # not there, or damaged
        return np.load(file, mmap_mode="r")
    return None


def _write(
    file: pathlib.Path,
    network: keras.Model,
    batches: Iterable[Mapping[str, np.ndarray]],
    rows: int,
) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make {file.parent}: {error.strerror}") from None
    with replacing(file) as beside:
        array, done = None, 0
        for batch in track(batches, "Computing activations", disable=not sys.stdout.isatty()):
            values = network.predict_on_batch(dict(batch))
            if array is None:
                array = np.lib.format.open_memmap(
                    beside, "w+", dtype=np.float32, shape=(rows, *values.shape[1:])
                )
            array[done : done + len(values)] = values
            done += len(values)
        array.flush()
