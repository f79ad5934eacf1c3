"""The REST interface of the server as a process: its paths, codes, headers and bodies."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import itertools
import json
import random
import select
import socket
import threading
import time
from concurrent import futures

import grpc
import pytest
import tensorflow as tf

from serving.server import flags
from serving.server.configuration import ServedModel
from serving.server.core import Core
from serving.server.errors import StatusError
from serving.server.models import ModelManager
from serving.server.rest import Reply, Request, RestApi, RestServer
from serving.server.version import Loading
from tests.served_models import REPOSITORY, free_port, running_server, save_scale

PATIENCE_SECONDS = 60
HALF = "/v1/models/half"


class HalfPlusTwo(tf.Module):
    """x/2 + 2, of numbers and of examples; further signatures for what JSON can tell."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def numbers(self, x):
        return {"y": x / 2 + 2}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def regress(self, inputs):
        x = tf.io.parse_example(inputs, {"x": tf.io.FixedLenFeature([1], tf.float32)})["x"]
        return {"outputs": x / 2 + 2}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def classify(self, inputs):
        return {"scores": self.regress(inputs)["outputs"]}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, name="text"),
            tf.TensorSpec([None], tf.int32, name="number"),
        ]
    )
    def echo(self, text, number):
        return {"text": text, "text_bytes": text, "number": number}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float16, name="x")])
    def narrow(self, x):
        return {"y": x}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def total(self, x):
        return {"sum": tf.reduce_sum(x)}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A model configuration file: ``half`` in version 123, ``scale`` in version 1."""
    folder = tmp_path_factory.mktemp("models")
    half = HalfPlusTwo()
    tf.saved_model.save(
        half,
        str(folder / "half" / "00123"),
        signatures={
            "serving_default": half.numbers,
            "classify_x_to_y": half.classify,
            "regress_x_to_y": half.regress,
            "echo": half.echo,
            "narrow": half.narrow,
            "total": half.total,
        },
    )
    (folder / "scale").mkdir()
    save_scale(folder / "scale" / "1", 2.0)
    config = folder / "models.config"
    config.write_text(f"""model_config_list {{
        config {{ name: "half" base_path: "{folder}/half" model_platform: "tensorflow"
                 version_labels {{ key: "best of all" value: 123 }} }}
        config {{ name: "a scale" base_path: "{folder}/scale" model_platform: "tensorflow" }}
    }}""")
    return config


@pytest.fixture(scope="module")
def port(models):
    """Of a server whose replies pages of other origins may read, and that shows no metrics."""
    rest_port = free_port()
    with running_server(
        f"--rest_api_port={rest_port}",
        f"--model_config_file={models}",
        "--allow_version_labels_for_unavailable_models",
        "--rest_api_enable_cors_support",
    ) as (process, _):
        line = process.stdout.readline()
        assert line == f"Exporting HTTP/REST API at:localhost:{rest_port} ...\n"
        yield rest_port


class Answer:
    """A reply, read whole."""

    def __init__(self, response: http.client.HTTPResponse):
        self.code = response.status
        self.headers = dict(response.getheaders())
        self.type = response.getheader("Content-Type")
        self.body = response.read()

    @property
    def json(self):
        return json.loads(self.body)


@pytest.fixture
def ask(port):
    """``ask(method, path, body)``: an Answer; all over one connection."""
    connection = http.client.HTTPConnection("localhost", port, timeout=PATIENCE_SECONDS)

    def send(method: str, path: str, body=None, **headers: str) -> Answer:
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, names)
        return Answer(connection.getresponse())

    yield send
    connection.close()


def still_answers(ask) -> bool:
    answer = ask("POST", f"{HALF}:predict", {"instances": [2.0, 3.0, 4.0]})
    return answer.json == {"predictions": [3.0, 3.5, 4.0]}


# Prediction


def test_predict_by_row(ask):
    answer = ask("POST", f"{HALF}:predict", {"instances": [2.0, 3.0, 4.0]})
    assert (answer.code, answer.type) == (200, "application/json")
    assert answer.body == b'{\n    "predictions": [3.0, 3.5, 4.0\n    ]\n}'


def test_predict_as_a_whole(ask):
    answer = ask("POST", f"{HALF}:predict", {"inputs": [2.0, 3.0, 4.0]})
    assert answer.json == {"outputs": [3.0, 3.5, 4.0]}


@pytest.mark.parametrize(
    "path",
    [
        f"{HALF}/versions/123:predict",
        f"{HALF}/versions/000123:predict",
        f"{HALF}/labels/best%20of%20all:predict",
        "/V1/Models/half/Versions/123:predict",
        "/v1/models/h%61lf:predict",
    ],
)
def test_versions_and_labels_choose_whatever_the_case(ask, path):
    body = {"signature_name": "serving_default", "instances": [3.0]}
    assert ask("POST", path, body).json == {"predictions": [3.5]}


def test_predict_with_names_and_strings(ask):
    body = {
        "signature_name": "echo",
        "instances": [{"text": "é", "number": 1}, {"number": 2, "text": {"b64": "/w=="}}],
    }
    answer = ask("POST", f"{HALF}:predict", body)
    assert json.loads(answer.body.decode(errors="surrogateescape")) == {
        "predictions": [
            {"text": "é", "text_bytes": {"b64": "w6k="}, "number": 1},
            {"text": "\udcff", "text_bytes": {"b64": "/w=="}, "number": 2},
        ]
    }


@pytest.mark.parametrize("version", ["", "/versions/123"])
def test_classify(ask, version):
    body = {"signature_name": "classify_x_to_y", "examples": [{"x": 2.0}, {"x": 20.0}]}
    answer = ask("POST", f"{HALF}{version}:classify", body)
    assert (answer.code, answer.type) == (200, "application/json")
    assert answer.json == {"results": [[["", 3.0]], [["", 12.0]]]}


@pytest.mark.parametrize("version", ["", "/versions/123"])
def test_regress(ask, version):
    body = {"signature_name": "regress_x_to_y", "context": {"x": 2.0}, "examples": [{}]}
    answer = ask("POST", f"{HALF}{version}:regress", body)
    assert (answer.code, answer.body) == (200, b'{\n    "results": [3.0]\n}')


@pytest.mark.parametrize(
    ("path", "body", "code", "message"),
    [
        ("nothing:predict", {"instances": [1]}, 404,
         "Servable not found for request: Latest(nothing)"),
        ("half/versions/9:predict", {"instances": [1]}, 404,
         "Servable not found for request: Specific(half, 9)"),
        ("half/labels/worst:predict", {"instances": [1]}, 400,
         "Unrecognized servable version label: worst"),
        ("nothing:predict", None, 400, "JSON Parse error: The document is empty"),
        ("half:predict", "instances = [1, 2]", 400,
         "JSON Parse error: Invalid value. at offset: 0"),
        ("half:predict", {"signature_name": "nothing", "instances": [1]}, 400,
         'Serving signature name: "nothing" not found in signature def'),
        ("half:predict", {"inputs": ["x"]}, 400,
         'JSON Value: "x" Type: String is not of expected type: float'),
        ("half:predict", {"signature_name": "narrow", "inputs": [1]}, 501,
         "Conversion of JSON Value: 1 to type: half"),
        ("half:predict", {"signature_name": "total", "instances": [1]}, 400,
         "Tensor name: sum has no shape information "),
        ("half:classify", {"signature_name": "nothing", "examples": [{}]}, 400,
         "No signature was found with the name: nothing"),
        ("half:regress", {"examples": []}, 400,
         'JSON Value: {\n    "examples": []\n} \'examples\' value is an empty array'),
    ],
)  # fmt: skip
def test_errors_have_a_code_and_a_message(ask, path, body, code, message):
    answer = ask("POST", f"/v1/models/{path}", body)
    assert (answer.code, answer.type) == (code, "application/json")
    assert answer.body == b'{\n    "error": %b\n}' % json.dumps(message).encode()


def test_a_graph_that_fails_has_its_own_message(ask):
    body = {"signature_name": "multiply", "instances": [[1, 2, 3]]}
    answer = ask("POST", "/v1/models/a%20scale:predict", body)
    assert answer.code == 400
    assert answer.json["error"].startswith("Matrix size-incompatible: In[0]: [1,3], In[1]: [2,3]")


def test_messages_are_not_cut(ask):
    text = "x" * 5000
    answer = ask("POST", f"{HALF}:predict", {"inputs": [text]})
    assert answer.json["error"] == (
        f'JSON Value: "{text}" Type: String is not of expected type: float'
    )


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("CANCELLED", 499),
        ("UNKNOWN", 500),
        ("INVALID_ARGUMENT", 400),
        ("DEADLINE_EXCEEDED", 504),
        ("NOT_FOUND", 404),
        ("ALREADY_EXISTS", 409),
        ("PERMISSION_DENIED", 403),
        ("RESOURCE_EXHAUSTED", 429),
        ("FAILED_PRECONDITION", 400),
        ("ABORTED", 409),
        ("OUT_OF_RANGE", 400),
        ("UNIMPLEMENTED", 501),
        ("INTERNAL", 500),
        ("UNAVAILABLE", 503),
        ("DATA_LOSS", 500),
        ("UNAUTHENTICATED", 401),
    ],
)
def test_every_status_has_its_code(status, code):
    class Refusing(Core):
        def status(self, request):
            raise StatusError(grpc.StatusCode[status], "no")

    api = RestApi(Refusing(ModelManager([], Loading())), 0, with_cors=False)
    reply = api.reply(Request("GET", HALF))
    assert (reply.code, reply.body) == (code, b'{\n    "error": "no"\n}')


def test_an_unforeseen_error_tells_clients_nothing_of_the_program():
    class Broken(Core):
        def status(self, request):
            return {}["secret"]

    api = RestApi(Broken(ModelManager([], Loading())), 0, with_cors=False)
    reply = api.reply(Request("GET", HALF))
    assert reply.code == 500
    assert json.loads(reply.body) == {"error": "Unforeseen error; the server's log says more."}


def test_a_run_ends_at_the_timeout(models):
    model = ServedModel("scale", models.parent / "scale")
    manager = ModelManager([model], Loading())
    manager.start()
    try:
        manager.wait_until_available(threading.Event())
        api = RestApi(Core(manager), 20, with_cors=False)
        body = b'{"signature_name": "slow", "inputs": [1]}'
        reply = api.reply(Request("POST", "/v1/models/scale:predict", body))
    finally:
        manager.stop()
    assert reply.code == 504
    assert json.loads(reply.body) == {"error": "Timed out waiting for notification"}


# Status and metadata


@pytest.mark.parametrize("path", [HALF, f"{HALF}/versions/123", f"{HALF}/labels/best%20of%20all"])
def test_status(ask, path):
    answer = ask("GET", path)
    assert (answer.code, answer.type) == (200, "application/json")
    assert answer.body.startswith(b'{\n "model_version_status": [\n  {\n   "version": "123",\n')
    assert answer.json == {
        "model_version_status": [
            {
                "version": "123",
                "state": "AVAILABLE",
                "status": {"error_code": "OK", "error_message": ""},
            }
        ]
    }


@pytest.mark.parametrize("path", [f"{HALF}/metadata", f"{HALF}/versions/123/metadata"])
def test_metadata(ask, path):
    answer = ask("GET", path)
    assert (answer.code, answer.type) == (200, "application/json")
    assert answer.json["model_spec"] == {"name": "half", "signature_name": "", "version": "123"}
    signatures = answer.json["metadata"]["signature_def"]["signature_def"]
    assert {"serving_default", "echo", "__saved_model_init_op"} <= set(signatures)
    shape = {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False}
    default = signatures["serving_default"]
    assert default["inputs"] == {
        "x": {"dtype": "DT_FLOAT", "tensor_shape": shape, "name": "serving_default_x:0"}
    }
    output = {"dtype": "DT_FLOAT", "tensor_shape": shape}
    assert output.items() <= default["outputs"]["y"].items()
    assert default["method_name"] == "tensorflow/serving/predict"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nothing", "Could not find any versions of model nothing"),
        ("half/versions/9", "Could not find version 9 of model half"),
        ("half?x=1", "Could not find any versions of model half?x=1"),
        ("nothing/metadata", "Servable not found for request: Latest(nothing)"),
    ],
)
def test_status_and_metadata_of_what_is_not_there(ask, path, message):
    answer = ask("GET", f"/v1/models/{path}")
    assert (answer.code, answer.json) == (404, {"error": message})


# Paths and methods


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/foo"),
        ("POST", "/v1/foo"),
        ("GET", "/v1/"),
        ("POST", "/v1/models"),
        ("POST", HALF),
        ("GET", f"{HALF}:predict"),
        ("GET", f"{HALF}/version/50:predict"),
        ("POST", f"{HALF}/version/50:regress"),
        ("POST", f"{HALF}/versions/HELLO:regress"),
        ("POST", f"{HALF}/versions/-1:predict"),
        ("POST", f"{HALF}/versions/1/labels/a:predict"),
        ("POST", f"{HALF}:explain"),
        ("POST", f"{HALF}:PREDICT"),
        ("POST", f"{HALF}:predict?x=1"),
        ("POST", f"{HALF}:predict/"),
        ("GET", f"{HALF}/"),
        ("PUT", f"{HALF}:predict"),
        ("DELETE", HALF),
        ("PATCH", HALF),
    ],
)
def test_other_paths_and_methods_are_malformed(ask, method, path):
    answer = ask(method, path, {"instances": [1]} if method == "POST" else None)
    assert (answer.code, answer.type) == (400, "application/json")
    assert answer.json == {"error": f"Malformed request: {method} {path}"}


@pytest.mark.parametrize(
    ("method", "path", "message"),
    [
        ("GET", "/v1/models", "Missing model name in request."),
        ("GET", f"{HALF}/versions/9223372036854775808",
         "Failed to convert version: 9223372036854775808 to numeric."),
        ("POST", f"{HALF}/versions/18446744073709551615:regress",
         "Failed to convert version: 18446744073709551615 to numeric."),
        ("GET", f"{HALF}/versions/{'9' * 5000}",
         f"Failed to convert version: {'9' * 5000} to numeric."),
    ],
)  # fmt: skip
def test_a_name_and_a_version_that_fits_are_needed(ask, method, path, message):
    answer = ask(method, path)
    assert (answer.code, answer.json) == (400, {"error": message})


@pytest.mark.parametrize("path", ["/", "/statuspage", "/v1", "/v2/models/half", "/index?/v1/"])
def test_elsewhere_nothing_is_found(ask, path):
    answer = ask("GET", path)
    assert (answer.code, answer.type) == (404, "text/html")
    assert b"<html>" in answer.body


def test_without_monitoring_there_are_no_metrics(ask):
    assert ask("GET", "/monitoring/prometheus/metrics").code == 404


def test_an_answer_to_head_has_no_body(ask):
    answer = ask("HEAD", HALF)
    assert (answer.code, answer.body) == (400, b"")
    assert still_answers(ask)


# Origins

CORS_HEADERS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET",
    "Access-Control-Allow-Headers": "Content-Type",
}


@pytest.mark.parametrize(
    ("method", "path", "origin", "code"),
    [
        ("OPTIONS", f"{HALF}:predict", "http://a.example", 200),
        ("OPTIONS", f"{HALF}:predict", "HTTPS://a.example:8080", 200),
        ("OPTIONS", f"{HALF}:predict", "file:///a", 400),
        ("OPTIONS", f"{HALF}:predict", None, 400),
        ("GET", HALF, "http://a.example", 200),
        ("GET", "/v1/models/nothing", "http://a.example", 404),
        ("POST", f"{HALF}:predict", "http://a.example", 400),
    ],
)
def test_with_the_flag_every_reply_lets_other_origins_in(ask, method, path, origin, code):
    answer = ask(method, path, **({"Origin": origin} if origin else {}))
    assert answer.code == code
    assert CORS_HEADERS.items() <= {k.title(): v for k, v in answer.headers.items()}.items()


def test_without_the_flag_no_reply_does():
    api = RestApi(Core(ModelManager([], Loading())), 0, with_cors=False)
    replies = [
        api.reply(Request("OPTIONS", f"{HALF}:predict", origin="http://a.example")),
        api.reply(Request("OPTIONS", f"{HALF}:predict")),
        api.reply(Request("GET", HALF, origin="http://a.example")),
    ]
    assert [reply.code for reply in replies] == [200, 400, 404]
    assert not any(reply.headers for reply in replies)


# HTTP


def test_a_body_may_be_gzipped(ask):
    body = gzip.compress(json.dumps({"instances": [2.0]}).encode())
    answer = ask("POST", f"{HALF}:predict", body, Content_Encoding="gzip")
    assert answer.json == {"predictions": [3.0]}


@pytest.mark.parametrize(
    "body",
    [b"no gzip", gzip.compress(b'{"instances": [2.0]}')[:-9], gzip.compress(bytes(2 * 10**8))],
    ids=["other", "cut", "bomb"],
)
def test_a_body_that_can_not_be_unzipped_is_refused(ask, body):
    answer = ask("POST", f"{HALF}:predict", body, Content_Encoding="gzip")
    assert answer.code == 400
    assert "gzip" in answer.json["error"]


def test_a_body_may_be_long_and_come_in_chunks(ask):
    numbers = [float(number % 1000) for number in range(300_000)]
    body = json.dumps({"instances": numbers}).encode()
    chunks = (body[start : start + 50_000] for start in range(0, len(body), 50_000))
    answer = ask("POST", f"{HALF}:predict", chunks)
    assert answer.json == {"predictions": [number / 2 + 2 for number in numbers]}


def exchange(port: int, request: bytes, *, is_whole: bool) -> bytes:
    """What the server says until it closes the connection.

    It has no reason to close it if it waits for the rest of a request: then the client ends it.
    """
    received = b""
    with (
        socket.create_connection(("localhost", port), timeout=PATIENCE_SECONDS) as client,
        contextlib.suppress(ConnectionError),  # it may close before it has read all
    ):
        client.sendall(request)
        if not is_whole:
            select.select([client], [], [], 0.05)
            client.shutdown(socket.SHUT_WR)
        while data := client.recv(65536):
            received += data
    return received


def post(body: bytes, *headers: str, version: str = "1.1") -> bytes:
    lines = [
        f"POST {HALF}:predict HTTP/{version}",
        "Host: localhost",
        "Connection: close",
        *(headers or [f"Content-Length: {len(body)}"]),
        "\r\n",
    ]
    return "\r\n".join(lines).encode() + body


GOOD = b'{"instances": [2.0]}'


def test_a_client_may_ask_before_it_sends_the_body(port):
    head = post(b"", f"Content-Length: {len(GOOD)}", "Expect: 100-continue")
    with socket.create_connection(("localhost", port), timeout=PATIENCE_SECONDS) as client:
        client.sendall(head)
        assert client.recv(65536).startswith(b"HTTP/1.1 100 ")
        client.sendall(GOOD)
        received = b"".join(iter(lambda: client.recv(65536), b""))
    assert received.startswith(b"HTTP/1.1 200 ")


def test_requests_may_follow_each_other_and_old_clients_may_ask(port):
    following = post(GOOD).replace(b"Connection: close\r\n", b"")
    bad = following.replace(GOOD, b"?" * len(GOOD))
    received = exchange(port, following + bad + post(GOOD), is_whole=True)
    assert received.count(b"HTTP/1.1 200 ") == 2
    assert received.count(b"HTTP/1.1 400 ") == 1
    assert b" 200 " in exchange(port, post(GOOD, version="1.0"), is_whole=True)


def test_many_clients_at_a_time_get_their_own_answers(port):
    def client(number: int) -> list[float]:
        connection = http.client.HTTPConnection("localhost", port, timeout=PATIENCE_SECONDS)
        answers = []
        for request in range(25):
            body = json.dumps({"instances": [number, request]})
            connection.request("POST", f"{HALF}:predict", body)
            answers += Answer(connection.getresponse()).json["predictions"]
        connection.close()
        return answers

    with futures.ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(client, range(32)))
    assert answers == [
        [value / 2 + 2 for request in range(25) for value in (number, request)]
        for number in range(32)
    ]


def test_slow_clients_do_not_hold_up_others(port, ask):
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            client = stack.enter_context(socket.create_connection(("localhost", port)))
            client.sendall(post(GOOD)[:-5])
        assert still_answers(ask)


@pytest.fixture
def tells_nothing(models):
    """``tells_nothing(answer)``: whether it has no traces or paths of the server's machine."""
    secrets = ["Traceback", 'File "', "site-packages", str(REPOSITORY), str(models.parent)]

    def check(answer: bytes) -> bool:
        return not any(secret.encode() in answer for secret in secrets)

    return check


