"""Small SavedModels and server processes for the tests of serving."""

from __future__ import annotations

import contextlib
import pathlib
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import tensorflow as tf

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
        },
    )
    return hidden.rename(folder)


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
