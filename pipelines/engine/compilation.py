"""Answers compiled by XLA, which makes a program of its own for each shape of its inputs.

A shape that is new costs seconds. So rows are brought to one of a few numbers of them, and texts to
one of a few lengths, before the compiled part, and what was added is taken away behind it.

A larger batch is answered in parts, several at a time. A processor is busy with one small part, for
which no other has to wait, and a part ends as soon as its own rows have ended; a GPU is busy only
with many rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import keras

from pipelines.engine.lazy import tensorflow as tf

ROWS = (1, 4, 32)
MOST_ROWS = {"CPU": 4, "GPU": 32}
PARTS_AT_A_TIME = 16
LENGTHS = (32, 128, 512, 2048)


def compiled(
    respond: Callable[[dict], dict],
    lengths: Mapping[str, int],
    variables: Sequence[keras.Variable] = (),
) -> Callable[[dict], dict]:
    """``respond``, compiled, for batches of any size (but not of none) and texts of any length.

    Args:
        respond: named features, rows first → named outputs, rows first; nothing of a row may
            depend on other rows, nor on padding.
        lengths: for those features and outputs that are as long as the texts that are read, which
            of their axes is; they are padded there with zeros.
        variables: all that ``respond`` reads.
    """

    def answered(features: dict) -> dict:
        # Read here: TensorFlow repeats what reads variables itself only one after the other.
        values = [tf.convert_to_tensor(variable) for variable in variables]

        @tf.function(autograph=False, jit_compile=True)
        def function(part: dict) -> dict:
            with keras.StatelessScope(list(zip(variables, values, strict=True))):
                return respond(part)

        rows = tf.shape(next(iter(features.values())))[0]
        batch = _smallest(ROWS, tf.minimum(rows, _most_rows()))
        parts = -(-rows // batch)
        # The last row again and again: another one might take longer to decode than all of them.
        taken = tf.minimum(tf.range(parts * batch), rows - 1)
        length = None

        def prepared(name: str, value: tf.Tensor) -> tf.Tensor:
            nonlocal length
            inner = value.shape[1:]
            value = tf.gather(value, taken)
            if name in lengths:
                length = tf.shape(value)[lengths[name]]
                value = _padded(value, lengths[name], _smallest(LENGTHS, length))
                inner = value.shape[1:]
            value = tf.reshape(value, tf.concat([[parts, batch], tf.shape(value)[1:]], axis=0))
            return tf.ensure_shape(value, [None, None, *inner])

        def restored(name: str, value: tf.Tensor) -> tf.Tensor:
            shape = tf.concat([[parts * batch], tf.shape(value)[2:]], axis=0)
            value = tf.reshape(value, shape)[:rows]
            if name not in lengths:
                return value
            return value[(slice(None),) * lengths[name] + (slice(None, length),)]

        inputs = {name: prepared(name, value) for name, value in features.items()}
        part = {name: tf.TensorSpec(value.shape[1:], value.dtype) for name, value in inputs.items()}
        outputs = function.get_concrete_function(part).structured_outputs
        outputs = tf.map_fn(
            function,
            inputs,
            fn_output_signature={name: value.dtype for name, value in outputs.items()},
            parallel_iterations=PARTS_AT_A_TIME,
        )
        return {name: restored(name, value) for name, value in outputs.items()}

    return answered


def _most_rows() -> tf.Tensor:
    """Of a part, on the kind of device that the graph runs on."""
    device = tf.raw_ops.DeviceIndex(device_names=list(MOST_ROWS))
    return tf.gather(list(MOST_ROWS.values()), tf.minimum(device, len(MOST_ROWS) - 1))


def _smallest(sizes: tuple[int, ...], count: tf.Tensor) -> tf.Tensor:
    """The smallest of the sizes that is large enough; ``count`` itself where none is."""
    place = tf.searchsorted(sizes, [count])[0]
    return tf.maximum(tf.gather(sizes, tf.minimum(place, len(sizes) - 1)), count)


def _padded(value: tf.Tensor, axis: int, length: tf.Tensor) -> tf.Tensor:
    missing = length - tf.shape(value)[axis]
    return tf.pad(value, [[0, missing * (place == axis)] for place in range(value.shape.rank)])
