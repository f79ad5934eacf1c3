"""The gRPC interface on real sockets: TLS, health, threads, deadlines, sizes, UNIX sockets."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import grpc
import numpy as np
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from serving.client import Client, Tls
from serving.server import flags
from serving.server.configuration import ServedModel
from serving.server.core import Core
from serving.server.errors import StatusError
from serving.server.listen import grpc_server
from serving.server.models import Loading, ModelManager
from tests.certificates import Authority
from tests.served_models import free_port, save_scale

Code = grpc.StatusCode
UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


@pytest.fixture(scope="module")
def core(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scale")
    save_scale(folder / "1", 2.0)
    manager = ModelManager([ServedModel("scale", folder)], Loading(poll_seconds=0))
    manager.start()
    manager.wait_until_available(threading.Event())
    yield Core(manager)
    manager.stop()


@contextlib.contextmanager
def listening(core: Core, *arguments: str) -> Iterator[str]:
    """A server in this process, with these flags; its TCP address."""
    port = free_port()
    options = flags.parse([f"--port={port}", "--model_base_path=/not/read", *arguments])
    server, _ = grpc_server(options, core)
    server.start()
    try:
        yield f"localhost:{port}"
    finally:
        server.stop(None).wait()


@contextlib.contextmanager
def connected(
    address: str, credentials: grpc.ChannelCredentials | None = None
) -> Iterator[prediction_service_pb2_grpc.PredictionServiceStub]:
    channel = (
        grpc.secure_channel(address, credentials)
        if credentials
        else grpc.insecure_channel(address, UNLIMITED)
    )
    with channel:
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel)


def request_for(x=(2.0,), signature: str = "") -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "scale"
    request.model_spec.signature_name = signature
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.array(x, np.float32)))
    return request


def answers(stub: prediction_service_pb2_grpc.PredictionServiceStub) -> bool:
    return list(stub.Predict(request_for()).outputs["y"].float_val) == [4]


def refusal(call, request, **options) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as caught:
        call(request, **options)
    return caught.value.code()


@pytest.fixture(scope="module")
def authority():
    return Authority("the authority")


@pytest.fixture(scope="module")
def ssl_config(tmp_path_factory, authority):
    """``ssl_config(**fields)``: a file that holds a good key and certificate, and these fields."""
    identity = authority.issue("server")
    path = tmp_path_factory.mktemp("tls") / "ssl.config"

    def write(**fields: str | bool) -> str:
        given = {
            "server_key": identity.key.decode(),
            "server_cert": identity.certificate.decode(),
            **fields,
        }
        lines = []
        for name, value in given.items():
            quoted = str(value).lower() if isinstance(value, bool) else repr(value)
            lines.append(f"{name}: {quoted}")
        path.write_text("\n".join(lines))
        return f"--ssl_config_file={path}"

    return write


def test_tls(core, authority, ssl_config):
    with listening(core, ssl_config()) as address:
        with connected(address, grpc.ssl_channel_credentials(authority.certificate)) as stub:
            assert answers(stub)
        with connected(address) as plain:
            assert refusal(plain.Predict, request_for()) == Code.UNAVAILABLE
        other = grpc.ssl_channel_credentials(Authority("another").certificate)
        with connected(address, other) as distrustful:
            assert refusal(distrustful.Predict, request_for()) == Code.UNAVAILABLE


def test_mutual_tls(core, authority, ssl_config):
    ca = authority.certificate.decode()
    with listening(core, ssl_config(custom_ca=ca, client_verify=True)) as address:
        known, stranger = authority.issue("client"), Authority("another").issue("client")
        for identity, welcome in ((known, True), (stranger, False), (None, False)):
            pair = (identity.key, identity.certificate) if identity else (None, None)
            credentials = grpc.ssl_channel_credentials(authority.certificate, *pair)
            with connected(address, credentials) as stub:
                if welcome:
                    assert answers(stub)
                else:
                    assert refusal(stub.Predict, request_for()) == Code.UNAVAILABLE


def test_the_zoo_s_client_by_mutual_tls(core, authority, ssl_config, tmp_path):
    ca = authority.certificate.decode()
    (tmp_path / "root.pem").write_bytes(authority.certificate)
    tls = Tls(tmp_path / "root.pem", *authority.issue("client").write(tmp_path, "client"))
    with (
        listening(core, ssl_config(custom_ca=ca, client_verify=True)) as address,
        Client(address, tls=tls) as client,
    ):
        assert client.predict("scale", x=2.0) == {"y": 4.0}


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"server_key": ""}, StatusError, "lacks server_key or server_cert"),
        ({"client_verify": True}, StatusError, "has client_verify, but no custom_ca"),
        ({"no_field": "x"}, StatusError, r"Error parsing text-format tensorflow\.serving\.SSLConf"),
        ({"server_key": "no key"}, RuntimeError, "can't listen at 0.0.0.0:.*ssl.config"),
    ],
)
def test_keys_that_can_not_be_used(core, ssl_config, fields, error, message):
    with pytest.raises(error, match=message), listening(core, ssl_config(**fields)):
        pass


def test_an_address_that_is_taken(core):
    with listening(core) as address:
        options = flags.parse([f"--port={address.split(':')[1]}", "--model_base_path=/m"])
        with pytest.raises(RuntimeError, match=r"can't listen at 0\.0\.0\.0:.*: is it taken\?"):
            grpc_server(options, core)


def test_a_unix_socket(core, tmp_path):
    path = tmp_path / "serving.sock"
    with socket.socket(socket.AF_UNIX) as left_behind:  # by a server that was killed
        left_behind.bind(str(path))
    with (
        listening(core, f"--grpc_socket_path={path}") as address,
        connected(f"unix:{path}") as local,
        connected(address) as remote,
    ):
        assert answers(local)
        assert answers(remote)


def test_only_a_unix_socket(core, tmp_path):
    path = tmp_path / "serving.sock"
    options = flags.parse(["--port=0", f"--grpc_socket_path={path}", "--model_base_path=/m"])
    server, addresses = grpc_server(options, core)
    assert addresses == f"unix:{path}"
    server.start()
    with connected(addresses) as stub:
        assert answers(stub)
    server.stop(None).wait()


def test_messages_of_any_size(core):
    x = np.arange(3_000_000)  # 12 MB each way; gRPC's own limit is 4
    with listening(core) as address, connected(address) as stub:
        values = stub.Predict(request_for(x)).outputs["y"].float_val
    np.testing.assert_array_equal(values, 2.0 * x)


def test_channel_arguments_that_are_numbers(core):
    limited = "--grpc_channel_arguments=grpc.max_receive_message_length=1000,grpc.lb_policy_name=x"
    with listening(core, limited) as address, connected(address) as stub:
        assert answers(stub)
        assert refusal(stub.Predict, request_for(range(300))) == Code.RESOURCE_EXHAUSTED


def test_a_deadline_frees_the_thread(core):
    with listening(core, "--grpc_max_threads=1") as address, connected(address) as stub:
        endless = request_for(signature="endless")
        assert refusal(stub.Predict, endless, timeout=0.5) == Code.DEADLINE_EXCEEDED
        # The only thread is free again.
        assert answers(stub)


def test_a_request_that_waits_too_long_is_not_run(core):
    with listening(core, "--grpc_max_threads=1") as address, connected(address) as stub:
        assert answers(stub)  # from here on there is a connection, which keeps the order
        under_way = stub.Predict.future(request_for(signature="endless"), timeout=3)
        assert refusal(stub.Predict, request_for(), timeout=0.3) == Code.DEADLINE_EXCEEDED
        assert not under_way.done()
        assert under_way.exception().code() == Code.DEADLINE_EXCEEDED
        assert answers(stub)


def test_health_is_static_and_needs_no_free_thread(core):
    with (
        listening(core, "--grpc_max_threads=1", "--enable_grpc_healthcheck_service") as address,
        grpc.insecure_channel(address) as channel,
    ):
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        assert answers(stub)
        under_way = stub.Predict.future(request_for(signature="endless"), timeout=5)
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", "ModelService", "PredictionService"):
            response = health.Check(health_pb2.HealthCheckRequest(service=name), timeout=4)
            assert response.status == health_pb2.HealthCheckResponse.SERVING
        other = health_pb2.HealthCheckRequest(service="tensorflow.serving.PredictionService")
        assert refusal(health.Check, other, timeout=4) == Code.NOT_FOUND
        assert not under_way.done()
        under_way.cancel()


def test_no_health_without_its_flag(core):
    with listening(core) as address, grpc.insecure_channel(address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        assert refusal(health.Check, health_pb2.HealthCheckRequest()) == Code.UNIMPLEMENTED
