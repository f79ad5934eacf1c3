"""Predict over REST: rows and columns, JSON to tensors and back, and every refusal."""

from __future__ import annotations

import functools
import gzip
import json
import math
import re
from typing import Any

from serving.verify.messages import MODEL
from serving.verify.server import Check, Reply, Server, equal

PREDICT = f"/v1/models/{MODEL}:predict"
TYPE = "application/json"


def posted(
    body: str | bytes | dict, server: Server, path: str = PREDICT, status: int = 200, **headers: str
) -> Reply:
    """The reply to a POST, once its status and content type are what they have to be."""
    content = json.dumps(body) if isinstance(body, dict) else body
    reply = server.http("POST", path, content, headers)
    equal(f"status of {reply.text}", status, reply.status)
    equal("content-type", TYPE, reply.headers.get("content-type"))
    return reply


def answered(body: str | bytes | dict, expected: Any, path: str, server: Server) -> None:
    equal("JSON", expected, json.loads(posted(body, server, path).text))


def answers(body: str | bytes | dict, expected: Any, path: str = PREDICT) -> Check:
    """The check that a POST is answered with this JSON."""
    return functools.partial(answered, body, expected, path)


def error_text(reply: Reply) -> str:
    """The message of an error, which is the only member of the object."""
    body = json.loads(reply.text)
    equal("members", ["error"], list(body))
    return body["error"]


def refuses(
    body: str | dict, text: str | re.Pattern, status: int = 400, path: str = PREDICT
) -> Check:
    """The check that a POST is refused with this HTTP status and message."""

    def check(server: Server) -> None:
        equal("error", text, error_text(posted(body, server, path, status)))

    return check


def _with(signature: str, **members: Any) -> dict:
    return {"signature_name": signature, **members}


def _echo(dtype: str, value: Any) -> dict:
    return _with(f"echo_{dtype}", inputs=value)


def _shown(values: str, shown: str, dtype: str = "float32") -> Check:
    """The check of the text of numbers, which JSON readers would hide."""

    def check(server: Server) -> None:
        body = f'{{"signature_name": "echo_{dtype}", "instances": {values}}}'
        text = posted(body, server).text
        equal("text", shown, re.sub(r"\s", "", text).removeprefix('{"predictions":').rstrip("}"))

    return check


def _same_text(body: dict, text: str) -> Check:
    def check(server: Server) -> None:
        equal("text", text, posted(body, server).text)

    return check


def _not_finite(server: Server) -> None:
    body = '{"signature_name": "echo_float64", "instances": [NaN, Infinity, -Infinity]}'
    text = posted(body, server).text
    for word in ("NaN", "Infinity", "-Infinity"):
        equal(f"{word} is shown bare", True, re.search(rf"(?<![-\w]){word}\b", text) is not None)
    numbers = json.loads(text)["predictions"]
    equal("NaN", True, math.isnan(numbers[0]))
    equal("infinities", [math.inf, -math.inf], numbers[1:])


def _gzip(server: Server) -> None:
    body = gzip.compress(b'{"instances": [2.0]}')
    reply = posted(body, server, **{"Content-Encoding": "gzip"})
    equal("JSON", {"predictions": [3.0]}, json.loads(reply.text))


_TWO_INPUTS = [{"one": 5.0, "other": 3.0}, {"one": 1.0, "other": 4.0}]

