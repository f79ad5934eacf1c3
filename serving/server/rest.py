"""The REST interface: the core's answers as JSON over HTTP/1.1, and the page of metrics.

uvicorn reads and writes all connections in one thread, so that many and slow clients cost little,
and a request is answered in one of a fixed number of others, for it waits for TensorFlow. httptools
parses in C and refuses what is no HTTP. Both hand over the path as it was sent, keep connections
alive, take bodies of any length, and let requests under way finish at the end. There is no
framework on top: two regular expressions are all the routes there are.

Source: tensorflow_serving/model_servers/{http_server,http_rest_api_handler,http_rest_api_util}.cc
(routes, codes, wording).
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import re
import socket
import threading
import time
import urllib.parse
import zlib
from collections.abc import Callable
from concurrent import futures

import grpc
import uvicorn
from google.protobuf import json_format
from google.protobuf.message import Message
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    predict_pb2,
    regression_pb2,
)

from serving.server import json_answers, json_tensors, metrics
from serving.server.core import Core
from serving.server.errors import StatusError, as_status, failed_precondition, invalid_argument
from serving.server.protos import MonitoringConfig, read_text_proto

_FLAGS = re.IGNORECASE | re.ASCII
_VERSION = r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_ROUTES = {
    "POST": re.compile(
        rf"/v1/models/(?P<model>[^/:]+){_VERSION}:(?P<method>classify|regress|predict)", _FLAGS
    ),
    "GET": re.compile(
        rf"/v1/models(?:/(?P<model>[^/:]+))?{_VERSION}(?:/(?P<method>metadata))?", _FLAGS
    ),
}
_API = re.compile(r"/v1/.*", _FLAGS | re.DOTALL)
_LARGEST_VERSION = 2**63 - 1
_ORIGIN = re.compile(r"https?://", re.IGNORECASE)

_HTTP_CODES = {
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
}
_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET",
    "Access-Control-Allow-Headers": "Content-Type",
}
_NOT_FOUND_PAGE = b"""<html>
<head><title>404 Not Found</title></head>
<body><h1>Not Found</h1></body>
</html>
"""

_METRICS_PATH = "/monitoring/prometheus/metrics"

# As the gRPC interface, whose lengths are signed 32-bit integers.
_LONGEST_BODY = 2**31 - 1
# A few bytes of gzip can stand for gigabytes.
_LONGEST_UNZIPPED = 100 * 2**20
_KEEP_ALIVE_SECONDS = 60


def read_metrics_path(monitoring_config_file: str) -> str | None:
    """Where a MonitoringConfig puts the page of metrics; None if there is to be none.

    Raises:
        StatusError: INVALID_ARGUMENT for a file that can't be read or parsed.
    """
    if not monitoring_config_file:
        return None
    config = read_text_proto(monitoring_config_file, MonitoringConfig).prometheus_config
    return (config.path or _METRICS_PATH) if config.enable else None


@dataclasses.dataclass(frozen=True)
class Request:
    """What came in: ``target`` is the path with the query, both as they were sent."""

    method: str
    target: str
    body: bytes = b""
    origin: str = ""
    encoding: str = ""


@dataclasses.dataclass(frozen=True)
class Reply:
    """What goes out."""

    code: int
    body: bytes
    content_type: str = "application/json"
    headers: dict[str, str] = dataclasses.field(default_factory=dict)


class RestApi:
    """Replies to requests; safe to call from several threads.

    Args:
        timeout_ms: of a run; none if it is not positive.
        with_cors: whether web pages of other origins may read the replies.
        metrics_path: where the page of metrics is; None if there is none.
    """

    def __init__(
        self, core: Core, timeout_ms: int, *, with_cors: bool, metrics_path: str | None = None
    ):
        self._core = core
        self._timeout_ms = max(0, timeout_ms)
        self._headers = _CORS if with_cors else {}
        self._metrics_path = metrics_path

    def reply(self, request: Request) -> Reply:
        """The reply to any request; never raises."""
        if self._metrics_path and request.target.partition("?")[0] == self._metrics_path:
            return self._metrics(request.target)
        if not _API.fullmatch(request.target):
            return Reply(404, _NOT_FOUND_PAGE, "text/html")
        if request.method == "OPTIONS":
            return self._preflight(request.origin)
        started, spec, method, error = time.perf_counter(), model_pb2.ModelSpec(), "", None
        try:
            spec, method = _find(request)
            text = self._answer(request, spec, method)
        except RecursionError:
            error = invalid_argument("JSON Parse error: The document is nested too deeply.")
        except Exception as unknown:
            error = as_status(unknown)
        api = method if request.method == "POST" else ""
        metrics.request_ended(spec.name, api, "REST", started, error)
        if error:
            return self._refuse(error)
        return Reply(200, text.encode(errors="surrogateescape"), headers=self._headers)

    def _refuse(self, error: StatusError) -> Reply:
        body = json_answers.write_error(error.message).encode(errors="replace")
        return Reply(_HTTP_CODES.get(error.code, 500), body, headers=self._headers)

    def _metrics(self, target: str) -> Reply:
        if target != self._metrics_path:
            complaint = f"Unexpected path: {target}. Should be {self._metrics_path}"
            return Reply(400, complaint.encode(), "text/plain")
        return Reply(200, metrics.page().encode(), "text/plain")

    def _preflight(self, origin: str) -> Reply:
        """What a browser asks before it sends what a page of another origin wants."""
        if not _ORIGIN.match(origin):
            return self._refuse(failed_precondition("Origin header is missing in CORS preflight"))
        return Reply(200, b"", headers=self._headers)

    def _answer(self, request: Request, spec: model_pb2.ModelSpec, method: str) -> str:
        if request.method == "GET":
            return self._metadata(spec) if method == "metadata" else self._status(spec)
        body = _unzip(request.body) if "gzip" in request.encoding else request.body
        document = json_tensors.parse(body)
        json_tensors.read_signature_name(document, spec)
        answer = {"predict": self._predict, "classify": self._classify, "regress": self._regress}
        return answer[method](document, spec)

    def _predict(self, document: dict, spec: model_pb2.ModelSpec) -> str:
        request = predict_pb2.PredictRequest(model_spec=spec)
        by_row = json_tensors.read_inputs(document, self._core.inputs(spec), request)
        response = self._core.predict(request, self._timeout_ms)
        return json_answers.write_outputs(response.outputs, by_row=by_row)

    def _classify(self, document: dict, spec: model_pb2.ModelSpec) -> str:
        request = classification_pb2.ClassificationRequest(model_spec=spec)
        json_tensors.read_examples(document, request)
        response = self._core.classify(request, self._timeout_ms)
        return json_answers.write_classifications(response.result)

    def _regress(self, document: dict, spec: model_pb2.ModelSpec) -> str:
        request = regression_pb2.RegressionRequest(model_spec=spec)
        json_tensors.read_examples(document, request)
        response = self._core.regress(request, self._timeout_ms)
        return json_answers.write_regressions(response.result)

    def _status(self, spec: model_pb2.ModelSpec) -> str:
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=spec)
        return _message_json(self._core.status(request)) + "\n"

    def _metadata(self, spec: model_pb2.ModelSpec) -> str:
        request = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=spec, metadata_field=["signature_def"]
        )
        response = self._core.metadata(request)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        return (
            f'{{\n"model_spec":{_message_json(response.model_spec)}\n,\n'
            f'"metadata": {{"signature_def": {_message_json(signatures)}\n}}\n}}\n'
        )


def _find(request: Request) -> tuple[model_pb2.ModelSpec, str]:
    """The model that a request is about, and the method: the last word of the path, or "".

    Raises:
        StatusError: INVALID_ARGUMENT if there is no such path.
    """
    pattern = _ROUTES.get(request.method)
    match = pattern.fullmatch(request.target) if pattern else None
    method = (match["method"] or "") if match else ""
    if not match or method != method.lower():  # methods, unlike the rest, are told by case
        raise invalid_argument(f"Malformed request: {request.method} {request.target}")
    if not match["model"]:
        raise invalid_argument("Missing model name in request.")
    spec = model_pb2.ModelSpec(name=urllib.parse.unquote(match["model"]))
    if match["version"]:
        digits = match["version"].lstrip("0") or "0"
        if len(digits) > len(str(_LARGEST_VERSION)) or int(digits) > _LARGEST_VERSION:
            raise invalid_argument(f"Failed to convert version: {match['version']} to numeric.")
        spec.version.value = int(digits)
    if match["label"]:
        spec.version_label = urllib.parse.unquote(match["label"])
    return spec, method


def _unzip(body: bytes) -> bytes:
    unzipping = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    with contextlib.suppress(zlib.error):
        unzipped = unzipping.decompress(body, _LONGEST_UNZIPPED)
        if unzipping.eof:
            return unzipped
    raise invalid_argument(
        f"The gzip body is damaged, or stands for more than {_LONGEST_UNZIPPED} bytes."
    )


def _message_json(message: Message) -> str:
    return json_format.MessageToJson(
        message,
        indent=1,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
    )


class RestServer:
    """HTTP on a port of all addresses, IPv6 and IPv4.

    Connections are accepted from the start on, and answered from ``start`` on.

    Args:
        reply: called in one of ``threads`` threads for each request.
        grace_seconds: for the requests under way when it is to stop.

    Raises:
        RuntimeError: if the port is taken.
    """

    def __init__(
        self, reply: Callable[[Request], Reply], port: int, threads: int, grace_seconds: int
    ):
        self._reply = reply
        self._pool = futures.ThreadPoolExecutor(threads, thread_name_prefix="rest")
        config = uvicorn.Config(
            self._application,
            loop="asyncio",
            http="httptools",
            ws="none",
            interface="asgi3",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=grace_seconds,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, args=([_listen(port)],), name="rest", daemon=True
        )

    def start(self) -> None:
        """Answers, in threads of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Refuses new connections from now on; ``wait`` for the requests under way."""
        self._server.should_exit = True

    def wait(self) -> None:
        """Returns when the last reply is sent, or the grace is over."""
        self._thread.join()

    async def _application(self, scope: dict, receive: Callable, send: Callable) -> None:
        body = await _receive(receive)
        if body is None:
            return
        if len(body) > _LONGEST_BODY:
            reply = Reply(413, json_answers.write_error("The body is too long.").encode())
        else:
            reply = await asyncio.get_running_loop().run_in_executor(
                self._pool, self._reply, _request(scope, body)
            )
        headers = {
            "Content-Type": reply.content_type,
            "Content-Length": str(len(reply.body)),
            **reply.headers,
        }
        await send(
            {
                "type": "http.response.start",
                "status": reply.code,
                "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            }
        )
        await send({"type": "http.response.body", "body": reply.body})


def _request(scope: dict, body: bytes) -> Request:
    headers = dict(scope["headers"])
    target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
    return Request(
        scope["method"],
        target.decode(errors="replace"),
        body,
        headers.get(b"origin", b"").decode("latin-1"),
        headers.get(b"content-encoding", b"").decode("latin-1"),
    )


async def _receive(receive: Callable) -> bytes | None:
    """The whole body; as much as shows that it is too long; None if the client is gone."""
    parts, length = [], 0
    while length <= _LONGEST_BODY:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message["body"])
        length += len(message["body"])
        if not message["more_body"]:
            break
    return b"".join(parts)


def _listen(port: int) -> socket.socket:
    listener = _bind(port)
    # Connections inherit it. Without it the second part of a reply would wait 40 ms for the client
    # to confirm the first; asyncio only sets it on sockets that name their protocol.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _bind(port: int) -> socket.socket:
    with contextlib.suppress(OSError):  # there may be no IPv6
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    try:
        return socket.create_server(("", port))
    except OSError as error:
        raise RuntimeError(f"Can't listen on port {port}: {error.strerror}") from None
