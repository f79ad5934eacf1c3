"""The client's way to a server: encryption, retries, deadlines, and what exactly is sent.

The servers here are gRPC servers of TensorFlow Serving's stubs that answer as each test needs.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import logging
import pathlib
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent import futures

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from serving.client import (
    AsyncClient,
    Client,
    DeadlineExceededError,
    InputError,
    ServingError,
    Tls,
    UnavailableError,
)
from serving.client.__main__ import main
from serving.client.conversation import pauses
from tests.certificates import Authority
from tests.served_models import REPOSITORY, free_port


class Answering(
    prediction_service_pb2_grpc.PredictionServiceServicer,
    model_service_pb2_grpc.ModelServiceServicer,
):
    """A server that answers as it is told to and remembers what it was asked.

    Attributes:
        inputs: the names of the inputs in the signature.
        failures: statuses to answer the next Predict requests with, the first one first.
        content: sent instead of the answer's own bytes, if it is set.
        requests: every request so far.
    """

    def __init__(self):
        self.inputs = ["x"]
        self.failures: list[tuple[grpc.StatusCode, str]] = []
        self.content: bytes | None = None
        self.requests: list = []

    def GetModelMetadata(self, request, context):  # noqa: N802
        self.requests.append(request)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.metadata["signature_def"].Pack(signatures(self.inputs))
        return response

    def Predict(self, request, context):  # noqa: N802
        self.requests.append(request)
        if self.failures:
            context.abort(*self.failures.pop(0))
        response = predict_pb2.PredictResponse()
        response.outputs["y"].CopyFrom(request.inputs["x"])
        if self.content is not None:
            response.outputs["y"].tensor_content = self.content
        return response

    def Classify(self, request, context):  # noqa: N802
        """Two classes for each example: its name, and its numbers' sum."""
        self.requests.append(request)
        parsed = parse(request.input)
        response = classification_pb2.ClassificationResponse()
        for name, total in zip(parsed["name"], parsed["total"], strict=True):
            classes = response.result.classifications.add().classes
            classes.add(label=name.decode(), score=total)
            classes.add(label="", score=0.5)
        return response

    def Regress(self, request, context):  # noqa: N802
        self.requests.append(request)
        response = regression_pb2.RegressionResponse()
        for total in parse(request.input)["total"]:
            response.result.regressions.add(value=total)
        return response

    def GetModelStatus(self, request, context):  # noqa: N802
        self.requests.append(request)
        return get_model_status_pb2.GetModelStatusResponse()


def signatures(inputs: list[str]) -> get_model_metadata_pb2.SignatureDefMap:
    """``serving_default`` with inputs of these names and an output y, all float32 [?]."""
    known = get_model_metadata_pb2.SignatureDefMap()
    signature = known.signature_def["serving_default"]
    for info in (*(signature.inputs[name] for name in inputs), signature.outputs["y"]):
        info.dtype = tf.float32.as_datatype_enum
        info.tensor_shape.dim.add(size=-1)
    return known


def parse(message) -> dict[str, np.ndarray]:
    """``name`` and ``total`` (numbers + count) of each example, read by TensorFlow.

    As TensorFlow Serving does, the bytes of the context go before those of each example.
    """
    listed = message.example_list_with_context
    context = listed.context.SerializeToString()
    examples = [*message.example_list.examples, *listed.examples]
    parsed = tf.io.parse_example(
        tf.constant([context + example.SerializeToString() for example in examples], tf.string),
        {
            "name": tf.io.FixedLenFeature([], tf.string),
            "numbers": tf.io.FixedLenSequenceFeature([], tf.float32, allow_missing=True),
            "count": tf.io.FixedLenFeature([], tf.int64, 0),
        },
    )
    total = tf.reduce_sum(parsed["numbers"], axis=1) + tf.cast(parsed["count"], tf.float32)
    return {"name": parsed["name"].numpy(), "total": total.numpy()}


