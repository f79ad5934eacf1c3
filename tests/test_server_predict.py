"""A Predict request on a loaded SavedModel: answers, and TensorFlow Serving's error texts."""

from __future__ import annotations

import argparse

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from serving.server import configuration, flags, tensors
from serving.server.errors import StatusError, as_status, shorten
from serving.server.predict import predict
from serving.server.saved_model import SavedModel
from serving.server.warmup import WARMUP_FILE, warm_up
from tests.served_models import save_half_plus_two, save_scale

INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = save_scale(tmp_path_factory.mktemp("scale") / "1", 2.0)
    file = folder / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    signatures = saved.meta_graphs[0].signature_def
    signatures["repeat_twice"].CopyFrom(signatures["repeat"])
    signatures["repeat_twice"].defaults["times"].CopyFrom(tf.make_tensor_proto([2]))
    file.write_bytes(saved.SerializeToString())
    model = SavedModel(folder)
    yield model
    model.close()


def request_for(inputs: dict, signature: str = "", output_filter=()) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest(output_filter=output_filter)
    request.model_spec.name = "scale"
    request.model_spec.signature_name = signature
    for name, value in inputs.items():
        whole = isinstance(value, tensor_pb2.TensorProto)
        request.inputs[name].CopyFrom(value if whole else tf.make_tensor_proto(value))
    return request


def refusal(model: SavedModel, request: predict_pb2.PredictRequest) -> tuple:
    with pytest.raises((StatusError, tf.errors.OpError)) as caught:
        predict(model, request)
    status = as_status(caught.value)
    return status.code, status.message


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_all_outputs_of_the_default_signature(model):
    response = predict(model, request_for({"x": floats(2, 3)}))
    assert list(response.outputs) == ["y"]
    assert list(response.outputs["y"].float_val) == [4, 6]
    assert not response.outputs["y"].tensor_content
    assert response.model_spec.signature_name == "serving_default"


def test_an_output_filter_chooses(model):
    inputs = {"text": ["ab", "é"], "times": np.array([2, 1], np.int32)}
    response = predict(model, request_for(inputs, "repeat", ["texts"]))
    assert list(response.outputs) == ["texts"]
    assert list(response.outputs["texts"].string_val) == [b"abab", "é".encode()]


def test_no_rows_are_no_error(model):
    answer = predict(model, request_for({"x": floats()})).outputs["y"]
    assert [size.size for size in answer.tensor_shape.dim] == [0]
    assert not answer.float_val


def test_defaults_of_the_signature_supply_what_is_left_out(model):
    response = predict(model, request_for({"text": ["ab"]}, "repeat_twice"))
    assert list(response.outputs["texts"].string_val) == [b"abab"]
    given = {"text": ["ab"], "times": np.array([1], np.int32)}
    response = predict(model, request_for(given, "repeat_twice"))
    assert list(response.outputs["texts"].string_val) == [b"ab"]


def proto(dtype: tf.DType, *shape: int, **fields) -> tensor_pb2.TensorProto:
    tensor = tensor_pb2.TensorProto(dtype=dtype.as_datatype_enum, **fields)
    tensor.tensor_shape.SetInParent()
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    return tensor


NOT_WHOLE = proto(tf.float32, 1, tensor_content=b"abc")


@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        (
            request_for({"x": floats(1)}, "nothing"),
            grpc.StatusCode.FAILED_PRECONDITION,
            'Serving signature key "nothing" not found.',
        ),
        (
            request_for({}, "__saved_model_init_op"),
            INVALID,
            "FetchOutputs NoOp: output index too large, must be < 0",
        ),
        (
            request_for({"b": floats(1), "a": floats(1)}),
            INVALID,
            "input size does not match signature: 2!=1 len({a,b}) != len({x}). "
            "Sent extra: {a,b}. Missing but required: {x}.",
        ),
        (
            request_for({}),
            INVALID,
            "input size does not match signature: 0!=1 len({}) != len({x}). "
            "Sent extra: {}. Missing but required: {x}.",
        ),
        (
            request_for({"z": floats(1)}),
            INVALID,
            "Signature input alias: x(feed name: serving_default_x:0) not found in request and no "
            "default value provided. Inputs expected to be in the request {z}, or default input "
            "alias set: ",
        ),
        (
            request_for({"text": ["ab"], "q": floats(1)}, "repeat_twice"),
            INVALID,
            "Inputs contains invalid name. Used request inputs: text, request input: q,text",
        ),
        (
            request_for({"times": np.array([1], np.int32)}, "repeat_twice"),
            INVALID,
            "Signature input alias: text(feed name: repeat_text:0) not found in request and no "
            "default value provided. Inputs expected to be in the request {times}, or default "
            "input alias set: times",
        ),
        (request_for({"x": NOT_WHOLE}), INVALID, "tensor parsing error: x"),
        (request_for({"x": tensor_pb2.TensorProto()}), INVALID, "tensor parsing error: x"),
        (
            request_for({"x": floats(1)}, output_filter=["q"]),
            INVALID,
            "output tensor alias not found in signature: q Outputs expected to be in the set {y}.",
        ),
        (
            request_for({"x": floats(1)}, output_filter=["y", "y"]),
            INVALID,
            "duplicate output tensor alias: y",
        ),
        (
            request_for({"x": ["one"]}),
            INVALID,
            "Expects arg[0] to be float but string is provided",
        ),
    ],
)
def test_a_request_that_does_not_fit_is_refused(model, request_, code, message):
    assert refusal(model, request_) == (code, message)


