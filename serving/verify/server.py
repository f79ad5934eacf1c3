"""The server under test: how it is asked, and what counts as a difference."""

from __future__ import annotations

import dataclasses
import functools
import http.client
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import grpc
from google.protobuf.message import Message
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

SECONDS_TO_ANSWER = 60
# An answer as large as a server may send; clients accept 4 MiB unless they are told otherwise.
_ANY_SIZE = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]

_METHODS = {
    predict_pb2.PredictRequest: "Predict",
    classification_pb2.ClassificationRequest: "Classify",
    regression_pb2.RegressionRequest: "Regress",
    inference_pb2.MultiInferenceRequest: "MultiInference",
    get_model_metadata_pb2.GetModelMetadataRequest: "GetModelMetadata",
    get_model_status_pb2.GetModelStatusRequest: "GetModelStatus",
    model_management_pb2.ReloadConfigRequest: "HandleReloadConfigRequest",
}


class DifferenceError(AssertionError):
    """An answer that is not the one that the contract gives."""

    def __init__(self, what: str, expected: object, got: object):
        super().__init__(f"{what}: expected {expected!r}, got {got!r}")


def equal(what: str, expected: Any, got: Any) -> None:
    """Compares; a compiled pattern has to match the whole text.

    Raises:
        DifferenceError: if they differ.
    """
    if isinstance(expected, re.Pattern):
        if not expected.fullmatch(got):
            raise DifferenceError(what, expected.pattern, got)
    elif expected != got:
        raise DifferenceError(what, expected, got)


def eventually(check: Callable[[], None]) -> None:
    """Repeats a check until it passes: what a server does later, like unloading, takes its time.

    Raises:
        DifferenceError, grpc.RpcError: as the check does at last.
    """
    deadline = time.monotonic() + SECONDS_TO_ANSWER
    while True:
        try:
            return check()
        except (DifferenceError, grpc.RpcError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@dataclasses.dataclass(frozen=True)
class Reply:
    """What came back over HTTP; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    text: str


class Server:
    """A server at an address.

    Args:
        address: host:port of the gRPC interface.
        rest_address: host:port of the REST interface, if that is to be asked too.
        models: the folder of the probe models as the server sees it, if its configuration may be
            changed for a moment.
    """

    def __init__(self, address: str, rest_address: str | None = None, models: str | None = None):
        self.channel = grpc.insecure_channel(address, _ANY_SIZE)
        self.rest_address = rest_address
        self.models = models
        self._prediction = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        self._model = model_service_pb2_grpc.ModelServiceStub(self.channel)

    def ask(self, request: Message, timeout: float = SECONDS_TO_ANSWER) -> Any:
        """The response to a request; its type names the method.

        Raises:
            grpc.RpcError: as the server answers.
        """
        method = _METHODS[type(request)]
        stub = self._prediction if hasattr(self._prediction, method) else self._model
        return getattr(stub, method)(request, timeout=timeout)

    def http(
        self,
        method: str,
        path: str,
        body: str | bytes = "",
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """One request over a connection of its own."""
        connection = http.client.HTTPConnection(self.rest_address, timeout=SECONDS_TO_ANSWER)
        try:
            content = body.encode() if isinstance(body, str) else body
            connection.request(method, path, content, dict(headers or {}))
            response = connection.getresponse()
            return Reply(
                response.status,
                {name.lower(): value for name, value in response.getheaders()},
                response.read().decode(),
            )
        finally:
            connection.close()

    def close(self) -> None:
        """Closes the connection."""
        self.channel.close()


Check = Callable[[Server], None]


def refused(
    request: Message, code: grpc.StatusCode, text: str | re.Pattern, server: Server
) -> None:
    """Asks what must be refused.

    Raises:
        DifferenceError: if it is answered, or refused with another code or text.
    """
    try:
        response = server.ask(request)
    except grpc.RpcError as error:
        equal("status code", code.name, error.code().name)
        equal("message", text, error.details())
    else:
        raise DifferenceError("status code", code.name, f"OK and {response}")


def refuses(request: Message, code: grpc.StatusCode, text: str | re.Pattern) -> Check:
    """The check that a request is refused with this code and text."""
    return functools.partial(refused, request, code, text)
