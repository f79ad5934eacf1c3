"""Memory of a server that waits for requests, against a process that only holds the model.

Both have answered a request once. What counts is what the kernel would get back if the process
ended, its resident memory; libraries are mapped by both.
"""

from __future__ import annotations

import contextlib
import pathlib
import re
import subprocess
import sys
import tempfile

import grpc
from tensorflow_serving.apis import prediction_service_pb2_grpc

from tests.benchmarks.comparison import Comparison
from tests.benchmarks.served_lenet import NAME, Served, save_lenet
from tests.served_models import REPOSITORY, running_server

MIB = 2**20
BARE = """
import sys, tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
model.signatures["serving_default"](image=tf.zeros([1, 32, 32, 1]))
print(flush=True)
sys.stdin.read()
"""


def measure(quick: bool) -> list[Comparison]:
    with tempfile.TemporaryDirectory() as folder:
        served = save_lenet(pathlib.Path(folder, "1"))
        pairs = [(server(served), bare(served)) for _ in range(2 if quick else 10)]
    ours, peer = zip(*pairs, strict=True)
    return [
        Comparison(
            name="idle server of LeNet-5, against TensorFlow with the model",
            unit="MiB",
            ours=ours,
            peer=peer,
            effect="difference",
            target=60,
        )
    ]


def server(served: Served) -> float:
    flags = (f"--model_name={NAME}", f"--model_base_path={served.folder.parent}")
    with (
        running_server(*flags, "--rest_api_port=0") as (process, port),
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        served.check(stub.Predict(served.request))
        return resident_memory(process.pid) / MIB


def bare(served: Served) -> float:
    words = [sys.executable, "-c", BARE, str(served.folder)]
    process = subprocess.Popen(
        words,
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with process, contextlib.closing(process.stdin):
        process.stdout.readline()
        return resident_memory(process.pid) / MIB


def resident_memory(process: int, *, peak: bool = False) -> int:
    """What a process has in memory now, or has had at most, in bytes."""
    status = pathlib.Path(f"/proc/{process}/status").read_text()
    field = "VmHWM" if peak else "VmRSS"
    return 1024 * int(re.search(rf"^{field}:\s+(\d+) kB", status, re.MULTILINE)[1])
