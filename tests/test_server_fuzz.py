"""Nonsense of every kind, sent to a real server: it refuses it, shows nothing and goes on."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import http.client
import itertools
import re
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent import futures

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from tests.nonsense import PREDICTION, GrpcNonsense, HttpRequest, RestNonsense
from tests.served_models import (
    REPOSITORY,
    free_port,
    running_server,
    save_half_plus_two,
    save_pieces,
    save_scale,
    write_configuration,
)

HANG_SECONDS = 60
IN_FLIGHT = 64
# An answer may repeat what was sent, but show nothing of the program and its folders.
TELLTALE = re.compile(
    r'Traceback|File "|\.py\b|site-packages|\b[A-Z]\w+(Error|Exception)\b| object at 0x|Unforeseen|'
    + "|".join(re.escape(str(folder)) for folder in (REPOSITORY, sys.prefix, tempfile.gettempdir()))
)
Code = grpc.StatusCode


@dataclasses.dataclass(frozen=True)
class Fuzzed:
    """A server process, and the addresses of its two interfaces."""

    process: subprocess.Popen
    grpc_address: str
    rest_address: str


@pytest.fixture(scope="module")
def configuration(tmp_path_factory):
    """A configuration file of the models that nonsense.NAMES begins with."""
    folder = tmp_path_factory.mktemp("fuzzed")
    for name, save in {
        "double": functools.partial(save_scale, factor=2.0),
        "half_plus_two": save_half_plus_two,
        "pieces": save_pieces,
    }.items():
        (folder / name).mkdir()
        save(folder / name / "1")
    return write_configuration(tmp_path_factory.mktemp("config") / "models.config", folder)


@contextlib.contextmanager
def fuzzed_server(*flags: str) -> Iterator[Fuzzed]:
    rest_port = free_port()
    with running_server(f"--rest_api_port={rest_port}", *flags) as (process, port):
        yield Fuzzed(process, f"localhost:{port}", f"localhost:{rest_port}")


@pytest.fixture(scope="module")
def server(configuration):
    with fuzzed_server(f"--model_config_file={configuration}") as fuzzed:
        yield fuzzed


@pytest.fixture(scope="module")
def batching_server(configuration):
    with fuzzed_server(f"--model_config_file={configuration}", "--enable_batching") as fuzzed:
        yield fuzzed


def bombard_grpc(server: Fuzzed, seed: int, count: int) -> collections.Counter:
    """Sends ``count`` bodies and judges what comes back; the answers' codes, counted."""
    codes = collections.Counter()
    pending: collections.deque = collections.deque()

    def judge(method: str, body: bytes, call: grpc.Future) -> None:
        code, details = call.code(), call.details() or ""
        case = f"{method} {body[:300]!r}: {code}: {details}"
        assert server.process.poll() is None, f"the server has ended after {case}"
        # No answer, or one of gRPC's own for an exception that a service has let through.
        assert code not in (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.UNKNOWN), case
        assert not TELLTALE.search(details), case
        codes[code] += 1

    with grpc.insecure_channel(server.grpc_address) as channel:
        for method, body in itertools.islice(GrpcNonsense(seed).cases(), count):
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
    codes = bombard_grpc(server, seed=1, count=500)
    # Some of it is good by chance; were all of it refused at once, little would have been tried.
    assert {Code.OK, Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.INTERNAL} <= set(codes)


@pytest.mark.slow
def test_many_malformed_grpc_bodies(batching_server):
    bombard_grpc(batching_server, seed=2, count=20_000)


def exchange(connection: http.client.HTTPConnection, request: HttpRequest) -> tuple[int, str]:
    """The status and the body of the reply; 0 where the connection is closed without one."""
    if request.raw is not None:
        with socket.create_connection((connection.host, connection.port), HANG_SECONDS) as raw:
            raw.sendall(request.raw)
            raw.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionError, http.client.HTTPException):
                reply = http.client.HTTPResponse(raw, method=request.method)
                reply.begin()
                return reply.status, reply.read().decode(errors="replace")
        return 0, ""
    try:
        connection.request(request.method, request.target, request.body or None, request.headers)
        reply = connection.getresponse()
        return reply.status, reply.read().decode(errors="replace")
    except (ConnectionError, http.client.HTTPException):
        connection.close()
        return 0, ""


def bombard_rest(server: Fuzzed, seed: int, count: int) -> collections.Counter:
    """Sends ``count`` requests and judges what comes back; the replies' codes, counted."""
    connections = threading.local()

    def send(request: HttpRequest) -> int:
        if not hasattr(connections, "own"):
            connections.own = http.client.HTTPConnection(server.rest_address, timeout=HANG_SECONDS)
        code, text = exchange(connections.own, request)
        case = f"{request}"[:600] + f": {code}: {text[:300]}"
        assert server.process.poll() is None, f"the server has ended after {case}"
        assert code < 500 or code == 501, case
        assert not TELLTALE.search(text), case
        return code

    cases = list(itertools.islice(RestNonsense(seed).cases(), count))
    with futures.ThreadPoolExecutor(8) as pool:
        codes = collections.Counter(pool.map(send, cases))
    sane = HttpRequest("POST", "/v1/models/double:predict", b'{"instances": [2.0]}')
    code, text = exchange(
        http.client.HTTPConnection(server.rest_address, timeout=HANG_SECONDS), sane
    )
    assert (code, "4.0" in text) == (200, True)
    return codes


def test_malformed_rest_requests(server):
    codes = bombard_rest(server, seed=1, count=500)
    assert {200, 400, 404} <= set(codes)


@pytest.mark.slow
def test_many_malformed_rest_requests(batching_server):
    bombard_rest(batching_server, seed=2, count=20_000)
