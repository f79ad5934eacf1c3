"""What a TensorProto stands for: contents, values, too few and too many of them."""

from __future__ import annotations

import functools
from typing import Any

import tensorflow as tf
from tensorflow.core.framework import tensor_pb2

from serving.verify.messages import predict, tensor, values
from serving.verify.predicting import INVALID
from serving.verify.probe_models import ECHOED
from serving.verify.server import Check, Server, equal, refuses

# Where the values of a type are, in requests and in answers; 16-bit floats as their bits.
FIELDS: dict[tf.DType, tuple[str, list]] = {
    tf.float32: ("float_val", [0.5, -2.0]),
    tf.float64: ("double_val", [0.1, -2.0]),
    tf.half: ("half_val", [0x3C00, 0xC000]),
    tf.bfloat16: ("half_val", [0x3F80, 0xC000]),
    tf.bool: ("bool_val", [True, False]),
    tf.string: ("string_val", [b"\x00\xff", b""]),
    tf.complex64: ("scomplex_val", [1.0, -1.0, 0.5, 2.0]),
    tf.int8: ("int_val", [-128, 127]),
    tf.int16: ("int_val", [-32768, 32767]),
    tf.int32: ("int_val", [-(2**31), 2**31 - 1]),
    tf.int64: ("int64_val", [-(2**63), 2**63 - 1]),
    tf.uint8: ("int_val", [0, 255]),
    tf.uint16: ("int_val", [0, 65535]),
    tf.uint32: ("uint32_val", [0, 2**32 - 1]),
    tf.uint64: ("uint64_val", [0, 2**64 - 1]),
}


def _echo(sent: tensor_pb2.TensorProto, server: Server) -> tensor_pb2.TensorProto:
    dtype = tf.dtypes.as_dtype(sent.dtype)
    return server.ask(predict({"x": sent}, f"echo_{dtype.name}")).outputs["y"]


def _in_its_field(dtype: tf.DType, server: Server) -> None:
    field, content = FIELDS[dtype]
    answer = _echo(tensor(dtype, [2], **{field: content}), server)
    equal(field, content, list(getattr(answer, field)))
    equal("dtype", dtype.as_datatype_enum, answer.dtype)
    equal("tensor_content", b"", answer.tensor_content)


def _decoded(sent: tensor_pb2.TensorProto, expected: Any, server: Server) -> None:
    equal("decoded as", expected, values(_echo(sent, server)))


def _decodes(sent: tensor_pb2.TensorProto, expected: Any) -> Check:
    return functools.partial(_decoded, sent, expected)


def _fails(dtype: tf.DType, sent: tensor_pb2.TensorProto) -> Check:
    return refuses(predict({"x": sent}, f"echo_{dtype.name}"), INVALID, "tensor parsing error: x")


_ONE_TWO = b"\x01\x00\x00\x00\x02\x00\x00\x00"
_ABC_D = b"\x03\x01abcd"  # two lengths, then the bytes

CHECKS: dict[str, Check] = {
    **{f"{dtype.name} in its field": functools.partial(_in_its_field, dtype) for dtype in ECHOED},
    "contents": _decodes(tensor(tf.int32, [2], tensor_content=_ONE_TWO), [1, 2]),
    "contents win over values": _decodes(
        tensor(tf.int32, [2], tensor_content=_ONE_TWO, int_val=[7, 8]), [1, 2]
    ),
    "contents that are too short": _fails(
        tf.int32, tensor(tf.int32, [2], tensor_content=_ONE_TWO[:-1])
    ),
    "contents that are too long": _fails(tf.int32, tensor(tf.int32, [1], tensor_content=_ONE_TWO)),
    "contents of strings": _decodes(tensor(tf.string, [2], tensor_content=_ABC_D), [b"abc", b"d"]),
    "no values are zeros": _decodes(tensor(tf.float32, [2]), [0.0, 0.0]),
    "no values are empty strings": _decodes(tensor(tf.string, [2]), [b"", b""]),
    "one value is for all": _decodes(tensor(tf.int64, [2, 2], int64_val=[7]), [[7, 7], [7, 7]]),
    "the last of too few is repeated": _decodes(
        tensor(tf.int32, [4], int_val=[1, 2]), [1, 2, 2, 2]
    ),
    "too many are dropped": _decodes(tensor(tf.int32, [2], int_val=[1, 2, 3]), [1, 2]),
    "values in the wrong field are zeros": _decodes(
        tensor(tf.float32, [2], double_val=[1.0, 2.0]), [0.0, 0.0]
    ),
    "no shape is a scalar": _decodes(tensor(tf.float32, None, float_val=[5.0]), 5.0),
    "a dimension of -1": _fails(tf.float32, tensor(tf.float32, [-1], float_val=[1.0])),
}
