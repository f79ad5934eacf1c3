"""TensorProto to numpy and back, by TensorFlow Serving's rules."""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2

from serving.server.errors import invalid_argument

_VALUE_FIELDS = {
    tf.float32: "float_val",
    tf.float64: "double_val",
    tf.int8: "int_val",
    tf.int16: "int_val",
    tf.int32: "int_val",
    tf.uint8: "int_val",
    tf.uint16: "int_val",
    tf.uint32: "uint32_val",
    tf.uint64: "uint64_val",
    tf.int64: "int64_val",
    tf.bool: "bool_val",
    tf.string: "string_val",
    tf.half: "half_val",
    tf.bfloat16: "half_val",
    tf.complex64: "scomplex_val",
    tf.complex128: "dcomplex_val",
}

# How much memory the values may take that a request leaves out.
_LARGEST_FILL = 64 * 2**20  # bytes
_STRING_SIZE = 64  # bytes of TensorFlow's and Python's own, next to the text


def decode(tensor: tensor_pb2.TensorProto, alias: str) -> np.ndarray:
    """The array that a request's tensor stands for; strings as objects that are all bytes.

    Fewer values than elements: the last one counts for the rest, up to 64 MiB; surplus values are
    dropped.

    Raises:
        StatusError: INVALID_ARGUMENT, naming ``alias``, if it stands for none.
    """
    try:
        dtype = tf.dtypes.as_dtype(tensor.dtype)
        shape = [dimension.size for dimension in tensor.tensor_shape.dim]
        _require_values(tensor, dtype, shape)
        viewable = dtype in _VALUE_FIELDS and dtype != tf.string
        if viewable and tensor.tensor_content and all(size >= 0 for size in shape):
            return _view(tensor.tensor_content, dtype.as_numpy_dtype, shape)
        parsed = tf.io.parse_tensor(tensor.SerializeToString(), dtype).numpy()
        return np.asarray(parsed, dtype.as_numpy_dtype)  # a single string has come as bytes
    except (ValueError, TypeError, tf.errors.OpError):
        raise invalid_argument(f"tensor parsing error: {alias}") from None


def _require_values(tensor: tensor_pb2.TensorProto, dtype: tf.DType, shape: list[int]) -> None:
    """Refuses shapes far beyond the values sent: a few bytes must not take all memory."""
    size = dtype.size or _STRING_SIZE
    if tensor.tensor_content:
        sent = len(tensor.tensor_content) // (dtype.size or 1)
    else:
        sent = len(getattr(tensor, _VALUE_FIELDS[dtype])) if dtype in _VALUE_FIELDS else 0
        size += len(tensor.string_val[-1]) if tensor.string_val else 0
    if (math.prod(shape) - sent) * size > _LARGEST_FILL:
        raise ValueError("the values are too few for the shape")


def _view(content: bytes, dtype: type, shape: list[int]) -> np.ndarray:
    """The contents in place: a third copy of a large tensor is worth avoiding."""
    if len(content) != math.prod(shape) * np.dtype(dtype).itemsize:
        raise ValueError("the contents are not as long as the shape says")
    return np.frombuffer(content, dtype).reshape(shape)


def encode(array: np.ndarray) -> tensor_pb2.TensorProto:
    """An array as a tensor with one value per element, as TensorFlow Serving answers.

    ``tensor_content`` would be shorter, but there are clients that only read the values.
    """
    array = np.asarray(array)
    dtype = tf.string if array.dtype == object else tf.dtypes.as_dtype(array.dtype)
    if dtype not in _VALUE_FIELDS:
        return tf.make_tensor_proto(array)
    tensor = tensor_pb2.TensorProto(dtype=dtype.as_datatype_enum)
    tensor.tensor_shape.SetInParent()
    for size in array.shape:
        tensor.tensor_shape.dim.add(size=size)
    values = array.ravel()
    if dtype in (tf.half, tf.bfloat16):  # the 16 bits as an integer
        values = values.view(np.uint16)
    elif dtype.is_complex:  # real and imaginary parts in turn
        values = values.view(values.real.dtype)
    getattr(tensor, _VALUE_FIELDS[dtype]).extend(values.tolist())
    return tensor
