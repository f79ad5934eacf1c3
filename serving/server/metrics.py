"""What the server counts and measures: TensorFlow Serving's names, in Prometheus' text format.

Everything is always counted: it costs about a microsecond a request. The library that Prometheus
offers can't be used: it appends ``_total`` to the name of a counter and writes HELP lines.

Source: tensorflow_serving/util/prometheus_exporter.cc (names and format), servables/tensorflow/
util.cc and batching/batching_session.cc (metrics), tensorflow/cc/saved_model/loader.cc.
"""

from __future__ import annotations

import bisect
import contextlib
import os
import re
import threading
import time
from collections.abc import Iterator, Sequence

from serving.server.errors import StatusError, as_status

# Label values come from requests too (names of models that don't exist): memory must not grow with
# them. What comes after so many combinations is not counted.
_MOST_SERIES = 10_000


class _Metric:
    """One named metric, with a series for each combination of label values."""

    kind: str

    def __init__(self, name: str, *labels: str):
        self.name = _prefixed(re.sub(r"[^a-zA-Z0-9_]", ":", name))
        self._labels = [_prefixed(re.sub(r"[^a-zA-Z0-9]", "_", label)) for label in labels]
        self._series: dict[tuple[str, ...], list[float]] = {}
        self._lock = threading.Lock()

    def _values(self, labels: tuple[str, ...], size: int) -> list[float] | None:
        """The series' numbers, to be changed under the lock; None if there are too many."""
        values = self._series.get(labels)
        if values is None and len(self._series) < _MOST_SERIES:
            values = self._series[labels] = [0] * size
        return values

    def lines(self) -> Iterator[str]:
        """The metric in Prometheus' text format."""
        yield f"# TYPE {self.name} {self.kind}"
        with self._lock:
            series = {labels: list(values) for labels, values in self._series.items()}
        for labels, values in sorted(series.items()):
            pairs = zip(self._labels, labels, strict=True)
            yield from self._sample(
                ",".join(f'{label}="{_escape(value)}"' for label, value in pairs), values
            )

    def _sample(self, labels: str, values: Sequence[float]) -> Iterator[str]:
        raise NotImplementedError


class Counter(_Metric):
    """A number that only grows."""

    kind = "counter"

    def add(self, *labels: str, amount: int = 1) -> None:
        """Counts one, or ``amount``."""
        with self._lock:
            values = self._values(labels, 1)
            if values is not None:
                values[0] += amount

    def _sample(self, labels: str, values: Sequence[float]) -> Iterator[str]:
        yield f"{self.name}{{{labels}}} {values[0]}"


class Histogram(_Metric):
    """How many of the numbers seen are below each of some bounds.

    Args:
        scale, growth, count: the bounds are ``scale · growth^i`` for i from 0 to ``count`` - 1.
    """

    kind = "histogram"

    def __init__(self, name: str, *labels: str, scale: float, growth: float, count: int):
        super().__init__(name, *labels)
        self._bounds = [scale * growth**power for power in range(count)]

    def add(self, value: float, *labels: str) -> None:
        """Counts a number."""
        bucket = bisect.bisect_right(self._bounds, value)
        with self._lock:
            values = self._values(labels, len(self._bounds) + 2)
            if values is not None:
                values[bucket] += 1
                values[-1] += value

    def _sample(self, labels: str, values: Sequence[float]) -> Iterator[str]:
        *counts, total = values
        count = 0
        first = f"{labels}," if labels else ""
        bounds = [*(f"{bound:g}" for bound in self._bounds), "+Inf"]
        for bound, more in zip(bounds, counts, strict=True):
            count += more
            yield f'{self.name}_bucket{{{first}le="{bound}"}} {count}'
        yield f"{self.name}_sum{{{labels}}} {total:.15g}"
        yield f"{self.name}_count{{{labels}}} {count}"


def _prefixed(name: str) -> str:
    return f"_{name}" if name[0].isdigit() else name


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


# Microseconds from 10 up to about 20 minutes.
_LATENCY = {"scale": 10, "growth": 1.8, "count": 33}
# Rows or examples: powers of two up to 16384.
_SIZE = {"scale": 1, "growth": 2, "count": 15}
_SERVING = "/tensorflow/serving"
_BATCHING = f"{_SERVING}/batching_session"

