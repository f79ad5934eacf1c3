"""The flags of tensorflow_model_server that this server keeps, with their names and defaults."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence


def _boolean(text: str) -> bool:
    words = {"true": True, "1": True, "false": False, "0": False}
    if text.lower() not in words:
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return words[text.lower()]


def _channel_arguments(text: str) -> list[tuple[str, int | str]]:
    """``k=v,k=v``; values that look like integers are integers."""
    arguments = []
    for pair in filter(None, text.split(",")):
        key, separator, value = pair.partition("=")
        if not separator:
            raise argparse.ArgumentTypeError(f"{pair!r} is no key=value")
        arguments.append((key, int(value) if value.lstrip("-").isdecimal() else value))
    return arguments


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line; an unknown flag ends the process with a message and status 2."""
    parser = argparse.ArgumentParser(
        prog="python -m serving.server",
        allow_abbrev=False,
        description="Serves SavedModels over gRPC and REST with TensorFlow Serving's contract.",
    )

    def boolean(name: str, default: bool, help: str) -> None:
        parser.add_argument(
            name, type=_boolean, nargs="?", const=True, default=default, metavar="BOOL", help=help
        )

    parser.add_argument(
        "--port", type=int, default=8500, help="TCP port of the gRPC interface; 0: none (8500)"
    )
    parser.add_argument(
        "--grpc_socket_path", default="", help="UNIX socket of the gRPC interface (none)"
    )
    parser.add_argument(
        "--grpc_channel_arguments",
        type=_channel_arguments,
        default=[],
        metavar="K=V,…",
        help="further arguments of the gRPC server",
    )
    parser.add_argument(
        "--grpc_max_threads",
        type=int,
        default=4 * (os.cpu_count() or 1),
        help="requests answered at a time (4 × CPUs)",
    )
    boolean("--enable_grpc_healthcheck_service", False, "serve grpc.health.v1 (false)")
    parser.add_argument(
        "--ssl_config_file",
        default="",
        help="text SSLConfig with keys and certificates: TLS on the gRPC port (none)",
    )
    parser.add_argument(
        "--rest_api_port", type=int, default=0, help="TCP port of the REST interface; 0: none (0)"
    )
    parser.add_argument(
        "--rest_api_num_threads",
        type=int,
        default=4 * (os.cpu_count() or 1),
        help="REST requests answered at a time (4 × CPUs)",
    )
    parser.add_argument(
        "--rest_api_timeout_in_ms",
        type=int,
        default=30_000,
        help="milliseconds until a REST request is given up (30000)",
    )
    boolean(
        "--rest_api_enable_cors_support",
        False,
        "let web pages of other origins ask the REST interface (false)",
    )
    parser.add_argument(
        "--monitoring_config_file",
        default="",
        help="text MonitoringConfig: Prometheus metrics on the REST port (none)",
    )
    boolean("--enable_batching", False, "answer requests that wait together in one run (false)")
    parser.add_argument(
        "--batching_parameters_file",
        default="",
        help="text BatchingParameters for --enable_batching (TensorFlow Serving's defaults)",
    )
    parser.add_argument(
        "--model_name", default="default", help="name of the only model (%(default)s)"
    )
    parser.add_argument(
        "--model_base_path", default="", help="absolute path of its folder of version folders"
    )
    parser.add_argument(
        "--model_config_file",
        default="",
        help="text ModelServerConfig that lists the models; overrides the two flags above",
    )
    parser.add_argument(
        "--model_config_file_poll_wait_seconds",
        type=float,
        default=0,
        help="seconds between two readings of --model_config_file; 0: read once (0)",
    )
    boolean(
        "--allow_version_labels_for_unavailable_models",
        False,
        "labels may name versions that are not loaded yet",
    )
    parser.add_argument(
        "--file_system_poll_wait_seconds",
        type=float,
        default=1,
        help="seconds between two looks for new versions; 0: look once (1)",
    )
    parser.add_argument(
        "--max_num_load_retries",
        type=int,
        default=5,
        help="further attempts at a version that fails to load (5)",
    )
    parser.add_argument(
        "--load_retry_interval_micros",
        type=int,
        default=60_000_000,
        help="microseconds between two attempts (60 s)",
    )
    boolean("--enable_model_warmup", True, "send a version its own warm-up requests first (true)")
    parser.add_argument(
        "--tensorflow_intra_op_parallelism",
        type=int,
        default=0,
        help="threads of one operation; 0: TensorFlow decides (0)",
    )
    parser.add_argument(
        "--tensorflow_inter_op_parallelism",
        type=int,
        default=0,
        help="operations that run at a time; 0: TensorFlow decides (0)",
    )
    parser.add_argument(
        "--tensorflow_session_config_file",
        default="",
        help="text ConfigProto of the sessions, e.g. gpu_options { allow_growth: true } (none)",
    )
    parser.add_argument(
        "--per_process_gpu_memory_fraction",
        type=float,
        default=0,
        help="share of each GPU's memory to take at once; 0: TensorFlow decides (0)",
    )
    boolean(
        "--xla_cpu_compilation_enabled",
        False,
        "let models compile parts of themselves by XLA for the CPU; without it they fail (false)",
    )
    boolean("--xla_gpu_compilation_enabled", False, "the same for the CPU and GPUs (false)")
    boolean(
        "--enable_serialization_as_tensor_content",
        False,
        "answer numbers as tensor_content instead of one value per element (false)",
    )
    options = parser.parse_args(arguments)
    if not options.port and not options.grpc_socket_path:
        parser.error("nothing to listen on: give --port or --grpc_socket_path")
    if options.rest_api_port and options.rest_api_port == options.port:
        parser.error("--rest_api_port must differ from --port")
    if not options.model_base_path and not options.model_config_file:
        parser.error("nothing to serve: give --model_base_path or --model_config_file")
    return options