def test_checks_are_made_in_order(model):
    """Signature, number of inputs, inputs, outputs; the types are the run's matter."""
    wrong = {"x": NOT_WHOLE, "more": floats(1)}
    request = request_for(wrong, "nothing", ["q"])
    assert refusal(model, request)[1].startswith("Serving signature key")
    request.model_spec.signature_name = ""
    assert refusal(model, request)[1].startswith("input size does not match signature")
    del request.inputs["more"]
    assert refusal(model, request)[1] == "tensor parsing error: x"
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(["one"]))
    assert refusal(model, request)[1].startswith("output tensor alias not found")
    request.ClearField("output_filter")
    assert refusal(model, request)[1].startswith("Expects arg[0]")


def test_signatures_of_classification_and_regression_predict_too(tmp_path):
    model = SavedModel(save_half_plus_two(tmp_path / "1"))
    example = tf.train.Example()
    example.features.feature["x"].float_list.value.append(2)
    inputs = {"inputs": [example.SerializeToString()]}
    assert list(predict(model, request_for(inputs)).outputs["outputs"].float_val) == [3]
    both = predict(model, request_for(inputs, "both")).outputs
    assert list(both["scores"].float_val) == [3, 4]
    assert list(both["classes"].string_val) == [b"half", b"two"]
    model.close()


def test_bytes_that_an_operation_quotes_are_no_unforeseen_error(tmp_path):
    class ToNumber(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="x")])
        def run(self, x):
            return {"y": tf.strings.to_number(x)}

    module = ToNumber()
    tf.saved_model.save(module, str(tmp_path / "1"), signatures=module.run)
    model = SavedModel(tmp_path / "1")
    code, message = refusal(model, request_for({"x": [b"\xff"]}))
    assert code == INVALID
    assert message.startswith("StringToNumberOp could not correctly convert string: \ufffd")
    model.close()


def test_an_unforeseen_error_tells_a_client_nothing(caplog):
    status = as_status(KeyError("/home/someone/secret"))
    assert status.code == grpc.StatusCode.INTERNAL
    assert status.message == "Unforeseen error; the server's log says more."
    assert "/home/someone/secret" in caplog.text
    assert "KeyError" in caplog.text


def test_a_wrong_shape_is_the_operation_s_error(model):
    code, message = refusal(model, request_for({"rows": floats([1, 2, 3])}, "multiply"))
    assert code == INVALID
    assert message.startswith("Matrix size-incompatible: In[0]: [1,3], In[1]: [2,3]")


def test_a_run_ends_at_its_deadline(model):
    with pytest.raises(tf.errors.DeadlineExceededError, match="Timed out waiting for notification"):
        predict(model, request_for({"x": floats(1)}, "slow"), timeout_ms=20)


def test_long_messages_are_cut():
    assert shorten("x" * 1024) == "x" * 1024
    assert shorten("x" * 1025) == "x" * 1024 + "...TRUNCATED"
    # Bytes count, for gRPC's headers have a limit of their own; no character is cut in two.
    assert shorten("x" + "é" * 512) == "x" + "é" * 511 + "...TRUNCATED"


@pytest.mark.parametrize(
    "dtype",
    [
        "float16",
        "bfloat16",
        "float32",
        "float64",
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "bool",
        "complex64",
        "complex128",
    ],
)
def test_tensors_survive_the_way_there_and_back(dtype):
    array = tf.cast(tf.constant([[0, 1, 2], [3, 100, 1]]), dtype).numpy()
    encoded = tensors.encode(array)
    assert not encoded.tensor_content
    for proto in (encoded, tf.make_tensor_proto(array)):
        decoded = tensors.decode(proto, "x")
        assert decoded.dtype == array.dtype
        np.testing.assert_array_equal(decoded, array)


