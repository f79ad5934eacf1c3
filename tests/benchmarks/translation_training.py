"""Training of a translator: against a step written by hand, and how much of its batches is padding.

The texts are random words, in pairs of sentences as long as those of Multi30k: 13.1 words and
punctuation marks in English (standard deviation 4.1), 0.5 fewer in German (2.2). Ours is the
engine's ``fit``: order, buckets, padding, checkpoints and metrics included. The peer has all
batches of an epoch in memory, and does nothing but steps.
"""

from __future__ import annotations

import contextlib
import pathlib
import tempfile
import time
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from pipelines.engine.assembly import Assembly, assemble
from pipelines.engine.configuration import parse
from pipelines.engine.data import raw_batches, training_data
from pipelines.engine.optimizer import optimizer
from pipelines.engine.train import TrainingData, prepare_backend
from pipelines.machine_translation import application
from tests.benchmarks.bare_fit import WARM_UP, silence
from tests.benchmarks.comparison import Comparison
from tests.benchmarks.fit_overhead import take_turns

WORDS = 4000
TOKENS_PER_BATCH = 1024


def measure(quick: bool) -> list[Comparison]:
    sentences, pairs = (400, 2) if quick else (2000, 16)
    with assembled(sentences, WARM_UP + pairs) as assembly:
        data = training_data(assembly)
        with silence():
            ours, peer = take_turns(assembly, data, HandWritten(assembly, data))
        share = padding_share(data)
    return [
        Comparison(
            name=f"transformer_tiny, {TOKENS_PER_BATCH} target tokens, against a step by hand",
            unit="ms a step",
            ours=ours,
            peer=peer,
            target=1.05,
        ),
        Comparison(
            name="padding among the tokens of a batch", unit="%", ours=(100 * share,), target=10
        ),
    ]


@contextlib.contextmanager
def assembled(sentences: int, epochs: int) -> Iterator[Assembly]:
    """Everything to train on random sentences."""
    with tempfile.TemporaryDirectory() as folder:
        write_sentences(pathlib.Path(folder), sentences)
        options = {
            "dataset": "text",
            "data_dir": folder,
            "architecture": "transformer_tiny",
            "epochs": epochs,
            "patience": epochs,  # nothing can be learned that holds for other sentences
            "preprocess.tokenizer": "words",
            "arrange.tokens_per_batch": TOKENS_PER_BATCH,
        }
        configuration, _ = parse(application, [f"--{k}={value}" for k, value in options.items()])
        prepare_backend(configuration.recipe)
        assembly = assemble(configuration)
        assembly.preprocessor.fit(raw_batches(assembly.source, "train"))
        yield assembly


def write_sentences(folder: pathlib.Path, count: int) -> None:
    """``train``, ``val`` and ``test`` in two languages."""
    random = np.random.default_rng(0)
    for part, number in {"train": count, "val": 32, "test": 32}.items():
        english = random.normal(13.1, 4.1, number)
        german = english + random.normal(-0.5, 2.2, number)
        for language, lengths in (("en", english), ("de", german)):
            rows = [random.integers(WORDS, size=int(n)) for n in np.clip(lengths.round(), 4, 40)]
            lines = [" ".join(f"w{word}" for word in row) for row in rows]
            (folder / f"{part}.{language}").write_text("\n".join(lines) + "\n")


def padding_share(data: TrainingData) -> float:
    """Of all ids of an epoch's sources and targets."""
    padding = total = 0
    for inputs, target, _ in first_epoch(data):
        for ids in (inputs["source"].numpy(), target.numpy()):
            padding, total = padding + (ids == 0).sum(), total + ids.size
    return padding / total


def first_epoch(data: TrainingData) -> tf.data.Dataset:
    return data.training(0).take(data.steps_per_epoch)


class HandWritten:
    """Gradient, clipping, update: a loop over batches that are there already."""

    def __init__(self, assembly: Assembly, data: TrainingData) -> None:
        self.batches = list(first_epoch(data))
        self.steps = len(self.batches)
        model = assembly.builder(**data.model_arguments)
        recipe = assembly.configuration.recipe
        update = optimizer(recipe, self.steps * recipe.epochs)
        update.build(model.trainable_variables)
        loss = assembly.task.compile_arguments()["loss"]

        @tf.function(reduce_retracing=True)
        def step(inputs: dict, target: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
            with tf.GradientTape() as tape:
                value = loss(target, model(inputs, training=True), sample_weight=weight)
            variables = model.trainable_variables
            gradients = tape.gradient(value, [variable.value for variable in variables])
            update.apply(gradients, variables)
            return value

        self.step = step

    def step_time(self) -> float:
        """Milliseconds a step of one pass."""
        began = time.perf_counter()
        for batch in self.batches:
            value = self.step(*batch)
        assert np.isfinite(value.numpy())
        return 1000 * (time.perf_counter() - began) / self.steps
