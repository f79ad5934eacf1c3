"""What fitting a translator does to pairs of sequences: teacher forcing and length buckets."""

from __future__ import annotations

from models.layers.reserved_tokens import BEGIN, PADDING
from pipelines.engine.application import UserError
from pipelines.engine.lazy import tensorflow as tf
from pipelines.preprocess.text import dense


def arrange(
    dataset: tf.data.Dataset,
    preprocessor,
    *,
    training: bool,
    seed: int,
    batch_size: int,
    bucket_batches: int = 16,
    tokens_per_batch: int | None = None,
    pad_to: int = 4,
) -> tf.data.Dataset:
    """Teacher forcing: the model reads the begin token and the target, and predicts the target.

    Weights are 1 at tokens and 0 at padding. In training, the examples of several batches are dealt
    out again by length, so that little is padded; number and sizes of the batches stay the same, or
    every batch has about as many tokens.

    Args:
        dataset: batches of ragged ``source`` and target ids of one epoch.
        preprocessor: not needed.
        training: whether to bucket by length.
        seed: of the order of the batches that were bucketed together.
        batch_size: examples a batch.
        bucket_batches: batches whose examples are sorted by length together; 1: none.
        tokens_per_batch: target tokens of a training batch, instead of ``batch_size`` examples;
            none: not counted.
        pad_to: lengths are filled up to a multiple of this; the larger, the fewer shapes a
            compiling backend meets.
    """
    if tokens_per_batch is not None and tokens_per_batch < 1:
        raise UserError(f"--arrange.tokens_per_batch must be at least 1, not {tokens_per_batch}")
    if training and (bucket_batches > 1 or tokens_per_batch):
        dataset = _bucketed(dataset, bucket_batches, batch_size, tokens_per_batch, seed)

    def force(batch: dict) -> dict:
        source = dense(batch["features"]["source"], pad_to)
        return teacher_forced(batch | {"features": {"source": source}}, batch["target"], pad_to)

    return dataset.map(force, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def teacher_forced(batch: dict, target: tf.RaggedTensor, pad_to: int) -> dict:
    """The batch with ``target`` among its features, one token later, and as what is predicted.

    Args:
        batch: as the engine makes it.
        target: [B, (tokens)] ids, the end token last.
        pad_to: lengths are filled up to a multiple of this.
    """
    target = dense(target, pad_to)
    begin = tf.fill([tf.shape(target)[0], 1], BEGIN)
    return batch | {
        "features": batch["features"] | {"target": tf.concat([begin, target[:, :-1]], axis=1)},
        "target": target,
        "weight": tf.cast(target != PADDING, tf.float32),
    }


def _bucketed(
    dataset: tf.data.Dataset,
    window: int,
    batch_size: int,
    tokens_per_batch: int | None,
    seed: int,
) -> tf.data.Dataset:
    """Sorts the examples of every ``window`` batches by length and cuts batches anew."""

    def merge(batches: dict) -> dict:
        return tf.nest.map_structure(lambda column: column.merge_dims(0, 1), batches)

    def cut(rows: dict) -> tf.data.Dataset:
        # By the longer of both: by their sum, short sources of long targets would lie beside long
        # sources of short ones, and both be padded. Stable, and so among examples of one length the
        # order remains the epoch's random one.
        target_length = rows["target"].row_lengths()
        length = tf.maximum(rows["features"]["source"].row_lengths(), target_length)
        order = tf.argsort(length, stable=True)
        if tokens_per_batch:
            before = tf.cumsum(tf.gather(target_length, order), exclusive=True)
            total = tf.reduce_sum(target_length)
            # Equal shares, so that no window ends with a small batch.
            number = before * -(-total // tokens_per_batch) // total
        else:
            number = tf.range(tf.size(order, tf.int64)) // batch_size
        batches = tf.RaggedTensor.from_value_rowids(order, tf.unique(number, tf.int64).idx)
        key = tf.stack([seed + rows["index"][0], rows["epoch"][0]])

        def batch(position: tf.Tensor) -> dict:
            last = batches.nrows() - 1
            chosen = tf.random.experimental.index_shuffle(position, seed=key, max_index=last)
            picked = batches[chosen]
            return tf.nest.map_structure(lambda column: tf.gather(column, picked), rows)

        return tf.data.Dataset.range(batches.nrows()).map(batch)

    bucketed = dataset.ragged_batch(window).map(merge).flat_map(cut)
    if tokens_per_batch:
        return bucketed
    return bucketed.apply(tf.data.experimental.assert_cardinality(dataset.cardinality()))
