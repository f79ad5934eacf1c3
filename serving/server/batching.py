"""Dynamic batching: requests that wait together are answered by one run of the model.

Requests for the same version with the same inputs and outputs share a queue of batches, of which
the last is open: further requests join it until it is full. A batch is ready when it is full, when
a later one stands behind it, or when it has been open for ``batch_timeout_micros``. As many batches
run at a time, whatever their models, as there are batch threads; queues with a ready batch take
turns.

There are no batch threads, only that number of slots. The thread whose request opened a batch runs
it for all: it waits until the batch is ready and has a slot, and the others of the batch wait for
their answer. So a request that finds a free slot is run at once by its own thread; to hand it to
another and to be woken again would take longer than a small model does. Requests that come while
all slots are taken gather in the open batch, which stays open until its thread begins to run it.

Whatever can let a batch begin gives out slots: a request that fills or opens a batch, a timeout
that ends, and a run that ends. A thread that waits is therefore always woken by one of them.

Source: tensorflow_serving/batching/{batching_session,batching_util}.cc and TensorFlow's
shared_batch_scheduler.h (semantics, texts and defaults).
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
import pathlib
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent import futures

import grpc
import numpy as np
from tensorflow.core.protobuf import meta_graph_pb2

from serving.server import metrics
from serving.server.errors import StatusError, failed_precondition, invalid_argument
from serving.server.protos import BatchingParameters, read_text_proto
from serving.server.saved_model import SavedModel

_SHAPES_DIFFER = (
    "Tensors with name '{}' from different tasks have different shapes and padding is turned off."
    "Set pad_variable_length_inputs to true, or ensure that all tensors with the same name"
    "have equal dimensions starting with the first dim."
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parameters:
    """What a batching parameters file can say.

    Attributes:
        max_batch_size: rows of the largest request, and of a batch that is not split.
        batch_timeout_micros: how long a batch stays open for further requests.
        max_enqueued_batches: batches of one queue that wait, the open one included.
        num_batch_threads: batches that run at a time, of all models together.
        thread_pool_name: accepted, for the file is TensorFlow Serving's; there is no such pool.
        allowed_batch_sizes: sizes that batches are padded to; empty: any.
        pad_variable_length_inputs: whether inputs of different shapes are padded to the largest.
        enable_large_batch_splitting: whether a request may be spread over several batches.
        max_execution_batch_size: rows of a batch where requests are split; 0: max_batch_size.

    Raises:
        StatusError: INVALID_ARGUMENT for values that can't be met.
    """

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = dataclasses.field(default_factory=lambda: os.cpu_count() or 1)
    thread_pool_name: str = ""
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False
    enable_large_batch_splitting: bool = False
    max_execution_batch_size: int = 0

    def __post_init__(self):
        for name in ("max_batch_size", "max_enqueued_batches", "num_batch_threads"):
            if getattr(self, name) <= 0:
                raise invalid_argument(f"{name} must be positive; was {getattr(self, name)}")
        for name in ("batch_timeout_micros", "max_execution_batch_size"):
            if getattr(self, name) < 0:
                raise invalid_argument(f"{name} must be non-negative; was {getattr(self, name)}")
        if self.max_execution_batch_size > self.max_batch_size:
            raise invalid_argument(
                f"max_execution_batch_size {self.max_execution_batch_size} must not exceed "
                f"max_batch_size {self.max_batch_size}"
            )
        self._check_allowed_sizes()

    def _check_allowed_sizes(self) -> None:
        sizes = self.allowed_batch_sizes
        if not sizes:
            return
        if sizes[0] <= 0 or any(one >= next_ for one, next_ in itertools.pairwise(sizes)):
            raise invalid_argument(
                "allowed_batch_sizes entries must be positive and monotonically increasing; were "
                f"{list(sizes)}"
            )
        if sizes[-1] != self.largest_batch:
            raise invalid_argument(
                f"Last entry in allowed_batch_sizes must match {self._limit}; last entry was "
                f"{sizes[-1]}; expected {self.largest_batch}"
            )

    @property
    def _limit(self) -> str:
        split = self.enable_large_batch_splitting and self.max_execution_batch_size
        return "max_execution_batch_size" if split else "max_batch_size"

    @property
    def largest_batch(self) -> int:
        """Rows of a full batch."""
        return getattr(self, self._limit)

    def padded(self, rows: int) -> int:
        """The allowed size of a batch of ``rows``."""
        return next((size for size in self.allowed_batch_sizes if size >= rows), rows)


def read_parameters(path: str | pathlib.Path) -> Parameters:
    """The parameters in a text file; what it doesn't mention has its default.

    Raises:
        StatusError: INVALID_ARGUMENT for a file that can't be read, parsed or met.
    """
    given = {}
    for field, value in read_text_proto(path, BatchingParameters).ListFields():
        wrapped = field.message_type is not None
        given[field.name] = tuple(value) if field.is_repeated else value.value if wrapped else value
    return Parameters(**given)


def _closed_gate() -> threading.Lock:
    """What one thread waits for (acquire) and another one lets happen (release), once.

    An event for any number of threads takes several times as long.
    """
    gate = threading.Lock()
    gate.acquire()
    return gate


class _Task:
    """The rows of one request."""

    def __init__(self, feeds: Mapping[str, np.ndarray], rows: int, timeout_ms: int):
        self.feeds = feeds
        self.rows = rows
        self.came = time.monotonic()
        self.deadline = self.came + timeout_ms / 1000 if timeout_ms else math.inf
        self.answer: dict[str, np.ndarray] | Exception | None = None
        self.answered = _closed_gate()


class _Batch:
    """Requests that are answered together; the thread of the first runs it."""

    def __init__(self, due: float):
        self.due = due
        self.tasks: list[_Task] = []
        self.rows = 0
        self.slot = _closed_gate()  # open when it may run

    def add(self, task: _Task) -> None:
        self.tasks.append(task)
        self.rows += task.rows


class _Queue:
    """Batches of one kind that do not run yet, the oldest first; the last one is open."""

    def __init__(self) -> None:
        self.batches: list[_Batch] = []
        self.with_slot = 0  # so many of the first ones have a slot and will run when they wake

    def room(self, largest: int) -> int:
        """Rows that the open batch still takes."""
        return largest - self.batches[-1].rows if self.batches else 0

    def next_ready(self, largest: int) -> _Batch | None:
        """The oldest batch without a slot, if it is ready."""
        waiting = self.batches[self.with_slot :]
        if not waiting:
            return None
        first = waiting[0]
        ready = len(waiting) > 1 or first.rows >= largest or first.due <= time.monotonic()
        return first if ready else None


class Batching:
    """The slots that all models of a server share, and who gets the next.

    Args:
        parameters: see ``Parameters``.
    """

    def __init__(self, parameters: Parameters):
        self.parameters = parameters
        self._free = parameters.num_batch_threads
        self._queues: list[_Queue] = []  # those with batches, in the order of their turns
        self._lock = threading.Lock()

    def wrap(self, model: SavedModel) -> BatchedModel:
        """The same model, but requests that wait together are run together."""
        return BatchedModel(model, self)

    def room(self, queue: _Queue) -> int:
        """Rows that the open batch of a queue still takes."""
        with self._lock:
            return queue.room(self.parameters.largest_batch)

    def join(self, queue: _Queue, task: _Task) -> _Batch | None:
        """Puts a task into a batch; returns that if it is new and the caller is to run it.

        Raises:
            StatusError: UNAVAILABLE if the queue is full.
        """
        limits = self.parameters
        with self._lock:
            opened = None
            if not queue.batches or task.rows > queue.room(limits.largest_batch):
                if len(queue.batches) >= limits.max_enqueued_batches:
                    raise StatusError(
                        grpc.StatusCode.UNAVAILABLE,
                        "The batch scheduling queue to which this task was submitted is full; "
                        f"currently {len(queue.batches)} batches enqueued and "
                        f"max_enqueued_batches is {limits.max_enqueued_batches}",
                    )
                opened = _Batch(time.monotonic() + limits.batch_timeout_micros / 1e6)
                if not queue.batches:
                    self._queues.append(queue)
                queue.batches.append(opened)
            queue.batches[-1].add(task)
            self._give_slots()
        return opened

    def take_slot(self, queue: _Queue, batch: _Batch) -> None:
        """Waits until a batch may run; from then on nobody joins it."""
        if not batch.slot.acquire(timeout=max(0, batch.due - time.monotonic())):
            with self._lock:
                self._give_slots()
            batch.slot.acquire()
        with self._lock:
            queue.batches.remove(batch)
            queue.with_slot -= 1
            if not queue.batches:
                self._queues.remove(queue)

    def return_slot(self) -> None:
        """Lets the next batch run."""
        with self._lock:
            self._free += 1
            self._give_slots()

    def _give_slots(self) -> None:
        while self._free:
            for queue in self._queues:
                batch = queue.next_ready(self.parameters.largest_batch)
                if batch is not None:
                    break
            else:
                return
            self._queues.remove(queue)
            self._queues.append(queue)
            queue.with_slot += 1
            self._free -= 1
            batch.slot.release()


class BatchedModel:
    """A loaded version whose runs are batched; otherwise as ``SavedModel``.

    Args:
        model: the version.
        batching: the slots that it shares with other models.
    """

    def __init__(self, model: SavedModel, batching: Batching):
        self._model = model
        self._batching = batching
        self._parameters = batching.parameters
        self._queues: dict[tuple, _Queue] = {}

    @property
    def directory(self) -> pathlib.Path:
        return self._model.directory

    @property
    def signatures(self) -> Mapping[str, meta_graph_pb2.SignatureDef]:
        return self._model.signatures

    def close(self) -> None:
        """Frees the variables and tables; no run may be under way, so that no batch waits."""
        self._model.close()

    def run(
        self, feeds: Mapping[str, np.ndarray], fetches: Sequence[str], timeout_ms: int = 0
    ) -> list[np.ndarray]:
        """As ``SavedModel.run``, for inputs and outputs whose first dimension is the batch.

        Raises:
            StatusError: INVALID_ARGUMENT for inputs that have no rows or too many,
                FAILED_PRECONDITION for inputs that can't be joined or outputs that can't be
                divided, UNAVAILABLE if too many batches wait, RESOURCE_EXHAUSTED if the deadlines
                of all requests of the batch have passed before it could run.
            tensorflow.errors.OpError: with the status code of what went wrong in the graph.
        """
        rows = _count_rows(feeds)
        if rows > self._parameters.max_batch_size:
            raise invalid_argument(
                f"Task size {rows} is larger than maximum input batch size "
                f"{self._parameters.max_batch_size}"
            )
        if not rows:  # nothing to share, and no row to pad with
            return self._model.run(feeds, fetches, timeout_ms)
        # A request with a wrong type fails by itself, not with the others of its batch.
        key = frozenset((name, array.dtype) for name, array in feeds.items()), frozenset(fetches)
        queue = self._queues.setdefault(key, _Queue())
        sizes = self._split(queue, rows)
        if len(sizes) == 1:
            answer = self._answer(queue, key[1], _Task(feeds, rows, timeout_ms))
        else:
            answer = self._answer_split(queue, key[1], feeds, sizes, timeout_ms)
        return [answer[name] for name in fetches]

    def _split(self, queue: _Queue, rows: int) -> list[int]:
        """Rows that go to each batch: first what the open one takes, then full ones."""
        largest = self._parameters.largest_batch
        room = self._batching.room(queue) if rows > largest else 0
        sizes = [room] * bool(room) + [largest] * ((rows - room) // largest)
        rest = rows - sum(sizes)
        return [*sizes, rest] if rest else sizes

    def _answer_split(
        self,
        queue: _Queue,
        fetches: frozenset[str],
        feeds: Mapping[str, np.ndarray],
        sizes: list[int],
        timeout_ms: int,
    ) -> dict[str, np.ndarray]:
        ends = list(itertools.accumulate(sizes))
        tasks = [
            _Task({name: a[end - size : end] for name, a in feeds.items()}, size, timeout_ms)
            for size, end in zip(sizes, ends, strict=True)
        ]
        with futures.ThreadPoolExecutor(len(tasks)) as pool:
            answers = list(pool.map(lambda task: self._answer(queue, fetches, task), tasks))
        return {name: np.concatenate([answer[name] for answer in answers]) for name in fetches}

    def _answer(self, queue: _Queue, fetches: frozenset[str], task: _Task) -> dict[str, np.ndarray]:
        opened = self._batching.join(queue, task)
        if opened is None:
            task.answered.acquire()
        else:
            self._batching.take_slot(queue, opened)
            try:
                self._run_batch(opened, sorted(fetches))
            finally:
                self._batching.return_slot()
                for other in opened.tasks[1:]:
                    other.answered.release()
        if isinstance(task.answer, Exception):
            raise task.answer
        return task.answer

    def _run_batch(self, batch: _Batch, fetches: list[str]) -> None:
        """Gives every task of a batch its answer; one error is everyone's."""
        try:
            timeout_ms = _remaining_ms(batch)
            size = self._parameters.padded(batch.rows)
            self._count(batch, size)
            feeds = _merge(batch.tasks, size, self._parameters.pad_variable_length_inputs)
            results = dict(zip(fetches, self._model.run(feeds, fetches, timeout_ms), strict=True))
            _check_outputs(results.values(), size)
        except Exception as error:
            for task in batch.tasks:
                task.answer = error
            return
        end = 0
        for task in batch.tasks:
            begin, end = end, end + task.rows
            task.answer = {name: array[begin:end] for name, array in results.items()}

    def _count(self, batch: _Batch, size: int) -> None:
        now = time.monotonic()
        metrics.batch_processed(
            self._parameters.thread_pool_name,
            [now - task.came for task in batch.tasks],
            [task.rows for task in batch.tasks],
            size,
        )


