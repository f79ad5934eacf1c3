"""The model manager: which versions are in memory, and the way from one to the next.

One thread watches the base paths and brings what is served to what is aspired, in steps of 100 ms:
it loads a new version, and only when that is available unloads the old one. Requests hold on to
the version they have begun with; the last one to let go of an unloaded version frees it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import pathlib
import threading
import time
from collections.abc import Iterator, Sequence

import grpc
import tensorflow as tf
from tensorflow_serving.apis import get_model_status_pb2, model_pb2

from serving.server.configuration import ServedModel
from serving.server.errors import (
    StatusError,
    as_status,
    failed_precondition,
    invalid_argument,
    not_found,
)
from serving.server.saved_model import SavedModel
from serving.server.warmup import warm_up

_log = logging.getLogger(__name__)
_STEP_SECONDS = 0.1

State = get_model_status_pb2.ModelVersionStatus.State


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loading:
    """How versions are looked for and loaded.

    Attributes:
        poll_seconds: between two looks at the base paths; 0: only one look.
        retries: further attempts at a version that fails to load.
        retry_seconds: between two attempts.
        warm_up: whether a version's warm-up requests run before it is available.
        session: the configuration of TensorFlow's sessions.
    """

    poll_seconds: float = 1.0
    retries: int = 5
    retry_seconds: float = 60.0
    warm_up: bool = True
    session: tf.compat.v1.ConfigProto | None = None


class Version:
    """One version of a model, from its discovery to its end."""

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
        self._next_attempt = 0.0

    @property
    def pending(self) -> bool:
        """Whether it is still to be loaded."""
        return self.state in (State.START, State.LOADING)

    def try_to_load(self, loading: Loading) -> None:
        """Loads it if the time for an attempt has come; never raises."""
        if time.monotonic() < self._next_attempt:
            return
        self.state = State.LOADING
        self._attempts += 1
        try:
            model = SavedModel(self.directory, loading.session)
            try:
                if loading.warm_up:
                    warm_up(model)
            except Exception:
                model.close()
                raise
        except Exception as error:
            self._note_failure(as_status(error), loading)
            return
        self._model = model
        self.state = State.AVAILABLE
        _log.info("%s version %d is available", self.name, self.number)

    def _note_failure(self, error: StatusError, loading: Loading) -> None:
        last = self._attempts > loading.retries
        further = "giving up" if last else f"next attempt in {loading.retry_seconds:g} s"
        _log.error("can't load %s version %d: %s; %s", self.name, self.number, error, further)
        if last:
            self.give_up(error)
        else:
            self._next_attempt = time.monotonic() + loading.retry_seconds

    def give_up(self, error: StatusError | None) -> None:
        """Ends a version that was never available."""
        self.error = error
        self.state = State.END

    @contextlib.contextmanager
    def in_use(self) -> Iterator[SavedModel | None]:
        """Holds the model in memory for one request; None if it is not available (any more)."""
        with self._lock:
            model = self._model if self.state == State.AVAILABLE else None
            self._users += model is not None
        try:
            yield model
        finally:
            if model is not None:
                with self._lock:
                    self._users -= 1
                self._free_if_unused()

    def unload(self) -> None:
        """Takes no new requests; frees the model when those under way have their answers."""
        with self._lock:
            self.state = State.UNLOADING
        self._free_if_unused()

    def _free_if_unused(self) -> None:
        with self._lock:
            if self.state != State.UNLOADING or self._users:
                return
            model, self._model = self._model, None
            self.state = State.END
        model.close()
        _log.info("%s version %d is unloaded", self.name, self.number)


class ModelManager:
    """All models of a server.

    Args:
        models: the configuration.
        loading: how versions are looked for and loaded.
        early_labels: whether labels may name versions that are not available.

    Raises:
        StatusError: FAILED_PRECONDITION for a label of a version that is not available: none is,
            for labels are assigned before models are loaded.
    """

    def __init__(
        self, models: Sequence[ServedModel], loading: Loading, *, early_labels: bool = False
    ):
        for model in models:
            for number in model.labels.values():
                if not early_labels:
                    raise failed_precondition(
                        f"Request to assign label to version {number} of model {model.name}, "
                        "which is not currently available for inference"
                    )
        self._models = {model.name: model for model in models}
        self._loading = loading
        self._versions: dict[str, dict[int, Version]] = {model.name: {} for model in models}
        self._empty: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._manage, name="models", daemon=True)

    def start(self) -> None:
        """Begins to look for versions, in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread; a load under way is finished first."""
        self._stop.set()
        self._thread.join()

    def wait_until_available(self, stop: threading.Event) -> None:
        """Returns when each model has an available version, or ``stop`` is set.

        Raises:
            StatusError: UNKNOWN if all versions of a model have failed.
        """
        while not stop.wait(_STEP_SECONDS):
            waiting = [
                list(versions.values())
                for versions in list(self._versions.values())
                if not any(v.state == State.AVAILABLE for v in list(versions.values()))
            ]
            if not waiting:
                return
            failed = [max(v, key=lambda version: version.number) for v in waiting if _failed(v)]
            if failed:
                listed = "".join(
                    f"{{name: {v.name} version: {v.number}}} due to error: {v.error}}}, "
                    for v in failed
                )
                raise StatusError(
                    grpc.StatusCode.UNKNOWN,
                    f"{len(failed)} servable(s) did not become available: {{{listed}}}",
                )

    @contextlib.contextmanager
    def use(self, spec: model_pb2.ModelSpec) -> Iterator[tuple[int, SavedModel]]:
        """The version number and the model that a request is for, held while it is answered.

        Raises:
            StatusError: INVALID_ARGUMENT without a name or for an unknown label, NOT_FOUND if
                nothing that is available answers to the specification.
        """
        if not spec.name:
            raise invalid_argument("ModelSpec has no name specified.")
        number = self._requested_number(spec)
        while True:
            version = self._find(spec.name, number)
            with version.in_use() if version else contextlib.nullcontext() as model:
                if model is not None:
                    yield version.number, model
                    return
            if version is None or number is not None:
                wanted = (
                    f"Latest({spec.name})" if number is None else f"Specific({spec.name}, {number})"
                )
                raise not_found(f"Servable not found for request: {wanted}")
            # The latest version was unloaded since it was found: a later one is available.

    def _requested_number(self, spec: model_pb2.ModelSpec) -> int | None:
        choice = spec.WhichOneof("version_choice")
        if choice == "version":
            return spec.version.value
        if choice == "version_label":
            model = self._models.get(spec.name)
            if model is None or spec.version_label not in model.labels:
                raise invalid_argument(f"Unrecognized servable version label: {spec.version_label}")
            return model.labels[spec.version_label]
        return None

    def _find(self, name: str, number: int | None) -> Version | None:
        versions = self._versions.get(name, {})
        if number is not None:
            return versions.get(number)
        available = [v for v in list(versions.values()) if v.state == State.AVAILABLE]
        return max(available, key=lambda version: version.number, default=None)

    def versions(self, name: str) -> list[Version]:
        """Every version of a model that was met since the start, the newest first."""
        versions = list(self._versions.get(name, {}).values())
        return sorted(versions, key=lambda version: version.number, reverse=True)

    def _manage(self) -> None:
        next_poll: float | None = 0.0
        while not self._stop.is_set():
            try:
                if next_poll is not None and time.monotonic() >= next_poll:
                    wait = self._loading.poll_seconds
                    next_poll = time.monotonic() + wait if wait > 0 else None
                    self._poll()
                for versions in self._versions.values():
                    self._step(versions)
            except Exception:
                _log.exception("unforeseen error while models are managed; going on")
            self._stop.wait(_STEP_SECONDS)

    def _poll(self) -> None:
        """Looks at all base paths; if one can't be read, nothing changes for any model."""
        try:
            found = {name: _version_folders(m.base_path) for name, m in self._models.items()}
        except OSError as error:
            _log.error("can't look for versions: %s: %s", error.filename, error.strerror)
            return
        for name, folders in found.items():
            self._warn_if_empty(name, folders)
            aspired = self._models[name].choose(folders)
            self._aspire(name, {number: folders[number] for number in aspired})

    def _warn_if_empty(self, name: str, folders: dict[int, pathlib.Path]) -> None:
        if not folders and name not in self._empty:
            _log.warning(
                "No versions of servable %s found under base path %s. Did you forget to name your "
                "leaf directory as a number (eg. '/1/')?",
                name,
                self._models[name].base_path,
            )
        (self._empty.discard if folders else self._empty.add)(name)

    def _aspire(self, name: str, aspired: dict[int, pathlib.Path]) -> None:
        versions = self._versions[name]
        for number, directory in sorted(aspired.items()):
            known = versions.get(number)
            # What was unloaded, or failed and went away, begins anew when its folder comes back.
            ended = known is not None and known.state == State.END
            if known is None or (ended and not known.aspired):
                versions[number] = Version(name, number, directory)
        for number, version in versions.items():
            version.aspired = number in aspired

    def _step(self, versions: dict[int, Version]) -> None:
        """Loads what is aspired, then unloads what isn't, but never the last one that answers."""
        for version in list(versions.values()):
            if version.pending and version.aspired:
                version.try_to_load(self._loading)
            elif version.pending:
                version.give_up(None)
        aspired = [version for version in versions.values() if version.aspired]
        available = [v for v in versions.values() if v.state == State.AVAILABLE]
        surplus = sorted(
            (version for version in available if not version.aspired),
            key=lambda version: version.number,
        )
        if aspired and len(surplus) == len(available):
            surplus = surplus[:-1]
        for version in surplus:
            version.unload()


def _failed(versions: Sequence[Version]) -> bool:
    aspired = [version for version in versions if version.aspired]
    return bool(aspired) and all(v.state == State.END and v.error for v in aspired)


def _version_folders(base_path: pathlib.Path) -> dict[int, pathlib.Path]:
    """The folders whose names are integers; of "1" and "01", the last in alphabetical order."""
    return {
        int(path.name): path
        for path in sorted(base_path.iterdir())
        if path.name.isascii() and path.name.isdecimal() and path.is_dir()
    }
