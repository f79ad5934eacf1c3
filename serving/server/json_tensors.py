"""JSON to requests: the bodies that the REST interface receives.

A body becomes the message that gRPC would have brought. rapidjson parses it, as in TensorFlow
Serving: so its words for what is no JSON, and the offset, are the ones that clients know. Lists of
numbers are checked and converted as a whole; only where that fails are the elements walked one by
one, to say which of them is wrong.

Source: tensorflow_serving/util/json_tensor.cc (formats, order and wording of the checks).
"""

from __future__ import annotations

import binascii
import codecs
import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import grpc
import numpy as np
import rapidjson
from tensorflow.core.example import example_pb2, feature_pb2
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    model_pb2,
    predict_pb2,
    regression_pb2,
)

from serving.server.errors import StatusError, invalid_argument
from serving.server.json_answers import decimals, type_name

# Whole numbers beyond 64 bits become floating-point; NaN and Infinity are numbers.
_NUMBERS = rapidjson.NM_NATIVE | rapidjson.NM_NAN
_PARSE_ERROR = re.compile(r"Parse error at offset (\d+): (.*)", re.DOTALL)


class _Whole(NamedTuple):
    """A type of whole numbers: its numpy type, and the smallest and largest number taken."""

    dtype: type
    least: int
    most: int


class _Floating(NamedTuple):
    """A type of floating-point numbers, and the largest whole and finite numbers taken."""

    dtype: type
    most_whole: int
    most: float


_INT32 = np.iinfo(np.int32)
_WHOLE = {
    # Narrow types take what 32 bits hold, and keep the lowest bits.
    types_pb2.DT_INT8: _Whole(np.int8, _INT32.min, _INT32.max),
    types_pb2.DT_INT16: _Whole(np.int16, _INT32.min, _INT32.max),
    types_pb2.DT_INT32: _Whole(np.int32, _INT32.min, _INT32.max),
    types_pb2.DT_UINT8: _Whole(np.uint8, _INT32.min, _INT32.max),
    types_pb2.DT_INT64: _Whole(np.int64, -(2**63), 2**63 - 1),
    types_pb2.DT_UINT32: _Whole(np.uint32, 0, 2**32 - 1),
    types_pb2.DT_UINT64: _Whole(np.uint64, 0, 2**64 - 1),
}
_FLOATING = {
    types_pb2.DT_FLOAT: _Floating(np.float32, 2**24 - 1, float(np.finfo(np.float32).max)),
    types_pb2.DT_DOUBLE: _Floating(np.float64, 2**53 - 1, float(np.finfo(np.float64).max)),
}


def parse(body: bytes) -> dict[str, Any]:
    """The object that a body is.

    Raises:
        StatusError: INVALID_ARGUMENT if it isn't one.
    """
    if not body:
        raise invalid_argument("JSON Parse error: The document is empty")
    try:
        text = body.removeprefix(codecs.BOM_UTF8).decode()
        document = rapidjson.loads(text, number_mode=_NUMBERS)
    except UnicodeDecodeError as error:
        raise _parse_error("Invalid encoding in string.", error.start) from None
    except rapidjson.JSONDecodeError as error:
        offset, words = _PARSE_ERROR.fullmatch(str(error)).groups()
        raise _parse_error(words, offset) from None
    if not isinstance(document, dict):
        raise _misshapen(document, "Is not object")
    return document


def _parse_error(words: str, offset: int | str) -> StatusError:
    return invalid_argument(f"JSON Parse error: {words} at offset: {offset}")


def read_signature_name(document: Mapping[str, Any], spec: model_pb2.ModelSpec) -> None:
    """Puts the name of the signature, if the document has one, into ``spec``."""
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise _misshapen(
            document, "not formatted correctly. 'signature_name' key must be a string value."
        )
    spec.signature_name = name


def read_inputs(
    document: Mapping[str, Any],
    infos: Mapping[str, meta_graph_pb2.TensorInfo],
    request: predict_pb2.PredictRequest,
) -> bool:
    """Puts the tensors of a document into ``request``; whether they stood there row by row.

    "instances" are rows, "inputs" are tensors as a whole.

    Args:
        infos: the inputs of the signature.

    Raises:
        StatusError: INVALID_ARGUMENT for what doesn't fit them, UNIMPLEMENTED for a type that
            JSON can't express.
    """
    if not infos:
        name = request.model_spec.signature_name or "DEFAULT"
        raise invalid_argument(f"Failed to get input map for signature: {name}")
    rows, columns = "instances" in document, "inputs" in document
    if rows and columns:
        raise _misshapen(
            document,
            "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist ",
        )
    if not rows and not columns:
        raise invalid_argument("Missing 'inputs' or 'instances' key")
    dtypes = {name: infos[name].dtype for name in sorted(infos)}
    found = _read_rows(document, dtypes) if rows else _read_columns(document["inputs"], dtypes)
    for name, tensor in found.items():
        request.inputs[name].CopyFrom(tensor)
    return rows


