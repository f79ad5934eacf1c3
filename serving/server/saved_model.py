"""One version of a model in memory: a graph, a session and the signatures.

A session of TensorFlow's graph mode is what tensorflow_model_server runs, and its errors are the
ones that clients know ("Expects arg[0] to be float but double is provided"); signatures that are
called eagerly word them otherwise.
"""

from __future__ import annotations

import dataclasses
import math
import pathlib
import time
from collections.abc import Mapping, Sequence

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow.python.client import pywrap_tf_session
from tensorflow.python.framework import ops
from tensorflow.python.saved_model.loader_impl import SavedModelLoader

from serving.server.errors import StatusError, invalid_argument, not_found

_FILE = "saved_model.pb"
_TAG = "serve"

# Graphs that take less time of a processor run in the thread that asks.
_FAST_SECONDS = 0.002
# Others are tried there now and then, unless they take longer than this by the clock.
_TRIAL_SECONDS = 0.05
_TRIAL_EVERY = 16  # runs, beginning with the third: the first two set the graph up


@dataclasses.dataclass
class _Pace:
    """How fast a graph was of late.

    Attributes:
        here: seconds of a processor that its last run in the asking thread took.
        elsewhere: seconds on the clock that its last run in TensorFlow's threads took. On a busy
            machine these say little about the graph.
        runs: how many there were that were not fast.
    """

    here: float = math.inf
    elsewhere: float = math.inf
    runs: int = 0

    def is_fast(self, timeout_ms: int) -> bool:
        """Whether to run in the asking thread, where nothing ends a run at its deadline."""
        if self.here < _FAST_SECONDS:
            return self.here < (timeout_ms or math.inf) / 1000
        return self.elsewhere < _TRIAL_SECONDS and self.runs % _TRIAL_EVERY == 2


class SavedModel:
    """A loaded SavedModel.

    Attributes:
        directory: the version folder.
        signatures: the SignatureDefs by name.

    Raises:
        StatusError: NOT_FOUND if ``directory`` holds no SavedModel, DATA_LOSS for a damaged one.
        tensorflow.errors.OpError: if TensorFlow can't load it.
    """

    def __init__(self, directory: pathlib.Path, config: tf.compat.v1.ConfigProto | None = None):
        if not (directory / _FILE).is_file():
            raise not_found(
                "Specified file path does not appear to contain a SavedModel bundle (should have "
                f"a file called `saved_model.pb`)\nSpecified file path: {directory}"
            )
        self.directory = directory
        self._config = config
        self._outputs: dict[str, object] = {}
        self._paces: dict[tuple[str, ...], _Pace] = {}  # by what is fetched
        try:
            meta_graph = self._load()
        except tf.errors.NotFoundError as error:
            if "Op type not registered" not in error.message:
                raise
            # tensorflow_model_server links these operations. Here the models that need them pay
            # for the import: half a second and 110 MiB.
            import tensorflow_text  # noqa: F401

            meta_graph = self._load()
        # Copies: what is taken out of a message keeps all of it in memory, here the whole graph.
        self.signatures: Mapping[str, meta_graph_pb2.SignatureDef] = {
            name: meta_graph_pb2.SignatureDef.FromString(signature.SerializeToString())
            for name, signature in meta_graph.signature_def.items()
        }

    def _load(self) -> meta_graph_pb2.MetaGraphDef:
        self._graph = tf.Graph()
        with self._graph.as_default():
            self._session = tf.compat.v1.Session(graph=self._graph, config=self._config)
        try:
            loader = _loader(self.directory)
            with self._graph.as_default():
                return loader.load(self._session, [_TAG])
        except BaseException as error:
            self.close()
            if isinstance(error, ValueError):  # how the import words INVALID_ARGUMENT
                raise invalid_argument(str(error)) from None
            raise

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
        pace = self._paces.setdefault(tuple(fetches), _Pace())
        fast = pace.is_fast(timeout_ms)
        options, made = None, None
        if fast:
            options = _IN_THIS_THREAD
        elif timeout_ms:
            options = made = _buffer(tf.compat.v1.RunOptions(timeout_in_ms=timeout_ms))
        clock = time.thread_time if fast else time.perf_counter
        began = clock()
        try:
            # Session.run itself would cast the arrays to the types of the graph's inputs and so
            # hide a client's mistake.
            results = self._session._call_tf_sessionrun(
                options,
                {self._output(name): array for name, array in feeds.items()},
                [self._output(name) for name in fetches],
                [],
                None,
            )
        except UnicodeDecodeError as error:
            # An operation's text that quotes what the client sent: all that is left of its error.
            raise invalid_argument(error.object.decode(errors="replace")) from None
        finally:
            if made is not None:
                pywrap_tf_session.TF_DeleteBuffer(made)
        if fast:
            pace.here = clock() - began
            pace.runs += pace.here >= _FAST_SECONDS
        else:
            pace.elsewhere = clock() - began
            pace.runs += 1
        return results

    def _output(self, name: str) -> object:
        if name not in self._outputs:
            try:
                tensor = self._graph.get_tensor_by_name(name)
            except (KeyError, ValueError):  # of __saved_model_init_op, which is only an operation
                raise invalid_argument(
                    f"FetchOutputs {name}: output index too large, must be < 0"
                ) from None
            self._outputs[name] = tensor._as_tf_output()
        return self._outputs[name]

    def close(self) -> None:
        """Frees the memory; no run may be under way."""
        self._session.close()
        self._outputs.clear()
        # A graph and its operations refer to each other. The garbage collector would find them
        # late, or at the price of stopping every thread for a third of a second.
        ops.dismantle_graph(self._graph)


def _loader(directory: pathlib.Path) -> SavedModelLoader:
    try:
        loader = SavedModelLoader(str(directory))
    except OSError:
        path = directory / _FILE
        raise StatusError(
            grpc.StatusCode.DATA_LOSS, f"Can't parse {path} as binary proto"
        ) from None
    if not any(_TAG in graph.meta_info_def.tags for graph in loader.saved_model.meta_graphs):
        raise not_found(
            f"Could not find meta graph def matching supplied tags: {{ {_TAG} }}. To inspect "
            "available tag-sets in the SavedModel, please use the SavedModel CLI: "
            "`saved_model_cli`"
        )
    return loader


def _buffer(options: tf.compat.v1.RunOptions) -> object:
    return pywrap_tf_session.TF_NewBufferFromString(options.SerializeToString())


_IN_THIS_THREAD = _buffer(tf.compat.v1.RunOptions(inter_op_thread_pool=-1))
