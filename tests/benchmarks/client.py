"""What the client costs: its import, a call beside the bare call of the same bytes, long tensors.

The server here answers every request with the same bytes, so that only the client differs.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent import futures

import grpc
import numpy as np

from serving import wire
from serving.client import Client
from tests.benchmarks.comparison import Comparison

PREDICT = "/tensorflow.serving.PredictionService/Predict"
METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
FLOATS = 2_500_000  # 10 MB

IMPORT = """
import time
start = time.perf_counter()
import serving.client
seconds = time.perf_counter() - start
status = open("/proc/self/status").read().split()
print(seconds, int(status[status.index("VmRSS:") + 1]) / 1024)
"""


def measure(quick: bool) -> list[Comparison]:
    imports = [fresh_import() for _ in range(3 if quick else 15)]
    seconds, mebibytes = (tuple(figures) for figures in zip(*imports, strict=True))
    return [
        Comparison(name="import serving.client", unit="s", ours=seconds, target=0.5),
        Comparison(name="memory once imported", unit="MiB", ours=mebibytes, target=80),
        call(1, rounds=5 if quick else 15, calls=500),
        call(FLOATS, rounds=5 if quick else 15, calls=5),
    ]


def fresh_import() -> list[float]:
    """Seconds that the import takes in a process of its own, and MiB that are resident then."""
    printed = subprocess.run(
        [sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True
    ).stdout
    return [float(figure) for figure in printed.split()]


def call(floats: int, rounds: int, calls: int) -> Comparison:
    """The client's ``predict`` beside a bare call: as many floats there and back."""
    values = np.random.default_rng(0).random(floats, np.float32)
    answers = {METADATA: metadata(), PREDICT: response(values)}
    handlers = grpc.method_handlers_generic_handler(
        "tensorflow.serving.PredictionService",
        {
            path.rpartition("/")[2]: grpc.unary_unary_rpc_method_handler(
                lambda request, context, answer=answer: answer
            )
            for path, answer in answers.items()
        },
    )
    unlimited = [("grpc.max_receive_message_length", -1)]
    server = grpc.server(futures.ThreadPoolExecutor(1), options=unlimited)
    server.add_generic_rpc_handlers([handlers])
    port = server.add_insecure_port("localhost:0")
    server.start()
    body = wire.predict_request(wire.ModelSpec(name="m"), {"x": ("float32", values)})
    try:
        with (
            Client(f"localhost:{port}") as client,
            grpc.insecure_channel(f"localhost:{port}", options=unlimited) as channel,
        ):
            bare = channel.unary_unary(PREDICT)
            pairs = [
                (
                    milliseconds(lambda: client.predict("m", x=values), calls),
                    milliseconds(lambda: bare(body), calls),
                )
                for _ in range(rounds + 1)
            ][1:]  # the first round connects
    finally:
        server.stop(None).wait()
    ours, peer = (tuple(figures) for figures in zip(*pairs, strict=True))
    return Comparison(name=f"predict of {floats:,} floats", unit="ms", ours=ours, peer=peer)


def milliseconds(function: Callable[[], object], calls: int) -> float:
    """The median time of a call."""
    times = []
    for _ in range(calls):
        start = time.perf_counter()
        function()
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def metadata() -> bytes:
    """GetModelMetadata's answer: an input x and an output y, float32 [?]."""
    known = wire.SignatureDefMap()
    signature = known.signature_def["serving_default"]
    for info in (signature.inputs["x"], signature.outputs["y"]):
        info.dtype = 1
        info.tensor_shape.dim.add(size=-1)
    answer = wire.GetModelMetadataResponse()
    answer.metadata["signature_def"].value = known.SerializeToString()
    return answer.SerializeToString()


def response(values: np.ndarray) -> bytes:
    """Predict's answer as TensorFlow Serving writes it, with a value for each element."""
    answer = wire.PredictResponse()
    answer.outputs["y"].dtype = 1
    answer.outputs["y"].tensor_shape.dim.add(size=len(values))
    answer.outputs["y"].float_val.extend(values.tolist())
    return answer.SerializeToString()
