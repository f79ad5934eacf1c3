"""What the engine's ``fit`` costs beside a bare ``keras.Model.fit``.

Model, pictures, optimizer and validation are the same. Ours also draws each epoch's order
statelessly, scales pixels in every batch, and writes a checkpoint, metrics and TensorBoard logs
after every epoch; the bare fit reads scaled float32 pixels from a plain shuffled dataset and writes
nothing. Whole epochs are timed, all of that included. Operations are deterministic on both sides,
because that holds for a process; ``determinism`` measures what it costs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import statistics
import tempfile
import time

import keras
import tensorflow as tf

from pipelines.engine.assembly import Assembly, assemble
from pipelines.engine.configuration import parse
from pipelines.engine.data import Examples, raw_batches, training_data
from pipelines.engine.optimizer import optimizer
from pipelines.engine.run import Run
from pipelines.engine.train import fit, prepare_backend
from pipelines.image_classification import application
from pipelines.sources.source import Source
from tests.benchmarks.comparison import Comparison

WARM_UP = 2  # epochs: the first ones trace graphs and tune the input pipelines
LONG_STEP = 50  # milliseconds


@dataclasses.dataclass(frozen=True)
class Repeated:
    """The training split of a source several times over, as large as real data."""

    source: Source
    times: int
    blocks: bool = False

    def load(self, split: str) -> tf.data.Dataset:
        rows = self.source.load(split)
        return rows.repeat(self.times) if split == "train" else rows


class BareFit:
    """What one writes by hand: ``keras.Model.fit`` on a plain ``tf.data`` pipeline."""

    def __init__(self, assembly: Assembly) -> None:
        recipe, preprocessor = assembly.configuration.recipe, assembly.preprocessor
        self.training, self.validation = (
            self._batches(Examples.read(assembly.source, preprocessor, split), assembly)
            for split in ("train", "validation")
        )
        self.steps = int(self.training.cardinality())
        self.model = assembly.builder(**preprocessor.model_arguments())
        self.model.compile(
            optimizer=optimizer(recipe, self.steps * recipe.epochs),
            **assembly.task.compile_arguments(),
        )
        self.epoch = 0

    @staticmethod
    def _batches(examples: Examples, assembly: Assembly) -> tf.data.Dataset:
        inputs = assembly.preprocessor.model_inputs(examples.columns["features"])
        return (
            tf.data.Dataset.from_tensor_slices((inputs, examples.columns["target"]))
            .shuffle(examples.count, seed=0)
            .batch(assembly.configuration.recipe.batch_size)
            .prefetch(tf.data.AUTOTUNE)
        )

    def step_seconds(self) -> float:
        """Runs one more epoch with its validation; its seconds by the number of its steps."""
        watch = Stopwatch()
        self.model.fit(
            self.training,
            validation_data=self.validation,
            initial_epoch=self.epoch,
            epochs=self.epoch + 1,
            callbacks=[watch],
            verbose=2,
        )
        self.epoch += 1
        return watch.seconds / self.steps


class Stopwatch(keras.callbacks.Callback):
    """Seconds of the last epoch, without what surrounds the epochs in ``fit``."""

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.seconds = time.perf_counter() - self.started


def prepared_assembly(architecture: str, epochs: int, batch_size: int, times: int) -> Assembly:
    """An architecture on the digits, ``times`` over, without augmentation."""
    arguments = {"architecture": architecture, "epochs": epochs, "batch_size": batch_size}
    configuration, _ = parse(
        application, [f"--{name}={value}" for name, value in arguments.items()] + ["--augment=none"]
    )
    assembly = assemble(configuration)
    assembly = dataclasses.replace(assembly, source=Repeated(assembly.source, times))
    assembly.preprocessor.fit(raw_batches(assembly.source, "train"))
    return assembly


def step_times(assembly: Assembly) -> tuple[list[float], list[float]]:
    """Milliseconds a step, ours and bare, of epochs that took turns in one process.

    Before each of its epochs the engine tells the data which it is; then the bare fit has its turn.
    """
    data, bare = training_data(assembly), BareFit(assembly)
    ours, peer, began = [], [], None

    def take_turns(epoch: int) -> None:
        nonlocal began
        if began is not None:
            ours.append((time.perf_counter() - began) / data.steps_per_epoch)
        peer.append(bare.step_seconds())
        data.set_epoch(epoch)
        began = time.perf_counter()

    assert bare.steps == data.steps_per_epoch
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "run")
        run = Run.create(path, assembly.configuration, assembly.preprocessor.save)
        fit(
            lambda: assembly.builder(**data.model_arguments),
            assembly.task,
            assembly.configuration.recipe,
            dataclasses.replace(data, set_epoch=take_turns),
            run,
        )
    # The first turn comes before the first epoch, and the last epoch is followed by none.
    return tuple([1000 * step for step in steps[WARM_UP : len(ours)]] for steps in (ours, peer))


def measure(quick: bool) -> list[Comparison]:
    return [
        compare("lenet5", batch_size=64, times=2 if quick else 50, pairs=3 if quick else 25),
        compare("resnet20", batch_size=32, times=2, pairs=3 if quick else 25),
    ]


def compare(architecture: str, *, batch_size: int, times: int, pairs: int) -> Comparison:
    """Long steps are judged by their ratio, short ones by what comes on top of each."""
    assembly = prepared_assembly(architecture, WARM_UP + pairs, batch_size, times)
    prepare_backend(assembly.configuration.recipe)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        ours, peer = step_times(assembly)
    if statistics.median(peer) >= LONG_STEP:
        bound = {"effect": "ratio", "target": 1.03}
    else:
        bound = {"effect": "difference", "target": 0.3}
    return Comparison(
        name=f"fit of {architecture}", unit="ms a step", ours=tuple(ours), peer=tuple(peer), **bound
    )