def test_strings_survive_the_way_there_and_back():
    array = np.array([[b"a\0", b""], [b"\xff", "ü".encode()]], object)
    np.testing.assert_array_equal(tensors.decode(tensors.encode(array), "x"), array)


@pytest.mark.parametrize(
    ("tensor", "expected"),
    [
        (proto(tf.float32, 4, float_val=[1, 2]), [1, 2, 2, 2]),
        (proto(tf.float32, 4), [0, 0, 0, 0]),
        (proto(tf.string, 2), [b"", b""]),
        (proto(tf.string, 3, string_val=[b"a"]), [b"a", b"a", b"a"]),
        (proto(tf.float32, 1, float_val=[1, 2]), [1]),
        (proto(tf.float32, 2, int_val=[1, 2]), [0, 0]),
        (proto(tf.float32, 0, 3), np.zeros([0, 3])),
        (proto(tf.string, *[1] * 32, string_val=[b"a"]), np.full([1] * 32, b"a", object)),
        (tensor_pb2.TensorProto(dtype=tf.float32.as_datatype_enum, float_val=[3]), 3),
        (proto(tf.half, 2, half_val=[0x3C00, 0xC000]), [1, -2]),
        (proto(tf.bfloat16, 2, half_val=[0x3F80, 0xC000]), [1, -2]),
        (proto(tf.uint32, 1, uint32_val=[2**32 - 1]), [2**32 - 1]),
        (proto(tf.uint64, 1, uint64_val=[2**64 - 1]), [2**64 - 1]),
        (proto(tf.complex64, 2, scomplex_val=[1, 2, 3, 4]), [1 + 2j, 3 + 4j]),
        (proto(tf.complex64, 2, scomplex_val=[1, 2]), [1 + 2j, 1 + 2j]),
        (proto(tf.float32, 1, float_val=[1], tensor_content=b"\0\0\0\x40"), [2]),
        # The strings' lengths, then the strings.
        (proto(tf.string, 3, tensor_content=b"\1\0\2abb"), [b"a", b"", b"bb"]),
        (proto(tf.float32, 1000, 4096, float_val=[7]), np.full([1000, 4096], 7.0)),
    ],
)
def test_tensors_are_decoded(tensor, expected):
    decoded = tensors.decode(tensor, "x")
    assert tf.dtypes.as_dtype(tensor.dtype) in (tf.string, decoded.dtype)
    np.testing.assert_array_equal(decoded, expected)


TERA = 10**12


@pytest.mark.parametrize(
    "tensor",
    [
        proto(tf.float32, 2, tensor_content=b"\0\0\0\0"),
        proto(tf.float32, 1, tensor_content=b"\0" * 8),
        proto(tf.float32, -1, float_val=[1]),
        proto(tf.float32, -1, -4, tensor_content=b"\0" * 16),
        proto(tf.string, 2, tensor_content=b"\1\2ab"),
        proto(tf.string, 1, tensor_content=b"\1ab"),
        proto(tf.string, 1, tensor_content=b"\xff\xff\xff\xff\x7fab"),
        # More than there is memory, had it not been refused before.
        proto(tf.float32, TERA, float_val=[1]),
        proto(tf.float32, TERA, TERA, TERA),
        proto(tf.float32, TERA, tensor_content=b"\0\0\0\0"),
        proto(tf.string, TERA, string_val=[b"a"]),
        proto(tf.string, TERA, tensor_content=b"\1a"),
        proto(tf.string, 2000, string_val=[b"a" * 10**6]),
        proto(tf.bool, TERA, bool_val=[True]),
        proto(tf.qint8, TERA),
        proto(tf.float32, *[1] * 33, float_val=[1]),
        proto(tf.float32, *[1] * 300, tensor_content=b"\0" * 4),
        proto(tf.string, *[1] * 33, string_val=[b"a"]),
        proto(tf.string, *[1] * 33, tensor_content=b"\1a"),
        proto(tf.resource, 1, tensor_content=b"abc"),
        proto(tf.variant, 1, tensor_content=b"abc"),
        tensor_pb2.TensorProto(dtype=101, tensor_content=b"\0\0\0\0"),  # a reference to floats
        tensor_pb2.TensorProto(dtype=999, float_val=[1]),
        tensor_pb2.TensorProto(float_val=[1]),
    ],
)
def test_tensors_that_stand_for_nothing(tensor):
    with pytest.raises(StatusError) as caught:
        tensors.decode(tensor, "x")
    assert (caught.value.code, caught.value.message) == (INVALID, "tensor parsing error: x")