def test_what_is_no_http_is_refused(port, ask, tells_nothing):
    chance = random.Random(1)
    good = post(GOOD)
    requests = [
        b"\r\n" * 10,
        b"GET\r\n\r\n",
        b"GET /v1/models/half\r\n\r\n",
        b"GET /v1/models/half HTTP/9.9\r\n\r\n",
        b"G\xc3\xa9T / HTTP/1.1\r\n\r\n",
        b"CONNECT localhost:80 HTTP/1.1\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET http://localhost/v1/models/half HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /v1/models/\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /v1/models/%ff%00%0a HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /v1/models/half HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        b"GET /v1/models/..%2f..%2fetc%2fpasswd/metadata HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 20_000 + b"\r\n",
        post(b"{", "Content-Length: 99999999999999999"),
        post(b"{", "Content-Length: 99999999999999999999999999"),
        post(b"{", "Content-Length: -1"),
        post(b"{", "Content-Length: 2", "Content-Length: 1"),
        post(b"zz\r\n{", "Transfer-Encoding: chunked"),
        post(b"ffffffffffffffffff\r\n{", "Transfer-Encoding: chunked"),
        post(GOOD, "Content-Length: 20", "Transfer-Encoding: chunked"),
        *(good[: chance.randrange(len(good))] for _ in range(50)),
        *(chance.randbytes(chance.randrange(1, 300)) for _ in range(100)),
    ]
    for _ in range(200):
        mutated = bytearray(good)
        for _ in range(chance.randrange(1, 4)):
            mutated[chance.randrange(len(mutated))] = chance.randrange(256)
        requests.append(bytes(mutated))
    for request in requests:
        received = exchange(port, request, is_whole=False)
        assert tells_nothing(received), request
        assert b"HTTP/1.1 5" not in received, request
    assert still_answers(ask)


