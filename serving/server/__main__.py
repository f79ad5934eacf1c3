"""``python -m serving.server``: reads the flags, loads the models, listens until it is ended."""

from __future__ import annotations

import logging
import os
import sys

from serving.server import flags
from serving.server.allocation import keep_freed_memory
from serving.server.errors import StatusError
from serving.server.quiet import standard_error_held_back


def main() -> int:
    """The command; returns its exit status."""
    options = flags.parse()
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr
    )
    # What TensorFlow and gRPC log of a request that fails is the client's error, and goes to the
    # client.
    logging.getLogger("grpc._common").setLevel(logging.CRITICAL)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    keep_freed_memory()
    with standard_error_held_back():
        import tensorflow as tf
    tf.get_logger().setLevel(logging.ERROR)
    from serving.server.compilation import refuse_compilation
    from serving.server.listen import serve

    if not (options.xla_cpu_compilation_enabled or options.xla_gpu_compilation_enabled):
        refuse_compilation()
    try:
        serve(options)
    except (StatusError, RuntimeError) as error:
        print(f"Failed to start server. Error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    status = main()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    # An ordinary exit waits for all threads, even for one whose graph runs without end.
    os._exit(status)
