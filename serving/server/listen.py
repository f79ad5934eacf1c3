"""From flags to a server that listens: the gRPC interface, its addresses, and an orderly end.

The first SIGTERM or SIGINT refuses new requests and lets those under way finish; the second ends
the process at once.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import threading
from concurrent import futures

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME as HEALTH_NAME
from grpc_reflection.v1alpha import reflection
from tensorflow_serving.apis import (
    model_service_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2,
    prediction_service_pb2_grpc,
)

from serving.server import configuration
from serving.server.batching import Batching, Parameters, read_parameters
from serving.server.core import Core
from serving.server.errors import invalid_argument
from serving.server.models import Loading, ModelManager
from serving.server.protos import SSLConfig, read_text_proto
from serving.server.rest import RestApi, RestServer, read_metrics_path
from serving.server.service import Health, ModelService, PredictionService

# Requests under way get this long to finish when the server is told to end.
_GRACE_SECONDS = 30


def _manager(options: argparse.Namespace) -> ModelManager:
    loading = Loading(
        poll_seconds=options.file_system_poll_wait_seconds,
        retries=options.max_num_load_retries,
        retry_seconds=options.load_retry_interval_micros / 1e6,
        warm_up=options.enable_model_warmup,
        session=configuration.read_session(options),
        batching=_batching(options),
    )
    return ModelManager(
        configuration.read_models(options),
        loading,
        early_labels=options.allow_version_labels_for_unavailable_models,
    )


def _batching(options: argparse.Namespace) -> Batching | None:
    """What --enable_batching asks for.

    Raises:
        StatusError: INVALID_ARGUMENT for parameters that can't be met, or without the flag.
    """
    if not options.enable_batching:
        if options.batching_parameters_file:
            raise invalid_argument(
                "--batching_parameters_file is set without setting --enable_batching to true"
            )
        return None
    if not options.batching_parameters_file:
        return Batching(Parameters())
    return Batching(read_parameters(options.batching_parameters_file))


def grpc_server(options: argparse.Namespace, core: Core) -> tuple[grpc.Server, str]:
    """The gRPC server, bound but not started, and where it listens.

    Raises:
        StatusError: INVALID_ARGUMENT for keys that can't be used.
        RuntimeError: if an address is taken.
    """
    arguments = {
        "grpc.max_send_message_length": -1,
        "grpc.max_receive_message_length": -1,
        "grpc.so_reuseport": 0,  # a port that is taken is an error, not shared
        **dict(options.grpc_channel_arguments),
    }
    server = grpc.server(
        futures.ThreadPoolExecutor(options.grpc_max_threads), options=list(arguments.items())
    )
    _add_services(server, core, with_health=options.enable_grpc_healthcheck_service)
    addresses = [f"0.0.0.0:{options.port}"] if options.port else []
    if options.grpc_socket_path:
        addresses.append(f"unix:{options.grpc_socket_path}")
    credentials = _credentials(options.ssl_config_file)
    for address in addresses:
        try:
            if credentials is None:
                server.add_insecure_port(address)
            else:
                server.add_secure_port(address, credentials)
        except RuntimeError:
            keys = f", or the keys in {options.ssl_config_file} damaged" if credentials else ""
            raise RuntimeError(f"can't listen at {address}: is it taken{keys}?") from None
    return server, " and ".join(addresses)


def _add_services(server: grpc.Server, core: Core, *, with_health: bool) -> None:
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        PredictionService(core), server
    )
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(core), server)
    names = [
        prediction_service_pb2.DESCRIPTOR.services_by_name["PredictionService"].full_name,
        model_service_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name,
        reflection.SERVICE_NAME,
    ]
    if with_health:
        health_pb2_grpc.add_HealthServicer_to_server(Health(), server)
        names.append(HEALTH_NAME)
    reflection.enable_server_reflection(names, server)


def _credentials(ssl_config_file: str) -> grpc.ServerCredentials | None:
    """What an SSLConfig says: a key and a certificate, and whether clients must show theirs."""
    if not ssl_config_file:
        return None
    config = read_text_proto(ssl_config_file, SSLConfig)
    if not (config.server_key and config.server_cert):
        raise invalid_argument(f"{ssl_config_file} lacks server_key or server_cert")
    if config.client_verify and not config.custom_ca:
        raise invalid_argument(f"{ssl_config_file} has client_verify, but no custom_ca")
    return grpc.ssl_server_credentials(
        [(config.server_key.encode(), config.server_cert.encode())],
        root_certificates=config.custom_ca.encode() or None,
        require_client_auth=config.client_verify,
    )


def _rest_server(options: argparse.Namespace, core: Core) -> RestServer | None:
    """The REST server, bound but not started; None if there is to be none."""
    if not options.rest_api_port:
        return None
    api = RestApi(
        core,
        options.rest_api_timeout_in_ms,
        with_cors=options.rest_api_enable_cors_support,
        metrics_path=read_metrics_path(options.monitoring_config_file),
    )
    return RestServer(
        api.reply, options.rest_api_port, options.rest_api_num_threads, _GRACE_SECONDS
    )


def _set_by_signals() -> threading.Event:
    """Set by the first SIGTERM or SIGINT; the second ends the process at once.

    A thread waits for them: a handler in Python would run in the main thread, whichever thread the
    signal has interrupted, and could meet it with the event's lock in hand.
    """
    stop = threading.Event()
    received, sent = socket.socketpair()
    sent.setblocking(False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(sent.fileno())

    def watch() -> None:
        received.recv(1)
        stop.set()
        (number,) = received.recv(1)
        sent.close()
        os._exit(128 + number)

    threading.Thread(target=watch, name="signals", daemon=True).start()
    return stop


def _follow_configuration(
    options: argparse.Namespace, manager: ModelManager, stop: threading.Event
) -> None:
    """Keeps to the model configuration file, if it is to be read more than once."""
    seconds = options.model_config_file_poll_wait_seconds
    if options.model_config_file and seconds > 0:
        threading.Thread(
            target=configuration.follow_file,
            args=(options.model_config_file, seconds, manager.replace, stop),
            name="model configuration file",
            daemon=True,
        ).start()


def serve(options: argparse.Namespace) -> None:
    """Serves until SIGTERM or SIGINT.

    Raises:
        StatusError: for a configuration that can't be met, or models that can't be loaded.
        RuntimeError: if an address is taken.
    """
    stop = _set_by_signals()
    manager = _manager(options)
    manager.start()
    try:
        manager.wait_until_available(stop)
        if not stop.is_set():
            core = Core(manager, as_content=options.enable_serialization_as_tensor_content)
            rest = _rest_server(options, core)
            server, addresses = grpc_server(options, core)
            server.start()
            print(f"Running gRPC ModelServer at {addresses} ...", flush=True)
            if rest:
                rest.start()
                print(
                    f"Exporting HTTP/REST API at:localhost:{options.rest_api_port} ...", flush=True
                )
            _follow_configuration(options, manager, stop)
            stop.wait()
            if rest:
                rest.stop()
            server.stop(_GRACE_SECONDS).wait()
            if rest:
                rest.wait()
    finally:
        manager.stop()
