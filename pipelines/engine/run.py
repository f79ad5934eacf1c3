"""The run folder: the only hand-over between programs.

config.json        what decides the result (see configuration.py)
environment.json   versions, backend, machine, git commit
preprocessor/      what the preprocessor learned
checkpoints/       last.npz (to resume), best.npz, and the last epochs where they are averaged
metrics.jsonl      one line per epoch
control.json       a wish for another learning rate, until training takes it (see by_hand.py)
changes.jsonl      one line per learning rate that was so changed
logs/              TensorBoard
model.keras        the best model; only a finished run has it
predictions/       one line per example of an evaluated split
scores.json        what evaluation found, by split
report.md, *.png   the same to look at
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import pathlib
import platform
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.engine.application import UserError
from pipelines.engine.configuration import Configuration

if TYPE_CHECKING:
    import keras

PACKAGES = ("tensorflow", "keras", "tensorflow-text", "jax", "numpy", "scikit-learn", "babel")


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A path beside ``path`` to write to, which takes its place once it is wholly on the disk.

    It keeps the suffix, may become a file or a folder, and vanishes if anything goes wrong.

    Raises:
        UserError: if the disk refuses; what stood at ``path`` before is still there.
    """
    beside = path.with_name(f".writing-{path.name}")
    _remove(beside)
    try:
        yield beside
        for file in [beside] if beside.is_file() else beside.rglob("*"):
            if file.is_file():
                with file.open("rb") as written:
                    os.fsync(written.fileno())
        if path.is_dir():
            _remove(path)
        os.replace(beside, path)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; what was there before is kept"
        ) from None
    finally:
        _remove(beside)


def _remove(path: pathlib.Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_text(path: pathlib.Path, text: str) -> None:
    """Replaces a text file in one step."""
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")


class Run:
    """A run folder, finished or not."""

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = pathlib.Path(path)
        self.model_file = self.path / "model.keras"
        self.preprocessor_folder = self.path / "preprocessor"
        self.last_checkpoint = self.path / "checkpoints" / "last.npz"
        self.best_checkpoint = self.path / "checkpoints" / "best.npz"
        self.control_file = self.path / "control.json"

    def epoch_checkpoint(self, epoch: int) -> pathlib.Path:
        """Where the weights after an epoch, counted from 0, are kept as long as they are needed."""
        return self.path / "checkpoints" / f"epoch-{epoch + 1}.npz"

    @classmethod
    def create(
        cls,
        path: str | os.PathLike,
        configuration: Configuration,
        write_preprocessor: Callable[[pathlib.Path], Any],
        prepared: str | None = None,
    ) -> Run:
        """Makes the folder of a new run, complete but for what training adds.

        Args:
            path: the folder, which must not exist yet.
            configuration: of the run.
            write_preprocessor: fills an empty folder with what the preprocessor learned.
            prepared: the folder of prepared arrays that the run trains on, if it does.

        Raises:
            UserError: if the folder exists or the disk refuses.
        """
        run = cls(path)
        run.require_new()
        try:
            run.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot make {run.path.parent}: {error.strerror}") from None
        with replacing(run.path) as beside:
            (beside / "checkpoints").mkdir(parents=True)
            (beside / "preprocessor").mkdir()
            write_preprocessor(beside / "preprocessor")
            facts = environment() | {"prepared": prepared}
            (beside / "environment.json").write_text(json.dumps(facts, indent=2))
            (beside / "config.json").write_text(configuration.to_json())
        return run

    def require_new(self) -> None:
        """Raises UserError if the folder exists."""
        if self.path.exists():
            raise UserError(
                f"{self.path} exists; continue that run with --resume, or give another --run"
            )

    @property
    def configuration(self) -> Configuration:
        """The run's configuration; UserError where the folder is no run."""
        file = self.path / "config.json"
        if not file.exists():
            raise UserError(f"{self.path} is no run folder: it has no config.json")
        try:
            return Configuration.from_json(file.read_text())
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{file} is no configuration of a run: {error!r}") from None

    def write_configuration(self, configuration: Configuration) -> None:
        """Replaces the configuration (a run may be given more epochs)."""
        write_text(self.path / "config.json", configuration.to_json())

    @property
    def prepared(self) -> str | None:
        """The folder of prepared arrays that the run was started on, if it was."""
        return json.loads((self.path / "environment.json").read_text())["prepared"]

    @property
    def finished(self) -> bool:
        return self.model_file.exists()

    def require_finished(self) -> None:
        """Raises UserError, naming the command that finishes it, for an unfinished run."""
        configuration = self.configuration
        if not self.finished:
            raise UserError(
                f"{self.path} is not finished; finish it with: python -m "
                f"pipelines.{configuration.application} --runs_dir {self.path.parents[1]} "
                f"--run {self.path.name} --resume"
            )

    def load_model(self) -> keras.Model:
        """The finished, uncompiled model; UserError for an unfinished run or a damaged file."""
        import keras

        self.require_finished()
        try:
            return keras.saving.load_model(self.model_file, compile=False)
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise UserError(f"{self.model_file} is damaged and cannot be read: {error}") from None

    @property
    def history(self) -> list[dict[str, float]]:
        """The metrics of every finished epoch."""
        return _read_lines(self.path / "metrics.jsonl")

    def write_history(self, history: list[dict[str, float]]) -> None:
        """Replaces ``metrics.jsonl``."""
        _write_lines(self.path / "metrics.jsonl", history)

    @property
    def changes(self) -> list[dict[str, float]]:
        """Changes of the learning rate by hand: steps and epochs done, the rate before and then."""
        return _read_lines(self.path / "changes.jsonl")

    def write_changes(self, changes: list[dict[str, float]]) -> None:
        """Replaces ``changes.jsonl``."""
        _write_lines(self.path / "changes.jsonl", changes)

    @property
    def scores(self) -> dict[str, dict[str, Any]]:
        """Evaluated figures by split."""
        file = self.path / "scores.json"
        return json.loads(file.read_text()) if file.exists() else {}

    def write_scores(self, split: str, values: dict[str, Any]) -> None:
        """Adds or replaces the figures of one split."""
        text = json.dumps(self.scores | {split: values}, indent=2)
        write_text(self.path / "scores.json", text)

    def predictions(self, split: str) -> dict[str, dict[str, Any]]:
        """What was written of every evaluated example, by its id.

        Raises:
            UserError: if the split was not evaluated.
        """
        file = self.path / "predictions" / f"{split}.jsonl"
        if not file.exists():
            raise UserError(
                f"{self.path} has no predictions for {split}; make them with: "
                f"python -m pipelines.evaluate {self.path} --split {split}"
            )
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        return {row["id"]: row for row in rows}


def _read_lines(file: pathlib.Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def _write_lines(file: pathlib.Path, rows: list[dict[str, float]]) -> None:
    write_text(file, "".join(json.dumps(row) + "\n" for row in rows))


def save_arrays(path: pathlib.Path, arrays: dict[str, np.ndarray]) -> None:
    """Replaces an ``.npz`` file in one step."""
    with replacing(path) as beside:
        np.savez(beside, **arrays)


def environment() -> dict[str, Any]:
    """What ran the run: versions, Keras's backend, the processor and the git commit."""
    import keras

    versions = {}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "python": platform.python_version(),
        "packages": versions,
        "backend": keras.backend.backend(),
        "system": f"{platform.system()} {platform.machine()}",
        "processors": os.cpu_count(),
        "git_commit": _git_commit(),
    }


def _git_commit() -> str | None:
    folder = pathlib.Path(__file__).parent
    try:
        result = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None  # no git here, or the files came without their history
    return result.stdout.strip()
