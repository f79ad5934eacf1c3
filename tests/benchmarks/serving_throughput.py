"""What the model server adds to a model: against a bare gRPC server, in process, and LitServe.

All servers run side by side and are asked in turns, so that what else the machine does meets all of
them alike. The bare server answers with recorded bytes of the same length. Operations of a model as
small as LeNet-5 are slower on two threads than on one, so that the servers of it get
``--tensorflow_intra_op_parallelism=1``; the figure without is reported as well.

What keeps a small model from the echo's rate is not the model alone: a run lets go of Python's
interpreter and has to wait for it again, next to the threads of gRPC that want it too.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import prediction_service_pb2_grpc

from pipelines.engine.application import UserError
from tests.benchmarks.comparison import Comparison
from tests.benchmarks.load_generator import Load, checking, generate, generate_predictions
from tests.benchmarks.served_lenet import NAME, Served, save, save_lenet, seconds_of
from tests.served_models import REPOSITORY, free_port, running_server

PEER_PYTHON = REPOSITORY / ".venv-bench" / "bin" / "python"
LITSERVE = pathlib.Path(__file__).parent / "peers" / "litserve_lenet.py"
CONCURRENCY = 32
LARGE = 10 * 2**20  # bytes
HEAVY_ROWS = 32
HEAVY_SECONDS = 0.02
ONE_THREAD = "--tensorflow_intra_op_parallelism=1"
# Found on 2026-11-25 by taking one part of a request after another away, on two shared cores.
SMALL_MODEL = (
    "of 0.32 ms a request, gRPC in Python takes 0.13, checking and packing 0.08 and TensorFlow's "
    "run 0.10; the same run takes 0.05 where no thread hands over to another"
)
UNLIMITED = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]

Send = Callable[..., Load]


def measure(quick: bool) -> list[Comparison]:
    with tempfile.TemporaryDirectory() as folder:
        return [
            *small_model(pathlib.Path(folder, "small"), quick),
            *heavy_model(pathlib.Path(folder, "heavy"), quick),
            *large_tensor(pathlib.Path(folder, "large"), quick),
        ]


def small_model(folder: pathlib.Path, quick: bool) -> list[Comparison]:
    rounds, requests = (3, 2000) if quick else (12, 5000)
    served = save_lenet(folder / "1")
    with contextlib.ExitStack() as stack:
        senders = {
            "echo": stack.enter_context(echo(served)),
            "batching off": stack.enter_context(ours(served, ONE_THREAD)),
            "batching on": stack.enter_context(ours(served, ONE_THREAD, "--enable_batching")),
            "default flags": stack.enter_context(ours(served)),
            "LitServe": stack.enter_context(litserve(served)),
        }
        rates = {name: [] for name in senders}
        medians = {name: [] for name in senders}
        for number in range(1 + rounds):
            for name, send in senders.items():
                # LitServe is many times slower, and as long a round would not tell more.
                share = requests // 50 if name == "LitServe" else requests
                load = send(requests=share, concurrency=CONCURRENCY)
                alone = send(requests=share // 10, concurrency=1)
                if number:  # the first round warms up
                    rates[name].append(load.rate)
                    medians[name].append(1000 * alone.median)
    model = 1000 * seconds_a_run(served)
    unhurried = tuple(1.5 * echo_median + model for echo_median in medians["echo"])
    compare = functools.partial(Comparison, unit="requests/s", better="higher")
    many = f"LeNet-5, {CONCURRENCY} one-row requests at a time"
    return [
        *(
            compare(
                name=f"{many}, {name}, against the echo",
                ours=tuple(rates[name]),
                peer=tuple(rates["echo"]),
                target=None if name == "default flags" else 0.8,
                reason=SMALL_MODEL,
            )
            for name in ("batching off", "batching on", "default flags")
        ),
        compare(
            name=f"{many}, against LitServe",
            ours=tuple(rates["batching off"]),
            peer=tuple(rates["LitServe"]),
            target=2,
        ),
        Comparison(
            name=f"LeNet-5, one request at a time, against 1.5 echoes and a run ({model:.3f} ms)",
            unit="ms",
            ours=tuple(medians["batching off"]),
            peer=unhurried,
            target=1,
            reason=SMALL_MODEL,
        ),
    ]


def heavy_model(folder: pathlib.Path, quick: bool) -> list[Comparison]:
    """A network that takes at least 20 ms a batch, asked for one whole batch at a time."""
    rounds, requests = (3, 20) if quick else (12, 60)
    layers, run = 8, None
    while run is None or seconds_of(run, 10) < 1.2 * HEAVY_SECONDS:
        layers *= 2
        served = save_dense(folder / f"{layers}" / "1", layers)
        model = tf.saved_model.load(str(served.folder)).signatures["serving_default"]
        x = tf.constant(tf.make_ndarray(served.request.inputs["x"]))
        run = functools.partial(model, x=x)
    found, peer = [], []
    with ours(served) as send:
        for number in range(1 + rounds):
            load = send(requests=requests, concurrency=2)
            in_process = 1 / seconds_of(run, requests)
            if number:
                found.append(HEAVY_ROWS * load.rate)
                peer.append(HEAVY_ROWS * in_process)
    milliseconds = 1000 * HEAVY_ROWS / peer[0]
    return [
        Comparison(
            name=f"a batch of {HEAVY_ROWS} that takes {milliseconds:.0f} ms, against in process",
            unit="rows/s",
            ours=tuple(found),
            peer=tuple(peer),
            better="higher",
            target=0.95,
        )
    ]


def large_tensor(folder: pathlib.Path, quick: bool) -> list[Comparison]:
    rounds, requests = (3, 10) if quick else (20, 50)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def same(x):
        return {"y": x + 0}

    served = save(folder / "1", same, [], {"x": np.random.default_rng(0).random(LARGE // 4, "f")})
    times = {"ours": [], "echo": []}
    with ours(served) as send, echo(served) as send_to_echo:
        for number in range(1 + rounds):
            for name, sender in (("ours", send), ("echo", send_to_echo)):
                load = sender(requests=requests, concurrency=1)
                if number:
                    times[name].append(1000 * load.median)
    return [
        Comparison(
            name="10 MiB of numbers each way, against the echo",
            unit="ms",
            ours=tuple(times["ours"]),
            peer=tuple(times["echo"]),
            target=2.5,
        )
    ]


def save_dense(folder: pathlib.Path, layers: int, width: int = 1024) -> Served:
    random = np.random.default_rng(0)
    weights = [
        tf.Variable(random.normal(0, width**-0.5, (width, width)).astype("float32"))
        for _ in range(layers)
    ]

    @tf.function(input_signature=[tf.TensorSpec([None, width], tf.float32, name="x")])
    def dense(x):
        for weight in weights:
            x = tf.tanh(x @ weight)
        return {"y": x}

    return save(folder, dense, weights, {"x": random.random((HEAVY_ROWS, width), np.float32)})


def seconds_a_run(served: Served) -> float:
    """The model's own time for its request, in a process of its own with one thread as above."""
    words = [sys.executable, "-m", "tests.benchmarks.served_lenet", str(served.folder)]
    ran = subprocess.run(words, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=True)
    return float(ran.stdout)