@contextlib.contextmanager
def listening(
    services: Answering, port: int = 0, credentials: grpc.ServerCredentials | None = None
) -> Iterator[str]:
    """The address of a server with these services."""
    server = grpc.server(futures.ThreadPoolExecutor(4))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(services, server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(services, server)
    address = f"localhost:{port}"
    if credentials is None:
        port = server.add_insecure_port(address)
    else:
        port = server.add_secure_port(address, credentials)
    server.start()
    try:
        yield f"localhost:{port}"
    finally:
        server.stop(None).wait()


@pytest.fixture
def services():
    return Answering()


@pytest.fixture
def address(services):
    with listening(services) as address:
        yield address


def ask(method: str, address: str, *arguments, is_async: bool, settings: dict, **keywords):
    """Asks once with a client of its own, of either kind."""
    if not is_async:
        with Client(address, **settings) as client:
            return getattr(client, method)(*arguments, **keywords)

    async def awaited():
        async with AsyncClient(address, **settings) as client:
            return await getattr(client, method)(*arguments, **keywords)

    return asyncio.run(awaited())


@pytest.fixture(params=[False, True], ids=["blocking", "asyncio"])
def asked(request) -> Callable:
    """``asked(method, address, …, settings={…}, …)`` with both clients."""

    def call(method: str, address: str, *arguments, settings: dict | None = None, **keywords):
        return ask(
            *(method, address, *arguments),
            **{"is_async": request.param, "settings": settings or {}, **keywords},
        )

    return call


UNAVAILABLE = (grpc.StatusCode.UNAVAILABLE, "come back later")


def count_predictions(services: Answering) -> int:
    return sum(isinstance(r, predict_pb2.PredictRequest) for r in services.requests)


def test_an_unavailable_server_is_asked_again(asked, address, services, caplog):
    caplog.set_level(logging.INFO, "serving.client")
    services.failures = [UNAVAILABLE, UNAVAILABLE]
    assert asked("predict", address, "m", x=3) == {"y": 3}
    assert count_predictions(services) == 3
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("UNAVAILABLE: come back later; asking again for ")


def test_without_retry_once_is_all(asked, address, services):
    services.failures = [UNAVAILABLE]
    with pytest.raises(UnavailableError, match="UNAVAILABLE: come back later"):
        asked("predict", address, "m", x=3, settings={"retry": False})
    assert count_predictions(services) == 1


def test_a_server_that_stays_unavailable_is_left_at_the_deadline(asked, address, services):
    services.failures = [UNAVAILABLE] * 1000
    with pytest.raises(UnavailableError, match="UNAVAILABLE: come back later"):
        asked("predict", address, "m", x=3, timeout=1)
    assert 2 <= count_predictions(services) < 20


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (grpc.StatusCode.RESOURCE_EXHAUSTED, UnavailableError),
        (grpc.StatusCode.DEADLINE_EXCEEDED, DeadlineExceededError),
        (grpc.StatusCode.INTERNAL, ServingError),
    ],
)
def test_no_other_error_is_a_reason_to_ask_again(asked, address, services, code, error):
    services.failures = [(code, "no")]
    with pytest.raises(error) as caught:
        asked("predict", address, "m", x=3)
    assert (caught.value.code, caught.value.message) == (code.name, "no")
    assert count_predictions(services) == 1


def test_pauses_grow_to_a_second():
    nominal = [0.1, 0.2, 0.4, 0.8, 1, 1]
    drawn = [[pause for pause, _ in zip(pauses(), nominal, strict=False)] for _ in range(200)]
    ratios = np.array(drawn) / nominal
    assert ratios.min() >= 0.8
    assert ratios.max() <= 1.2
    assert (ratios.std(axis=0) > 0.05).all()


def test_a_server_that_starts_within_the_deadline_is_found(asked, services):
    port = free_port()
    ended = threading.Event()

    def start_late():
        if ended.wait(1.5):
            return
        with listening(services, port):
            ended.wait()

    thread = threading.Thread(target=start_late)
    thread.start()
    try:
        assert asked("predict", f"localhost:{port}", "m", x=3) == {"y": 3}
    finally:
        ended.set()
        thread.join()


def test_nobody_listens(asked):
    address = f"localhost:{free_port()}"
    with pytest.raises(UnavailableError, match="failed to connect"):
        asked("status", address, "m", timeout=0.5)
    with pytest.raises(UnavailableError, match="failed to connect"):
        asked("status", address, "m", settings={"retry": False})


