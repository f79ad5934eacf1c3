"""Training data as plain arrays, for machines without TensorFlow.

``--prepare DIR`` runs source, preprocessor and ``arrange`` and writes whole batches as the model
reads them; ``--prepared DIR`` trains on them with any Keras backend. A folder holds

    config.json, preprocessor/     as in a run
    data.json                      the number of examples, and what the builder must know of them
    train-0/ ... validation/       one flat file per model input, target and weight, and
                                   batches.json with the shape of each array in each batch
"""

from __future__ import annotations

import functools
import json
import pathlib
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from pipelines.engine.application import UserError
from pipelines.engine.run import replacing
from pipelines.engine.train import TrainingData


def write_prepared(
    folder: str, configuration_json: str, preprocessor: Any, data: TrainingData, passes: int
) -> None:
    """Writes ``passes`` passes over the training batches and one over the validation batches.

    Raises:
        UserError: if the folder exists or the disk refuses.
    """
    path = pathlib.Path(folder)
    if path.exists():
        raise UserError(f"{path} exists; give --prepare a new folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as beside:
        beside.mkdir()
        (beside / "config.json").write_text(configuration_json)
        facts = {"examples": data.examples, "model_arguments": data.model_arguments}
        (beside / "data.json").write_text(json.dumps(facts))
        (beside / "preprocessor").mkdir()
        preprocessor.save(beside / "preprocessor")
        for number in range(passes):
            batches = data.training(number).take(data.steps_per_epoch)
            _write_batches(beside / f"train-{number}", batches)
        _write_batches(beside / "validation", data.validation.take(data.validation_steps))


def _write_batches(folder: pathlib.Path, batches: Iterable) -> None:
    """Appends every array of every batch to the flat file of its name."""
    folder.mkdir()
    files: dict[str, Any] = {}
    shapes: dict[str, list] = {}
    types: dict[str, str] = {}
    try:
        for batch in batches:
            for name, array in _named(batch).items():
                if name not in files:
                    files[name] = (folder / f"{name}.bin").open("wb")
                    shapes[name], types[name] = [], array.dtype.str
                files[name].write(array.tobytes())
                shapes[name].append(array.shape)
    finally:
        for file in files.values():
            file.close()
    (folder / "batches.json").write_text(json.dumps({"shapes": shapes, "types": types}))


def _named(batch: tuple) -> dict[str, np.ndarray]:
    """``(inputs, target[, weight])`` as one flat mapping."""
    inputs, *rest = batch
    flat = {f"input.{name}": value for name, value in inputs.items()}
    flat |= dict(zip(("target", "weight"), rest, strict=False))
    return {name: np.ascontiguousarray(value) for name, value in flat.items()}


class PreparedBatches(keras.utils.PyDataset):
    """Batches from disk, epoch after epoch without end.

    Args:
        folders: one folder per pass; epoch e reads pass e modulo their number.
        epoch: the first, counted from 0.
        seed: of the batches' order, which changes with the epoch; None: it is as written.
    """

    num_batches = None  # Keras's word for endless

    def __init__(
        self, folders: list[pathlib.Path], epoch: int = 0, seed: int | None = None
    ) -> None:
        super().__init__()
        self.passes = [_Pass(folder) for folder in folders]
        self.epoch, self.seed = epoch, seed
        self.steps_per_epoch = self.passes[0].count
        self._order = functools.lru_cache(maxsize=1)(self._shuffle)

    def _shuffle(self, epoch: int) -> np.ndarray:
        if self.seed is None:
            return np.arange(self.steps_per_epoch)
        return np.random.default_rng([self.seed, epoch]).permutation(self.steps_per_epoch)

    def __getitem__(self, position: int) -> tuple:
        epochs, step = divmod(position, self.steps_per_epoch)
        epoch = self.epoch + epochs
        batch = self.passes[epoch % len(self.passes)].batch(self._order(epoch)[step])
        inputs = {n.removeprefix("input."): v for n, v in batch.items() if n.startswith("input.")}
        weight = (batch["weight"],) if "weight" in batch else ()
        return (inputs, batch["target"], *weight)


class _Pass:
    """The arrays of one pass, mapped into memory."""

    def __init__(self, folder: pathlib.Path) -> None:
        description = json.loads((folder / "batches.json").read_text())
        self.shapes = description["shapes"]
        self.arrays = {
            name: np.memmap(folder / f"{name}.bin", dtype=dtype, mode="r")
            for name, dtype in description["types"].items()
        }
        sizes = {name: [int(np.prod(s)) for s in shapes] for name, shapes in self.shapes.items()}
        self.starts = {name: np.concatenate([[0], np.cumsum(size)]) for name, size in sizes.items()}
        self.count = len(self.shapes["target"])

    def batch(self, number: int) -> dict[str, np.ndarray]:
        return {
            name: array[self.starts[name][number] : self.starts[name][number + 1]].reshape(
                self.shapes[name][number]
            )
            for name, array in self.arrays.items()
        }


def read_prepared(folder: str, seed: int) -> TrainingData:
    """Opens what ``write_prepared`` wrote.

    Raises:
        UserError: if the folder holds no prepared data.
    """
    path = pathlib.Path(folder)
    if not (path / "data.json").exists():
        raise UserError(f"{path} holds no prepared data; write some with --prepare {path}")
    facts = json.loads((path / "data.json").read_text())
    passes = sorted(path.glob("train-*"), key=lambda p: int(p.name.partition("-")[2]))
    training = functools.partial(PreparedBatches, passes, seed=seed)
    validation = PreparedBatches([path / "validation"])
    return TrainingData(
        training=training,
        steps_per_epoch=training().steps_per_epoch,
        validation=validation,
        validation_steps=validation.steps_per_epoch,
        **facts,
    )
