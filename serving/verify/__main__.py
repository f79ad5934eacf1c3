"""``python -m serving.verify ADDRESS``: a line for each check; a status of 1 if any differs.

First ``--write_models DIR`` writes the models that the checks ask about, and prints how either
server serves them.
"""

from __future__ import annotations

import argparse
import logging
import os
import pathlib
import sys
import textwrap
from collections.abc import Sequence

import grpc

from serving.server.quiet import standard_error_held_back

SECONDS_TO_CONNECT = 10
LONGEST_LINE = 500

_INSTRUCTIONS = """\
Serve them with TensorFlow Serving, here in its image,

docker run --rm -p 8500:8500 -p 8501:8501 -v {folder}:{folder}:ro tensorflow/serving:2.20.0 {flags}

or with the embedded server,

python -m serving.server --port=8500 --rest_api_port=8501 {flags}

and check what is served:

python -m serving.verify localhost:8500 --rest_api localhost:8501 --models {folder}
"""


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m serving.verify",
        allow_abbrev=False,
        description="Checks whether a server keeps TensorFlow Serving's contract.",
    )
    parser.add_argument("address", nargs="?", metavar="ADDRESS", help="host:port of gRPC")
    parser.add_argument("--rest_api", metavar="ADDRESS", help="host:port of REST, to check it too")
    parser.add_argument(
        "--models",
        metavar="DIR",
        help="the folder of the written models as the server sees it: checks reloading too, which "
        "changes the configuration for a moment and then restores it",
    )
    parser.add_argument(
        "--write_models", metavar="DIR", type=pathlib.Path, help="write the models and stop"
    )
    options = parser.parse_args(arguments)
    if (options.address is None) == (options.write_models is None):
        parser.error("give either an ADDRESS or --write_models DIR")
    return options


def _write_models(folder: pathlib.Path) -> None:
    from serving.verify.probe_models import server_flags, write_models

    write_models(folder)
    flags = " \\\n    ".join(["", *server_flags(folder)]).lstrip(" ")
    print(_INSTRUCTIONS.format(folder=folder.resolve(), flags=flags), end="")


def _verify(address: str, rest_api: str | None, models: str | None) -> bool:
    from serving.verify import table
    from serving.verify.server import Server

    checks = table.choose(rest=rest_api is not None, models=models is not None)
    server = Server(address, rest_api, models)
    grpc.channel_ready_future(server.channel).result(SECONDS_TO_CONNECT)
    differing = 0
    for name, check in checks.items():
        try:
            check(server)
            print(f"ok       {name}", flush=True)
        except Exception as error:  # whatever a server may do to a client
            differing += 1
            print(f"differs  {name}: {_one_line(error)}", flush=True)
    server.close()
    print(f"{len(checks) - differing} of {len(checks)} checks are as TensorFlow Serving answers")
    return not differing


def _one_line(error: Exception) -> str:
    text = str(error)
    if isinstance(error, grpc.RpcError):
        text = f"{error.code().name}: {error.details()}"
    return textwrap.shorten(text, LONGEST_LINE, placeholder=" …")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    options = _parse(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with standard_error_held_back():
        import tensorflow as tf
    tf.get_logger().setLevel(logging.ERROR)
    try:
        if options.write_models is not None:
            _write_models(options.write_models)
            return 0
        return 0 if _verify(options.address, options.rest_api, options.models) else 1
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
    except grpc.FutureTimeoutError:
        print(f"error: nothing answers at {options.address}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
