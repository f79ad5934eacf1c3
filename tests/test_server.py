"""The server as a process, asked over loopback with TensorFlow Serving's own stubs."""

from __future__ import annotations

import itertools
import shutil
import signal
import subprocess
import sys
import threading
import time

import grpc
import pytest
import tensorflow as tf
from google.protobuf import descriptor_pool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tests.served_models import REPOSITORY, free_port, running_server, save_scale

State = get_model_status_pb2.ModelVersionStatus.State
PATIENCE_SECONDS = 60


@pytest.fixture(scope="module")
def base_paths(tmp_path_factory):
    """Of the models ``double`` (only its latest version) and ``triple`` (all of them)."""
    folder = tmp_path_factory.mktemp("models")
    for name, factor in (("double", 2.0), ("triple", 3.0)):
        (folder / name).mkdir()
        save_scale(folder / name / "1", factor)
    return folder


@pytest.fixture(scope="module")
def server(base_paths):
    """The process and a channel to it."""
    config = base_paths / "models.config"
    config.write_text(f"""model_config_list {{
        config {{ name: "double" base_path: "{base_paths}/double" model_platform: "tensorflow" }}
        config {{ name: "triple" base_path: "{base_paths}/triple" model_platform: "tensorflow"
                 model_version_policy {{ all {{}} }}
                 version_labels {{ key: "stable" value: 1 }} }}
    }}""")
    with (
        running_server(
            f"--model_config_file={config}",
            "--allow_version_labels_for_unavailable_models",
            "--file_system_poll_wait_seconds=0.1",
            "--max_num_load_retries=0",
        ) as (process, port),
        grpc.insecure_channel(f"localhost:{port}") as channel,
    ):
        yield process, channel


@pytest.fixture
def prediction(server):
    return prediction_service_pb2_grpc.PredictionServiceStub(server[1])


@pytest.fixture
def model_service(server):
    return model_service_pb2_grpc.ModelServiceStub(server[1])


def predict_request(name: str, **inputs) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = name
    for alias, value in inputs.items():
        request.inputs[alias].CopyFrom(tf.make_tensor_proto(value))
    return request


def status_request(name: str, version: int | None = None):
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = name
    if version is not None:
        request.model_spec.version.value = version
    return request


def refusal(call, request) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call(request)
    return caught.value.code(), caught.value.details()


def test_several_models_are_asked_without_a_deadline(prediction):
    for name, answer in (("double", 4), ("triple", 6)):
        response = prediction.Predict(predict_request(name, x=[2.0]))
        assert list(response.outputs["y"].float_val) == [answer]
        assert response.model_spec.name == name
        assert response.model_spec.version.value == 1
        assert response.model_spec.signature_name == "serving_default"


def test_a_label_chooses_and_is_not_echoed(prediction):
    request = predict_request("triple", x=[2.0])
    request.model_spec.version_label = "stable"
    response = prediction.Predict(request)
    assert response.model_spec.WhichOneof("version_choice") == "version"


def test_metadata(prediction):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "double"
    response = prediction.GetModelMetadata(request)
    assert response.model_spec.version.value == 1
    assert not response.model_spec.signature_name
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].type_url.startswith("type.googleapis.com/")
    assert response.metadata["signature_def"].Unpack(signatures)
    assert {"serving_default", "repeat", "__saved_model_init_op"} <= set(signatures.signature_def)
    inputs = signatures.signature_def["serving_default"].inputs
    assert inputs["x"].dtype == tf.float32.as_datatype_enum


