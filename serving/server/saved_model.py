"""One version of a model in memory: a graph, a session and the signatures.

A session of TensorFlow's graph mode is what tensorflow_model_server runs, and its errors are the
ones that clients know ("Expects arg[0] to be float but double is provided"); signatures that are
called eagerly word them otherwise.
"""

from __future__ import annotations

import math
import pathlib
import time
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow.python.client import pywrap_tf_session
from tensorflow.python.saved_model.loader_impl import SavedModelLoader

from serving.server.errors import not_found

# Graphs that take less run in the thread that asks.
_FAST_SECONDS = 0.002


class SavedModel:
    """A loaded SavedModel.

    Attributes:
        directory: the version folder.
        signatures: the SignatureDefs by name.

    Raises:
        StatusError: NOT_FOUND if ``directory`` holds no SavedModel.
        tensorflow.errors.OpError: if it can't be loaded.
    """

    def __init__(self, directory: pathlib.Path, config: tf.compat.v1.ConfigProto | None = None):
        if not (directory / "saved_model.pb").is_file():
            raise not_found(
                "Specified file path does not appear to contain a SavedModel bundle (should have "
                f"a file called `saved_model.pb`)\nSpecified file path: {directory}"
            )
        self.directory = directory
        self._config = config
        try:
            meta_graph = self._load()
        except tf.errors.NotFoundError as error:
            if "Op type not registered" not in error.message:
                raise
            # tensorflow_model_server links these operations. Here the models that need them pay
            # for the import: half a second and 110 MiB.
            import tensorflow_text  # noqa: F401

            meta_graph = self._load()
        self.signatures: Mapping[str, meta_graph_pb2.SignatureDef] = dict(meta_graph.signature_def)
        self._outputs: dict[str, object] = {}
        self._seconds: dict[tuple[str, ...], float] = {}  # of the last run, by what it fetched

    def _load(self) -> meta_graph_pb2.MetaGraphDef:
        self._graph = tf.Graph()
        with self._graph.as_default():
            self._session = tf.compat.v1.Session(graph=self._graph, config=self._config)
            return SavedModelLoader(str(self.directory)).load(self._session, ["serve"])

    def run(
        self, feeds: Mapping[str, np.ndarray], fetches: Sequence[str], timeout_ms: int = 0
    ) -> list[np.ndarray]:
        """Runs the graph once; safe to call from several threads.

        A graph that answers fast runs in the caller's thread: to hand it to TensorFlow's threads
        and to wait for them takes longer than a small model does. A run that may be cut short at
        its deadline can't be had that way, so that slow graphs go to those threads.

        Args:
            feeds: arrays by tensor name ("serving_default_x:0").
            fetches: tensor names.
            timeout_ms: milliseconds until DEADLINE_EXCEEDED; 0 is without end.

        Raises:
            tensorflow.errors.OpError: with the status code of what went wrong in the graph.
        """
        kind = tuple(fetches)
        fast = self._seconds.get(kind, math.inf) < min(_FAST_SECONDS, timeout_ms / 1000 or 1)
        options, made = None, None
        if fast:
            options = _IN_THIS_THREAD
        elif timeout_ms:
            options = made = _buffer(tf.compat.v1.RunOptions(timeout_in_ms=timeout_ms))
        # In this thread, what other threads of a busy machine take does not count.
        clock = time.thread_time if fast else time.perf_counter
        began = clock()
        try:
            # Session.run itself would cast the arrays to the types of the graph's inputs and so
            # hide a client's mistake.
            return self._session._call_tf_sessionrun(
                options,
                {self._output(name): array for name, array in feeds.items()},
                [self._output(name) for name in fetches],
                [],
                None,
            )
        finally:
            self._seconds[kind] = clock() - began
            if made is not None:
                pywrap_tf_session.TF_DeleteBuffer(made)

    def _output(self, name: str) -> object:
        if name not in self._outputs:
            self._outputs[name] = self._graph.get_tensor_by_name(name)._as_tf_output()
        return self._outputs[name]

    def close(self) -> None:
        """Frees the variables and tables; no run may be under way."""
        self._session.close()


def _buffer(options: tf.compat.v1.RunOptions) -> object:
    return pywrap_tf_session.TF_NewBufferFromString(options.SerializeToString())


_IN_THIS_THREAD = _buffer(tf.compat.v1.RunOptions(inter_op_thread_pool=-1))