@contextlib.contextmanager
def ours(served: Served, *flags: str) -> Iterator[Send]:
    """Sends its request to a server of ours, and checks the answers."""
    arguments = (f"--model_name={NAME}", f"--model_base_path={served.folder.parent}", *flags)
    with (
        running_server(*arguments) as (_, port),
        grpc.insecure_channel(f"127.0.0.1:{port}", UNLIMITED) as channel,
    ):
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

        def send(**load: int) -> Load:
            with checking(lambda: served.check(stub.Predict(served.request))):
                return generate_predictions(
                    port, served.request, served.response.ByteSize(), **load
                )

        yield send


@contextlib.contextmanager
def echo(served: Served) -> Iterator[Send]:
    """Sends the same request to a server that only sends the recorded answer."""
    answer = served.folder.parent.with_suffix(".answer")
    answer.write_bytes(served.response.SerializeToString())
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.echo_server", str(answer)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        port = int(process.stdout.readline())
        yield functools.partial(
            generate_predictions, port, served.request, served.response.ByteSize()
        )
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


@contextlib.contextmanager
def litserve(served: Served) -> Iterator[Send]:
    """Sends the same picture to LitServe, as JSON, and checks the answers."""
    if not PEER_PYTHON.exists():
        raise UserError(f"no {PEER_PYTHON} to run LitServe; make bench sets it up")
    port = free_port()
    url = f"http://127.0.0.1:{port}/predict"
    picture = tf.make_ndarray(served.request.inputs["image"])[0]
    body = json.dumps({"image": picture.tolist()}).encode()
    header = "content-type: application/json"
    right = np.array(served.response.outputs[served.output].float_val)

    def check() -> None:
        request = urllib.request.Request(url, body, dict([header.split(": ")]))
        with urllib.request.urlopen(request, timeout=60) as answer:
            np.testing.assert_allclose(json.load(answer)["probabilities"], right, atol=1e-5)

    def send(**load: int) -> Load:
        with checking(check):
            return generate(url, body, headers=(header,), http1=True, **load)

    process = subprocess.Popen(
        [str(PEER_PYTHON), str(LITSERVE), str(served.folder), str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        while process.poll() is None:
            with contextlib.suppress(urllib.error.URLError):
                check()
                break
            time.sleep(0.5)
        else:
            raise UserError(f"LitServe ended with status {process.returncode}")
        yield send
    finally:
        end_group(process)


def end_group(process: subprocess.Popen) -> None:
    """Ends a process and those that it has started."""
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
