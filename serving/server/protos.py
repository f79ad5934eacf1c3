"""The configuration messages of tensorflow_model_server that tensorflow-serving-api leaves out.

Their text files (``--batching_parameters_file``, ``--ssl_config_file``,
``--monitoring_config_file``) are the same for both servers. The messages are described by their
published field numbers and built when this module is imported, in a pool of their own, so that a
later tensorflow-serving-api may bring them too.

Source: tensorflow_serving/config/{ssl_config,monitoring_config}.proto and
tensorflow_serving/servables/tensorflow/session_bundle_config.proto.
"""

from __future__ import annotations

import pathlib
from typing import Any

from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message_factory,
    text_format,
    wrappers_pb2,
)
from google.protobuf.message import Message

from serving.server.errors import invalid_argument

_PACKAGE = "tensorflow.serving"

# message: {field: (number, type)}.
_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "BatchingParameters": {
        "max_batch_size": (1, "google.protobuf.Int64Value"),
        "batch_timeout_micros": (2, "google.protobuf.Int64Value"),
        "max_enqueued_batches": (3, "google.protobuf.Int64Value"),
        "num_batch_threads": (4, "google.protobuf.Int64Value"),
        "thread_pool_name": (5, "google.protobuf.StringValue"),
        "allowed_batch_sizes": (6, "repeated int64"),
        "pad_variable_length_inputs": (7, "bool"),
        "enable_large_batch_splitting": (8, "google.protobuf.BoolValue"),
        "max_execution_batch_size": (9, "google.protobuf.Int64Value"),
    },
    "SSLConfig": {
        "server_key": (1, "string"),
        "server_cert": (2, "string"),
        "custom_ca": (3, "string"),
        "client_verify": (4, "bool"),
    },
    "PrometheusConfig": {"enable": (1, "bool"), "path": (2, "string")},
    "MonitoringConfig": {"prometheus_config": (1, f"{_PACKAGE}.PrometheusConfig")},
}


def _message_classes() -> dict[str, type]:
    file = descriptor_pb2.FileDescriptorProto(
        name="serving/server/configuration.proto", package=_PACKAGE, syntax="proto3"
    )
    file.dependency.append(wrappers_pb2.DESCRIPTOR.name)
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field_name, (number, description) in fields.items():
            label, _, kind = description.rpartition(" ")
            field = message.field.add(name=field_name, number=number)
            field.label = field.LABEL_REPEATED if label else field.LABEL_OPTIONAL
            if "." in kind:
                field.type, field.type_name = field.TYPE_MESSAGE, f".{kind}"
            else:
                field.type = getattr(field, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in _MESSAGES
    }


_CLASSES = _message_classes()
BatchingParameters = _CLASSES["BatchingParameters"]
SSLConfig = _CLASSES["SSLConfig"]
MonitoringConfig = _CLASSES["MonitoringConfig"]


def read_text_proto(path: str | pathlib.Path, message: type[Message]) -> Any:
    """The message in a text file.

    Raises:
        StatusError: INVALID_ARGUMENT for a file that can't be read or parsed.
    """
    try:
        return text_format.Parse(pathlib.Path(path).read_text(), message())
    except (OSError, ValueError, text_format.ParseError) as error:
        name = message.DESCRIPTOR.full_name
        raise invalid_argument(f"Error parsing text-format {name}: {path}: {error}") from None
