"""From a source to the batches that a model is fitted and evaluated on.

Features and targets of a split are computed once and kept in memory (pictures as uint8, text as
ragged token numbers). Every epoch gathers them in an order that is a function of seed and epoch
alone, so that a resumed run sees exactly what an uninterrupted one would have seen.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator
from typing import Any

import keras

from pipelines.engine.activations import activations
from pipelines.engine.application import UserError
from pipelines.engine.assembly import Assembly
from pipelines.engine.lazy import tensorflow as tf
from pipelines.engine.train import TrainingData

READ_BATCH = 256  # examples that are preprocessed together


def raw_batches(
    source: Any, split: str, limit: int | None = None, batch_size: int = READ_BATCH
) -> tf.data.Dataset:
    """The raw examples of a split, or the first ``limit`` of them, in batches."""
    dataset = source.load(split)
    if limit is not None:
        dataset = (dataset.unbatch() if source.blocks else dataset).take(limit)
    elif source.blocks:
        return untuned(dataset.rebatch(batch_size))
    return untuned(dataset.batch(batch_size))


def untuned(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The dataset with as many parallel calls as there are processors, once and for all.

    Where TensorFlow 2.21 tunes the number itself, the end of an iterator may last as long as there
    was between the last two tunings, up to a minute: the tuning thread is told to look whether it
    is cancelled before it is (``CancellationManager::StartCancel``), and sleeps on.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def readable(dataset: tf.data.Dataset) -> Iterator[Any]:
    """The dataset's elements; UserError for data that the preprocessor's graph refuses."""
    try:
        yield from dataset
    except tf.errors.InvalidArgumentError as error:
        raise UserError(refusal(error)) from None


def refusal(error: tf.errors.OpError) -> str:
    """What an operation had to say, without where in the graph it said it."""
    asserted = re.search(r"assertion failed: \[(.*?)\]\s*\[\[", error.message + "[[", re.DOTALL)
    if asserted:
        return asserted[1]
    lines = re.sub(r"\{\{.*?\}\}|\[\[.*?\]\]|\[Op:.*", "", error.message).splitlines()
    return [line.strip() for line in lines if line.strip()][-1]


@dataclasses.dataclass(frozen=True)
class Examples:
    """Features and targets of a split in memory.

    Attributes:
        columns: ``{"features": {...}, "target": ...}`` of tensors, ragged where lengths vary,
            all with the same first dimension.
        count: that dimension.
    """

    columns: dict[str, Any]
    count: int

    @classmethod
    def read(cls, source: Any, preprocessor: Any, split: str, limit: int | None = None) -> Examples:
        """Runs the preprocessor over a split.

        Raises:
            UserError: if the split has no examples.
        """
        batches = raw_batches(source, split, limit).map(
            lambda raw: {
                "features": preprocessor.features(raw),
                "target": preprocessor.target(raw),
            },
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        pieces = list(readable(batches))
        if not pieces:
            raise UserError(f"the {split} split has no examples")
        columns = tf.nest.map_structure(lambda *parts: tf.concat(parts, axis=0), *pieces)
        return cls(columns, int(tf.nest.flatten(columns["target"])[0].shape[0]))

    def activated(self, network: keras.Model, model_inputs: Callable[[dict], dict]) -> Examples:
        """The same examples, with a network's activations in place of the features.

        Args:
            network: one that no longer changes.
            model_inputs: features → its named inputs.
        """
        batches = in_order(self, batch_size=READ_BATCH)
        kept = activations(network, batches.map(lambda batch: model_inputs(batch["features"])))
        return Examples(self.columns | {"features": {"activations": tf.constant(kept)}}, self.count)

    def gather(self, index: tf.Tensor) -> dict[str, Any]:
        """The rows ``index`` [B] int64 of every column, with their ``index``."""
        rows = tf.nest.map_structure(lambda column: tf.gather(column, index), self.columns)
        return rows | {"index": index}


def shuffled(examples: Examples, epoch: Any, *, batch_size: int, seed: int) -> tf.data.Dataset:
    """Batches of all examples in the order of an epoch, with ``epoch`` and ``index`` attached.

    Args:
        examples: what to shuffle.
        epoch: counted from 0, a number or a scalar int64 tensor.
        batch_size: examples a batch; the last one may have fewer.
        seed: of the run.
    """
    last = tf.constant(examples.count - 1, tf.int64)
    epoch = tf.cast(epoch, tf.int64)
    key = tf.stack([tf.constant(seed, tf.int64), epoch])

    def rows(position: tf.Tensor) -> dict[str, Any]:
        index = tf.random.experimental.index_shuffle(position, seed=key, max_index=last)
        return examples.gather(index) | {"epoch": tf.fill(tf.shape(index), epoch)}

    positions = tf.data.Dataset.range(examples.count).batch(batch_size)
    return positions.map(rows, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def in_order(examples: Examples, *, batch_size: int) -> tf.data.Dataset:
    """Batches of all examples in the source's order, as of epoch 0."""
    return (
        tf.data.Dataset.range(examples.count)
        .batch(batch_size)
        .map(lambda index: examples.gather(index) | {"epoch": tf.zeros_like(index)})
    )


