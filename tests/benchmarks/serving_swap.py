"""How long requests take while a new version replaces the one that is served.

A swap is from the moment its folder appears until the old version is unloaded. The slowest percent
of the requests under way then is compared with the slowest percent of those before.
"""

from __future__ import annotations

import pathlib
import shutil
import statistics
import tempfile
import threading
import time
from concurrent import futures

import grpc
from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc

from tests.benchmarks.comparison import Comparison
from tests.benchmarks.load_generator import Load, generate_predictions
from tests.benchmarks.served_lenet import NAME, Served, save_lenet
from tests.served_models import running_server

State = get_model_status_pb2.ModelVersionStatus.State
CONCURRENCY = 8
SECONDS_BEFORE = 3


def measure(quick: bool) -> list[Comparison]:
    swaps = 2 if quick else 12
    with tempfile.TemporaryDirectory() as folder:
        served = save_lenet(pathlib.Path(folder, "model", "1"))
        shutil.copytree(served.folder, pathlib.Path(folder, "copy"))
        during, before = measure_swaps(served, pathlib.Path(folder, "copy"), swaps)
    return [
        Comparison(
            name=f"slowest percent of {CONCURRENCY} requests at a time during a swap, and before",
            unit="ms",
            ours=during,
            peer=before,
            target=3,
        )
    ]


def measure_swaps(
    served: Served, copy: pathlib.Path, swaps: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Milliseconds, during each swap and before it."""
    during, before = [], []
    base_path = served.folder.parent
    flags = (f"--model_name={NAME}", f"--model_base_path={base_path}")
    with (
        running_server(*flags, "--file_system_poll_wait_seconds=0.1") as (_, port),
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
        futures.ThreadPoolExecutor(1) as pool,
    ):
        service = model_service_pb2_grpc.ModelServiceStub(channel)
        length = served.response.ByteSize()
        for version in range(2, 2 + swaps):
            stop = threading.Event()
            loads = pool.submit(send_until, stop, port, served, length)
            time.sleep(SECONDS_BEFORE)
            began = time.time()
            shutil.copytree(copy, base_path / f".{version}")
            (base_path / f".{version}").rename(base_path / str(version))
            wait_for_end(service, version - 1)
            ended = time.time()
            stop.set()
            requests = [
                (begin, begin + seconds)
                for load in loads.result()
                for begin, seconds in zip(load.begins, load.seconds, strict=True)
            ]
            during.append(slowest_percent([r for r in requests if r[1] > began and r[0] < ended]))
            before.append(slowest_percent([r for r in requests if r[1] < began]))
    return tuple(during), tuple(before)


def send_until(stop: threading.Event, port: int, served: Served, length: int) -> list[Load]:
    loads = []
    while not stop.is_set():
        loads.append(
            generate_predictions(
                port, served.request, length, requests=2000, concurrency=CONCURRENCY
            )
        )
    return loads


def wait_for_end(service: model_service_pb2_grpc.ModelServiceStub, number: int) -> None:
    """Returns when a version is unloaded."""
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = NAME
    request.model_spec.version.value = number
    while service.GetModelStatus(request).model_version_status[0].state != State.END:
        time.sleep(0.01)


def slowest_percent(requests: list[tuple[float, float]]) -> float:
    """The 99th percentile of what requests took, in milliseconds."""
    return 1000 * statistics.quantiles((end - begin for begin, end in requests), n=100)[-1]
