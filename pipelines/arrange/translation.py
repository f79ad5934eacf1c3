"""What fitting a translator does to pairs of sequences: teacher forcing and length buckets."""

from __future__ import annotations

from models.layers.reserved_tokens import BEGIN, PADDING
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
    pad_to: int = 4,
) -> tf.data.Dataset:
    """Teacher forcing: the model reads the begin token and the target, and predicts the target.

    Weights are 1 at tokens and 0 at padding. In training, the examples of several batches are dealt
    out again by length, so that little is padded; number and sizes of the batches stay the same.

    Args:
        dataset: batches of ragged ``source`` and target ids of one epoch.
        preprocessor: not needed.
        training: whether to bucket by length.
        seed: of the order of the batches that were bucketed together.
        batch_size: examples a batch.
        bucket_batches: batches whose examples are sorted by length together; 1: none.
        pad_to: lengths are filled up to a multiple of this; the larger, the fewer shapes a
            compiling backend meets.
    """
    if training and bucket_batches > 1:
        dataset = _bucketed(dataset, bucket_batches, batch_size, seed)

    def force(batch: dict) -> dict:
        target = dense(batch["target"], pad_to)
        begin = tf.fill([tf.shape(target)[0], 1], BEGIN)
        return batch | {
            "features": {
                "source": dense(batch["features"]["source"], pad_to),
                "target": tf.concat([begin, target[:, :-1]], axis=1),
            },
            "target": target,
            "weight": tf.cast(target != PADDING, tf.float32),
        }

    return dataset.map(force, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def _bucketed(dataset: tf.data.Dataset, batches: int, batch_size: int, seed: int):
    """Sorts the examples of every ``batches`` batches by length and cuts batches anew."""

    def merge(window: dict) -> dict:
        return tf.nest.map_structure(lambda column: column.merge_dims(0, 1), window)

    def cut(rows: dict) -> tf.data.Dataset:
        # Stable, and so among examples of one length the order remains the epoch's random one.
        length = rows["features"]["source"].row_lengths() + rows["target"].row_lengths()
        order = tf.argsort(length, stable=True)
        count = -(-tf.size(order, tf.int64) // batch_size)
        key = tf.stack([seed + rows["index"][0], rows["epoch"][0]])

        def batch(position: tf.Tensor) -> dict:
            chosen = tf.random.experimental.index_shuffle(position, seed=key, max_index=count - 1)
            picked = order[chosen * batch_size : (chosen + 1) * batch_size]
            return tf.nest.map_structure(lambda column: tf.gather(column, picked), rows)

        return tf.data.Dataset.range(count).map(batch)

    bucketed = dataset.ragged_batch(batches).map(merge).flat_map(cut)
    return bucketed.apply(tf.data.experimental.assert_cardinality(dataset.cardinality()))