def test_what_is_no_request_is_refused(ask, tells_nothing):
    chance = random.Random(2)
    good = b'{"signature_name": "serving_default", "instances": [{"x": 1.5}, {"x": -2}]}'
    values = ["{}", "[]", "null", "NaN", "1e308", "-1", '"\\u0000"', '{"b64": "AA="}', "[[[]]]"]
    bodies = [
        b"[" * 100_000,
        b"[" * 500 + b"]" * 500,
        b'{"a":' * 100_000,
        b'{"instances": ' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"inputs": ' + b"[" * 300 + b"1" + b"]" * 300 + b"}",
        b'{"inputs": [' + b"9" * 100_000 + b"]}",
        b'{"inputs": ["' + b"\\ud83d" * 3 + b'"]}',
        b"\xff\xfe{",
        b"\x00",
        *(
            f'{{"{key}": {value}, "signature_name": {name}}}'.encode()
            for key, value, name in itertools.product(
                ("instances", "inputs", "examples", "context"), values, ('"echo"', '""', "[]")
            )
        ),
        *(good[: chance.randrange(len(good))] for _ in range(50)),
    ]
    for _ in range(300):
        mutated = bytearray(good)
        for _ in range(chance.randrange(1, 4)):
            mutated[chance.randrange(len(mutated))] = chance.choice(b'{}[]":,0123456789.eE-\\\xff')
        bodies.append(bytes(mutated))
    for body in bodies:
        for method in ("predict", "classify", "regress"):
            answer = ask("POST", f"{HALF}:{method}", body)
            assert answer.code in (200, 400), body
            assert answer.type == "application/json"
            assert tells_nothing(answer.body), body
    assert still_answers(ask)


