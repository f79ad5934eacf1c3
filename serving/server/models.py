"""The model manager: which versions are in memory, and the way from one to the next.

One thread watches the base paths and brings what is served to what is aspired, in steps of 100 ms;
a pool of threads loads, so that no version waits for another one. Requests hold on to the version
they have begun with.

Source: tensorflow_serving/model_servers/server_core.cc (configuration, labels, waiting).
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent import futures

import grpc
from tensorflow_serving.apis import model_pb2
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from serving.server.configuration import ServedModel, models_of
from serving.server.discovery import Discovery
from serving.server.errors import StatusError, failed_precondition, invalid_argument, not_found
from serving.server.saved_model import SavedModel
from serving.server.version import Loading, Version
from serving.server.versions import Versions

_log = logging.getLogger(__name__)
_STEP_SECONDS = 0.1
_LOADS_AT_A_TIME = 4 * (os.cpu_count() or 1)


class Held:
    """A version that a request holds in memory until the block ends; its number and its model.

    A class instead of a generator, which costs every request several times as much.
    """

    __slots__ = ("_model", "_version")

    def __init__(self, version: Version, model: SavedModel):
        self._version = version
        self._model = model

    def __enter__(self) -> tuple[int, SavedModel]:
        return self._version.number, self._model

    def __exit__(self, *error: object) -> None:
        self._version.release()


class ModelManager:
    """All models of a server.

    Args:
        models: the configuration.
        loading: how versions are looked for and loaded.
        early_labels: whether labels may name versions that are not available: new labels, that
            is; one that is in use moves only to a version that is available.

    Raises:
        StatusError: FAILED_PRECONDITION for a label of a version that is not available.
    """

    def __init__(
        self, models: Sequence[ServedModel], loading: Loading, *, early_labels: bool = False
    ):
        self._loading = loading
        self._early_labels = early_labels
        self._models: Mapping[str, ServedModel] = {}
        self._versions: dict[str, Versions] = {}
        self._discovery = Discovery()
        self._next_look: float | None = None
        self._stopping = False
        # Guards what is above; notified whenever a version may have changed its state.
        self._changed = threading.Condition()
        self._loads = futures.ThreadPoolExecutor(_LOADS_AT_A_TIME, "load")
        self._thread = threading.Thread(target=self._manage, name="models", daemon=True)
        self._configure(models)

    def start(self) -> None:
        """Begins to look for versions, in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread and frees what no request holds; a load under way is not waited for."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join()
        self._loads.shutdown(wait=False, cancel_futures=True)
        self._unload_all()

    def replace(self, config: ModelServerConfig) -> set[str]:
        """Replaces the whole configuration, or nothing of it; returns the names that are new.

        Models that are no longer configured are unloaded, new ones are loaded; not waited for.

        Raises:
            StatusError: INVALID_ARGUMENT for an entry that can't be used, FAILED_PRECONDITION for
                a label of a version that is not available.
        """
        return self._configure(models_of(config, self._models))

    def reload(self, config: ModelServerConfig, waiting: Callable[[], bool]) -> None:
        """Replaces the configuration; returns when each new model is available.

        Args:
            config: the new configuration.
            waiting: whether the client still waits; if not, the models go on loading without it.

        Raises:
            StatusError: as ``replace`` does; UNKNOWN if all versions of a new model have failed.
        """
        self._wait(self.replace(config), waiting, "model(s)")

    def _configure(self, models: Sequence[ServedModel]) -> set[str]:
        configured = {model.name: model for model in models}
        with self._changed:
            self._check_labels(models)
            new = configured.keys() - self._models.keys()
            for name in self._models.keys() - configured.keys():
                self._versions[name].aspire({})
            for name in new:
                self._versions.setdefault(name, Versions(name))
            if configured != self._models:
                self._models = configured
                self._next_look = 0.0 if self._loading.poll_seconds >= 0 else None
                self._changed.notify_all()
        return new

    def _check_labels(self, models: Sequence[ServedModel]) -> None:
        for model in models:
            assigned = self._models[model.name].labels if model.name in self._models else {}
            for label, number in model.labels.items():
                if self._early_labels and assigned.get(label, number) == number:
                    continue
                version = self._find(model.name, number)
                if version is None or not version.available:
                    raise failed_precondition(
                        f"Request to assign label to version {number} of model {model.name}, "
                        "which is not currently available for inference"
                    )

    def wait_until_available(self, stop: threading.Event) -> None:
        """Returns when each model has an available version, or ``stop`` is set.

        Raises:
            StatusError: UNKNOWN if all versions of a model have failed.
        """
        self._wait(self._models, lambda: not stop.is_set(), "servable(s)")

    def _wait(self, names: Collection[str], waiting: Callable[[], bool], noun: str) -> None:
        with self._changed:
            while waiting() and not self._stopping:
                # A later configuration may have dropped a model that is waited for.
                awaited = [name for name in sorted(names) if name in self._models]
                outcomes = [self._versions[name].outcome() for name in awaited]
                if all(outcomes):
                    break
                self._changed.wait(_STEP_SECONDS)
            else:
                return
        failed = [version for version in outcomes if not version.available]
        if failed:
            listed = "".join(
                f"{{name: {v.name} version: {v.number}}} due to error: {v.error}}}, "
                for v in failed
            )
            raise StatusError(
                grpc.StatusCode.UNKNOWN,
                f"{len(failed)} {noun} did not become available: {{{listed}}}",
            )

    def use(self, spec: model_pb2.ModelSpec) -> Held:
        """The version that a request is for; to be entered at once, it is held until then.

        Raises:
            StatusError: INVALID_ARGUMENT without a name or for an unknown label, NOT_FOUND if
                nothing that is available answers to the specification.
        """
        if not spec.name:
            raise invalid_argument("ModelSpec has no name specified.")
        number = self._requested_number(spec)
        while True:
            version = self._find(spec.name, number)
            model = version.hold() if version else None
            if model is not None:
                return Held(version, model)
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
        versions = self._versions.get(name)
        if versions is None:
            return None
        return versions.latest() if number is None else versions.find(number)

    def versions(self, name: str) -> list[Version]:
        """Every version of a model that was met since the start, the newest first."""
        versions = self._versions.get(name)
        return versions.history() if versions else []

    def _manage(self) -> None:
        while not self._stopping:
            try:
                self._look()
                with self._changed:
                    for versions in self._versions.values():
                        self._step(versions)
            except Exception:
                _log.exception("unforeseen error while models are managed; going on")
            with self._changed:
                if not self._stopping:
                    self._changed.wait(_STEP_SECONDS)

    def _look(self) -> None:
        """Looks at the base paths if it is time to."""
        with self._changed:
            if self._next_look is None or time.monotonic() < self._next_look:
                return
            wait = self._loading.poll_seconds
            self._next_look = time.monotonic() + wait if wait > 0 else None
            models = self._models
        # Without the lock: a file system may take its time.
        found = self._discovery.look(models.values())
        with self._changed:
            # After a change of configuration in the meantime, another look is due anyway.
            if found is not None and self._models is models:
                for name, folders in found.items():
                    self._versions[name].aspire(folders)

    def _step(self, versions: Versions) -> None:
        """Begins to load what is aspired, unloads what isn't."""
        versions.settle()
        for version in versions.to_load():
            self._loads.submit(self._load, version)
        self._unload(versions)

    def _load(self, version: Version) -> None:
        version.attempt(self._loading)
        if self._stopping:
            self._unload_all()
        with self._changed:
            self._changed.notify_all()

    def _unload_all(self) -> None:
        with self._changed:
            for versions in self._versions.values():
                versions.aspire({})
                self._unload(versions)

    def _unload(self, versions: Versions) -> None:
        for version in versions.to_unload():
            version.unload()
        for version in versions.unloading():
            if version.free():
                self._changed.notify_all()
