"""One HyperModel for all applications: what keras-tuner proposes, trained by the engine.

What keras-tuner takes for a model is a configuration here. Each training of it is a run in the
search's folder, so that one that was killed goes on from its last epoch.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import shutil
import statistics
from typing import Any, Literal

import keras
import keras_tuner as kt

from pipelines.diagnosis.costs import latency_ms
from pipelines.diagnosis.selection import Limit
from pipelines.engine.application import UserError
from pipelines.engine.assembly import Assembly, assemble
from pipelines.engine.cli import train_run
from pipelines.engine.configuration import Command, Configuration
from pipelines.engine.data import Examples
from pipelines.engine.run import Run, replacing
from pipelines.engine.train import Recorder, distribution_strategy, prepare_backend
from pipelines.preprocess.preprocessor import Preprocessor
from pipelines.sources.partition import Partition
from pipelines.sources.source import Source
from tuning.definition import LATENCY, PARAMETERS
from tuning.folder import DEFAULT, Folder
from tuning.space import declare, options_of, own_options
from tuning.stopping import MedianRule, StopAfter
from tuning.trials import Trial


class TunedApplication(kt.HyperModel):
    """An application whose configuration depends on hyperparameters.

    Args:
        folder: of the search.
    """

    def __init__(self, folder: Folder) -> None:
        super().__init__()
        self.folder, self.definition = folder, folder.definition
        self.fitted: dict[str, Any] = {}
        self.examples = LastExamples()

    def declare_hyperparameters(self, hp: kt.HyperParameters) -> None:
        declare(hp, self.definition.space)

    def options(self, hp: kt.HyperParameters) -> dict[str, Any]:
        """Option → value, of a proposal."""
        return options_of(self.definition.space, hp.values)

    def own_options(self) -> dict[str, Any]:
        """Option → value, of the recipe as it is."""
        return own_options(self.definition.space, self.definition.configuration({}))

    def build(self, hp: kt.HyperParameters) -> Configuration:
        """The configuration of a proposal; UserError for a combination that is refused."""
        return self.definition.configuration(self.options(hp))

    def fit(self, hp: kt.HyperParameters, model: Configuration, trial: Trial) -> Trial:
        """Trains a configuration as often as is asked for, and measures what came of it.

        Hyperband's proposals are trained to a part of their epochs, from where another trial ended.
        What the median rule finds hopeless in the first training gets no further ones.

        Args:
            hp: the proposal.
            model: its configuration.
            trial: what is known of it.
        """
        past, epochs = hp.values.get("tuner/trial_id"), hp.values.get("tuner/epochs")
        runs: list[Run] = []
        for number in range(self.definition.trainings):
            run = self._begun(trial.number, number, past)
            if not run.finished or (epochs and len(run.history) < epochs):
                configuration = self.definition.training(model, number)
                self._train(configuration, run, self._endings(trial, number, run, epochs))
            runs.append(run)
            if self.definition.stop_hopeless and _fell_behind(run):
                return self._measured(trial, runs, "stopped")
        return self._measured(trial, runs, "completed")

    def _begun(self, trial: int, number: int, past: str | None) -> Run:
        """The run of a training, there or not; where it goes on from another trial's, a copy."""
        run = self.folder.run(trial, number)
        if past and not run.path.exists():
            with replacing(run.path) as beside:
                shutil.copytree(self.folder.run(int(past) + 1, number).path, beside)
        return run

    def _endings(
        self, trial: Trial, number: int, run: Run, epochs: int | None
    ) -> list[keras.callbacks.Callback]:
        """What may end a training before the recipe does.

        The median rule compares first trainings alone: another fold may be a harder one.
        """
        endings: list[keras.callbacks.Callback] = [] if epochs is None else [StopAfter(epochs)]
        if self.definition.stop_hopeless and number == 0 and trial.number != DEFAULT:
            endings.append(MedianRule(self.folder.search, run.history))
        return endings

    def _train(
        self, configuration: Configuration, run: Run, endings: list[keras.callbacks.Callback]
    ) -> None:
        keras.utils.clear_session()
        prepare_backend(configuration.recipe)
        assembly = self._assembled(configuration, run)
        command = Command(
            run=str(run.path.relative_to(self.folder.path.parent)),
            runs_dir=str(self.folder.runs_dir),
            resume=run.path.exists(),
        )
        data = _data_options(configuration)
        read = functools.partial(self.examples.read, data)
        train_run(assembly, command, distribution_strategy(), endings, read=read)
        self.fitted.setdefault(data, assembly.preprocessor)

    def _assembled(self, configuration: Configuration, run: Run) -> Assembly:
        """The parts of a run; one whose preprocessor was fitted before is begun with that."""
        assembly = assemble(configuration)
        fitted = self.fitted.get(_data_options(configuration))
        if fitted is None or run.path.exists():
            return assembly
        Run.create(run.path, configuration, fitted.save)
        return dataclasses.replace(assembly, preprocessor=fitted)

    def _measured(
        self, trial: Trial, runs: list[Run], status: Literal["completed", "stopped"]
    ) -> Trial:
        objective, direction = self.definition.objective, self.definition.direction
        best = [_best_epoch(run.history, objective, direction) for run in runs]
        scores = [metrics[objective] for metrics in best]
        measures = {
            name: statistics.fmean(metrics[name] for metrics in best)
            for name in best[0]
            if name.startswith("val_") and name != objective
        }
        score = statistics.fmean(scores)
        measures[PARAMETERS] = runs[0].load_model().count_params()
        if LATENCY in [Limit.parse(text).name for text in self.definition.limits]:
            measures[LATENCY] = latency_ms(runs[0])
        known = {**measures, objective: score}
        return dataclasses.replace(
            trial,
            status=status,
            score=score,
            spread=statistics.stdev(scores) if len(scores) > 1 else None,
            measures=measures,
            broken=self.definition.broken(known),
            curve=tuple(metrics[objective] for metrics in runs[0].history),
        )


