"""Warm-up: the requests in a version folder that run before it is available."""

from __future__ import annotations

import pathlib

import pytest
import tensorflow as tf
from tensorflow_serving.apis import model_pb2
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from serving.server.errors import StatusError
from serving.server.saved_model import SavedModel
from serving.server.version import Loading, load
from serving.server.warmup import WARMUP_FILE, warm_up
from tests.served_models import save_half_plus_two

# The model and the version are another server's.
ELSEWHERE = model_pb2.ModelSpec(name="elsewhere", version={"value": 99})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_half_plus_two(tmp_path_factory.mktemp("half_plus_two") / "1")


@pytest.fixture(scope="module")
def model(folder):
    model = SavedModel(folder)
    yield model
    model.close()


def example() -> tf.train.Example:
    return tf.train.Example(
        features={"feature": {"x": {"float_list": {"value": [2.0]}}}},
    )


def write(folder: pathlib.Path, *records: PredictionLog | bytes) -> pathlib.Path:
    path = folder / WARMUP_FILE
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record if isinstance(record, bytes) else record.SerializeToString())
    return path


def predict_log(**inputs) -> PredictionLog:
    log = PredictionLog()
    log.predict_log.request.model_spec.CopyFrom(ELSEWHERE)
    for name, value in inputs.items():
        log.predict_log.request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return log


def classify_log() -> PredictionLog:
    log = PredictionLog()
    log.classify_log.request.model_spec.CopyFrom(ELSEWHERE)
    log.classify_log.request.model_spec.signature_name = "both"
    log.classify_log.request.input.example_list.examples.append(example())
    return log


def regress_log(signature: str = "") -> PredictionLog:
    log = PredictionLog()
    log.regress_log.request.model_spec.CopyFrom(ELSEWHERE)
    log.regress_log.request.model_spec.signature_name = signature
    log.regress_log.request.input.example_list.examples.append(example())
    return log


def multi_inference_log() -> PredictionLog:
    log = PredictionLog()
    task = log.multi_inference_log.request.tasks.add()
    task.model_spec.CopyFrom(ELSEWHERE)
    task.method_name = "tensorflow/serving/regress"
    log.multi_inference_log.request.input.example_list.examples.append(example())
    return log


def test_logs_of_all_kinds_are_run(model):
    texts = [example().SerializeToString()]
    write(
        model.directory,
        predict_log(inputs=texts),
        classify_log(),
        regress_log(),
        multi_inference_log(),
        PredictionLog(),  # which asks for nothing
    )
    assert warm_up(model) == 5


def session_run_log() -> PredictionLog:
    log = PredictionLog()
    log.session_run_log.SetInParent()
    return log


@pytest.mark.parametrize(
    ("record", "code", "text"),
    [
        (predict_log(z=[1.0]), "INVALID_ARGUMENT", "Signature input alias: inputs"),
        (regress_log("none"), "INVALID_ARGUMENT", "No signature was found with the name: none"),
        (session_run_log(), "UNIMPLEMENTED", "Unsupported log_type for warmup: session_run_log"),
        (b"\xff", "INVALID_ARGUMENT", "Failed to parse warmup record from "),
    ],
)
def test_a_log_that_can_not_be_run_fails_the_load(folder, record, code, text):
    path = write(folder, regress_log(), record)
    with pytest.raises(StatusError) as caught:
        load(folder, Loading())
    assert caught.value.code.name == code
    assert caught.value.message.startswith(text)
    load(folder, Loading(warm_up=False)).close()
    path.unlink()
    load(folder, Loading()).close()


def test_a_thousand_records_are_enough(model):
    path = write(model.directory, *[PredictionLog()] * 1000)
    assert warm_up(model) == 1000
    write(model.directory, *[PredictionLog()] * 1001)
    with pytest.raises(StatusError) as caught:
        warm_up(model)
    assert str(caught.value) == (
        f"INVALID_ARGUMENT: Number of warmup records exceeds the maximum (1000) at {path}"
    )


@pytest.mark.parametrize("change", [lambda _: b"no records here", lambda content: content[:-3]])
def test_a_damaged_file_is_told_of(model, change):
    path = write(model.directory, regress_log())
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(StatusError, match="verify your warmup data is in TFRecord") as caught:
        warm_up(model)
    assert caught.value.code.name == "DATA_LOSS"
