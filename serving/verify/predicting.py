"""Predict over gRPC: answers, the order of checks, and every refusal with its text."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any

import grpc
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from serving.verify.messages import MODEL, example, floats, predict, spec, tensor, values
from serving.verify.probe_models import MATRIX
from serving.verify.server import Check, DifferenceError, Server, equal, refuses

INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND
FAILED_PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION

X = {"x": floats(2.0)}
SERIALIZED = tensor(
    tf.string, [2], string_val=[example(x=value).SerializeToString() for value in (2.0, 4.0)]
)
NOT_WHOLE = tensor(tf.float32, [1], tensor_content=b"abc")


def answered(
    request: predict_pb2.PredictRequest, outputs: Mapping[str, Any], version: int, server: Server
) -> None:
    """Compares all outputs, and the model spec with what the request meant."""
    response = server.ask(request)
    equal("outputs", outputs, {name: values(proto) for name, proto in response.outputs.items()})
    echo = spec(
        request.model_spec.name,
        signature=request.model_spec.signature_name or "serving_default",
        version=version,
    )
    equal("model_spec", echo, response.model_spec)


def answers(
    request: predict_pb2.PredictRequest, outputs: Mapping[str, Any], version: int = 2
) -> Check:
    return functools.partial(answered, request, outputs, version)


def _answers_with_values(server: Server) -> None:
    answer = server.ask(predict(X)).outputs["y"]
    equal("float_val", [3.0], list(answer.float_val))
    equal("tensor_content", b"", answer.tensor_content)


def _deadline(server: Server) -> None:
    try:
        server.ask(predict(X, "slow"), timeout=0.05)
    except grpc.RpcError as error:
        equal("status code", "DEADLINE_EXCEEDED", error.code().name)
    else:
        raise DifferenceError("status code", "DEADLINE_EXCEEDED", "OK")
    answered(predict(X), {"y": [3.0]}, 2, server)


def _matrix(rows: list[int], count: int) -> predict_pb2.PredictRequest:
    inputs = {"rows": tensor(tf.float32, rows, float_val=[1.0] * count)}
    return predict(inputs, model=MATRIX)


ANSWERS: dict[str, Check] = {
    "an empty filter gives all outputs": answers(
        predict({"one": floats(5.0, 1.0), "other": floats(3.0, 4.0)}, "add"),
        {"total": [8.0, 5.0], "less": [2.0, -3.0]},
    ),
    "the filter chooses outputs": answers(
        predict({"one": floats(5.0), "other": floats(3.0)}, "add", output_filter=["less"]),
        {"less": [2.0]},
    ),
    "without a version the largest answers": answers(predict(X), {"y": [3.0]}),
    "a version answers": answers(predict(X, version=1), {"y": [2.0]}, version=1),
    "a label answers and is not echoed": answers(
        predict(X, label="stable"), {"y": [2.0]}, version=1
    ),
    "values, not tensor_content": _answers_with_values,
    "no rows in, no rows out": answers(predict({"x": floats()}), {"y": []}),
    "defaults supply omitted inputs": answers(predict(X, "shift"), {"y": [12.0]}),
    "a value goes before the default": answers(
        predict({**X, "by": tensor(tf.float32, [], float_val=[1.0])}, "shift"), {"y": [3.0]}
    ),
    "a signature for Classify": answers(
        predict({"inputs": SERIALIZED}, "classify_scores"), {"scores": [[3.0], [4.0]]}
    ),
    "a signature for Regress": answers(
        predict({"inputs": SERIALIZED}, "regress"), {"outputs": [[3.0], [4.0]]}
    ),
    "a SavedModel of TensorFlow 2": answers(
        _matrix([1, 4], 4), {"product": [[4.0, 4.0]]}, version=1
    ),
}

REFUSALS: dict[str, Check] = {
    "no model_spec": refuses(predict_pb2.PredictRequest(), INVALID, "Missing ModelSpec"),
    "empty name": refuses(predict(X, model=""), INVALID, "ModelSpec has no name specified."),
    "unknown model": refuses(
        predict(X, model="nobody"), NOT_FOUND, "Servable not found for request: Latest(nobody)"
    ),
    "unknown version": refuses(
        predict(X, version=7), NOT_FOUND, f"Servable not found for request: Specific({MODEL}, 7)"
    ),
    "version {} is version 0": refuses(
        predict(X, version=0), NOT_FOUND, f"Servable not found for request: Specific({MODEL}, 0)"
    ),
    "unknown label": refuses(
        predict(X, label="old"), INVALID, "Unrecognized servable version label: old"
    ),
    "unknown signature": refuses(
        predict(X, "nothing"), FAILED_PRECONDITION, 'Serving signature key "nothing" not found.'
    ),
    "more inputs than the signature": refuses(
        predict({"b": floats(1.0), "a": floats(1.0)}),
        INVALID,
        "input size does not match signature: 2!=1 len({a,b}) != len({x}). "
        "Sent extra: {a,b}. Missing but required: {x}.",
    ),
    "fewer inputs, no defaults": refuses(
        predict({"one": floats(1.0)}, "add"),
        INVALID,
        "input size does not match signature: 1!=2 len({one}) != len({one,other}). "
        "Sent extra: {}. Missing but required: {other}.",
    ),
    "right count, wrong name": refuses(
        predict({"z": floats(1.0)}),
        INVALID,
        "Signature input alias: x(feed name: serving_default_x:0) not found in request and no "
        "default value provided. Inputs expected to be in the request {z}, or default input "
        "alias set: ",
    ),
    "unknown name while defaults fill": refuses(
        predict({**X, "q": floats(1.0)}, "shift"),
        INVALID,
        "Inputs contains invalid name. Used request inputs: x, request input: q,x",
    ),
    "undecodable TensorProto": refuses(
        predict({"x": NOT_WHOLE}), INVALID, "tensor parsing error: x"
    ),
    "output_filter unknown": refuses(
        predict(X, output_filter=["q"]),
        INVALID,
        "output tensor alias not found in signature: q Outputs expected to be in the set {y}.",
    ),
    "output_filter repeated": refuses(
        predict(X, output_filter=["y", "y"]), INVALID, "duplicate output tensor alias: y"
    ),
    "wrong dtype": refuses(
        predict({"x": tensor(tf.string, [1], string_val=[b"two"])}),
        INVALID,
        "Expects arg[0] to be float but string is provided",
    ),
    "wrong shape": refuses(
        _matrix([1, 3], 3),
        INVALID,
        re.compile(
            r"Matrix size-incompatible: In\[0\]: \[1,3\], In\[1\]: \[4,2\]\n"
            r"\t \[\[\{\{node StatefulPartitionedCall/.*",
            re.DOTALL,
        ),
    ),
    "more than 1024 characters are cut": refuses(
        predict(X, model="m" * 2000),
        NOT_FOUND,
        ("Servable not found for request: Latest(" + "m" * 2000)[:1024] + "...TRUNCATED",
    ),
}

# Each request is wrong in two ways; the one that is checked first is answered.
ORDER: dict[str, Check] = {
    "the model before the signature": refuses(
        predict(X, "nothing", model="nobody"),
        NOT_FOUND,
        "Servable not found for request: Latest(nobody)",
    ),
    "the signature before the counts": refuses(
        predict({}, "nothing"), FAILED_PRECONDITION, 'Serving signature key "nothing" not found.'
    ),
    "the counts before the inputs": refuses(
        predict({"x": NOT_WHOLE, "z": NOT_WHOLE}),
        INVALID,
        "input size does not match signature: 2!=1 len({x,z}) != len({x}). "
        "Sent extra: {z}. Missing but required: {}.",
    ),
    "the inputs before the filter": refuses(
        predict({"x": NOT_WHOLE}, output_filter=["q"]), INVALID, "tensor parsing error: x"
    ),
    "the filter before the run": refuses(
        predict({"x": tensor(tf.string, [1], string_val=[b"two"])}, output_filter=["q"]),
        INVALID,
        "output tensor alias not found in signature: q Outputs expected to be in the set {y}.",
    ),
}

CHECKS = {**ANSWERS, **REFUSALS, **ORDER, "deadline": _deadline}
