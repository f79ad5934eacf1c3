"""Ten minutes of everything at once: not one failed or wrong answer, and no growing memory.

64 requests under way all the time, a new version every 5 seconds, a corrupt one every 30 seconds, a
reload of the configuration every 20 seconds. Versions have different weights, and each answer is
compared with that of its version.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import pathlib
import shutil
import statistics
import tempfile
import threading
import time
from concurrent import futures

import grpc
from tensorflow_serving.apis import (
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tests.benchmarks.comparison import Comparison
from tests.benchmarks.served_lenet import NAME, Served, save_lenet
from tests.benchmarks.serving_memory import resident_memory
from tests.served_models import running_server

UNDER_WAY = 64
VERSION_SECONDS = 5
CORRUPT_SECONDS = 30
RELOAD_SECONDS = 20
SETTLED_SECONDS = 60  # until memory may grow no more
DIFFERENT = 4  # versions that differ; later ones repeat them
DEADLINE_SECONDS = 30


def measure(quick: bool) -> list[Comparison]:
    # Quick: the first minute only, half of which counts as settled.
    seconds, settled = (60, 30) if quick else (600, SETTLED_SECONDS)
    with tempfile.TemporaryDirectory() as folder:
        models = [save_lenet(pathlib.Path(folder, "ready", f"{n}"), n) for n in range(DIFFERENT)]
        base_path = pathlib.Path(folder, NAME)
        base_path.mkdir()
        publish(models[1].folder, base_path / "1")
        flags = (f"--model_name={NAME}", f"--model_base_path={base_path}")
        with (
            running_server(
                *flags, "--file_system_poll_wait_seconds=0.2", "--max_num_load_retries=0"
            ) as (process, port),
            grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
            futures.ThreadPoolExecutor(1) as pool,
        ):
            requests = Requests(channel, models)
            requests.begin()
            memory = []
            disturbing = pool.submit(disturb, channel, models, base_path, seconds)
            began = time.monotonic()
            while time.monotonic() < began + seconds:
                time.sleep(1)
                memory.append((time.monotonic() - began, resident_memory(process.pid)))
            disturbing.result()
            requests.end()
    return report(requests, memory, settled)


def report(requests: Requests, memory: list[tuple[float, int]], settled: float) -> list[Comparison]:
    late = [size for when, size in memory if when >= settled]
    tenth = max(1, len(late) // 10)
    growth = 100 * (statistics.median(late[-tenth:]) / statistics.median(late[:tenth]) - 1)
    described = f"{requests.answered} answers of {len(requests.versions)} versions"
    return [
        Comparison(
            name=f"{described}, failed or wrong",
            unit="answers" + "".join(f"; {error}" for error in requests.errors[:3]),
            ours=(len(requests.errors),),
            target=0,
        ),
        Comparison(
            name=f"resident memory gained after {settled:g} seconds",
            unit="%",
            ours=(growth,),
            target=5,
        ),
    ]


class Requests:
    """The same picture, sent again whenever an answer came, so many times at once.

    Attributes:
        answered: right answers.
        versions: that answered.
        errors: what else came.
    """

    def __init__(self, channel: grpc.Channel, models: list[Served]):
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        self._models = models
        self._under_way = threading.Semaphore(UNDER_WAY)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send)
        self._lock = threading.Lock()
        self.answered = 0
        self.versions: set[int] = set()
        self.errors: list[str] = []

    def begin(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """Returns when the last answer is there."""
        self._stop.set()
        self._thread.join()
        for _ in range(UNDER_WAY):
            self._under_way.acquire()

    def _send(self) -> None:
        request = self._models[0].request
        while not self._stop.is_set():
            self._under_way.acquire()
            call = self._stub.Predict.future(request, timeout=DEADLINE_SECONDS)
            call.add_done_callback(self._note)

    def _note(self, call: grpc.Future) -> None:
        try:
            response: predict_pb2.PredictResponse = call.result()
            version = response.model_spec.version.value
            self._models[version % DIFFERENT].check(response)
        except (grpc.RpcError, ValueError) as error:
            with self._lock:
                self.errors.append(" ".join(str(error).split()))
        else:
            with self._lock:
                self.answered += 1
                self.versions.add(version)
        finally:
            self._under_way.release()


@dataclasses.dataclass
class Every:
    """Says when it is time again."""

    seconds: float

    def __post_init__(self):
        self._next = time.monotonic() + self.seconds

    def __call__(self) -> bool:
        due = time.monotonic() >= self._next
        self._next += self.seconds * due
        return due


def disturb(
    channel: grpc.Channel, models: list[Served], base_path: pathlib.Path, seconds: float
) -> None:
    """Brings versions, good and bad ones, and reloads the configuration."""
    service = model_service_pb2_grpc.ModelServiceStub(channel)
    new, corrupt, reload = Every(VERSION_SECONDS), Every(CORRUPT_SECONDS), Every(RELOAD_SECONDS)
    end, numbers, reloads = time.monotonic() + seconds, itertools.count(2), itertools.count(1)
    while time.monotonic() < end:
        if new():
            number = next(numbers)
            publish(models[number % DIFFERENT].folder, base_path / str(number))
        if corrupt():
            number = next(numbers)
            publish(models[number % DIFFERENT].folder, base_path / str(number), damaged=True)
        if reload():
            # One version or two are served, in turns: a change each time.
            service.HandleReloadConfigRequest(
                configuration(base_path, 1 + next(reloads) % 2), timeout=DEADLINE_SECONDS
            )
        remove_old(base_path)
        time.sleep(0.1)


def configuration(
    base_path: pathlib.Path, versions: int
) -> model_management_pb2.ReloadConfigRequest:
    request = model_management_pb2.ReloadConfigRequest()
    config = request.config.model_config_list.config.add(
        name=NAME, base_path=str(base_path), model_platform="tensorflow"
    )
    config.model_version_policy.latest.num_versions = versions
    return request


def publish(source: pathlib.Path, folder: pathlib.Path, damaged: bool = False) -> None:
    """Lets a version folder appear whole; a damaged one lacks half of its graph."""
    hidden = folder.parent / f".{folder.name}"
    shutil.copytree(source, hidden)
    if damaged:
        graph = hidden / "saved_model.pb"
        graph.write_bytes(graph.read_bytes()[: graph.stat().st_size // 2])
    hidden.rename(folder)


def remove_old(base_path: pathlib.Path, kept: int = 5) -> None:
    """Keeps the disk from filling; versions this old are unloaded."""
    numbers = sorted(int(path.name) for path in base_path.iterdir() if path.name.isdecimal())
    for number in numbers[:-kept]:
        with contextlib.suppress(OSError):
            shutil.rmtree(base_path / str(number))
