"""Nonsense of every kind, sent to a real server: it refuses it, shows nothing and goes on."""

from __future__ import annotations

import collections
import itertools
import random
import re
import sys
import tempfile
from collections.abc import Iterator

import grpc
import pytest
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

from tests.served_models import (
    REPOSITORY,
    running_server,
    save_half_plus_two,
    save_pieces,
    save_scale,
)

HANG_SECONDS = 60
IN_FLIGHT = 64
# An answer may repeat what was sent, but show nothing of the program and its folders.
TELLTALE = re.compile(
    r'Traceback|File "|\.py\b|site-packages|\b[A-Z]\w+(Error|Exception)\b| object at 0x|Unforeseen|'
    + "|".join(re.escape(str(folder)) for folder in (REPOSITORY, sys.prefix, tempfile.gettempdir()))
)
Code = grpc.StatusCode

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


class Nonsense:
    """Request bodies, the same for the same seed."""

    def __init__(self, seed: int):
        self._random = random.Random(seed)

    def cases(self) -> Iterator[tuple[str, bytes]]:
        """Pairs of a gRPC method and a body, without end."""
        kinds = [self._whole, self._truncated, self._noise, self._nested, self._mutated]
        while True:
            method, request = self._request()
            # A mutated configuration may be one that the server has to accept.
            fit = kinds[:-1] if method.endswith("ReloadConfigRequest") else kinds
            yield method, self._random.choice(fit)(request)

    def _whole(self, request: Message) -> bytes:
        return request.SerializeToString()

    def _truncated(self, request: Message) -> bytes:
        body = request.SerializeToString()
        return body[: self._random.randrange(len(body) + 1)]

    def _mutated(self, request: Message) -> bytes:
        body = bytearray(request.SerializeToString()[:2000])
        for _ in range(self._random.choice([1, 1, 2, 5, 20])):
            at = self._random.randrange(len(body) + 1)
            until = at + self._random.choice([0, 1, 1, 1, 4, 30])
            kind = self._random.randrange(3)
            body[at:until] = self._random.randbytes(kind * (until - at)) if kind else body[:at][-9:]
        return bytes(body)

    def _noise(self, _: Message) -> bytes:
        return self._random.randbytes(self._random.choice([1, 2, 5, 20, 200, 5000]))

    def _nested(self, _: Message) -> bytes:
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
        rank = self._random.choice([0, 1, 1, 1, 2, 2, 3, 70, 255, 300])
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


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The process and its address."""
    folder = tmp_path_factory.mktemp("fuzzed")
    listed = []
    for name, save in {
        "double": lambda path: save_scale(path, 2.0),
        "half_plus_two": save_half_plus_two,
        "pieces": save_pieces,
    }.items():
        (folder / name).mkdir()
        save(folder / name / "1")
        listed.append(
            f'config {{ name: "{name}" base_path: "{folder}/{name}" model_platform: "tensorflow" }}'
        )
    config = folder / "models.config"
    config.write_text(f"model_config_list {{ {' '.join(listed)} }}")
    with running_server(f"--model_config_file={config}") as (process, port):
        yield process, f"localhost:{port}"


def bombard(server, seed: int, count: int) -> collections.Counter:
    """Sends ``count`` bodies and judges what comes back; the answers' codes, counted."""
    process, address = server
    codes = collections.Counter()
    pending: collections.deque = collections.deque()

    def judge(method: str, body: bytes, call: grpc.Future) -> None:
        code, details = call.code(), call.details() or ""
        case = f"{method} {body[:300]!r}: {code}: {details}"
        assert process.poll() is None, f"the server has ended after {case}"
        # No answer, or one of gRPC's own for an exception that a service has let through.
        assert code not in (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.UNKNOWN), case
        assert not TELLTALE.search(details), case
        codes[code] += 1

    with grpc.insecure_channel(address) as channel:
        for method, body in itertools.islice(Nonsense(seed).cases(), count):
            call = channel.unary_unary(f"/{method}").future(body, timeout=HANG_SECONDS)
            pending.append((method, body, call))
            if len(pending) == IN_FLIGHT:
                judge(*pending.popleft())
        while pending:
            judge(*pending.popleft())
        sane = predict_pb2.PredictRequest()
        sane.model_spec.name = "double"
        sane.inputs["x"].CopyFrom(tf.make_tensor_proto([2.0]))
        answer = channel.unary_unary(f"/{PREDICTION}/Predict")(sane.SerializeToString())
        outputs = predict_pb2.PredictResponse.FromString(answer).outputs
        assert list(outputs["y"].float_val) == [4]
    return codes


def test_malformed_grpc_bodies(server):
    codes = bombard(server, seed=1, count=500)
    # Some of it is good by chance; were all of it refused at once, little would have been tried.
    assert {Code.OK, Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.INTERNAL} <= set(codes)


@pytest.mark.slow
def test_many_malformed_grpc_bodies(server):
    bombard(server, seed=2, count=20_000)