request_count = Counter(f"{_SERVING}/request_count", "model_name", "status")
request_latency = Histogram(
    f"{_SERVING}/request_latency", "model_name", "API", "entrypoint", **_LATENCY
)
runtime_latency = Histogram(
    f"{_SERVING}/runtime_latency", "model_name", "API", "runtime", **_LATENCY
)
request_example_counts = Histogram(f"{_SERVING}/request_example_counts", "model", **_SIZE)
request_example_count_total = Counter(f"{_SERVING}/request_example_count_total", "model")
model_warmup_latency = Histogram(
    f"{_SERVING}/model_warmup_latency", "model_path", "status", **_LATENCY
)
queuing_latency = Histogram(
    f"{_BATCHING}/queuing_latency", "thread_pool_name", scale=100, growth=1.2, count=52
)
wrapped_run_count = Counter(f"{_BATCHING}/wrapped_run_count")
padding_size = Histogram(f"{_BATCHING}/padding_size", "execution_batch_size", **_SIZE)
input_batch_size = Histogram(f"{_BATCHING}/input_batch_size", **_SIZE)
processed_batch_size = Histogram(f"{_BATCHING}/processed_batch_size", **_SIZE)
load_attempt_count = Counter(
    "/tensorflow/cc/saved_model/load_attempt_count", "model_path", "status"
)
load_latency = Counter("/tensorflow/cc/saved_model/load_latency", "model_path")

_METRICS = sorted(
    (metric for metric in list(vars().values()) if isinstance(metric, _Metric)),
    key=lambda metric: metric.name,
)


def page() -> str:
    """All metrics in Prometheus' text format."""
    return "".join(f"{line}\n" for metric in _METRICS for line in metric.lines())


def _microseconds_since(started: float) -> int:
    return round((time.perf_counter() - started) * 1e6)


def request_ended(
    model: str, api: str, entrypoint: str, started: float, error: StatusError | None
) -> None:
    """Counts a request, and how long it took if it was answered.

    Args:
        api: the method: "Predict" over gRPC, "predict" over REST.
        entrypoint: "GRPC" or "REST".
        started: time.perf_counter() when it came.
        error: why it was refused; None if it was answered.
    """
    request_count.add(model, error.code.name if error else "OK")
    if error is None:
        request_latency.add(_microseconds_since(started), model, api, entrypoint)


def examples_received(model: str, count: int) -> None:
    """Counts the examples of a request to classify or regress."""
    request_example_counts.add(count, model)
    request_example_count_total.add(model, amount=count)


def batch_processed(
    thread_pool: str, waits: Sequence[float], sizes: Sequence[int], rows: int
) -> None:
    """Counts a batch.

    Args:
        thread_pool: the name of the batching parameters.
        waits: seconds that each of its requests waited.
        sizes: rows of each.
        rows: of the whole batch, padding included.
    """
    for wait, size in zip(waits, sizes, strict=True):
        queuing_latency.add(round(wait * 1e6), thread_pool)
        input_batch_size.add(size)
    wrapped_run_count.add()
    padding_size.add(rows - sum(sizes), str(rows))
    processed_batch_size.add(rows)


def ran(model: str, api: str, started: float) -> None:
    """Counts a run of a graph since ``started``; "TF1" is the runtime that has sessions."""
    runtime_latency.add(_microseconds_since(started), model, api, "TF1")


@contextlib.contextmanager
def loading(directory: str | os.PathLike) -> Iterator[None]:
    """Counts an attempt to load a version, and adds up how long successful ones took."""
    started, path = time.perf_counter(), os.fspath(directory)
    try:
        yield
    except Exception:
        load_attempt_count.add(path, "fail")
        raise
    load_attempt_count.add(path, "success")
    load_latency.add(path, amount=_microseconds_since(started))


@contextlib.contextmanager
def warming_up(directory: str | os.PathLike) -> Iterator[None]:
    """Measures the warm-up of a version."""
    started, status = time.perf_counter(), "OK"
    try:
        yield
    except Exception as error:
        status = as_status(error).code.name
        raise
    finally:
        model_warmup_latency.add(_microseconds_since(started), os.fspath(directory), status)
