"""Requests that make no sense, for the tests that the server bears them: gRPC bodies and REST."""

from __future__ import annotations

import dataclasses
import gzip
import json
import random
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf
from google.protobuf.message import Message
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    input_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)

NAMES = [
    "double",
    "half_plus_two",
    "pieces",
    "",
    "../../etc/passwd",
    "double/../../double",
    "/etc/passwd",
    "double/1",
    "..",
    ".",
    "%2e%2e%2fdouble",
    "double\0",
    "%s%n%(name)s{0}",
    "\N{RIGHT-TO-LEFT OVERRIDE}elbuod",
    "é" * 2000,
    "x" * 100_000,
    "\r\ngrpc-status: 0",
]
SIGNATURES = ["", "serving_default", "multiply", "scores", "both", "__saved_model_init_op", *NAMES]
SIZES = [0, 1, 2, 3, 7, -1, -(2**63), 2**31, 2**40, 2**62, 2**63 - 1]
PREDICTION, MODELS = "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService"


class _Nonsense:
    """Damage to good requests, the same for the same seed."""

    def __init__(self, seed: int):
        self._random = random.Random(seed)

    def _truncated(self, body: bytes) -> bytes:
        return body[: self._random.randrange(len(body) + 1)]

    def _mutated(self, body: bytes) -> bytes:
        changed = bytearray(body[:2000])
        for _ in range(self._random.choice([1, 1, 2, 5, 20])):
            at = self._random.randrange(len(changed) + 1)
            until = at + self._random.choice([0, 1, 1, 1, 4, 30])
            kind = self._random.randrange(3)
            new = self._random.randbytes(kind * (until - at)) if kind else changed[:at][-9:]
            changed[at:until] = new
        return bytes(changed)

    def _noise(self, _: bytes) -> bytes:
        return self._random.randbytes(self._random.choice([1, 2, 5, 20, 200, 5000]))


