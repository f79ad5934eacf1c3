"""Warm-up: the requests in a version folder that run before clients are served by it.

The first run of a graph is slow: it is optimised and memory is allocated then.

Source: tensorflow_serving/servables/tensorflow/saved_model_warmup{,_util}.cc.
"""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Iterator

import grpc
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import prediction_log_pb2

from serving.server import metrics
from serving.server.classify import classify, multi_inference, regress
from serving.server.errors import StatusError, invalid_argument
from serving.server.predict import predict
from serving.server.saved_model import SavedModel

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
_MOST_RECORDS = 1000

# What runs the request of each kind of log.
_RUNNERS = {
    "classify_log": classify,
    "regress_log": regress,
    "multi_inference_log": multi_inference,
    "predict_log": predict,
}


def warm_up(model: SavedModel) -> int:
    """Runs the warm-up requests of ``model``, if it has any; returns their number.

    The model and version that they name don't matter.

    Raises:
        StatusError: for more than 1000 of them, one that is refused, or a damaged file.
        tensorflow.errors.OpError: for one that fails.
    """
    path = model.directory / WARMUP_FILE
    if not path.is_file():
        return 0
    with metrics.warming_up(model.directory):
        return _run(model, path)


def _run(model: SavedModel, path: pathlib.Path) -> int:
    count = 0
    for count, log in enumerate(itertools.islice(_logs(path), _MOST_RECORDS + 1), start=1):
        if count > _MOST_RECORDS:
            raise invalid_argument(
                f"Number of warmup records exceeds the maximum ({_MOST_RECORDS}) at {path}"
            )
        kind = log.WhichOneof("log_type")
        if kind is None:
            continue
        if kind not in _RUNNERS:
            raise StatusError(
                grpc.StatusCode.UNIMPLEMENTED, f"Unsupported log_type for warmup: {kind}"
            )
        _RUNNERS[kind](model, getattr(log, kind).request)
    return count


def _logs(path: pathlib.Path) -> Iterator[prediction_log_pb2.PredictionLog]:
    records = tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
    while True:
        try:
            yield prediction_log_pb2.PredictionLog.FromString(next(records))
        except StopIteration:
            return
        except tf.errors.DataLossError as error:
            raise StatusError(
                grpc.StatusCode.DATA_LOSS,
                f"{error.message}. Please verify your warmup data is in TFRecord format.",
            ) from None
        except DecodeError:
            raise invalid_argument(f"Failed to parse warmup record from {path}") from None
