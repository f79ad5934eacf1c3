"""TensorProto to numpy and back, by TensorFlow Serving's rules."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2

from serving.server.errors import invalid_argument

# How much memory the values may take that a request leaves out.
_LARGEST_FILL = 64 * 2**20  # bytes
_MOST_DIMENSIONS = 32  # TensorFlow's way to and from numpy ends the process at more
_STRING_SIZE = 64  # bytes of TensorFlow's and Python's own, next to the text


@dataclasses.dataclass(frozen=True)
class _Kind:
    """How the values of one data type travel.

    Attributes:
        number: the data type's number in a TensorProto.
        dtype: of the arrays.
        field: of the TensorProto.
        carrier: the type of the field's numbers as numpy knows it; complex numbers are two of
            them, half precision is its 16 bits as an integer. Objects for strings.
    """

    number: int
    dtype: np.dtype
    field: str
    carrier: np.dtype

    @property
    def strings(self) -> bool:
        return self.carrier.kind == "O"

    @property
    def packed_tag(self) -> bytes | None:
        """What stands before the field's numbers if they travel just as they lie in memory."""
        if self.carrier.kind != "f":
            return None
        return _varint(tensor_pb2.TensorProto.DESCRIPTOR.fields_by_name[self.field].number << 3 | 2)


def _varint(number: int) -> bytes:
    """A number in protocol buffers' variable length: seven bits a byte, the lowest first."""
    groups = []
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*groups, number])


def _kinds() -> list[_Kind]:
    fields = {
        tf.float32: ("float_val", np.float32),
        tf.float64: ("double_val", np.float64),
        tf.int8: ("int_val", np.int32),
        tf.int16: ("int_val", np.int32),
        tf.int32: ("int_val", np.int32),
        tf.uint8: ("int_val", np.int32),
        tf.uint16: ("int_val", np.int32),
        tf.uint32: ("uint32_val", np.uint32),
        tf.uint64: ("uint64_val", np.uint64),
        tf.int64: ("int64_val", np.int64),
        tf.bool: ("bool_val", np.bool_),
        tf.string: ("string_val", np.object_),
        tf.half: ("half_val", np.uint16),
        tf.bfloat16: ("half_val", np.uint16),
        tf.complex64: ("scomplex_val", np.float32),
        tf.complex128: ("dcomplex_val", np.float64),
    }
    return [
        _Kind(dtype.as_datatype_enum, np.dtype(dtype.as_numpy_dtype), field, np.dtype(carrier))
        for dtype, (field, carrier) in fields.items()
    ]


_BY_NUMBER = {kind.number: kind for kind in _kinds()}
_BY_DTYPE = {kind.dtype: kind for kind in _kinds()}
_PACKED_TAGS = {kind.number: kind.packed_tag for kind in _kinds()}


def decode(tensor: tensor_pb2.TensorProto, alias: str) -> np.ndarray:
    """The array that a request's tensor stands for; strings as objects that are all bytes.

    Fewer values than elements: the last one counts for the rest, up to 64 MiB; surplus values are
    dropped.

    Raises:
        StatusError: INVALID_ARGUMENT, naming ``alias``, if it stands for none.
    """
    try:
        return _decode(tensor)
    except (ValueError, TypeError, OverflowError, tf.errors.OpError):
        raise invalid_argument(f"tensor parsing error: {alias}") from None


def _decode(tensor: tensor_pb2.TensorProto) -> np.ndarray:
    shape = [dimension.size for dimension in tensor.tensor_shape.dim]
    if tensor.tensor_shape.unknown_rank or any(size < 0 for size in shape):
        raise ValueError("the shape is not known")
    if len(shape) > _MOST_DIMENSIONS:
        raise ValueError("the shape has too many dimensions")
    kind, content = _BY_NUMBER.get(tensor.dtype), tensor.tensor_content
    if kind is None or (content and kind.strings):  # rare: left to TensorFlow
        dtype = tf.dtypes.as_dtype(tensor.dtype)
        _check_fill(math.prod(shape) - len(content), dtype.size or _STRING_SIZE)
        return tf.io.parse_tensor(tensor.SerializeToString(), dtype).numpy()
    if content:  # in place: a further copy of a large tensor is worth avoiding
        return np.frombuffer(content, kind.dtype).reshape(shape)
    return _of_length(_values(tensor, kind), math.prod(shape)).reshape(shape)


def _check_fill(elements: int, size: int) -> None:
    """Refuses shapes far beyond the values sent: a few bytes must not take all memory."""
    if elements * size > _LARGEST_FILL:
        raise ValueError("the values are too few for the shape")


def _values(tensor: tensor_pb2.TensorProto, kind: _Kind) -> np.ndarray:
    sent = getattr(tensor, kind.field)
    if kind.field == "half_val":  # 16 bits in a field of 32
        return np.array(sent, np.int32).astype(np.uint16).view(kind.dtype)
    values = np.array(sent, kind.carrier)
    if kind.dtype.kind == "c":
        return values.view(kind.dtype)
    return values.astype(kind.dtype, copy=False)


def _of_length(values: np.ndarray, length: int) -> np.ndarray:
    missing = length - len(values)
    if missing <= 0:
        return values[:length]
    strings = values.dtype.kind == "O"
    last = values[-1] if len(values) else b"" if strings else 0
    _check_fill(missing, _STRING_SIZE + len(last) if strings else values.itemsize)
    return np.concatenate([values, np.full(missing, last, values.dtype)])


def encode(array: np.ndarray) -> tensor_pb2.TensorProto:
    """An array as a tensor with one value per element, as TensorFlow Serving answers."""
    tensor = tensor_pb2.TensorProto()
    fill(tensor, np.asarray(array))
    return tensor


def fill(tensor: tensor_pb2.TensorProto, array: np.ndarray, *, as_content: bool = False) -> None:
    """Writes an array into an empty tensor.

    Args:
        tensor: what to write into.
        array: the elements; strings as objects that are bytes or str.
        as_content: numbers go as ``tensor_content``. There are clients that only read one value
            per element, which is what TensorFlow Serving sends unless told otherwise.
    """
    kind = _BY_DTYPE.get(array.dtype)
    if kind is None:
        tensor.CopyFrom(tf.make_tensor_proto(array))
        return
    tensor.dtype = kind.number
    shape = tensor.tensor_shape
    shape.SetInParent()
    for size in array.shape:
        shape.dim.add(size=size)
    if kind.strings:
        tensor.string_val.extend(array.ravel().tolist())
    elif as_content:
        tensor.tensor_content = array.tobytes()
    elif tag := _PACKED_TAGS[kind.number]:
        # One copy of the memory; a list of numbers costs a hundred times as much.
        values = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        tensor.MergeFromString(b"".join((tag, _varint(values.nbytes), values.data)))
    else:
        values = array.ravel()
        if kind.field == "half_val":
            values = values.view(kind.carrier)
        getattr(tensor, kind.field).extend(values.tolist())