def for_model(
    dataset: tf.data.Dataset, model_inputs: Callable[[dict], dict], replicas: int = 1
) -> tf.data.Dataset:
    """Arranged batches → ``(model inputs, target)`` or ``(model inputs, target, weight)``.

    With several replicas every batch is cut to a multiple of them, because Keras cannot share out
    any other (a batch smaller than the replicas is left out).
    """

    def finish(batch: dict[str, Any]) -> tuple:
        if replicas > 1:
            share = _share(batch, replicas)
            batch = tf.nest.map_structure(lambda column: column[:share], batch)
        inputs = model_inputs(batch["features"])
        weight = (batch["weight"],) if "weight" in batch else ()
        return (inputs, batch["target"], *weight)

    if replicas > 1:
        dataset = dataset.filter(lambda batch: _share(batch, replicas) > 0)
    return dataset.map(finish, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def _share(batch: dict[str, Any], replicas: int) -> tf.Tensor:
    rows = tf.shape(tf.nest.flatten(batch["target"])[0])[0]
    return rows - rows % replicas


def evaluation_batches(
    source: Any,
    preprocessor: Any,
    arrange: Callable,
    split: str,
    *,
    batch_size: int,
    seed: int,
    limit: int | None = None,
) -> tf.data.Dataset:
    """Arranged batches of a split, each with its raw fields under ``example``; nothing cached."""

    def prepare(position: tf.Tensor, raw: dict[str, Any]) -> dict[str, Any]:
        index = position * batch_size + tf.range(tf.shape(raw["id"])[0], dtype=tf.int64)
        return {
            "features": preprocessor.features(raw),
            "target": preprocessor.target(raw),
            "example": raw,
            "index": index,
            "epoch": tf.zeros_like(index),
        }

    batches = (
        raw_batches(source, split, limit, batch_size)
        .enumerate()
        .map(prepare, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    )
    arranged = arrange(batches, preprocessor, training=False, seed=seed, batch_size=batch_size)
    return arranged.prefetch(tf.data.AUTOTUNE)


def training_data(
    assembly: Assembly,
    *,
    replicas: int = 1,
    limit: int | None = None,
    max_steps: int | None = None,
    read: Callable[..., Examples] = Examples.read,
) -> TrainingData:
    """Reads the training and validation splits with a fitted preprocessor.

    Args:
        assembly: the parts of the run.
        replicas: devices that share a batch.
        limit: examples of each split to read; None: all.
        max_steps: batches of an epoch to keep; None: all.
        read: takes what ``Examples.read`` does, and may know the answer.
    """
    recipe, preprocessor = assembly.configuration.recipe, assembly.preprocessor
    examples = read(assembly.source, preprocessor, "train", limit)
    held_out = read(assembly.source, preprocessor, "validation", limit)
    model_inputs, model_arguments = preprocessor.model_inputs, preprocessor.model_arguments()
    if network := assembly.learner(model_arguments).network:
        examples, held_out = (
            split.activated(network(), preprocessor.model_inputs) for split in (examples, held_out)
        )
        model_inputs = dict  # activations are inputs as they are

    def batches(dataset: tf.data.Dataset, *, training: bool, **options: int) -> tf.data.Dataset:
        arranged = assembly.arrange(dataset, preprocessor, training=training, **options)
        if max_steps is not None:
            arranged = arranged.take(max_steps)
        return for_model(arranged, model_inputs, replicas)

    def one_epoch(epoch: Any) -> tf.data.Dataset:
        options = {"batch_size": recipe.rows(examples.count), "seed": recipe.seed}
        return batches(shuffled(examples, epoch, **options), training=True, **options)

    steps = _count(one_epoch(0))
    if recipe.batch_size == "all" and steps > 1:
        raise UserError(
            f"--batch_size all is one step an epoch, which here is arranged in {steps} batches; "
            "give a number"
        )

    def from_epoch(first: int) -> tf.data.Dataset:
        # Where arrange makes more or fewer batches by chance, all epochs get as many as the first.
        epochs = tf.data.Dataset.range(first, tf.int64.max)
        endless = epochs.flat_map(lambda epoch: one_epoch(epoch).repeat().take(steps))
        return untuned(endless.prefetch(tf.data.AUTOTUNE))

    rows = recipe.rows(READ_BATCH)
    validation = batches(
        in_order(held_out, batch_size=rows), training=False, batch_size=rows, seed=recipe.seed
    )
    return TrainingData(
        training=from_epoch,
        steps_per_epoch=steps,
        # Prefetched before it repeats: nothing is made of the pass after the one that is read.
        validation=untuned(validation.prefetch(tf.data.AUTOTUNE).repeat()),
        validation_steps=_count(validation),
        model_arguments=model_arguments,
        examples=examples.count,
    )


def _count(dataset: tf.data.Dataset) -> int:
    """The number of batches, by counting them where nothing else tells."""
    known = int(dataset.cardinality())
    return known if known >= 0 else sum(1 for _ in dataset)


def training_views(assembly: Assembly, count: int, epochs: int) -> list[dict[str, Any]]:
    """The first ``count`` training examples, plain and then as ``arrange`` makes them each epoch.

    They are arranged together: what depends on the rest of a batch was different in training.
    """
    recipe, preprocessor = assembly.configuration.recipe, assembly.preprocessor
    examples = Examples.read(assembly.source, preprocessor, "train", limit=count)
    everyone = tf.range(examples.count, dtype=tf.int64)

    def batch(epoch: tf.Tensor) -> dict[str, Any]:
        return examples.gather(everyone) | {"epoch": tf.fill([examples.count], epoch)}

    arranged = assembly.arrange(
        tf.data.Dataset.range(epochs).map(batch),
        preprocessor,
        training=True,
        seed=recipe.seed,
        batch_size=recipe.rows(examples.count),
    )
    return [examples.gather(everyone), *arranged]