def test_refusals_do_not_end_the_server(prediction, model_service):
    invalid, missing = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
    metadata = get_model_metadata_pb2.GetModelMetadataRequest()
    metadata.model_spec.name = "double"
    other = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["assets"])
    other.model_spec.name = "double"
    old = predict_request("double", x=[1.0])
    old.model_spec.version.value = 9
    table = [
        (
            prediction.Predict,
            predict_pb2.PredictRequest(),
            (invalid, "Missing ModelSpec"),
        ),
        (
            prediction.Predict,
            predict_request("", x=[1.0]),
            (invalid, "ModelSpec has no name specified."),
        ),
        (
            prediction.Predict,
            predict_request("nothing", x=[1.0]),
            (missing, "Servable not found for request: Latest(nothing)"),
        ),
        (
            prediction.Predict,
            old,
            (missing, "Servable not found for request: Specific(double, 9)"),
        ),
        (
            prediction.Predict,
            predict_request("double", x=["text"]),
            (invalid, "Expects arg[0] to be float but string is provided"),
        ),
        (
            prediction.GetModelMetadata,
            metadata,
            (invalid, "GetModelMetadataRequest must specify at least one metadata_field"),
        ),
        (
            prediction.GetModelMetadata,
            other,
            (invalid, "Metadata field assets is not supported"),
        ),
        (
            model_service.GetModelStatus,
            get_model_status_pb2.GetModelStatusRequest(),
            (invalid, "Missing ModelSpec"),
        ),
        (
            model_service.GetModelStatus,
            status_request("nothing"),
            (missing, "Could not find any versions of model nothing"),
        ),
        (
            model_service.GetModelStatus,
            status_request("double", 9),
            (missing, "Could not find version 9 of model double"),
        ),
    ]
    for call, request, expected in table:
        assert refusal(call, request) == expected
    code, _ = refusal(prediction.Classify, classification_pb2.ClassificationRequest())
    assert code == grpc.StatusCode.UNIMPLEMENTED
    assert prediction.Predict(predict_request("double", x=[1.0])).outputs["y"].float_val == [2]


def test_reflection_describes_the_services(server):
    database = ProtoReflectionDescriptorDatabase(server[1])
    assert {"tensorflow.serving.PredictionService", "tensorflow.serving.ModelService"} <= set(
        database.get_services()
    )
    service = descriptor_pool.DescriptorPool(database).FindServiceByName(
        "tensorflow.serving.PredictionService"
    )
    assert "Predict" in service.methods_by_name


def wait_for_states(model_service, name: str, expected: dict[int, int]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        response = model_service.GetModelStatus(status_request(name))
        states = {entry.version: entry.state for entry in response.model_version_status}
        if states == expected:
            return
        assert time.monotonic() < deadline, states
        time.sleep(0.05)


def test_a_new_version_takes_over_while_requests_run(prediction, model_service, base_paths):
    answers, failures, stop = [], [], threading.Event()

    def ask() -> None:
        for number in itertools.cycle(range(1, 8)):
            if stop.is_set():
                return
            try:
                response = prediction.Predict(predict_request("double", x=[float(number)]))
            except grpc.RpcError as error:
                failures.append(error)
                return
            factor = response.outputs["y"].float_val[0] / number
            answers.append((response.model_spec.version.value, factor))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    save_scale(base_paths / "double" / "2", 20.0)
    wait_for_states(model_service, "double", {1: State.END, 2: State.AVAILABLE})
    # A version that can't be loaded changes nothing, nor does one that is still being copied.
    (base_paths / "double" / "3").mkdir()
    shutil.copy(base_paths / "double" / "2" / "saved_model.pb", base_paths / "double" / "3")
    wait_for_states(model_service, "double", {1: State.END, 2: State.AVAILABLE, 3: State.END})
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert set(answers) == {(1, 2.0), (2, 20.0)}
    failed = model_service.GetModelStatus(status_request("double", 3)).model_version_status[0]
    assert failed.status.error_code != 0
    assert "variables" in failed.status.error_message


def test_sigterm_lets_requests_finish_and_ends_well(server, prediction):
    process, _ = server
    request = predict_request("triple", x=[2.0])
    request.model_spec.signature_name = "slow"
    under_way = prediction.Predict.future(request)
    # One connection keeps the order: when this one is answered, the slow one has arrived.
    prediction.Predict(predict_request("triple", x=[2.0]))
    process.send_signal(signal.SIGTERM)
    assert list(under_way.result().outputs["y"].float_val) == [6]
    assert process.wait(PATIENCE_SECONDS) == 0


def test_a_model_that_can_not_be_loaded_is_no_start(tmp_path):
    (tmp_path / "1").mkdir()
    result = subprocess.run(
        [
            *(sys.executable, "-m", "serving.server", f"--port={free_port()}"),
            *("--model_name=m", f"--model_base_path={tmp_path}", "--max_num_load_retries=0"),
        ],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert not result.stdout
    assert (
        "Failed to start server. Error: UNKNOWN: 1 servable(s) did not become available: "
        "{{name: m version: 1} due to error: NOT_FOUND: Specified file path does not appear to "
        "contain a SavedModel bundle" in result.stderr
    )
    assert "Traceback" not in result.stderr
    assert "oneDNN" not in result.stderr
