"""Small SavedModels and server processes for the tests of serving."""

from __future__ import annotations

import contextlib
import pathlib
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping

import keras
import tensorflow as tf

from pipelines.preprocess.text import Subwords

REPOSITORY = pathlib.Path(__file__).parents[1]
START_SECONDS = 120


class Scale(tf.Module):
    """y = factor · x, which tells versions apart; further signatures for what else can be asked."""

    def __init__(self, factor: float):
        self.factor = tf.Variable(factor)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def scale(self, x):
        return {"y": self.factor * x}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, name="text"),
            tf.TensorSpec([None], tf.int32, name="times"),
        ]
    )
    def repeat(self, text, times):
        copies = tf.repeat(text, times)
        joined = tf.strings.reduce_join(
            tf.RaggedTensor.from_row_lengths(copies, times), axis=-1, separator=""
        )
        return {"texts": joined, "lengths": tf.strings.length(joined, unit="UTF8_CHAR")}

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32, name="rows")])
    def multiply(self, rows):
        return {"product": tf.matmul(rows, tf.ones([2, 3])), "count": tf.shape(rows)[0]}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def slow(self, x):
        """Counts to 200,000, so that a request is under way for a while."""
        count = tf.while_loop(
            lambda i: i < 200_000, lambda i: i + 1, [tf.constant(0)], parallel_iterations=1
        )[0]
        return {"y": self.factor * x + 0 * tf.cast(count, tf.float32)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def endless(self, x):
        """Never answers: only a deadline ends it."""
        one = tf.while_loop(lambda i: i > 0, lambda i: i * i, [tf.constant(1)])[0]
        return {"y": x + tf.cast(one, tf.float32)}


class HalfPlusTwo(tf.Module):
    """x/2 + 2 of examples with a feature x, as TensorFlow Serving's own tests have it.

    Signatures that answer well, and one for everything that is no classification or regression.
    """

    def __init__(self):
        self.a = tf.Variable(0.5)

    def _value(self, examples):
        features = tf.io.parse_example(examples, {"x": tf.io.FixedLenFeature([1], tf.float32)})
        return self.a * features["x"] + 2.0

    @staticmethod
    def _two_classes(examples):
        return tf.repeat([["half", "two"]], tf.shape(examples)[0], axis=0)

    def signatures(self) -> dict:
        def signature(outputs, **inputs):
            inputs = inputs or {"inputs": tf.TensorSpec([None], tf.string)}
            specs = {name: tf.TensorSpec(s.shape, s.dtype, name=name) for name, s in inputs.items()}

            @tf.function
            def run(**given):
                return outputs(*given.values())

            return run.get_concrete_function(**specs)

        value, two_classes = self._value, self._two_classes
        examples = tf.TensorSpec([None], tf.string)
        return {
            "serving_default": signature(lambda e: {"outputs": value(e)}),
            "vector": signature(lambda e: {"outputs": value(e)[:, 0]}),
            "scores": signature(lambda e: {"scores": value(e)}),
            "classes": signature(lambda e: {"classes": two_classes(e)}),
            "both": signature(
                lambda e: {
                    "classes": two_classes(e),
                    "scores": tf.concat([value(e), value(e) + 1], axis=1),
                }
            ),
            "uneven": signature(lambda e: {"classes": two_classes(e), "scores": value(e)}),
            "flat": signature(lambda e: {"scores": value(e)[:, 0]}),
            "numbers": signature(lambda e: {"classes": value(e)}),
            "texts": signature(lambda e: {"outputs": tf.strings.as_string(value(e))}),
            "wide": signature(lambda e: {"outputs": tf.repeat(value(e), 2, axis=1)}),
            "longer": signature(lambda e: {"outputs": tf.repeat(value(e), 2, axis=0)}),
            "longer_scores": signature(lambda e: {"scores": tf.repeat(value(e), 2, axis=0)}),
            "three": signature(lambda e: {"scores": value(e), "outputs": value(e), "y": value(e)}),
            "other_output": signature(lambda e: {"y": value(e)}),
            "other_input": signature(lambda e: {"outputs": value(e)}, examples=examples),
            "other_input_scores": signature(lambda e: {"scores": value(e)}, examples=examples),
            "two_inputs": signature(
                lambda e, _: {"outputs": value(e)}, inputs=examples, more=examples
            ),
        }


def save_half_plus_two(folder: pathlib.Path) -> pathlib.Path:
    """Writes a version folder of HalfPlusTwo."""
    module = HalfPlusTwo()
    tf.saved_model.save(module, str(folder), signatures=module.signatures())
    return folder


def save_keras(folder: pathlib.Path) -> pathlib.Path:
    """Writes a version folder as Keras exports a model: the sum of two numbers, and one."""
    rows = keras.Input([2], name="rows")
    layer = keras.layers.Dense(1, kernel_initializer="ones", bias_initializer="ones", name="total")
    keras.Model(rows, layer(rows)).export(str(folder), verbose=False)
    return folder


class Pieces(tf.Module):
    """Text to text by SentencePiece: what a model with a tokenizer inside needs of its server."""

    def __init__(self):
        corpus = tf.constant(["a rose is a rose is a rose", "the rose is red", "arise"])
        subwords = Subwords.train([corpus], 24, "bpe")
        self.tokenizer = subwords.trackable

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def run(self, text):
        pieces = self.tokenizer.tokenize(text)
        return {"text": self.tokenizer.detokenize(pieces), "count": pieces.row_lengths()}


def save_pieces(folder: pathlib.Path) -> pathlib.Path:
    """Writes a version folder of Pieces."""
    module = Pieces()
    tf.saved_model.save(module, str(folder), signatures=module.run)
    return folder


def save_scale(folder: pathlib.Path, factor: float) -> pathlib.Path:
    """Writes a version folder whole, under a hidden name first, as an export does."""
    module = Scale(factor)
    hidden = folder.parent / f".{folder.name}"
    tf.saved_model.save(
        module,
        str(hidden),
        signatures={
            "serving_default": module.scale,
            "repeat": module.repeat,
            "multiply": module.multiply,
            "slow": module.slow,
            "endless": module.endless,
        },
    )
    return hidden.rename(folder)


def write_configuration(
    file: pathlib.Path, folder: pathlib.Path, more: Mapping[str, str] | None = None
) -> pathlib.Path:
    """Writes a ModelServerConfig of the models in ``folder``; ``more``: further fields by name."""
    listed = [
        f'config {{ name: "{path.name}" base_path: "{path}" model_platform: "tensorflow" '
        f"{(more or {}).get(path.name, '')} }}"
        for path in sorted(folder.iterdir())
    ]
    file.write_text(f"model_config_list {{ {' '.join(listed)} }}")
    return file


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def running_server(*flags: str) -> Iterator[tuple[subprocess.Popen, int]]:
    """A server process that listens, and its port; ended by SIGTERM if it still runs."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "serving.server", f"--port={port}", *flags],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stdout.readline()
        assert line == f"Running gRPC ModelServer at 0.0.0.0:{port} ...\n"
        yield process, port
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(START_SECONDS)
        finally:
            process.kill()
            process.stdout.close()