def _read_rows(
    document: Mapping[str, Any], dtypes: Mapping[str, int]
) -> dict[str, tensor_pb2.TensorProto]:
    rows = document["instances"]
    if not isinstance(rows, list):
        raise _misshapen(document, "Expecting 'instances' to be an list/array")
    if not rows:
        raise _misshapen(document, "No values in 'instances' array")
    if not isinstance(rows[0], dict) and len(dtypes) > 1:
        raise invalid_argument(
            "instances is a plain list, but expecting list of objects as multiple input tensors "
            "required as per tensorinfo_map"
        )
    columns = _columns(rows, dtypes)
    stacked = {name: _stack(column, dtypes[name]) for name, column in columns.items()}
    if stacked and all(tensor is not None for tensor in stacked.values()):
        return stacked
    return _stack_one_by_one(rows, dtypes)


def _columns(rows: Sequence[Any], dtypes: Mapping[str, int]) -> dict[str, Sequence[Any]]:
    """The values of each input; none at all if a row lacks one or has others."""
    if not _is_object(rows[0]):
        mixed = dict in set(map(type, rows)) and any(map(_is_object, rows))
        return {} if mixed else {next(iter(dtypes)): rows}
    if all(_is_object(row) and row.keys() == dtypes.keys() for row in rows):
        return {name: [row[name] for row in rows] for name in dtypes}
    return {}


def _stack_one_by_one(
    rows: Sequence[Any], dtypes: Mapping[str, int]
) -> dict[str, tensor_pb2.TensorProto]:
    named = _is_object(rows[0])
    shapes: dict[str, list[int]] = {}
    elements: dict[str, list[Any]] = {}
    for index, row in enumerate(rows):
        if _is_object(row) != named:
            expected = "object but got list" if named else "value/list but got object"
            raise invalid_argument(f"Expecting {expected} at item {index} of input list")
        for name, value in row.items() if named else [(next(iter(dtypes)), row)]:
            try:
                _add_row(name, value, dtypes, shapes, elements)
            except StatusError as error:
                key = f" key: {name}" if named else ""
                raise invalid_argument(
                    f"Failed to process element: {index}{key} of 'instances' list. Error: {error}"
                ) from None
        if named and row.keys() != dtypes.keys():
            raise invalid_argument(
                f"Failed to process element: {index} of 'instances' list. "
                f"JSON object: {_shown(row)} keys must be equal to: {','.join(dtypes)}"
            )
    return {
        name: _tensor([len(rows), *shapes[name]], elements[name], dtypes[name]) for name in shapes
    }


def _add_row(
    name: str,
    value: Any,
    dtypes: Mapping[str, int],
    shapes: dict[str, list[int]],
    elements: dict[str, list[Any]],
) -> None:
    """Adds a row's elements to those of the input ``name``; its shape must be the first row's."""
    if name not in dtypes:
        raise invalid_argument(f"JSON object: does not have named input: {name}")
    shape, row = _walk(value, dtypes[name])
    expected = shapes.setdefault(name, shape)
    if math.prod(shape) != math.prod(expected):
        raise invalid_argument(
            f"Expecting tensor size: {math.prod(expected)} but got: {math.prod(shape)}"
        )
    if shape != expected:
        raise invalid_argument(f"Expecting shape {_list(expected)} but got: {_list(shape)}")
    elements.setdefault(name, []).extend(row)


def _list(shape: Iterable[int]) -> str:
    return f"[{','.join(map(str, shape))}]"


def _read_columns(value: Any, dtypes: Mapping[str, int]) -> dict[str, tensor_pb2.TensorProto]:
    if not _is_object(value):
        if len(dtypes) > 1:
            raise invalid_argument(
                "inputs is a plain value/list, but expecting an object as multiple input tensors "
                "required as per tensorinfo_map"
            )
        value = dict.fromkeys(dtypes, value)
    found = {}
    for name, dtype in dtypes.items():
        if name not in value:
            raise invalid_argument(f"Missing named input: {name} in 'inputs' object.")
        tensor = _stack([value[name]], dtype)
        if tensor is None:
            tensor = _tensor(*_walk(value[name], dtype), dtype)
        else:
            del tensor.tensor_shape.dim[0]
        found[name] = tensor
    return found