class GrpcNonsense(_Nonsense):
    """Bodies of gRPC requests."""

    def cases(self) -> Iterator[tuple[str, bytes]]:
        """Pairs of a gRPC method and a body, without end."""
        damages = [bytes] * 4 + [self._truncated, self._noise, self._nested]
        while True:
            method, request = self._request()
            # A mutated configuration may be one that the server has to accept.
            fit = damages if "Reload" in method else [*damages, self._mutated, self._mutated]
            yield method, self._random.choice(fit)(request.SerializeToString())

    def _nested(self, _: bytes) -> bytes:
        """Messages in messages, or groups in groups, deeper than any parser goes."""
        depth = self._random.choice([50, 101, 1000, 20_000])
        field = self._random.choice([1, 2, 3, 4])
        if self._random.random() < 0.5:
            return bytes([field << 3 | 3]) * depth
        body = b""
        while len(body) < depth:
            length = bytearray()
            rest = len(body)
            while rest > 127:
                length.append(rest & 127 | 128)
                rest >>= 7
            body = bytes([field << 3 | 2, *length, rest]) + body
        return body

    def _request(self) -> tuple[str, Message]:
        make = self._random.choice(
            [self._predict] * 6
            + [self._classify, self._regress, self._multi_inference]
            + [self._metadata, self._status, self._reload]
        )
        return make()

    def _predict(self) -> tuple[str, Message]:
        request = predict_pb2.PredictRequest()
        self._specify(request.model_spec)
        for alias in self._random.choices(
            ["x", "rows", "inputs", "text", *NAMES], k=self._random.choice([1, 1, 1, 1, 0, 2, 30])
        ):
            request.inputs[alias].CopyFrom(self._tensor())
        if self._random.random() < 0.2:
            request.output_filter.extend(self._random.choices(["y", "product", *NAMES], k=2))
        return f"{PREDICTION}/Predict", request

    def _tensor(self) -> tensor_pb2.TensorProto:
        tensor = tensor_pb2.TensorProto(
            dtype=self._random.choice([1, 1, 1, 7, 7, *range(30), 101, 107, 2**31 - 1])
        )
        rank = self._random.choice([0, 1, 1, 1, 2, 2, 3, 32, 33, 64, 65, 300])
        for size in self._random.choices(
            SIZES[:4] if self._random.random() < 0.5 else SIZES, k=rank
        ):
            tensor.tensor_shape.dim.add(size=size)
        tensor.tensor_shape.unknown_rank = self._random.random() < 0.02
        count = self._random.choice([0, 1, 2, 4, 4, 9])
        if self._random.random() < 0.3:
            tensor.tensor_content = self._random.randbytes(4 * count)
        floats = [0.0, -1.5, 3e38, float("inf"), float("nan")]
        tensor.float_val.extend(self._random.choices(floats, k=count))
        tensor.int_val.extend(self._random.choices([0, -1, 2**31 - 1], k=count))
        example = self._example().SerializeToString()
        texts = [b"", b"a rose", b"\xff\xfe", b"a\0b", b"x" * 5000, example, example[:-1]]
        tensor.string_val.extend(self._random.choices(texts, k=count))
        return tensor

    def _specify(self, spec: Message) -> None:
        spec.name = self._random.choice(NAMES[:3] if self._random.random() < 0.7 else NAMES)
        spec.signature_name = self._random.choice(SIGNATURES)
        choice = self._random.random()
        if choice < 0.1:
            spec.version.value = self._random.choice([0, 1, -1, 2**63 - 1])
        elif choice < 0.2:
            spec.version_label = self._random.choice(NAMES)

    def _example(self) -> tf.train.Example:
        example = tf.train.Example()
        for name in self._random.choices(["x", "x", *NAMES], k=self._random.choice([0, 1, 1, 3])):
            feature = example.features.feature[name]
            kind = self._random.randrange(3)
            if kind == 0:
                feature.float_list.value.extend([1.0] * self._random.choice([0, 1, 1, 2]))
            elif kind == 1:
                feature.int64_list.value.append(2**63 - 1)
            else:
                feature.bytes_list.value.append(b"\xff")
        return example

    def _input(self) -> input_pb2.Input:
        examples = [self._example() for _ in range(self._random.choice([0, 1, 2, 9]))]
        given = input_pb2.Input()
        if self._random.random() < 0.5:
            given.example_list.examples.extend(examples)
        else:
            given.example_list_with_context.examples.extend(examples)
            given.example_list_with_context.context.CopyFrom(self._example())
        return given

    def _classify(self) -> tuple[str, Message]:
        request = classification_pb2.ClassificationRequest(input=self._input())
        self._specify(request.model_spec)
        return f"{PREDICTION}/Classify", request

    def _regress(self) -> tuple[str, Message]:
        request = regression_pb2.RegressionRequest(input=self._input())
        self._specify(request.model_spec)
        return f"{PREDICTION}/Regress", request

    def _multi_inference(self) -> tuple[str, Message]:
        request = inference_pb2.MultiInferenceRequest(input=self._input())
        for method in self._random.choices(["classify", "regress", "../x"], k=2):
            task = request.tasks.add(method_name=f"tensorflow/serving/{method}")
            self._specify(task.model_spec)
        return f"{PREDICTION}/MultiInference", request

    def _metadata(self) -> tuple[str, Message]:
        request = get_model_metadata_pb2.GetModelMetadataRequest()
        self._specify(request.model_spec)
        request.metadata_field.extend(self._random.choices(["signature_def", *NAMES], k=2))
        return f"{PREDICTION}/GetModelMetadata", request

    def _status(self) -> tuple[str, Message]:
        request = get_model_status_pb2.GetModelStatusRequest()
        self._specify(request.model_spec)
        return f"{MODELS}/GetModelStatus", request

    def _reload(self) -> tuple[str, Message]:
        """Configurations that no server may accept: their first path is none."""
        request = model_management_pb2.ReloadConfigRequest()
        for name in self._random.choices(NAMES, k=2):
            request.config.model_config_list.config.add(
                name=name, base_path="../" + name, model_platform="tensorflow"
            )
        return f"{MODELS}/HandleReloadConfigRequest", request


@dataclasses.dataclass(frozen=True)
class HttpRequest:
    """A request of the REST interface; ``raw`` is sent as it is instead, if it is not None."""

    method: str = "GET"
    target: str = "/"
    body: bytes = b""
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    raw: bytes | None = None


