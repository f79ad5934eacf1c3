"""One HyperModel for all applications: what keras-tuner proposes, trained by the engine.

What keras-tuner takes for a model is a configuration here. Each training of it is a run in the
search's folder, so that one that was killed goes on from its last epoch.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import shutil
import statistics
from typing import Any

import keras
import keras_tuner as kt

from pipelines.diagnosis.costs import latency_ms
from pipelines.diagnosis.selection import Limit
from pipelines.engine.application import UserError
from pipelines.engine.assembly import Assembly, assemble
from pipelines.engine.cli import train_run
from pipelines.engine.configuration import Command, Configuration
from pipelines.engine.run import Run, replacing
from pipelines.engine.train import distribution_strategy, prepare_backend
from pipelines.sources.partition import Partition
from tuning.definition import LATENCY, PARAMETERS
from tuning.folder import Folder
from tuning.space import declare, options_of
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

    def declare_hyperparameters(self, hp: kt.HyperParameters) -> None:
        declare(hp, self.definition.space)

    def options(self, hp: kt.HyperParameters) -> dict[str, Any]:
        """Option → value, of a proposal."""
        return options_of(self.definition.space, hp.values)

    def build(self, hp: kt.HyperParameters) -> Configuration:
        """The configuration of a proposal; UserError for a combination that is refused."""
        return self.definition.configuration(self.options(hp))

    def fit(self, hp: kt.HyperParameters, model: Configuration, trial: Trial) -> Trial:
        """Trains a configuration as often as is asked for, and measures what came of it.

        Hyperband's proposals are trained to a part of their epochs, from where another trial ended.

        Args:
            hp: the proposal.
            model: its configuration.
            trial: what is known of it.
        """
        past = hp.values.get("tuner/trial_id")
        runs = [
            self._train(
                dataclasses.replace(
                    model, recipe=dataclasses.replace(model.recipe, seed=model.recipe.seed + number)
                ),
                self.folder.run_name(trial.number, number),
                past=self.folder.run(int(past) + 1, number) if past else None,
                epochs=hp.values.get("tuner/epochs"),
            )
            for number in range(self.definition.executions)
        ]
        return self._measured(trial, runs)

    def _train(
        self, configuration: Configuration, name: str, past: Run | None, epochs: int | None
    ) -> Run:
        run = Run(self.folder.path.parent / name)
        if past and not run.path.exists():
            with replacing(run.path) as beside:
                shutil.copytree(past.path, beside)
        if run.finished and (epochs is None or len(run.history) >= epochs):
            return run
        keras.utils.clear_session()
        prepare_backend(configuration.recipe)
        assembly = self._assembled(configuration, run)
        command = Command(run=name, runs_dir=str(self.folder.runs_dir), resume=run.path.exists())
        callbacks: list[keras.callbacks.Callback] = []
        if epochs is not None:
            callbacks.append(StopAfter(epochs))
        if self.definition.stop_hopeless:
            callbacks.append(MedianRule(self.folder.search, run.history))
        run = train_run(assembly, command, distribution_strategy(), callbacks)
        self.fitted.setdefault(_data_options(configuration), assembly.preprocessor)
        return run

    def _assembled(self, configuration: Configuration, run: Run) -> Assembly:
        """The parts of a run; one whose preprocessor was fitted before is begun with that."""
        assembly = assemble(configuration)
        fitted = self.fitted.get(_data_options(configuration))
        if fitted is None or run.path.exists():
            return assembly
        Run.create(run.path, configuration, fitted.save)
        return dataclasses.replace(assembly, preprocessor=fitted)

    def _measured(self, trial: Trial, runs: list[Run]) -> Trial:
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
            status="completed",
            score=score,
            spread=statistics.stdev(scores) if len(scores) > 1 else None,
            measures=measures,
            broken=self.definition.broken(known),
            curve=tuple(metrics[objective] for metrics in runs[0].history),
        )


def _data_options(configuration: Configuration) -> str:
    """What a fitted preprocessor depends on."""
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


@contextlib.contextmanager
def printing_to(file: Any):
    """Everything that Python prints goes to a file, at its end."""
    with (
        open(file, "a", encoding="utf-8", buffering=1) as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        yield