def _stack(values: Sequence[Any], dtype: int) -> tensor_pb2.TensorProto | None:
    """The tensor of which ``values`` are the rows; None if an element or a shape is wrong."""
    shape = [len(values)]
    while values and isinstance(values[0], list):
        lengths = set(map(len, values)) if set(map(type, values)) == {list} else ()
        if len(lengths) != 1:
            return None
        shape.extend(lengths)
        values = list(itertools.chain.from_iterable(values))
    try:
        return _tensor(shape, values, dtype) if _all_fit(values, dtype) else None
    except StatusError:  # base64 that can't be decoded
        return None


def _all_fit(values: Sequence[Any], dtype: int) -> bool:
    """Whether each of many elements passes ``_check``."""
    types = set(map(type, values))
    if dtype in _WHOLE:
        whole = _WHOLE[dtype]
        least, most = whole.least, whole.most
        return types <= {int} and least <= min(values, default=0) <= max(values, default=0) <= most
    if dtype in _FLOATING:
        floating = _FLOATING[dtype]
        if not types <= {int, float}:
            return False
        whole_numbers = [value for value in values if type(value) is int] if int in types else []
        if max(map(abs, whole_numbers), default=0) > floating.most_whole:
            return False
        sizes = np.abs(np.array(values, np.float64))
        return not np.any((sizes > floating.most) & np.isfinite(sizes))
    if dtype == types_pb2.DT_STRING:
        return types <= {str, dict} and (dict not in types or all(map(_is_bytes, values)))
    return dtype == types_pb2.DT_BOOL and types <= {bool}


def _walk(value: Any, dtype: int) -> tuple[list[int], list[Any]]:
    """The shape and elements of nested lists; the first elements set the shape.

    Raises:
        StatusError: naming the first list or element that doesn't fit.
    """
    shape, first = [], value
    while isinstance(first, list):
        shape.append(len(first))
        first = first[0] if first else None
    elements: list[Any] = []
    _walk_level(value, shape, 0, dtype, elements)
    return shape, elements


def _walk_level(
    value: Any, shape: Sequence[int], level: int, dtype: int, elements: list[Any]
) -> None:
    if not isinstance(value, list):
        if level != len(shape):
            raise _misshapen(
                value,
                f"found at incorrect level: {level + 1} in the JSON DOM. "
                f"Expected at level: {len(shape)}",
            )
        _check(value, dtype)
        elements.append(value)
        return
    if level >= len(shape):
        raise invalid_argument(
            f"Encountered list at unexpected level: {level} expected < {len(shape)}"
        )
    if len(value) != shape[level]:
        raise invalid_argument(
            f"Encountered list at unexpected size: {len(value)} at level: {level} "
            f"expected size: {shape[level]}"
        )
    for item in value:
        _walk_level(item, shape, level + 1, dtype, elements)


def _check(value: Any, dtype: int) -> None:
    """Raises StatusError if one element can't be of ``dtype`` as it is."""
    kind = type(value)
    if dtype == types_pb2.DT_STRING:
        if kind is dict:
            _bytes(value)
        fits = kind in (str, dict)
    elif kind is dict:
        fits = False
    elif dtype in _WHOLE:
        fits = kind is int and _WHOLE[dtype].least <= value <= _WHOLE[dtype].most
    elif dtype in _FLOATING:
        fits = kind in (int, float)
        if fits and _is_lossy(value, _FLOATING[dtype]):
            raise _lossy(value, dtype)
    elif dtype == types_pb2.DT_BOOL:
        fits = kind is bool
    else:
        raise StatusError(
            grpc.StatusCode.UNIMPLEMENTED,
            f"Conversion of JSON Value: {_shown(value)} to type: {type_name(dtype)}",
        )
    if not fits:
        raise _misshapen(
            value, f"Type: {_json_type(value)} is not of expected type: {type_name(dtype)}"
        )


def _is_lossy(value: float, floating: _Floating) -> bool:
    if isinstance(value, int):
        return abs(value) > floating.most_whole
    return math.isfinite(value) and abs(value) > floating.most


def _lossy(value: float, dtype: int) -> StatusError:
    return invalid_argument(
        f"Cannot convert JSON value: {_shown(value)} to {type_name(dtype)} "
        "without loss of precision."
    )


def _tensor(shape: Iterable[int], values: Sequence[Any], dtype: int) -> tensor_pb2.TensorProto:
    """A tensor of elements that have been checked."""
    tensor = tensor_pb2.TensorProto(dtype=dtype)
    tensor.tensor_shape.SetInParent()
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    if dtype == types_pb2.DT_STRING:
        tensor.string_val.extend(map(_bytes, values))
    elif dtype in _WHOLE and values:
        wide = np.uint64 if dtype == types_pb2.DT_UINT64 else np.int64
        tensor.tensor_content = np.array(values, wide).astype(_WHOLE[dtype].dtype).tobytes()
    elif values:
        numpy_type = bool if dtype == types_pb2.DT_BOOL else _FLOATING[dtype].dtype
        tensor.tensor_content = np.array(values, numpy_type).tobytes()
    return tensor


def _is_object(value: Any) -> bool:
    """Whether it holds values by name, not one binary string."""
    return isinstance(value, dict) and not _is_base64(value)


def _is_base64(value: Any) -> bool:
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def _is_bytes(value: Any) -> bool:
    return isinstance(value, str) or _is_base64(value)


def _bytes(value: str | Mapping[str, str]) -> bytes:
    """A string as UTF-8, or what {"b64": …} encodes: padding is optional, white space ignored."""
    if isinstance(value, str):
        return value.encode()
    if not _is_base64(value):
        raise _misshapen(value, "not formatted correctly for base64 data")
    text = "".join(value["b64"].split())
    digits = text.rstrip("=")
    padding = -len(digits) % 4
    try:
        if len(text) - len(digits) not in (0, padding):
            raise ValueError("too much padding, or too little")
        return binascii.a2b_base64(digits + "=" * padding, strict_mode=True)
    except ValueError:
        raise invalid_argument("Unable to base64 decode") from None


def read_examples(
    document: Mapping[str, Any],
    request: classification_pb2.ClassificationRequest | regression_pb2.RegressionRequest,
) -> None:
    """Puts the examples of a document, and their common context, into ``request``.

    Raises:
        StatusError: INVALID_ARGUMENT for what is no example.
    """
    target = request.input.example_list
    if "context" in document:
        target = request.input.example_list_with_context
        target.context.CopyFrom(_example(document["context"]))
    if "examples" not in document:
        raise _misshapen(
            document, "When method is classify, key 'examples' is expected and was not found"
        )
    examples = document["examples"]
    if not isinstance(examples, list):
        raise _misshapen(document, "Expecting 'examples' value to be an list/array")
    if not examples:
        raise _misshapen(document, "'examples' value is an empty array")
    target.examples.extend(map(_example, examples))


def _example(value: Any) -> example_pb2.Example:
    if not isinstance(value, dict):
        raise invalid_argument(f"Example must be JSON object but got JSON {_json_type(value)}")
    example = example_pb2.Example()
    for name, content in value.items():
        _fill_feature(
            example.features.feature[name],
            name,
            content if isinstance(content, list) else [content],
        )
    return example


_FEATURE_LISTS = {
    float: "float_list",
    int: "int64_list",
    bool: "int64_list",
    str: "bytes_list",
    dict: "bytes_list",
}


def _fill_feature(feature: feature_pb2.Feature, name: str, values: Sequence[Any]) -> None:
    begun, elements = "", []
    for value in values:
        kind = _FEATURE_LISTS.get(type(value))
        if kind is None or (isinstance(value, dict) and not _is_base64(value)):
            raise invalid_argument(
                f"Feature: {name} has element with unexpected JSON type: {_json_type(value)}"
            )
        begun = begun or kind
        if kind != begun:
            raise invalid_argument(
                f"Unexpected element type in feature: {name} expecting type: "
                f"{begun.removesuffix('_list')}"
            )
        elements.append(_feature_element(value, name))
    if elements:
        getattr(feature, begun).value.extend(elements)


def _feature_element(value: Any, name: str) -> float | int | bytes:
    if isinstance(value, float):
        if _is_lossy(value, _FLOATING[types_pb2.DT_FLOAT]):
            raise _lossy(value, types_pb2.DT_FLOAT)
        return value
    if isinstance(value, int):
        if value > _WHOLE[types_pb2.DT_INT64].most:
            raise invalid_argument(f"Feature: {name} has uint64 element. Only int64 is supported.")
        return int(value)
    return _bytes(value)


def _json_type(value: Any) -> str:
    if isinstance(value, bool):
        return str(value)
    names = {type(None): "Null", dict: "Object", list: "Array", str: "String"}
    return names.get(type(value), "Number")


def _misshapen(value: Any, complaint: str) -> StatusError:
    return invalid_argument(f"JSON Value: {_shown(value)} {complaint}")


def _shown(value: Any) -> str:
    if isinstance(value, float):
        narrow = abs(value) <= _FLOATING[types_pb2.DT_FLOAT].most
        return decimals(np.array(value, np.float32 if narrow else np.float64))[0]
    return rapidjson.dumps(value, indent=4, ensure_ascii=False, number_mode=_NUMBERS)
