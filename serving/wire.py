"""TensorFlow Serving's messages and tensors for a process without TensorFlow.

The generated modules of tensorflow-serving-api import all of TensorFlow, and generated modules of
one protobuf release refuse to run under another. So the few messages that a client needs are
described here by their published field numbers and built when this module is imported, in a pool
of their own: they meet TensorFlow's definitions neither in name nor in memory, only on the wire.
Fields that are left out are skipped when a server sends them.

Source: tensorflow_serving/apis/*.proto and tensorflow/core/{framework,protobuf}/*.proto.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_PACKAGE = "zoo.wire"

# message: {field: (number, type)}; enumerations travel as int32.
_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "Dimension": {"size": (1, "int64")},
    "TensorShape": {"dim": (2, "repeated Dimension"), "unknown_rank": (3, "bool")},
    "Tensor": {
        "dtype": (1, "int32"),
        "tensor_shape": (2, "TensorShape"),
        "tensor_content": (4, "bytes"),
        "float_val": (5, "repeated float"),
        "double_val": (6, "repeated double"),
        "int_val": (7, "repeated int32"),
        "string_val": (8, "repeated bytes"),
        "scomplex_val": (9, "repeated float"),
        "int64_val": (10, "repeated int64"),
        "bool_val": (11, "repeated bool"),
        "dcomplex_val": (12, "repeated double"),
        "half_val": (13, "repeated int32"),
        "uint32_val": (16, "repeated uint32"),
        "uint64_val": (17, "repeated uint64"),
    },
    "TensorInfo": {"dtype": (2, "int32"), "tensor_shape": (3, "TensorShape")},
    "SignatureDef": {
        "inputs": (1, "map TensorInfo"),
        "outputs": (2, "map TensorInfo"),
        "defaults": (4, "map Tensor"),
    },
    "SignatureDefMap": {"signature_def": (1, "map SignatureDef")},
    "Int64Value": {"value": (1, "int64")},
    "Any": {"type_url": (1, "string"), "value": (2, "bytes")},
    "ModelSpec": {
        "name": (1, "string"),
        "version": (2, "Int64Value"),
        "signature_name": (3, "string"),
        "version_label": (4, "string"),
    },
    "PredictRequest": {
        "model_spec": (1, "ModelSpec"),
        "inputs": (2, "map Tensor"),
        "output_filter": (3, "repeated string"),
    },
    "PredictResponse": {"outputs": (1, "map Tensor"), "model_spec": (2, "ModelSpec")},
    "BytesList": {"value": (1, "repeated bytes")},
    "FloatList": {"value": (1, "repeated float")},
    "Int64List": {"value": (1, "repeated int64")},
    "Feature": {
        "bytes_list": (1, "BytesList"),
        "float_list": (2, "FloatList"),
        "int64_list": (3, "Int64List"),
    },
    "Features": {"feature": (1, "map Feature")},
    "Example": {"features": (1, "Features")},
    "ExampleList": {"examples": (1, "repeated Example")},
    "ExampleListWithContext": {"examples": (1, "repeated Example"), "context": (2, "Example")},
    "Input": {
        "example_list": (1, "ExampleList"),
        "example_list_with_context": (2, "ExampleListWithContext"),
    },
    "ClassificationRequest": {"model_spec": (1, "ModelSpec"), "input": (2, "Input")},
    "Class": {"label": (1, "string"), "score": (2, "float")},
    "Classifications": {"classes": (1, "repeated Class")},
    "ClassificationResult": {"classifications": (1, "repeated Classifications")},
    "ClassificationResponse": {"result": (1, "ClassificationResult")},
    "RegressionRequest": {"model_spec": (1, "ModelSpec"), "input": (2, "Input")},
    "Regression": {"value": (1, "float")},
    "RegressionResult": {"regressions": (1, "repeated Regression")},
    "RegressionResponse": {"result": (1, "RegressionResult")},
    "GetModelMetadataRequest": {
        "model_spec": (1, "ModelSpec"),
        "metadata_field": (2, "repeated string"),
    },
    "GetModelMetadataResponse": {"model_spec": (1, "ModelSpec"), "metadata": (2, "map Any")},
    "GetModelStatusRequest": {"model_spec": (1, "ModelSpec")},
    "Status": {"error_code": (1, "int32"), "error_message": (2, "string")},
    "ModelVersionStatus": {"version": (1, "int64"), "state": (2, "int32"), "status": (3, "Status")},
    "GetModelStatusResponse": {"model_version_status": (1, "repeated ModelVersionStatus")},
}

MODEL_STATES = {
    0: "UNKNOWN",
    10: "START",
    20: "LOADING",
    30: "AVAILABLE",
    40: "UNLOADING",
    50: "END",
}


def _set_type(field: descriptor_pb2.FieldDescriptorProto, kind: str) -> None:
    if kind in _MESSAGES:
        field.type = field.TYPE_MESSAGE
        field.type_name = f".{_PACKAGE}.{kind}"
    else:
        field.type = getattr(field, f"TYPE_{kind.upper()}")


def _add_field(
    message: descriptor_pb2.DescriptorProto, name: str, number: int, description: str
) -> None:
    label, _, kind = description.rpartition(" ")
    field = message.field.add(name=name, number=number)
    field.label = field.LABEL_REPEATED if label else field.LABEL_OPTIONAL
    if label != "map":
        _set_type(field, kind)
        return
    entry = message.nested_type.add(name=name.title().replace("_", "") + "Entry")
    entry.options.map_entry = True
    _add_field(entry, "key", 1, "string")
    _add_field(entry, "value", 2, kind)
    field.type = field.TYPE_MESSAGE
    field.type_name = f".{_PACKAGE}.{message.name}.{entry.name}"


def _message_classes() -> dict[str, type]:
    file = descriptor_pb2.FileDescriptorProto(
        name="zoo/wire.proto", package=_PACKAGE, syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, description) in fields.items():
            _add_field(message, field, number, description)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in _MESSAGES
    }


_CLASSES = _message_classes()
Tensor = _CLASSES["Tensor"]
SignatureDefMap = _CLASSES["SignatureDefMap"]
ModelSpec = _CLASSES["ModelSpec"]
Example = _CLASSES["Example"]
PredictRequest = _CLASSES["PredictRequest"]
PredictResponse = _CLASSES["PredictResponse"]
ClassificationRequest = _CLASSES["ClassificationRequest"]
ClassificationResponse = _CLASSES["ClassificationResponse"]
RegressionRequest = _CLASSES["RegressionRequest"]
RegressionResponse = _CLASSES["RegressionResponse"]
GetModelMetadataRequest = _CLASSES["GetModelMetadataRequest"]
GetModelMetadataResponse = _CLASSES["GetModelMetadataResponse"]
GetModelStatusRequest = _CLASSES["GetModelStatusRequest"]
GetModelStatusResponse = _CLASSES["GetModelStatusResponse"]

# The methods that a client calls, and what each answers.
METHODS = {
    "/tensorflow.serving.PredictionService/Predict": PredictResponse,
    "/tensorflow.serving.PredictionService/Classify": ClassificationResponse,
    "/tensorflow.serving.PredictionService/Regress": RegressionResponse,
    "/tensorflow.serving.PredictionService/GetModelMetadata": GetModelMetadataResponse,
    "/tensorflow.serving.ModelService/GetModelStatus": GetModelStatusResponse,
}

# tensorflow.DataType: (name, numpy's type on the wire, the field of single values).
_TYPES: dict[int, tuple[str, Any, str]] = {
    1: ("float32", np.float32, "float_val"),
    2: ("float64", np.float64, "double_val"),
    3: ("int32", np.int32, "int_val"),
    4: ("uint8", np.uint8, "int_val"),
    5: ("int16", np.int16, "int_val"),
    6: ("int8", np.int8, "int_val"),
    7: ("string", object, "string_val"),
    8: ("complex64", np.complex64, "scomplex_val"),
    9: ("int64", np.int64, "int64_val"),
    10: ("bool", np.bool_, "bool_val"),
    14: ("bfloat16", np.uint16, "half_val"),
    17: ("uint16", np.uint16, "int_val"),
    18: ("complex128", np.complex128, "dcomplex_val"),
    19: ("float16", np.float16, "half_val"),
    22: ("uint32", np.uint32, "uint32_val"),
    23: ("uint64", np.uint64, "uint64_val"),
}
_NUMBERS = {name: number for number, (name, _, _) in _TYPES.items()}


def type_name(number: int) -> str:
    """The name of a ``tensorflow.DataType``, e.g. 1 → "float32"."""
    return _TYPES[number][0] if number in _TYPES else f"type {number}"


def numpy_type(name: str) -> Any:
    """numpy's type for the values of a tensor type; bfloat16 has none and is seen as float32.

    Raises:
        ValueError: for a type that numpy has no counterpart of.
    """
    if name not in _NUMBERS:
        raise ValueError(f"numpy has no counterpart of {name}")
    return np.float32 if name == "bfloat16" else _TYPES[_NUMBERS[name]][1]


def predict_request(spec: Any, inputs: Mapping[str, tuple[str, np.ndarray]]) -> bytes:
    """A PredictRequest as it travels.

    The message itself would copy a long tensor three times into memory that is new every time,
    which takes thirty times as long as the one copy here. A message is its fields in a row.

    Args:
        spec: a ModelSpec.
        inputs: tensor type and array by name; the arrays are of ``numpy_type``, strings are objects
            that are all bytes.
    """
    pieces = [PredictRequest(model_spec=spec).SerializeToString()]
    number, _ = _MESSAGES["PredictRequest"]["inputs"]
    for name, (type_, array) in inputs.items():
        entry = [*_field(1, [name.encode()]), *_field(2, encode(array, type_))]  # key and value
        pieces += _field(number, entry)
    return b"".join(pieces)


def encode(array: np.ndarray, name: str) -> list[bytes | np.ndarray]:
    """An array as the pieces of a serialised Tensor of the type called ``name``."""
    tensor = Tensor(dtype=_NUMBERS[name])
    tensor.tensor_shape.SetInParent()  # without a shape a scalar and an unknown rank are one
    for size in array.shape:
        tensor.tensor_shape.dim.add(size=size)
    if name == "string":
        tensor.string_val.extend(array.ravel().tolist())
        return [tensor.SerializeToString()]
    if name == "bfloat16":
        array = _to_bfloat16(array)
    content = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    number, _ = _MESSAGES["Tensor"]["tensor_content"]
    return [tensor.SerializeToString(), *_field(number, [content])]


def _field(number: int, pieces: list) -> list:
    """A field that holds bytes or a message, which come in pieces."""
    length_delimited = 2
    size = sum(len(piece) for piece in pieces)
    return [_varint(number << 3 | length_delimited), _varint(size), *pieces]


def _varint(number: int) -> bytes:
    """A number in base 128, the lowest digit first; the highest bit says that more follow."""
    digits = bytearray()
    while number >= 0x80:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    digits.append(number)
    return bytes(digits)


def decode(tensor: Any) -> np.ndarray:
    """A Tensor message as an array that may be written to; strings as objects that are all bytes.

    Where fewer values than elements are sent, the last one counts for the rest.

    Raises:
        ValueError: for a type that numpy has no counterpart of, or contents that don't fill the
            shape.
    """
    if tensor.dtype not in _TYPES:
        raise ValueError(f"a tensor of {type_name(tensor.dtype)} can't be read")
    name, dtype, field = _TYPES[tensor.dtype]
    shape = [dimension.size for dimension in tensor.tensor_shape.dim]
    count = math.prod(shape)
    if tensor.tensor_content and name == "string":
        values = np.array(_split_strings(tensor.tensor_content, count), dtype=object)
    elif tensor.tensor_content:
        values = np.frombuffer(bytearray(tensor.tensor_content), dtype)
    else:
        values = _repeat_last(_single_values(getattr(tensor, field), dtype), count)
    array = values.reshape(shape)
    return _from_bfloat16(array) if name == "bfloat16" else array


def _single_values(field: Any, dtype: Any) -> np.ndarray:
    # numpy takes over a field of numbers at once; a list of them takes two hundred times as long.
    if dtype is np.float16:  # the 16 bits as an integer
        return np.array(field, np.uint16).view(np.float16)
    if np.issubdtype(dtype, np.complexfloating):  # real and imaginary parts in turn
        part = np.float32 if dtype is np.complex64 else np.float64
        return np.array(field, part).view(dtype)
    return np.array(field, dtype)


def _repeat_last(values: np.ndarray, count: int) -> np.ndarray:
    if len(values) >= count:
        return values[:count]
    if not len(values):
        return (
            np.full(count, b"", object) if values.dtype == object else np.zeros(count, values.dtype)
        )
    return np.concatenate([values, np.repeat(values[-1:], count - len(values))])


def _split_strings(content: bytes, count: int) -> list[bytes]:
    """Strings in ``tensor_content``: all lengths as base-128 varints, then all bytes."""
    lengths, position = [], 0
    for _ in range(count):
        length = shift = 0
        while True:
            byte = content[position]
            position += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        lengths.append(length)
    strings = []
    for length in lengths:
        strings.append(content[position : position + length])
        position += length
    return strings


def _to_bfloat16(array: np.ndarray) -> np.ndarray:
    """The upper half of float32, rounded to the nearest even."""
    bits = array.astype(np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(array), 0x7FC0, rounded).astype(np.uint16)


def _from_bfloat16(array: np.ndarray) -> np.ndarray:
    return (array.astype(np.uint32) << 16).view(np.float32)
