"""Warm-up: the requests in a version folder that run before clients are served by it.

The first run of a graph is slow: it is optimised and memory is allocated then.
"""

from __future__ import annotations

import itertools

import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from serving.server.errors import invalid_argument
from serving.server.predict import predict
from serving.server.saved_model import SavedModel

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
_MOST_RECORDS = 1000


def warm_up(model: SavedModel) -> int:
    """Runs the warm-up requests of ``model``, if it has any; returns their number.

    Raises:
        StatusError: for more than 1000 of them, or one that Predict refuses.
        tensorflow.errors.OpError: for one that fails, or a damaged file.
    """
    path = model.directory / WARMUP_FILE
    if not path.is_file():
        return 0
    count = 0
    records = tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
    for count, record in enumerate(itertools.islice(records, _MOST_RECORDS + 1), start=1):
        if count > _MOST_RECORDS:
            raise invalid_argument(
                f"Number of warmup records exceeds the maximum ({_MOST_RECORDS}) at {path}"
            )
        log = prediction_log_pb2.PredictionLog.FromString(record)
        kind = log.WhichOneof("log_type")
        if kind != "predict_log":
            raise invalid_argument(f"Unsupported log_type for warmup: {kind}")
        predict(model, log.predict_log.request)
    return count
