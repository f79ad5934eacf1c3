"""REST beside Predict: addresses, Classify and Regress, status, metadata, headers, metrics."""

from __future__ import annotations

import json
import re

from serving.verify.messages import MODEL
from serving.verify.rest_predicting import TYPE, answers, error_text, posted, refuses
from serving.verify.server import Check, Reply, Server, equal

BASE = f"/v1/models/{MODEL}"
METRICS = "/monitoring/prometheus/metrics"
TWO = {"instances": [2.0]}


def _got(path: str, server: Server, status: int = 200) -> Reply:
    reply = server.http("GET", path)
    equal(f"status of {path}", status, reply.status)
    equal("content-type", TYPE, reply.headers.get("content-type"))
    return reply


def _get_refuses(path: str, text: str, status: int = 400) -> Check:
    def check(server: Server) -> None:
        equal("error", text, error_text(_got(path, server, status)))

    return check


def _not_the_interface(server: Server) -> None:
    reply = server.http("GET", "/v2/models")
    equal("status", 404, reply.status)
    equal("content-type is HTML", True, "html" in reply.headers.get("content-type", ""))


_TOO_LARGE = "9" * 20

ADDRESSES: dict[str, Check] = {
    "a version": answers(TWO, {"predictions": [2.0]}, f"{BASE}/versions/1:predict"),
    "a label": answers(TWO, {"predictions": [2.0]}, f"{BASE}/labels/stable:predict"),
    "letters in either case": answers(TWO, {"predictions": [3.0]}, f"/V1/Models/{MODEL}:predict"),
    "names are decoded": answers(
        TWO, {"predictions": [3.0]}, f"/v1/models/{MODEL.replace('_', '%5F')}:predict"
    ),
    "a query string is no match": refuses(
        TWO, re.compile(rf"Malformed request: POST {BASE}:predict.*"), path=f"{BASE}:predict?a=1"
    ),
    "another verb": refuses(TWO, f"Malformed request: POST {BASE}:explain", path=f"{BASE}:explain"),
    "another path": _get_refuses("/v1/labels", "Malformed request: GET /v1/labels"),
    "no name": _get_refuses("/v1/models", "Missing model name in request."),
    "a version that is no int64": _get_refuses(
        f"{BASE}/versions/{_TOO_LARGE}", f"Failed to convert version: {_TOO_LARGE} to numeric."
    ),
    "not under /v1/": _not_the_interface,
}

_CLASSIFY, _REGRESS = f"{BASE}:classify", f"{BASE}:regress"
_EXAMPLES = [{"x": 2.0}, {"x": [4.0]}]

_NOT_FLOAT = re.compile(r".*Data types don't match.*", re.DOTALL)

EXAMPLES: dict[str, Check] = {
    "classify": answers(
        {"signature_name": "classify", "examples": _EXAMPLES},
        {
            "results": [
                [["positive", 3.0], ["negative", -3.0]],
                [["positive", 4.0], ["negative", -4.0]],
            ]
        },
        _CLASSIFY,
    ),
    "regress": answers(
        {"signature_name": "regress", "examples": _EXAMPLES}, {"results": [3.0, 4.0]}, _REGRESS
    ),
    "the context is before each example": answers(
        {"signature_name": "regress", "context": {"x": 2.0}, "examples": [{}, {}]},
        {"results": [3.0, 3.0]},
        _REGRESS,
    ),
    "unknown signature": refuses(
        {"signature_name": "nothing", "examples": _EXAMPLES},
        "No signature was found with the name: nothing",
        path=_CLASSIFY,
    ),
    # A whole number is an int64 feature, which the model does not read.
    "whole numbers are int64": refuses(
        {"signature_name": "regress", "examples": [{"x": 2}]},
        _NOT_FLOAT,
        path=_REGRESS,
    ),
    "strings are bytes": refuses(
        {"signature_name": "regress", "examples": [{"x": "2.0"}]},
        _NOT_FLOAT,
        path=_REGRESS,
    ),
    "types are not mixed": refuses(
        {"signature_name": "regress", "examples": [{"x": [2.0, "a"]}]},
        re.compile(r"Unexpected element type in feature: x expecting type: .+"),
        path=_REGRESS,
    ),
}


def _status_layout(server: Server) -> None:
    text = _got(f"{BASE}/versions/1", server).text
    expected = """{
 "model_version_status": [
  {
   "version": "1",
   "state": "AVAILABLE",
   "status": {
    "error_code": "OK",
    "error_message": ""
   }
  }
 ]
}
"""
    equal("text", expected.rstrip(), text.rstrip())


def _statuses(path: str, versions: list[str]) -> Check:
    def check(server: Server) -> None:
        found = json.loads(_got(path, server).text)["model_version_status"]
        equal("versions", versions, [entry["version"] for entry in found])

    return check