def _count_rows(feeds: Mapping[str, np.ndarray]) -> int:
    if not feeds:
        raise invalid_argument("Batching Run() must have at least one input tensor")
    if any(array.ndim == 0 for array in feeds.values()):
        raise invalid_argument("Batching Run() input tensors must have at least one dimension")
    rows, *others = {len(array) for array in feeds.values()}
    if others:
        raise invalid_argument("Batching Run() input tensors must have equal 0th-dimension size")
    return rows


def _remaining_ms(batch: _Batch) -> int:
    """Until the last deadline of the batch, for all are answered together; 0: without end."""
    seconds = max(task.deadline for task in batch.tasks) - time.monotonic()
    if seconds <= 0:
        raise StatusError(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "Run() timeout exceeded while waiting in batching queue",
        )
    return 0 if seconds == math.inf else max(1, int(1000 * seconds))


def _merge(tasks: list[_Task], size: int, pad: bool) -> dict[str, np.ndarray]:
    """The inputs of all tasks as one, and the last task's first row until there are ``size``."""
    missing = size - sum(task.rows for task in tasks)
    if len(tasks) == 1 and not missing:
        return dict(tasks[0].feeds)
    merged = {}
    for name in tasks[0].feeds:
        arrays = [task.feeds[name] for task in tasks]
        if len({array.shape[1:] for array in arrays}) > 1:
            arrays = _same_shape(name, arrays, pad)
        merged[name] = np.concatenate([*arrays, *[arrays[-1][:1]] * missing])
    return merged


def _same_shape(name: str, arrays: list[np.ndarray], pad: bool) -> list[np.ndarray]:
    """Arrays padded behind in all dimensions but the first, each with its own first element."""
    if not pad or len({array.ndim for array in arrays}) > 1:
        raise failed_precondition(_SHAPES_DIFFER.format(name))
    largest = np.max([array.shape for array in arrays], axis=0)
    padded = []
    for array in arrays:
        widths = [(0, 0), *((0, missing) for missing in (largest - array.shape)[1:])]
        if not array.size:
            raise invalid_argument("Got empty tensor in batch of non-empty tensors.")
        padded.append(np.pad(array, widths, constant_values=array.flat[0]))
    return padded


def _check_outputs(arrays: Sequence[np.ndarray], rows: int) -> None:
    for array in arrays:
        if array.ndim == 0:
            raise failed_precondition("Batched output tensor has 0 dimensions")
        if len(array) != rows:
            raise failed_precondition(
                "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension "
                "sizes of the input tensors"
            )