class LastExamples:
    """The examples of the last training, which are not read again if the next one has the same.

    Those of others are dropped, so that there is memory for the next ones.
    """

    def __init__(self) -> None:
        self.options, self.splits = "", {}

    def read(
        self,
        options: str,
        source: Source,
        preprocessor: Preprocessor,
        split: str,
        limit: int | None = None,
    ) -> Examples:
        """What ``Examples.read`` does, of data with these options."""
        if options != self.options:
            self.options, self.splits = options, {}
        if (split, limit) not in self.splits:
            self.splits[split, limit] = Examples.read(source, preprocessor, split, limit)
        return self.splits[split, limit]


def _fell_behind(run: Run) -> bool:
    """Whether the median rule ended a training: early, and not because patience did.

    It is read off the run, so that whoever goes on with the trial comes to the same conclusion.
    """
    recipe, history = run.configuration.recipe, run.history
    return len(history) < recipe.epochs and not Recorder(run, recipe, history).stops_early()


def _data_options(configuration: Configuration) -> str:
    """What a fitted preprocessor depends on, and the features and targets that it makes."""
    values = json.loads(configuration.to_json())
    names = ["dataset", "data_dir", "download", "strict", "source", "preprocess", "backbone"]
    names += [field.name for field in dataclasses.fields(Partition)]
    return json.dumps({name: values.get(name) for name in names})


def _best_epoch(history: list[dict[str, float]], objective: str, direction: str) -> dict:
    """The metrics of the epoch whose weights are kept; UserError if none is a number."""
    known = [metrics for metrics in history if math.isfinite(metrics[objective])]
    if not known:
        raise UserError(f"{objective} was no number after any epoch")
    best = min if direction == "min" else max
    return best(known, key=lambda metrics: metrics[objective])
