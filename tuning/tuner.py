"""keras-tuner's loop over trials, each of which is recorded whatever becomes of it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import keras_tuner as kt
from keras_tuner.engine.base_tuner import BaseTuner
from keras_tuner.src import config

from pipelines.engine.application import UserError
from tuning.folder import DEFAULT, Folder
from tuning.hypermodel import TunedApplication
from tuning.oracles import oracle_of
from tuning.trials import Trial

PAUSE = 0.2  # seconds between two questions of a worker whether there is something to do
TUNER, ADDRESS, PORT = (f"KERASTUNER_{name}" for name in ("TUNER_ID", "ORACLE_IP", "ORACLE_PORT"))
CHIEF = "chief"


class Tuner(BaseTuner):
    """Asks the oracle for settings and has them trained, as the only process or as a worker.

    Which one it is, keras-tuner reads from ``KERASTUNER_TUNER_ID``, ``KERASTUNER_ORACLE_IP`` and
    ``KERASTUNER_ORACLE_PORT``.

    Args:
        folder: of the search.
        ended: called after each trial.
        hypermodel: what is tuned; None: the application.
    """

    def __init__(
        self,
        folder: Folder,
        ended: Callable[[], Any] = lambda: None,
        hypermodel: TunedApplication | None = None,
    ) -> None:
        self.folder, self.definition, self.ended = folder, folder.definition, ended
        config.DEBUG = False  # keras-tuner's printing of what each failed trial has in its log
        super().__init__(
            oracle=begun_oracle(folder),
            hypermodel=hypermodel or TunedApplication(folder),
            directory=str(folder.path),
            project_name="oracle",
        )

    def _populate_initial_space(self) -> None:
        """Nothing: the oracle knows the space; finding it by building models is not needed."""

    def save(self) -> None:
        """Nothing: the oracle saves itself, and there is no other state."""

    def pre_create_trial(self) -> None:
        if is_worker():  # the chief may have had nothing to do for it
            time.sleep(PAUSE)

    def on_trial_end(self, trial: Any) -> None:
        super().on_trial_end(trial)
        self.ended()

    def run_trial(self, trial: Any) -> dict[str, float]:
        """Trains a trial, or goes on with it.

        Raises:
            FailedTrialError: with the reason, which is recorded too.
            FatalError: where it is not the setting's fault, but the disk's.
        """
        options = self.hypermodel.options(trial.hyperparameters)
        trial = self._recorded(trial_number(trial), trial.hyperparameters, options)
        return {self.definition.objective: self._told(trial)}

    def run(self) -> None:
        """Runs trials until none is left; UserError for what no setting is to blame for."""
        try:
            self.search()
        except kt.errors.FatalError as error:
            raise UserError(str(error)) from None

    def train_default(self) -> None:
        """Trains the recipe as it is, to compare with; UserError if that fails."""
        try:
            self._recorded(DEFAULT, kt.HyperParameters(), self.hypermodel.own_options())
        except (kt.errors.FatalError, kt.errors.FailedTrialError) as error:
            raise UserError(f"the recipe as it is fails: {error}") from None

    def _recorded(
        self, number: int, hyperparameters: kt.HyperParameters, options: dict[str, Any]
    ) -> Trial:
        known = self.folder.trial(number)
        if known and known.score is not None:  # but perhaps nobody lived to tell the oracle
            return known
        record = Trial(
            number=number,
            round=max(0, number - 1) // self.definition.round_size,
            status="running",
            hyperparameters=options,
            began=known.began if known else self.folder.elapsed(),
        )
        self.folder.write(record)
        began = time.perf_counter()
        try:
            with _printing_to(self.folder.log(number)):
                ended = self._train(hyperparameters, record)
        except Exception as error:  # whatever it is, it is what came of the trial
            if isinstance(error, OSError) or isinstance(error.__context__, OSError):
                raise kt.errors.FatalError(str(error)) from None
            reason, seconds = _reason(error), time.perf_counter() - began
            ended = dataclasses.replace(record, status="failed", reason=reason, seconds=seconds)
            self.folder.write(ended)
            raise kt.errors.FailedTrialError(reason) from None
        ended = dataclasses.replace(ended, seconds=time.perf_counter() - began)
        self.folder.write(ended)
        return ended

    def _train(self, hyperparameters: kt.HyperParameters, record: Trial) -> Trial:
        try:
            with self.folder.attempt(record.number):
                configuration = self.hypermodel.build(hyperparameters)
                return self.hypermodel.fit(hyperparameters, configuration, record)
        except Exception:
            traceback.print_exc()  # into the trial's log
            raise

    def _told(self, trial: Trial) -> float:
        """What the oracle takes for the score: that of one that breaks a limit is the worst."""
        if not trial.broken:
            return trial.score
        scores = [one.score for one in self.folder.search().trials if one.score is not None]
        return max(scores) if self.definition.direction == "min" else min(scores)


def trial_number(trial: Any) -> int:
    """From 1, of a trial of keras-tuner's."""
    return int(trial.trial_id) + 1


def begun_oracle(folder: Folder) -> Any:
    """The oracle of a search, as far as it has come."""
    definition = folder.definition
    oracle = oracle_of(
        definition,
        epochs=definition.configuration({}).recipe.epochs,
        ranked=folder.ranked_with_default,
    )
    oracle._set_project_dir(str(folder.path), "oracle")
    if not is_worker():
        oracle.resume()
    return oracle


def is_worker() -> bool:
    """Whether keras-tuner's environment variables say that another process is the chief."""
    return TUNER in os.environ and not is_chief()


def is_chief() -> bool:
    """Whether keras-tuner's environment variables say that this process is the chief."""
    return os.environ.get(TUNER, "").startswith(CHIEF)


def _reason(error: Exception) -> str:
    """One line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"[:500]


@contextlib.contextmanager
def _printing_to(file: pathlib.Path) -> Iterator[None]:
    """Everything that Python prints goes to a file, at its end."""
    with (
        open(file, "a", encoding="utf-8", buffering=1) as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        yield