ANSWERS: dict[str, Check] = {
    "rows": answers({"instances": [2.0, 3.0, 4.0]}, {"predictions": [3.0, 3.5, 4.0]}),
    "rows by name": answers({"instances": [{"x": 2.0}, {"x": 4.0}]}, {"predictions": [3.0, 4.0]}),
    "rows with several inputs and outputs": answers(
        _with("add", instances=_TWO_INPUTS),
        {"predictions": [{"total": 8.0, "less": 2.0}, {"total": 5.0, "less": -3.0}]},
    ),
    "rows that are lists": answers(
        {"instances": [[1.0, 1.0, 1.0, 1.0]]},
        {"predictions": [[4.0, 4.0]]},
        "/v1/models/matrix:predict",
    ),
    "columns": answers({"inputs": [2.0, 3.0, 4.0]}, {"outputs": [3.0, 3.5, 4.0]}),
    "columns by name, others ignored": answers(
        {"inputs": {"x": [2.0], "more": 1}}, {"outputs": [3.0]}
    ),
    "columns with several inputs and outputs": answers(
        _with("add", inputs={"one": [5.0], "other": [3.0]}),
        {"outputs": {"total": [8.0], "less": [2.0]}},
    ),
    "a column that is one value": answers(_echo("float32", 2.5), {"outputs": 2.5}),
    "other members are ignored": answers(
        {"instances": [2.0], "comment": [1]}, {"predictions": [3.0]}
    ),
    "strings are UTF-8": answers(_with("echo_string", instances=["é"]), {"predictions": ["é"]}),
    "bytes are base64, out by the name": answers(
        _with("both", instances=["é", {"b64": "aGk="}]),
        {
            "predictions": [
                {"text": "é", "text_bytes": {"b64": "w6k="}},
                {"text": "hi", "text_bytes": {"b64": "aGk="}},
            ]
        },
    ),
    "a body in gzip": _gzip,
    "layout of rows": _same_text(
        {"instances": [2.0, 3.0]}, '{\n    "predictions": [3.0, 3.5\n    ]\n}'
    ),
    "layout of columns": _same_text(
        {"inputs": [2.0, 3.0]},
        '{\n    "outputs": [\n        3.0,\n        3.5\n    ]\n}',
    ),
    "NaN and infinities are bare": _not_finite,
    "six digits if they suffice": _shown("[0.1, 0.25, 1e20, 3e-05]", "[0.1,0.25,1e+20,3e-05]"),
    "nine digits otherwise": _shown("[0.333333343]", "[0.333333343]"),
    "seventeen for doubles": _shown(
        "[0.1, 0.3333333333333333]", "[0.1,0.33333333333333331]", "float64"
    ),
    "whole numbers end in .0": _shown("[3, -2.0, 100000]", "[3.0,-2.0,100000.0]"),
}

# The values of a type, as JSON, and whether they come back the same.
_ECHOED = {
    "float64": [0.5, -2.25],
    "int8": [-128, 127],
    "int16": [-5, 5],
    "int32": [-(2**31), 2**31 - 1],
    "int64": [-(2**63), 2**63 - 1],
    "uint8": [0, 255],
    "uint32": [0, 2**32 - 1],
    "uint64": [0, 2**64 - 1],
    "bool": [True, False],
}
TYPES: dict[str, Check] = {
    **{
        f"{dtype} there and back": answers(_echo(dtype, values), {"outputs": values})
        for dtype, values in _ECHOED.items()
    },
    **{
        f"{dtype} is not converted": refuses(
            _echo(dtype, [1.0]), f"Conversion of JSON Value: 1.0 to type: {name}", 501
        )
        for dtype, name in (("float16", "half"), ("bfloat16", "bfloat16"), ("uint16", "uint16"))
    },
}

_TYPE_ERROR = 'JSON Value: "x" Type: String is not of expected type: float'
_VALUE = re.compile(r"JSON Value: \[.*\] Is not object", re.DOTALL)