def _metadata(server: Server) -> None:
    reply = json.loads(_got(f"{BASE}/versions/1/metadata", server).text)
    equal("model_spec", {"name": MODEL, "signature_name": "", "version": "1"}, reply["model_spec"])
    signature = reply["metadata"]["signature_def"]["signature_def"]["serving_default"]
    expected = {
        "dtype": "DT_FLOAT",
        "tensor_shape": {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False},
        "name": "serving_default_x:0",
    }
    equal("input", expected, signature["inputs"]["x"])
    equal("method_name", "tensorflow/serving/predict", signature["method_name"])


MODELS: dict[str, Check] = {
    "status": _statuses(BASE, ["2", "1"]),
    "status of a label": _statuses(f"{BASE}/labels/stable", ["2", "1"]),
    "status, to the letter": _status_layout,
    "status of an unknown model": _get_refuses(
        "/v1/models/nobody", "Could not find any versions of model nobody", 404
    ),
    "status of an unknown version": _get_refuses(
        f"{BASE}/versions/9", f"Could not find version 9 of model {MODEL}", 404
    ),
    "metadata": _metadata,
    "metadata of an unknown label": _get_refuses(
        f"{BASE}/labels/old/metadata", "Unrecognized servable version label: old"
    ),
}


def _options(origin: str | None, status: int) -> Check:
    def check(server: Server) -> None:
        headers = {"Origin": origin} if origin else {}
        equal("status", status, server.http("OPTIONS", f"{BASE}:predict", headers=headers).status)

    return check


def _cross_origin(server: Server) -> None:
    for reply in (_got(BASE, server), posted(TWO, server), posted("", server, status=400)):
        headers = {
            name: value
            for name, value in reply.headers.items()
            if name.startswith("access-control-allow-")
        }
        expected = {
            "access-control-allow-origin": "*",
            "access-control-allow-methods": "POST, GET",
            "access-control-allow-headers": "Content-Type",
        }
        equal("headers", expected, headers)


HEADERS: dict[str, Check] = {
    "OPTIONS of a page": _options("http://example.org", 200),
    "OPTIONS of a page with TLS": _options("https://example.org", 200),
    "OPTIONS of another origin": _options("file://example", 400),
    "OPTIONS without an origin": _options(None, 400),
    "cross-origin headers": _cross_origin,
}


def _metrics(server: Server) -> str:
    """The metrics after two answers, so that there is something to count."""
    posted(TWO, server)
    posted({"signature_name": "regress", "examples": _EXAMPLES}, server, _REGRESS)
    reply = server.http("GET", METRICS)
    equal("status", 200, reply.status)
    return reply.text


def _sample(line: str) -> Check:
    """The check that a sample with this name and these labels, in any order, is there."""
    name, _, labels = line.rstrip("}").partition("{")
    wanted = set(labels.split(",")) - {""}

    def check(server: Server) -> None:
        found = [
            set(match[1].split(","))
            for match in re.finditer(rf"^{re.escape(name)}{{(.*)}} \S+$", _metrics(server), re.M)
        ]
        equal(f"{line} among {found}", True, any(wanted <= labels for labels in found))

    return check


def _type_lines(server: Server) -> None:
    text = _metrics(server)
    equal("HELP lines", [], re.findall("^# HELP.*", text, re.M))
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))
    equal("request_count", "counter", kinds.get(":tensorflow:serving:request_count"))
    equal("request_latency", "histogram", kinds.get(":tensorflow:serving:request_latency"))


def _latency_buckets(server: Server) -> None:
    pattern = r'^:tensorflow:serving:request_latency_bucket{.*le="([^"]+)"}'
    limits = re.findall(pattern, _metrics(server), re.M)
    per_series = limits[: limits.index("+Inf") + 1]
    equal("number of buckets", 34, len(per_series))
    for number, limit in enumerate(per_series[:-1]):
        expected = 10 * 1.8**number
        equal(f"bucket {limit} is {expected:.6g}", True, abs(float(limit) / expected - 1) < 1e-5)


_OF_MODEL = f'model_name="{MODEL}"'

PROMETHEUS: dict[str, Check] = {
    "types without help": _type_lines,
    "request_count": _sample(f':tensorflow:serving:request_count{{{_OF_MODEL},status="OK"}}'),
    "request_latency": _sample(
        f':tensorflow:serving:request_latency_count{{{_OF_MODEL},API="predict",entrypoint="REST"}}'
    ),
    "runtime_latency": _sample(
        f':tensorflow:serving:runtime_latency_count{{{_OF_MODEL},API="Predict"}}'
    ),
    "request_example_counts": _sample(
        f':tensorflow:serving:request_example_counts_count{{model="{MODEL}"}}'
    ),
    "request_example_count_total": _sample(
        f':tensorflow:serving:request_example_count_total{{model="{MODEL}"}}'
    ),
    "load_attempt_count": _sample(":tensorflow:cc:saved_model:load_attempt_count{}"),
    "load_latency": _sample(":tensorflow:cc:saved_model:load_latency{}"),
    "latency buckets": _latency_buckets,
}
