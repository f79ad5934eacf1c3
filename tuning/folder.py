"""The folder of a search: all that it knows, so that it survives whatever kills it.

search.json        what it is to do (definition.py)
began              the second at which it began
trials/0001/       the run of each trial, as of ``python -m pipelines.<application>``; those of
                   its further trainings (folds, executions) are called 0001-2, 0001-3 ...
records/0001.json  what came of each trial (trials.py), written by the process that runs it
trials/0001.json   the texts that each trial wrote, where only decoding is searched (decoding.py)
logs/0001.txt      what was printed meanwhile
oracle/            keras-tuner's state
best.json          the configuration of the best trial, for ``--config``
report.md, *.png   what came of it all, to look at
hparams/           the same for TensorBoard
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import time
from collections.abc import Iterator
from typing import Any

from pipelines.engine.application import UserError
from pipelines.engine.run import Run, write_text
from tuning.definition import Definition
from tuning.signs_of_life import alive
from tuning.trials import Search, Trial

DEFAULT = 0  # the number of the trial that is the recipe as it is
DEATHS = 3  # of processes, until it is the trial that is at fault


class Folder:
    """The folder of one search, there or not.

    Args:
        path: of the folder.
        kind: of the search that it holds.
    """

    def __init__(self, path: str | os.PathLike, kind: type[Definition] = Definition) -> None:
        self.path, self.kind = pathlib.Path(path), kind
        self.definition_file = self.path / "search.json"
        self.best_file = self.path / "best.json"

    @property
    def exists(self) -> bool:
        return self.definition_file.exists()

    def create(self, definition: Definition) -> None:
        """Begins a search.

        Raises:
            UserError: if the folder exists or the disk refuses.
        """
        if self.path.exists():
            raise UserError(
                f"{self.path} exists; continue that search with --resume, or give another --run"
            )
        try:
            for name in ("trials", "records", "logs", "oracle"):
                (self.path / name).mkdir(parents=True)
        except OSError as error:
            raise UserError(f"cannot make {self.path}: {error.strerror}") from None
        write_text(self.path / "began", str(time.time()))
        self.write_definition(definition)

    @property
    def definition(self) -> Definition:
        """What was begun; UserError where the folder is no search."""
        if not self.exists:
            raise UserError(f"{self.path} is no folder of a search: it has no search.json")
        try:
            return self.kind.from_json(self.definition_file.read_text())
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{self.definition_file} tells of no search: {error!r}") from None

    def write_definition(self, definition: Definition) -> None:
        """Replaces the definition (a search may be given more trials)."""
        write_text(self.definition_file, definition.to_json())

    @property
    def began(self) -> float:
        """When the search did, in seconds since 1970."""
        return float((self.path / "began").read_text())

    def elapsed(self) -> float:
        """Seconds since then."""
        return time.time() - self.began

    @property
    def runs_dir(self) -> pathlib.Path:
        return self.path.parents[1]

    def run(self, number: int, training: int = 0) -> Run:
        """The run of a trial's training, counted from 0, there or not."""
        further = f"-{training + 1}" if training else ""
        return Run(self.path / "trials" / f"{number:04d}{further}")

    def runs(self, number: int) -> list[Run]:
        """The runs of all trainings of a trial, there or not."""
        return [self.run(number, training) for training in range(self.definition.trainings)]

    def log(self, number: int) -> pathlib.Path:
        """Where what a trial prints is kept."""
        return self.path / "logs" / f"{number:04d}.txt"

    def write(self, trial: Trial) -> None:
        """Adds or replaces the record of a trial."""
        text = json.dumps(dataclasses.asdict(trial), indent=2)
        write_text(self._record(trial.number), text)

    def trial(self, number: int) -> Trial | None:
        """What is recorded of a trial, if it began."""
        file = self._record(number)
        return _trial(json.loads(file.read_text())) if file.exists() else None

    def _record(self, number: int) -> pathlib.Path:
        return self.path / "records" / f"{number:04d}.json"

    @contextlib.contextmanager
    def attempt(self, number: int) -> Iterator[None]:
        """Around all that may kill the process that trains a trial.

        Raises:
            UserError: if that happened several times in a row without an epoch in between.
        """
        file = self.attempt_file(number)
        epochs = sum(len(run.history) for run in self.runs(number))
        last = json.loads(file.read_text()) if file.exists() else {"epochs": epochs, "times": 0}
        times = last["times"] if last["epochs"] == epochs else 0
        if times >= DEATHS:
            raise UserError(
                f"the process that trained it was killed {times} times after epoch {epochs}: "
                "perhaps it needs more memory than there is"
            )
        write_text(file, json.dumps({"epochs": epochs, "times": times + 1}))
        try:
            with alive(file):
                yield
        finally:
            file.unlink(missing_ok=True)

    def attempt_file(self, number: int) -> pathlib.Path:
        """What is there, and touched, as long as a process trains a trial."""
        return self._record(number).with_suffix(".attempts")

    def forgive(self) -> None:
        """Forgets of processes that were killed: those that we end are no fault of a trial."""
        for file in self.path.glob("records/*.attempts"):
            file.unlink(missing_ok=True)

    def search(self) -> Search:
        """All trials so far; the curve of a running one is as long as it has come."""
        definition = self.definition
        files = sorted((self.path / "records").glob("[0-9]*.json"))
        trials = [_trial(json.loads(file.read_text())) for file in files]
        default = [trial.score for trial in trials if trial.number == DEFAULT]
        return Search(
            application=definition.application,
            tuner=definition.tuner,
            objective=definition.objective,
            direction=definition.direction,
            space=definition.space,
            trials=[
                dataclasses.replace(trial, curve=self.curve(trial.number))
                if trial.status == "running"
                else trial
                for trial in trials
                if trial.number != DEFAULT
            ],
            default=default[0] if default else None,
        )

    def ranked_with_default(self) -> list[Trial]:
        """The trials, and the recipe as it is where it was trained, the best first."""
        search, default = self.search(), self.trial(DEFAULT)
        known = [*search.trials, default] if default else search.trials
        return dataclasses.replace(search, trials=known).ranked()

    def curve(self, number: int) -> tuple[float, ...]:
        """The objective after each epoch of a trial's first training."""
        objective = self.definition.objective
        return tuple(metrics[objective] for metrics in self.run(number).history)

    def write_best(self, search: Search) -> None:
        """Replaces ``best.json`` with the configuration of the best trial, if there is one.

        It is of no fold: whoever replays it trains on the whole training split.
        """
        ranked = search.ranked()
        if ranked:
            best = self.definition.configuration(ranked[0].hyperparameters)
            write_text(self.best_file, best.to_json())


def _trial(values: dict[str, Any]) -> Trial:
    return Trial(**values | {name: tuple(values[name]) for name in ("broken", "curve")})
