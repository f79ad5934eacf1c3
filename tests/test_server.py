"""The server as a process, asked over loopback with TensorFlow Serving's own stubs."""

from __future__ import annotations

import functools
import itertools
import shutil
import signal
import subprocess
import sys
import threading
import time

import grpc
import numpy as np
import ovmsclient
import pytest
import tensorflow as tf
from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.wrappers_pb2 import Int64Value
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    input_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from tests.served_models import (
    REPOSITORY,
    free_port,
    running_server,
    save_half_plus_two,
    save_keras,
    save_pieces,
    save_scale,
    write_configuration,
)

State = get_model_status_pb2.ModelVersionStatus.State
PATIENCE_SECONDS = 60


@pytest.fixture(scope="module")
def base_paths(tmp_path_factory):
    """Of the models ``double``, ``triple`` and some of other makes, all in version 1."""
    folder = tmp_path_factory.mktemp("models")
    for name, save in {
        "double": functools.partial(save_scale, factor=2.0),
        "triple": functools.partial(save_scale, factor=3.0),
        "half_plus_two": save_half_plus_two,
        "keras": save_keras,
        "pieces": save_pieces,
    }.items():
        (folder / name).mkdir()
        save(folder / name / "1")
    return folder


@pytest.fixture(scope="module")
def server(base_paths, tmp_path_factory):
    """The process and a channel to it; of ``triple`` all versions are served."""
    more = {"triple": 'model_version_policy { all {} } version_labels { key: "stable" value: 1 }'}
    config = write_configuration(tmp_path_factory.mktemp("config") / "m.config", base_paths, more)
    with (
        running_server(
            f"--model_config_file={config}",
            "--allow_version_labels_for_unavailable_models",
            "--file_system_poll_wait_seconds=0.1",
            "--max_num_load_retries=0",
            "--enable_grpc_healthcheck_service",
        ) as (process, port),
        grpc.insecure_channel(f"localhost:{port}") as channel,
    ):
        yield process, channel, f"localhost:{port}"


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


def test_a_label_and_a_version_without_a_number_in_a_status_request(model_service):
    for spec, found in (
        (model_pb2.ModelSpec(name="triple", version_label="no such label"), True),
        (model_pb2.ModelSpec(name="triple", version=Int64Value()), False),  # is version 0
    ):
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=spec)
        if found:
            (only,) = model_service.GetModelStatus(request).model_version_status
            assert (only.version, only.state) == (1, State.AVAILABLE)
        else:
            assert refusal(model_service.GetModelStatus, request) == (
                grpc.StatusCode.NOT_FOUND,
                "Could not find version 0 of model triple",
            )


def test_a_version_without_a_number_is_version_0(prediction):
    request = predict_request("triple", x=[2.0])
    request.model_spec.version.SetInParent()
    assert refusal(prediction.Predict, request) == (
        grpc.StatusCode.NOT_FOUND,
        "Servable not found for request: Specific(triple, 0)",
    )


def test_a_model_of_several_signatures(prediction):
    request = predict_request("double", text=["ab"], times=np.array([2], np.int32))
    request.model_spec.signature_name = "repeat"
    response = prediction.Predict(request)
    assert list(response.outputs["texts"].string_val) == [b"abab"]
    assert list(response.outputs["lengths"].int_val) == [4]
    assert response.model_spec.signature_name == "repeat"


def test_a_model_exported_by_keras(prediction):
    response = prediction.Predict(predict_request("keras", rows=np.array([[1, 2]], np.float32)))
    (total,) = response.outputs.values()
    assert list(total.float_val) == [4]


def test_a_model_with_a_tokenizer_inside(prediction):
    response = prediction.Predict(predict_request("pieces", text=["a rose", "is"]))
    assert list(response.outputs["text"].string_val) == [b"a rose", b"is"]
    assert response.outputs["count"].int64_val[0] >= 2


def examples_of_two() -> input_pb2.Input:
    example = tf.train.Example()
    example.features.feature["x"].float_list.value.append(2)
    return input_pb2.Input(example_list=input_pb2.ExampleList(examples=[example]))


def answering(signature: str) -> model_pb2.ModelSpec:
    return model_pb2.ModelSpec(
        name="half_plus_two", version=Int64Value(value=1), signature_name=signature
    )


def test_classify(prediction):
    request = classification_pb2.ClassificationRequest(input=examples_of_two())
    request.model_spec.name = "half_plus_two"
    request.model_spec.signature_name = "scores"
    response = prediction.Classify(request)
    ((only,),) = [row.classes for row in response.result.classifications]
    assert (only.label, only.score) == ("", 3)
    assert response.model_spec == answering("scores")


def test_regress(prediction):
    request = regression_pb2.RegressionRequest(input=examples_of_two())
    request.model_spec.name = "half_plus_two"
    response = prediction.Regress(request)
    assert [regression.value for regression in response.result.regressions] == [3]
    assert response.model_spec == answering("serving_default")