class RestNonsense(_Nonsense):
    """Requests of the REST interface."""

    def cases(self) -> Iterator[HttpRequest]:
        """Requests, without end."""
        while True:
            yield self._request()

    def _request(self) -> HttpRequest:
        method = self._random.choice(["POST"] * 8 + ["GET", "GET", "PUT", "OPTIONS", "BREW"])
        target = self._target(method)
        body, headers = b"", {}
        if method == "POST":
            damage = self._random.choice(
                [bytes] * 5 + [self._truncated, self._mutated, self._mutated, self._noise]
            )
            body = damage(self._document())
            if self._random.random() < 0.1:
                headers["Content-Encoding"] = "gzip"
                body = self._random.choice([gzip.compress, bytes, self._truncated])(body)
        if self._random.random() < 0.05:
            headers["Origin"] = self._random.choice(["http://a", "null", "\t", "x" * 5000])
        if self._random.random() < 0.03:
            return HttpRequest(raw=self._raw(method, target, body))
        return HttpRequest(method, target, body, headers)

    def _raw(self, method: str, target: str, body: bytes) -> bytes:
        """What is no HTTP, or tells a wrong length."""
        head = f"{method} {target} HTTP/1.1\r\nHost: x\r\n"
        length = self._random.choice([len(body) + 9, len(body) // 2, -1, 2**63, "x"])
        good = f"{head}Content-Length: {length}\r\n\r\n".encode() + body
        chunked = f"{head}Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n".encode()
        damage = self._random.choice([bytes, self._truncated, self._mutated, self._noise])
        return damage(self._random.choice([good, chunked])) or b"\0"

    def _target(self, method: str) -> str:
        if self._random.random() < 0.5:
            return f"/v1/models/{self._random.choice(NAMES[:3])}" + (
                self._random.choice([":predict", ":predict", ":classify", ":regress"])
                if method == "POST"
                else self._random.choice(["", "/metadata", "/versions/1"])
            )
        name = self._random.choice(NAMES[:3] if self._random.random() < 0.7 else NAMES)
        quote = self._random.choice([urllib.parse.quote, urllib.parse.quote_plus])
        parts = [
            self._random.choice(["/v1/models/"] * 9 + ["/v1/", "/", "//v1/models/", "/v2/"]),
            quote(name[:5000]),
            self._random.choice([""] * 5 + ["/versions/1", "/labels/x", "/../..", "/versions/-1"]),
            self._random.choice(
                ["", "", "", "/versions/" + "9" * 30, "?x=1", "#", ";", "%00", "%"]
            ),
            self._random.choice([":predict"] * 4 + [":classify", ":regress", ":x", "/metadata", ""])
            if method == "POST" or self._random.random() < 0.3
            else self._random.choice(["", "/metadata"]),
        ]
        return "".join(parts)

    def _document(self) -> bytes:
        kind = self._random.random()
        if kind < 0.05:
            depth = self._random.choice([50, 999, 1001, 20_000, 200_000])
            opening, closing = self._random.choice([("[", "]"), ('{"instances":', "}"), ("[[", "")])
            nested = opening * depth + closing * depth
            whole = self._random.random() < 0.5
            return (nested if whole else f'{{"instances": {nested}}}').encode()
        document = {}
        if kind < 0.3:
            element = self._random.choice([1.5, [1, 2], "a rose", {"x": 1}, {"rows": [1, 2]}, {}])
            document[self._random.choice(["instances", "inputs", "examples"])] = [element] * 2
        elif kind < 0.9:
            key = self._random.choice(["instances", "instances", "inputs", "examples"])
            document[key] = self._value(0)
        if self._random.random() < 0.3:
            document["signature_name"] = self._random.choice([*SIGNATURES, 3, None, ["x"]])
        if self._random.random() < 0.1:
            document["context"] = self._value(1)
        if self._random.random() < 0.05:
            document[self._random.choice(["instances", "inputs", *NAMES])] = self._value(0)
        return json.dumps(document, ensure_ascii=self._random.random() < 0.5).encode(
            errors="surrogatepass"
        )

    def _value(self, depth: int) -> Any:
        """Any JSON, with a liking for what the models take."""
        leaves: list[Callable[[], Any]] = [
            lambda: self._random.choice([0, 1, 2.5, -1, 2**31, 2**63, 2**64, 10**400, -0.0]),
            lambda: self._random.choice([1e308, float("nan"), float("inf"), -float("inf")]),
            lambda: self._random.choice([None, True, False]),
            lambda: self._random.choice(["", "a rose", "\ud800", "a\0b", "é", *NAMES]),
            lambda: {"b64": self._random.choice(["", "YQ==", "YQ", "!", "YQ==YQ==", 3])},
        ]
        if depth > 3 or self._random.random() < 0.3:
            return self._random.choice(leaves)()
        size = self._random.choice([0, 1, 1, 2, 3])
        if self._random.random() < 0.6:
            if self._random.random() < 0.5:  # equal elements make tensors
                return [self._value(depth + 1)] * size
            return [self._value(depth + 1) for _ in range(size)]
        names = ["x", "x", "rows", "inputs", "text", "b64", *NAMES[:6]]
        return {self._random.choice(names): self._value(depth + 1) for _ in range(size)}