def write_warmup(folder, requests) -> None:
    (folder / "assets.extra").mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(folder / WARMUP_FILE)) as writer:
        for request in requests:
            log = prediction_log_pb2.PredictionLog()
            log.predict_log.request.CopyFrom(request)
            writer.write(log.SerializeToString())


def test_warm_up_runs_the_requests_of_the_version(tmp_path):
    model = SavedModel(save_scale(tmp_path / "1", 1.0))
    assert warm_up(model) == 0
    write_warmup(model.directory, [request_for({"x": floats(1)})] * 3)
    assert warm_up(model) == 3
    write_warmup(model.directory, [request_for({"z": floats(1)})])
    with pytest.raises(StatusError, match="Signature input alias: x"):
        warm_up(model)
    write_warmup(model.directory, [request_for({"x": floats(1)})] * 1001)
    with pytest.raises(StatusError, match=r"exceeds the maximum \(1000\) at .*requests"):
        warm_up(model)
    model.close()


def options(*arguments: str) -> argparse.Namespace:
    return flags.parse(arguments)


def test_one_model_by_flags():
    (model,) = configuration.read_models(options("--model_name=m", "--model_base_path=/models/m"))
    assert (model.name, str(model.base_path), model.policy) == ("m", "/models/m", "latest")
    assert model.choose([1, 3, 2]) == {3}


def test_version_policies_of_a_configuration_file(tmp_path):
    path = tmp_path / "models.config"
    path.write_text("""model_config_list {
        config { name: "a" base_path: "/a" model_platform: "tensorflow"
                 model_version_policy { latest { num_versions: 2 } } }
        config { name: "b" base_path: "/b" model_platform: "tensorflow"
                 model_version_policy { all {} } }
        config { name: "c" base_path: "/c" model_platform: "tensorflow"
                 model_version_policy { specific { versions: 1 versions: 7 } }
                 version_labels { key: "stable" value: 1 } }
    }""")
    a, b, c = configuration.read_models(options(f"--model_config_file={path}"))
    assert a.choose([1, 2, 3]) == {2, 3}
    assert b.choose([1, 2, 3]) == {1, 2, 3}
    assert c.choose([1, 2, 3]) == {1}
    assert c.labels == {"stable": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "model_config_list { nonsense }",
            "Error parsing text-format tensorflow.serving.ModelServerConfig",
        ),
        (
            'model_config_list { config { base_path: "m" name: "m" model_platform:"tensorflow" } }',
            r"Expected model m to have an absolute path or URI; got base_path\(\)=m",
        ),
        (
            'model_config_list { config { name: "m" base_path: "/m" model_platform: "torch" } }',
            "Model m requests unsupported platform torch",
        ),
        (
            'model_config_list { config { name: "m" base_path: "/m" } }',
            r"Illegal setting neither ModelServerConfig::model_type \(deprecated\) nor "
            "ModelServerConfig::model_platform, model name is m",
        ),
        (
            "model_config_list {"
            + 'config { name: "m" base_path: "/m" model_platform: "tensorflow" }' * 2
            + "}",
            "Illegal to list model m multiple times in config list",
        ),
    ],
)
def test_a_configuration_that_can_not_be_used(tmp_path, text, message):
    path = tmp_path / "models.config"
    path.write_text(text)
    with pytest.raises(StatusError, match=message) as caught:
        configuration.read_models(options(f"--model_config_file={path}"))
    assert caught.value.code == INVALID


def test_flags_are_written_as_tensorflow_serving_s():
    given = options(
        "--model_base_path=/m",
        "--enable_model_warmup=false",
        "--allow_version_labels_for_unavailable_models",
        "--grpc_channel_arguments=grpc.max_connection_age_ms=2000,grpc.name=zoo",
    )
    assert given.enable_model_warmup is False
    assert given.allow_version_labels_for_unavailable_models is True
    assert given.grpc_channel_arguments == [
        ("grpc.max_connection_age_ms", 2000),
        ("grpc.name", "zoo"),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model_base_path=/m", "--model_bas=/n"], "unrecognized arguments: --model_bas=/n"),
        (["--port=0", "--model_base_path=/m"], "nothing to listen on"),
        ([], "nothing to serve"),
    ],
)
def test_flags_that_can_not_be_meant(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        options(*arguments)
    assert message in capsys.readouterr().err