# Start and end


def test_the_two_ports_must_differ(capsys):
    with pytest.raises(SystemExit) as caught:
        flags.parse(["--port=9", "--rest_api_port=9", "--model_base_path=/m"])
    assert caught.value.code == 2
    assert "--rest_api_port must differ from --port" in capsys.readouterr().err


def test_a_port_that_is_taken_is_an_error():
    with socket.create_server(("", 0)) as taken:
        number = taken.getsockname()[1]
        with pytest.raises(RuntimeError, match=f"Can't listen on port {number}"):
            RestServer(lambda _: Reply(200, b""), number, 1, 1)


def refuses_connections(number: int) -> bool:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("localhost", number)).close()
        except ConnectionError:
            return True
        time.sleep(0.05)
    return False


def test_at_the_end_replies_under_way_are_sent_and_connections_refused():
    arrived, finish = threading.Event(), threading.Event()

    def reply(request: Request) -> Reply:
        arrived.set()
        finish.wait(PATIENCE_SECONDS)
        return Reply(200, request.target.encode(), "text/plain")

    number = free_port()
    server = RestServer(reply, number, 1, PATIENCE_SECONDS)
    server.start()
    connection = http.client.HTTPConnection("localhost", number, timeout=PATIENCE_SECONDS)
    connection.request("GET", "/slow?yes")
    assert arrived.wait(PATIENCE_SECONDS)
    server.stop()
    assert refuses_connections(number)
    finish.set()
    assert Answer(connection.getresponse()).body == b"/slow?yes"
    server.wait()
