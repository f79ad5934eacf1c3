"""One version of a model: loaded, held by the requests it answers, unloaded.

Source: tensorflow_serving/core/loader_harness.cc (states and retries).
"""

from __future__ import annotations

import dataclasses
import logging
import pathlib
import threading
import time

from tensorflow.core.protobuf import config_pb2
from tensorflow_serving.apis import get_model_status_pb2

from serving.server import metrics, trial
from serving.server.batching import Batching
from serving.server.errors import StatusError, as_status
from serving.server.saved_model import SavedModel
from serving.server.warmup import warm_up

_log = logging.getLogger(__name__)

State = get_model_status_pb2.ModelVersionStatus.State
_AVAILABLE = State.AVAILABLE  # its look-up, for every request, takes as long as all else


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loading:
    """How versions are looked for and loaded.

    Attributes:
        poll_seconds: between two looks at the base paths; 0: one look at each configuration;
            negative: none.
        retries: further attempts at a version that fails to load.
        retry_seconds: between two attempts.
        warm_up: whether a version's warm-up requests run before it is available.
        session: the configuration of TensorFlow's sessions.
        batching: what brings requests together; None: each is run by itself.
    """

    poll_seconds: float = 1.0
    retries: int = 5
    retry_seconds: float = 60.0
    warm_up: bool = True
    session: config_pb2.ConfigProto | None = None
    batching: Batching | None = None


def load(directory: pathlib.Path, loading: Loading) -> SavedModel:
    """A version in memory, ready to answer: every attempt at every version comes through here.

    Raises:
        StatusError, tensorflow.errors.OpError: if it can't be loaded or a warm-up request fails.
    """
    with metrics.loading(directory):
        if not trial.is_as_exported(directory):
            trial.survive(directory)
        model = SavedModel(directory, loading.session)
    if loading.batching is not None:
        model = loading.batching.wrap(model)
    try:
        if loading.warm_up:
            warm_up(model)
    except BaseException:
        model.close()
        raise
    return model


class Version:
    """One version of a model, from its discovery to its end.

    Attributes:
        aspired: whether it is to be served.
        state: as GetModelStatus tells it; LOADING also between two attempts.
        error: why it came to its end without having been available.
    """

    def __init__(self, name: str, number: int, directory: pathlib.Path):
        self.name = name
        self.number = number
        self.directory = directory
        self.aspired = True
        self.state = State.START
        self.error: StatusError | None = None
        self._model: SavedModel | None = None
        self._users = 0
        self._lock = threading.Lock()
        self._attempts = 0
        self._next_attempt: float | None = 0.0  # None: one is under way
        self._last_error: StatusError | None = None

    @property
    def pending(self) -> bool:
        """Whether it is still to be loaded and no attempt is under way."""
        return self.state in (State.START, State.LOADING) and self._next_attempt is not None

    @property
    def available(self) -> bool:
        return self.state == _AVAILABLE

    def begin(self) -> bool:
        """Whether the time for an attempt has come; ``attempt`` must follow, in any thread."""
        if not self.pending or time.monotonic() < self._next_attempt:
            return False
        self._next_attempt = None
        self.state = State.LOADING
        return True

    def attempt(self, loading: Loading) -> None:
        """Tries to load it once; never raises."""
        self._attempts += 1
        began = time.monotonic()
        try:
            model = load(self.directory, loading)
        except Exception as error:
            self._note_failure(as_status(error), loading)
            return
        with self._lock:
            self._model = model
            self.state = State.AVAILABLE
        seconds = time.monotonic() - began
        _log.info("%s version %d is available after %.1f s", self.name, self.number, seconds)

    def _note_failure(self, error: StatusError, loading: Loading) -> None:
        last = self._attempts > loading.retries
        further = "giving up" if last else f"next attempt in {loading.retry_seconds:g} s"
        _log.error("can't load %s version %d: %s; %s", self.name, self.number, error, further)
        self._last_error = error
        if last:
            self.give_up()
        else:
            self._next_attempt = time.monotonic() + loading.retry_seconds

    def give_up(self) -> None:
        """Ends a version that was never available."""
        self.error = self._last_error
        self.state = State.END

    def hold(self) -> SavedModel | None:
        """The model, in memory until ``release``; None if it is not available (any more)."""
        with self._lock:
            model = self._model if self.available else None
            self._users += model is not None
        return model

    def release(self) -> None:
        """Lets go of what ``hold`` gave out."""
        with self._lock:
            self._users -= 1

    def unload(self) -> None:
        """Takes no new requests; ``free`` ends it when those under way have their answers."""
        with self._lock:
            self.state = State.UNLOADING

    def free(self) -> bool:
        """Frees the memory of an unloading version if no request holds it; whether it did."""
        with self._lock:
            if self.state != State.UNLOADING or self._users:
                return False
            model, self._model = self._model, None
        model.close()
        self.state = State.END
        _log.info("%s version %d is unloaded", self.name, self.number)
        return True
