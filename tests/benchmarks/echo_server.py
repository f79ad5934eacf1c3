"""A gRPC server in this Python that answers every Predict request with the same recorded bytes.

    python -m tests.benchmarks.echo_server FILE

What a server can do at best that is written with the same library: it neither reads requests nor
writes answers. Prints its port when it listens.
"""

from __future__ import annotations

import os
import pathlib
import sys
from concurrent import futures

import grpc


def main(file: str) -> None:
    answer = pathlib.Path(file).read_bytes()
    unlimited = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    server = grpc.server(futures.ThreadPoolExecutor(4 * (os.cpu_count() or 1)), options=unlimited)
    handler = grpc.unary_unary_rpc_method_handler(lambda request, context: answer)
    server.add_generic_rpc_handlers(
        [
            grpc.method_handlers_generic_handler(
                "tensorflow.serving.PredictionService", {"Predict": handler}
            )
        ]
    )
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main(sys.argv[1])
