"""What one writes by hand: ``keras.Model.fit`` on a plain ``tf.data`` pipeline, on known cases."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Iterator

import keras
import tensorflow as tf

from pipelines.engine.assembly import Assembly, assemble
from pipelines.engine.configuration import parse
from pipelines.engine.data import Examples, raw_batches
from pipelines.engine.optimizer import optimizer
from pipelines.engine.train import prepare_backend
from pipelines.image_classification import application
from pipelines.sources.source import Source

WARM_UP = 3  # epochs: the first ones trace graphs and tune the input pipelines


@dataclasses.dataclass(frozen=True)
class Case:
    """An architecture on the digits, ``times`` over, without augmentation.

    Attributes:
        pairs: epochs of ours and of the peer that count.
    """

    architecture: str
    batch_size: int
    times: int
    pairs: int

    def assembled(self, deterministic: bool = True) -> Assembly:
        """Everything to fit, with a fitted preprocessor; sets up this process first."""
        options = {
            "architecture": self.architecture,
            "batch_size": self.batch_size,
            "epochs": WARM_UP + self.pairs + 1,  # the engine's last one is not counted
            "augment": "none",
        }
        configuration, _ = parse(application, [f"--{k}={value}" for k, value in options.items()])
        if deterministic:
            prepare_backend(configuration.recipe)
        assembly = assemble(configuration)
        assembly = dataclasses.replace(assembly, source=Repeated(assembly.source, self.times))
        assembly.preprocessor.fit(raw_batches(assembly.source, "train"))
        return assembly


def cases(quick: bool) -> list[Case]:
    """Short steps in an epoch a third as long as MNIST's, and long steps."""
    if quick:
        return [Case("lenet5", 64, 1, pairs=2), Case("resnet20", 32, 1, pairs=2)]
    return [Case("lenet5", 64, 20, pairs=20), Case("resnet20", 64, 2, pairs=20)]


@dataclasses.dataclass(frozen=True)
class Repeated:
    """A source whose training split comes several times over, as long as real data."""

    source: Source
    times: int
    blocks: bool = False

    def load(self, split: str) -> tf.data.Dataset:
        rows = self.source.load(split)
        return rows.repeat(self.times) if split == "train" else rows


class BareFit:
    """A compiled model with float32 batches in memory, fitted one epoch at a time."""

    def __init__(self, assembly: Assembly) -> None:
        recipe, preprocessor = assembly.configuration.recipe, assembly.preprocessor
        self.training, self.validation = (
            _batches(Examples.read(assembly.source, preprocessor, split), assembly)
            for split in ("train", "validation")
        )
        self.steps = int(self.training.cardinality())
        self.model = assembly.builder(**preprocessor.model_arguments())
        self.model.compile(
            optimizer=optimizer(recipe, self.steps * recipe.epochs),
            **assembly.task.compile_arguments(),
        )
        self.epoch = 0

    def step_time(self) -> float:
        """Fits one more epoch, validation included; its milliseconds by the number of steps."""
        watch = Stopwatch()
        self.model.fit(
            self.training,
            validation_data=self.validation,
            initial_epoch=self.epoch,
            epochs=self.epoch + 1,
            callbacks=[watch],
            shuffle=False,  # the dataset does it
            verbose=2,
        )
        self.epoch += 1
        return 1000 * watch.seconds / self.steps


def _batches(examples: Examples, assembly: Assembly) -> tf.data.Dataset:
    inputs = assembly.preprocessor.model_inputs(examples.columns["features"])
    return (
        tf.data.Dataset.from_tensor_slices((inputs, examples.columns["target"]))
        .shuffle(examples.count, seed=0)
        .batch(assembly.configuration.recipe.batch_size)
        .prefetch(tf.data.AUTOTUNE)
    )


class Stopwatch(keras.callbacks.Callback):
    """Seconds of the last epoch, without what surrounds the epochs in ``fit``."""

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.seconds = time.perf_counter() - self.started


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Sends the epochs' lines of both fits nowhere."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield
