"""Answers to JSON: the bodies that the REST interface sends.

Indented by four spaces, but rows are single lines, as rapidjson's pretty writer has them in
TensorFlow Serving; numbers as short as they can be told from their neighbours.

Source: tensorflow_serving/util/json_tensor.cc.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import classification_pb2, regression_pb2

from serving.server import tensors
from serving.server.errors import invalid_argument

_WHOLE = (np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint32, np.uint64)


def write_outputs(outputs: Mapping[str, tensor_pb2.TensorProto], *, by_row: bool) -> str:
    """The document of an answer to Predict: the outputs of each row, or each as a whole.

    Strings that are not UTF-8 have surrogates in place of what isn't; encode them back with
    ``surrogateescape``.

    Raises:
        StatusError: INVALID_ARGUMENT for a type that JSON can't express, or for outputs that
            have no rows in common.
    """
    if not outputs:
        raise invalid_argument("Cannot convert empty tensor map to JSON")
    arrays = {name: tensors.decode(outputs[name], name) for name in sorted(outputs)}
    if by_row:
        return _document("predictions", _write_rows(arrays))
    if len(arrays) == 1:
        return _document("outputs", *_write_arrays(*arrays.items(), level=1))
    members = {name: _write_arrays((name, array), level=2)[0] for name, array in arrays.items()}
    return _document("outputs", _write_object(members, level=1))


def _write_rows(arrays: Mapping[str, np.ndarray]) -> str:
    count = None
    for name, array in arrays.items():
        if not array.ndim:
            raise invalid_argument(f"Tensor name: {name} has no shape information ")
        if count not in (None, len(array)):
            raise invalid_argument(
                f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {count}"
            )
        count = len(array)
    if not count:
        return "[]"
    if len(arrays) == 1:
        rows = _write_arrays(*arrays.items(), level=2, axis=1, single_line=True)
        return f"[{', '.join(rows)}\n{_indent(1)}]"
    columns = [_write_arrays(item, level=3, axis=1, single_line=True) for item in arrays.items()]
    rows = [
        _write_object(dict(zip(arrays, row, strict=True)), 2) for row in zip(*columns, strict=True)
    ]
    return _write_list(rows, level=1)


def _write_arrays(
    item: tuple[str, np.ndarray], *, level: int, axis: int = 0, single_line: bool = False
) -> list[str]:
    """The texts of the arrays that a named array holds from ``axis`` on.

    Args:
        level: how many lists and objects they stand in.
        single_line: whether a list is one line, or has a line for each element.
    """
    name, array = item
    texts = _write_elements(name, array, level + array.ndim - axis)
    for inner in range(array.ndim - 1, axis - 1, -1):
        size, count = array.shape[inner], math.prod(array.shape[:inner])
        groups = (texts[size * start : size * (start + 1)] for start in range(count))
        if single_line:
            texts = [f"[{', '.join(group)}]" for group in groups]
        else:
            texts = [_write_list(group, level + inner - axis) for group in groups]
    return texts


def _write_elements(name: str, array: np.ndarray, level: int) -> list[str]:
    kind = array.dtype.kind
    if kind == "O":
        if name.endswith("_bytes"):
            encoded = (base64.b64encode(value).decode() for value in array.ravel())
            return [_write_object({"b64": _quote(value)}, level) for value in encoded]
        return [_quote(value.decode(errors="surrogateescape")) for value in array.ravel()]
    if kind == "b":
        return ["true" if value else "false" for value in array.ravel().tolist()]
    if array.dtype in (np.float32, np.float64):
        return decimals(array)
    if array.dtype in _WHOLE:
        return list(map(str, array.ravel().tolist()))
    dtype = tf.dtypes.as_dtype(array.dtype).as_datatype_enum
    raise invalid_argument(f"Failed to write JSON value for tensor type: {type_name(dtype)}")


def decimals(array: np.ndarray) -> list[str]:
    """Numbers with six significant digits, or as many as tell them from their neighbours."""
    values = array.ravel()
    numbers = values.tolist()
    texts = (("%g " * len(numbers)) % tuple(numbers)).split()
    precise = "%.9g" if values.dtype == np.float32 else "%.17g"
    for index in np.flatnonzero(np.array(list(map(float, texts)), values.dtype) != values):
        texts[index] = precise % numbers[index]
    for index in np.flatnonzero(~np.isfinite(values)):
        texts[index] = json.dumps(numbers[index])
    # Whole numbers have a point too: a reader infers the type of a list from its elements.
    return [f"{text}.0" if text.lstrip("-").isdecimal() else text for text in texts]


def write_classifications(result: classification_pb2.ClassificationResult) -> str:
    """The document of an answer to Classify: labels and scores of each example."""
    if not result.classifications:
        raise invalid_argument("Cannot convert empty ClassificationResults to JSON")
    scores = [one.score for row in result.classifications for one in row.classes]
    score_texts = iter(decimals(np.array(scores, np.float32)))
    rows = [
        ", ".join(f"[{_quote(one.label)}, {next(score_texts)}]" for one in row.classes)
        for row in result.classifications
    ]
    return _document("results", f"[{', '.join(f'[{row}]' for row in rows)}\n{_indent(1)}]")


def write_regressions(result: regression_pb2.RegressionResult) -> str:
    """The document of an answer to Regress: a number for each example."""
    if not result.regressions:
        raise invalid_argument("Cannot convert empty RegressionResults to JSON")
    values = np.array([one.value for one in result.regressions], np.float32)
    return _document("results", f"[{', '.join(decimals(values))}]")


def write_error(message: str) -> str:
    """The document that says what is wrong with a request."""
    return _document("error", _quote(message))


def _document(key: str, text: str) -> str:
    return _write_object({key: text}, level=0)


def _write_object(members: Mapping[str, str], level: int) -> str:
    lines = [f"\n{_indent(level + 1)}{_quote(key)}: {text}" for key, text in members.items()]
    return f"{{{','.join(lines)}\n{_indent(level)}}}"


def _write_list(texts: Sequence[str], level: int) -> str:
    if not texts:
        return "[]"
    separator = f",\n{_indent(level + 1)}"
    return f"[\n{_indent(level + 1)}{separator.join(texts)}\n{_indent(level)}]"


def _indent(level: int) -> str:
    return "    " * level


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def type_name(dtype: int) -> str:
    """What messages call a type: "float" is DT_FLOAT."""
    return types_pb2.DataType.Name(dtype).removeprefix("DT_").lower()