def test_multi_inference(prediction):
    request = inference_pb2.MultiInferenceRequest(input=examples_of_two())
    for signature, method in (("", "regress"), ("scores", "classify")):
        task = request.tasks.add(method_name=f"tensorflow/serving/{method}")
        task.model_spec.name = "half_plus_two"
        task.model_spec.signature_name = signature
    regressed, classified = prediction.MultiInference(request).results
    assert regressed.regression_result.regressions[0].value == 3
    assert classified.classification_result.classifications[0].classes[0].score == 3
    assert regressed.model_spec == answering("serving_default")
    assert classified.model_spec == answering("scores")


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
            prediction.Classify,
            classification_pb2.ClassificationRequest(),
            (invalid, "Missing ModelSpec"),
        ),
        (
            prediction.Regress,
            regression_pb2.RegressionRequest(),
            (invalid, "Missing ModelSpec"),
        ),
        (
            prediction.MultiInference,
            inference_pb2.MultiInferenceRequest(),
            (invalid, "ModelSpec has no name specified."),
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
    assert prediction.Predict(predict_request("double", x=[1.0])).outputs["y"].float_val == [2]


def test_a_client_that_knows_only_what_reflection_tells(server):
    """As grpcurl does: list, describe, and call with JSON."""
    _, channel, _ = server
    database = ProtoReflectionDescriptorDatabase(channel)
    assert set(database.get_services()) == {
        "tensorflow.serving.PredictionService",
        "tensorflow.serving.ModelService",
        "grpc.reflection.v1alpha.ServerReflection",
        "grpc.health.v1.Health",
    }
    pool = descriptor_pool.DescriptorPool(database)
    service = pool.FindServiceByName("tensorflow.serving.PredictionService")
    assert set(service.methods_by_name) == {
        *("Predict", "Classify", "Regress", "MultiInference", "GetModelMetadata")
    }
    method = service.methods_by_name["Predict"]
    request = message_factory.GetMessageClass(method.input_type)()
    json_format.ParseDict(
        {
            "model_spec": {"name": "double"},
            "inputs": {"x": {"dtype": "DT_FLOAT", "tensor_shape": {"dim": [{"size": "1"}]}}},
        },
        request,
    )
    request.inputs["x"].float_val.append(2)
    call = channel.unary_unary(
        f"/{service.full_name}/{method.name}",
        request_serializer=type(request).SerializeToString,
        response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
    )
    answer = json_format.MessageToDict(call(request), preserving_proto_field_name=True)
    assert answer["outputs"]["y"]["float_val"] == [4.0]


def test_a_client_of_another_project(server):
    *_, address = server
    client = ovmsclient.make_grpc_client(address)
    # Without a version it would ask for version 0.
    status = client.get_model_status("half_plus_two", 1)
    assert status == {1: {"state": "AVAILABLE", "error_code": 0, "error_message": ""}}
    metadata = client.get_model_metadata("keras", 1)
    assert metadata["inputs"]["rows"] == {"shape": [-1, 2], "dtype": "DT_FLOAT"}
    rows = np.array([[1, 2], [3, 4]], np.float32)
    assert client.predict({"rows": rows}, "keras", 1).tolist() == [[4], [8]]
    texts = client.predict({"text": [b"a rose"]}, "pieces", 1)["text"]
    assert texts == [b"a rose"]


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


@pytest.fixture
def own_server(base_paths):
    """A server of ``triple`` that a test may end: the process and a stub."""
    with (
        running_server("--model_name=triple", f"--model_base_path={base_paths}/triple") as (
            process,
            port,
        ),
        grpc.insecure_channel(f"localhost:{port}") as channel,
    ):
        yield process, prediction_service_pb2_grpc.PredictionServiceStub(channel)


def begin(prediction, signature: str) -> grpc.Future:
    """A request of some duration that has arrived at the server."""
    request = predict_request("triple", x=[2.0])
    request.model_spec.signature_name = signature
    prediction.Predict(predict_request("triple", x=[2.0]))
    under_way = prediction.Predict.future(request)
    # The connection keeps the order: when this one is answered, the other has arrived.
    prediction.Predict(predict_request("triple", x=[2.0]))
    return under_way


def wait_until_refused(prediction) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    code = None
    # What is on its way while gRPC closes its doors is CANCELLED by it.
    while code in (None, grpc.StatusCode.CANCELLED):
        assert time.monotonic() < deadline
        error = prediction.Predict.future(predict_request("triple", x=[2.0])).exception()
        code = error and error.code()
    assert code == grpc.StatusCode.UNAVAILABLE


def test_sigterm_lets_requests_finish_and_refuses_new_ones(own_server):
    process, prediction = own_server
    under_way = begin(prediction, "slow")
    process.send_signal(signal.SIGTERM)
    wait_until_refused(prediction)
    assert list(under_way.result().outputs["y"].float_val) == [6]
    assert process.wait(PATIENCE_SECONDS) == 0


def test_a_second_signal_ends_the_server_at_once(own_server):
    process, prediction = own_server
    under_way = begin(prediction, "endless")
    process.send_signal(signal.SIGTERM)
    wait_until_refused(prediction)
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE_SECONDS) == 128 + signal.SIGINT
    assert under_way.exception().code() == grpc.StatusCode.UNAVAILABLE


@pytest.mark.slow
def test_what_never_ends_does_not_keep_the_server(own_server):
    process, prediction = own_server
    under_way = begin(prediction, "endless")
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_SECONDS) == 0
    assert under_way.exception().code() == grpc.StatusCode.UNAVAILABLE


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