def test_an_unset_version_is_not_sent(asked, address, services):
    for method, values in [("predict", {"x": 1}), ("status", {}), ("signatures", {})]:
        asked(method, address, "m", **values)
    for method in ("classify", "regress"):
        asked(method, address, "m", [])
    assert len(services.requests) == 6
    for request in services.requests:
        assert request.model_spec.name == "m"
        assert request.model_spec.WhichOneof("version_choice") is None


def test_version_and_label_are_sent_as_such(asked, address, services):
    asked("predict", address, "m", x=1, version=0)
    asked("predict", address, "m", x=1, label="canary")
    asked("regress", address, "m", [], label="canary", signature="r")
    specs = [request.model_spec for request in services.requests]
    assert [spec.WhichOneof("version_choice") for spec in specs] == (
        ["version"] * 2 + ["version_label"] * 3
    )
    assert specs[4].signature_name == "r"
    with pytest.raises(InputError, match="not by both"):
        asked("predict", address, "m", x=1, version=1, label="canary")


def test_another_version_with_other_inputs_is_understood(address, services):
    with Client(address) as client:
        assert client.predict("m", x=[1, 2])["y"].tolist() == [1, 2]
        services.inputs.append("z")
        assert client.predict("m", x=[1], z=[2])["y"].tolist() == [1]
        with pytest.raises(InputError, match="missing z"):
            client.predict("m", x=[1])
        services.inputs.remove("z")
        assert [answer["y"] for answer in client.predict_many("m", x=[1, 2])] == [1, 2]


def test_the_blocking_client_works_where_an_event_loop_runs(address):
    async def cell_of_a_notebook():
        with Client(address) as client:
            answers = client.predict_many("m", x=[1, 2, 3], batch_size=1)
            return [client.predict("m", x=0), next(answers), answers.close()]

    assert asyncio.run(cell_of_a_notebook()) == [{"y": 0}, {"y": 1}, None]


def test_an_answer_that_can_not_be_read(asked, address, services):
    services.content = b"abc"
    with pytest.raises(ServingError, match="INTERNAL: the answer can't be read"):
        asked("predict", address, "m", x=1)


EXAMPLES = [
    {"name": "a", "numbers": [1, 2.5]},
    {"name": b"b", "numbers": np.float32(4)},
    {"name": "c", "numbers": []},
]


def test_classify_and_regress_send_examples(asked, address, tmp_path):
    answer = asked("classify", address, "m", EXAMPLES)
    assert answer == [[("a", 3.5), ("", 0.5)], [("b", 4), ("", 0.5)], [("c", 0), ("", 0.5)]]
    (tmp_path / "name").write_text("d")
    one = {"name": tmp_path / "name", "count": True}
    assert asked("classify", address, "m", one) == [("d", 1), ("", 0.5)]
    assert asked("classify", address, "m", []) == []
    values = asked("regress", address, "m", EXAMPLES)
    assert (values.dtype, values.tolist()) == (np.float32, [3.5, 4, 0])
    assert asked("regress", address, "m", EXAMPLES[0]) == 3.5


def test_context_goes_with_every_example(asked, address, services):
    examples = [{"numbers": [1.0]}, {"numbers": [2.0], "count": 5}]
    answer = asked("classify", address, "m", examples, context={"name": "all", "count": 10})
    assert answer == [[("all", 11), ("", 0.5)], [("all", 7), ("", 0.5)]]
    assert services.requests[0].input.WhichOneof("kind") == "example_list_with_context"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1, "a"], "name must be numbers, text, bytes or files: 1 is neither text"),
        (None, "name must be .*: None is neither text"),
        (2**63, "name must be .*"),
        (pathlib.Path("nowhere"), "name: can't read nowhere"),
    ],
)
def test_what_no_feature_can_hold(asked, address, value, message):
    with pytest.raises(InputError, match=message):
        asked("classify", address, "m", {"name": value})


