"""Beside the answers: reflection, health, and how large a message may be."""

from __future__ import annotations

import functools

import grpc
import tensorflow as tf
from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from serving.verify.messages import predict, tensor
from serving.verify.server import Check, DifferenceError, Server, equal

_PREDICTION = "tensorflow.serving.PredictionService"
_MODEL = "tensorflow.serving.ModelService"
_METHODS = {
    _PREDICTION: {"Predict", "Classify", "Regress", "MultiInference", "GetModelMetadata"},
    _MODEL: {"GetModelStatus", "HandleReloadConfigRequest"},
}
_TEN_MILLION_BYTES = 10_000_000


def _reflection(server: Server) -> None:
    database = ProtoReflectionDescriptorDatabase(server.channel)
    missing = _METHODS.keys() - set(database.get_services())
    equal("services that reflection leaves out", set(), missing)
    pool = descriptor_pool.DescriptorPool(database)
    for service, methods in _METHODS.items():
        described = pool.FindServiceByName(service).methods_by_name
        equal(f"methods of {service}", set(), methods - set(described))


def _serving(service: str, server: Server) -> None:
    stub = health_pb2_grpc.HealthStub(server.channel)
    response = stub.Check(health_pb2.HealthCheckRequest(service=service))
    equal("status", health_pb2.HealthCheckResponse.SERVING, response.status)


def _unknown_service(server: Server) -> None:
    try:
        _serving(_PREDICTION, server)  # the names are unqualified
    except grpc.RpcError as error:
        equal("status code", "NOT_FOUND", error.code().name)
    else:
        raise DifferenceError("status code", "NOT_FOUND", "OK")


def _large_message(server: Server) -> None:
    content = bytes(_TEN_MILLION_BYTES)
    request = predict({"x": tensor(tf.string, [1], string_val=[content])}, "echo_string")
    request.output_filter.append("y")
    equal("as it was sent", True, server.ask(request).outputs["y"].string_val[0] == content)


CHECKS: dict[str, Check] = {
    "reflection": _reflection,
    **{
        f"health of {service or 'the whole'}": functools.partial(_serving, service)
        for service in ("PredictionService", "ModelService", "")
    },
    "health of an unknown service": _unknown_service,
    "10 MB each way": _large_message,
}
