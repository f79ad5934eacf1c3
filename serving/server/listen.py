"""From flags to a server that listens: the gRPC interface, its addresses, and an orderly end."""

from __future__ import annotations

import argparse
import signal
import threading
from concurrent import futures

import grpc
from grpc_reflection.v1alpha import reflection
from tensorflow_serving.apis import (
    model_service_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2,
    prediction_service_pb2_grpc,
)

from serving.server import configuration
from serving.server.core import Core
from serving.server.models import Loading, ModelManager
from serving.server.service import ModelService, PredictionService

# Requests under way get this long to finish when the server is told to end.
_GRACE_SECONDS = 30


def _manager(options: argparse.Namespace) -> ModelManager:
    loading = Loading(
        poll_seconds=options.file_system_poll_wait_seconds,
        retries=options.max_num_load_retries,
        retry_seconds=options.load_retry_interval_micros / 1e6,
        warm_up=options.enable_model_warmup,
        session=configuration.read_session(options),
    )
    return ModelManager(
        configuration.read_models(options),
        loading,
        early_labels=options.allow_version_labels_for_unavailable_models,
    )


def _server(options: argparse.Namespace, core: Core) -> tuple[grpc.Server, str]:
    """The gRPC server, bound but not started, and where it listens.

    Raises:
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
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        PredictionService(core), server
    )
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(core), server)
    services = [
        prediction_service_pb2.DESCRIPTOR.services_by_name["PredictionService"].full_name,
        model_service_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name,
        reflection.SERVICE_NAME,
    ]
    reflection.enable_server_reflection(services, server)
    addresses = [f"0.0.0.0:{options.port}"] if options.port else []
    if options.grpc_socket_path:
        addresses.append(f"unix:{options.grpc_socket_path}")
    for address in addresses:
        server.add_insecure_port(address)
    return server, " and ".join(addresses)


def _follow_configuration(
    options: argparse.Namespace, manager: ModelManager, stop: threading.Event
) -> None:
    """Keeps to the model configuration file, if it is to be read more than once."""
    seconds = options.model_config_file_poll_wait_seconds
    if options.model_config_file and seconds > 0:
        threading.Thread(
            target=configuration.follow_file,
            args=(options.model_config_file, seconds, manager.configure, stop),
            name="model configuration file",
            daemon=True,
        ).start()


def serve(options: argparse.Namespace) -> None:
    """Serves until SIGTERM or SIGINT.

    Raises:
        StatusError: for a configuration that can't be met, or models that can't be loaded.
        RuntimeError: if an address is taken.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    manager = _manager(options)
    manager.start()
    try:
        manager.wait_until_available(stop)
        if not stop.is_set():
            server, addresses = _server(options, Core(manager))
            server.start()
            print(f"Running gRPC ModelServer at {addresses} ...", flush=True)
            _follow_configuration(options, manager, stop)
            stop.wait()
            server.stop(_GRACE_SECONDS).wait()
    finally:
        manager.stop()