@dataclasses.dataclass(frozen=True)
class Files:
    """An authority with the files that a client is given."""

    folder: pathlib.Path
    authority: Authority

    @property
    def root(self) -> pathlib.Path:
        """The file of whom to trust."""
        file = self.folder / "root.pem"
        file.write_bytes(self.authority.certificate)
        return file

    def issue(self, name: str) -> tuple[pathlib.Path, pathlib.Path]:
        """The files of a client's certificate and of its key."""
        return self.authority.issue(name).write(self.folder, name)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Files(tmp_path_factory.mktemp("authority"), Authority("authority"))


@pytest.fixture(scope="module")
def encrypted(authority):
    """Addresses of servers for ``localhost``, for ``model.example``, and one that asks who asks."""

    def credentials(host: str, mutual: bool = False) -> grpc.ServerCredentials:
        identity = authority.authority.issue("server", host)
        root = authority.authority.certificate if mutual else None
        pair = (identity.key, identity.certificate)
        return grpc.ssl_server_credentials([pair], root, require_client_auth=mutual)

    with (
        listening(Answering(), credentials=credentials("localhost")) as plain,
        listening(Answering(), credentials=credentials("model.example")) as named,
        listening(Answering(), credentials=credentials("localhost", mutual=True)) as mutual,
    ):
        yield {"plain": plain, "named": named, "mutual": mutual}


def test_encrypted(asked, encrypted, authority):
    settings = {"tls": Tls(authority.root)}
    assert asked("predict", encrypted["plain"], "m", x=1, settings=settings) == {"y": 1}


def test_the_server_may_have_another_name(asked, encrypted, authority):
    settings = {"tls": Tls(authority.root, server_name="model.example")}
    assert asked("predict", encrypted["named"], "m", x=1, settings=settings) == {"y": 1}
    with pytest.raises(UnavailableError):
        asked("status", encrypted["named"], "m", settings={"tls": Tls(authority.root)}, timeout=1)


def test_both_sides_prove_who_they_are(asked, encrypted, authority):
    certificate, key = authority.issue("client")
    settings = {"tls": Tls(authority.root, certificate, key)}
    assert asked("predict", encrypted["mutual"], "m", x=1, settings=settings) == {"y": 1}
    with pytest.raises(UnavailableError):
        asked("status", encrypted["mutual"], "m", settings={"tls": Tls(authority.root)}, timeout=1)


def test_a_stranger_s_certificate_is_not_trusted(asked, encrypted, tmp_path):
    settings = {"tls": Tls(Files(tmp_path, Authority("stranger")).root)}
    with pytest.raises(UnavailableError, match="handshake failed"):
        asked("status", encrypted["plain"], "m", settings=settings, timeout=1)
    with pytest.raises(UnavailableError):
        asked("status", encrypted["plain"], "m", timeout=1)


def test_certificate_files_that_are_missing(tmp_path):
    with pytest.raises(InputError, match=r"can't read .*: No such file"):
        Client(tls=Tls(tmp_path / "nowhere.pem"))
    with pytest.raises(InputError, match="go together"):
        Tls(certificate="client.pem")


def test_the_command_encrypts(encrypted, authority, capsys):
    certificate, key = authority.issue("command")
    files = ("--tls_root", authority.root, "--tls_certificate", certificate, "--tls_key", key)
    asked = ("m", "--host", encrypted["mutual"], *map(str, files), "--x", "2", "--json")
    assert main(asked) == 0
    assert json.loads(capsys.readouterr().out) == {"y": 2}
    named = ("--tls_root", str(authority.root), "--tls_server_name", "model.example", "--x", "2")
    assert main(["m", "--host", encrypted["named"], *named]) == 0
    untrusted = ("--tls", "--timeout", "1", "--x", "2")
    assert main(["m", "--host", encrypted["plain"], *untrusted]) == 1
    assert capsys.readouterr().err.startswith("error: UNAVAILABLE: ")


def test_the_command_tells_that_it_waits():
    address = f"localhost:{free_port()}"
    asked = ("m", "--host", address, "--timeout", "1", "--x", "1")
    result = subprocess.run(
        [sys.executable, "-m", "serving.client", *asked],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    waiting, error = result.stderr.splitlines()
    assert waiting.startswith("UNAVAILABLE: ")
    assert waiting.endswith("asking again for 1 s")
    assert error.startswith("error: UNAVAILABLE: ")