REFUSALS: dict[str, Check] = {
    "an empty body": refuses("", "JSON Parse error: The document is empty"),
    "not JSON": refuses("{nope}", re.compile(r"JSON Parse error: .+ at offset: \d+")),
    "an invalid value": refuses(
        '{"instances": [x]}', "JSON Parse error: Invalid value. at offset: 15"
    ),
    "parsing before the look for the model": refuses(
        "", "JSON Parse error: The document is empty", path="/v1/models/nobody:predict"
    ),
    "unknown model": refuses(
        {"instances": [1.0]},
        "Servable not found for request: Latest(nobody)",
        404,
        "/v1/models/nobody:predict",
    ),
    "unknown version": refuses(
        {"instances": [1.0]},
        f"Servable not found for request: Specific({MODEL}, 7)",
        404,
        f"/v1/models/{MODEL}/versions/7:predict",
    ),
    "unknown label": refuses(
        {"instances": [1.0]},
        "Unrecognized servable version label: old",
        path=f"/v1/models/{MODEL}/labels/old:predict",
    ),
    "not an object": refuses("[1.0]", _VALUE),
    "neither key": refuses({"rows": [1.0]}, "Missing 'inputs' or 'instances' key"),
    "both keys": refuses(
        {"instances": [1.0], "inputs": [1.0]},
        re.compile(
            r"JSON Value: \{.*\} Not formatted correctly expecting only one of 'inputs' or "
            r"'instances' keys to exist ",
            re.DOTALL,
        ),
    ),
    "instances that are no list": refuses(
        {"instances": 1.0},
        re.compile(r"JSON Value: \{.*\} Ex\w+ting 'instances' to be an list/array", re.DOTALL),
    ),
    "no instances": refuses(
        {"instances": []},
        re.compile(r"JSON Value: \{.*\} No values in 'instances' array", re.DOTALL),
    ),
    "a column of the wrong type": refuses({"inputs": ["x"]}, _TYPE_ERROR),
    "a row of the wrong type": refuses(
        {"instances": ["x"]},
        "Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: " + _TYPE_ERROR,
    ),
    "a row without all inputs": refuses(
        _with("add", instances=[{"one": 1.0}]),
        re.compile(
            r"Failed to process element: 0 of 'instances' list\. JSON object: \{.*\} "
            r"keys must be equal to: one,other",
            re.DOTALL,
        ),
    ),
    "lists of several lengths": refuses(
        _echo("float32", [[1.0, 2.0], [3.0]]),
        "Encountered list at unexpected size: 1 at level: 1 expected size: 2",
    ),
    "a column that is missing": refuses(
        _with("add", inputs={"one": [1.0]}), "Missing named input: other in 'inputs' object."
    ),
    "unknown signature": refuses(
        _with("nothing", instances=[1.0]),
        'Serving signature name: "nothing" not found in signature def',
    ),
    "base64 that is none": refuses(
        _with("echo_string", inputs=[{"b64": "?"}]), "Unable to base64 decode"
    ),
    "half is not written": refuses(
        _with("halved", inputs=[1.0]), "Failed to write JSON value for tensor type: half"
    ),
    "rows of an output without rows": refuses(
        _with("scalar", instances=[1.0]), "Tensor name: y has no shape information "
    ),
    "rows of outputs of several lengths": refuses(
        _with("uneven", instances=[1.0]),
        re.compile(r"Tensor name: [yz] has inconsistent batch size: \d expecting: \d"),
    ),
    "an operation's error": refuses(
        {"instances": [[1.0, 1.0, 1.0]]},
        re.compile(r"Matrix size-incompatible: In\[0\]: \[1,3\], In\[1\]: \[4,2\].*", re.DOTALL),
        path="/v1/models/matrix:predict",
    ),
}


def _error_layout(server: Server) -> None:
    reply = posted("", server, status=400)
    expected = '{\n    "error": "JSON Parse error: The document is empty"\n}'
    equal("text", expected, reply.text)


def _untruncated(server: Server) -> None:
    name = "m" * 2000
    reply = posted({"instances": [1.0]}, server, f"/v1/models/{name}:predict", 404)
    equal("error", f"Servable not found for request: Latest({name})", error_text(reply))


CHECKS = {
    **ANSWERS,
    **TYPES,
    **REFUSALS,
    "layout of errors": _error_layout,
    "long errors are whole": _untruncated,
}
