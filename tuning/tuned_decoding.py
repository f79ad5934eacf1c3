"""How one trained model decodes, as what a search tunes: nothing is trained, texts are written.

A trial is the run's configuration with another search in its task, so that it is measured with the
very task that ``pipelines.evaluate`` and ``serving.export`` take when they are given its options.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import keras_tuner as kt

from pipelines.diagnosis.hypotheses import Pairs, writer
from pipelines.engine.answers import OpenRun, searching
from pipelines.engine.application import UserError
from pipelines.engine.bootstrap import SummedFigure
from pipelines.engine.configuration import Configuration
from pipelines.engine.run import Run, write_text
from pipelines.tasks.decoding import Search
from pipelines.tasks.task import Scores
from tuning.definition import Definition, as_options
from tuning.folder import Folder
from tuning.hypermodel import TunedApplication
from tuning.trials import Trial

SPLIT = "validation"
MILLISECONDS = "ms_per_text"


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecodingDefinition(Definition):
    """A search for how a trained model decodes, before any trial.

    Args:
        trained: the finished run, an absolute path.
        examples: of the validation split that trials are measured on, the first ones; None: all.
    """

    trained: str
    examples: int | None = None
    default: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.examples is not None and self.examples < 1:
            raise UserError(f"--examples must be at least 1, not {self.examples}")

    def configuration(self, values: Mapping[str, Any]) -> Configuration:
        """The run's, with a trial's values; a narrower beam has no more answers than it is wide.

        Raises:
            UserError: for what no search can be.
        """
        own = Run(self.trained).configuration
        width = values.get("task.beam_width", own.task["beam_width"])
        answers = min(own.task["answers"], width)
        return searching(own, as_options({**values, "task.answers": answers}))


class TunedDecoding(TunedApplication):
    """A trained model whose search for texts depends on hyperparameters.

    Args:
        folder: of the search, of a ``DecodingDefinition``.
        opened: the trained run.
    """

    def __init__(self, folder: Folder, opened: OpenRun) -> None:
        super().__init__(folder)
        self.opened = opened
        examples = self.definition.examples
        self.pairs = Pairs.read(opened.assembly.source, opened.preprocessor, SPLIT, examples)
        self.writers: dict[Search, Callable] = {}

    def fit(self, hp: kt.HyperParameters, model: Configuration, trial: Trial) -> Trial:
        """Has the texts written in a trial's way, keeps them and measures them.

        Args:
            hp: the proposal.
            model: its configuration.
            trial: what is known of it.
        """
        task = self.opened.application.task(**model.task)
        _, texts, seconds = self._writer(task)(task.length_penalty)
        write_text(self._texts_file(trial.number), json.dumps(texts, ensure_ascii=False, indent=0))
        values = scores_of(self.opened, texts, self.pairs.raw).values
        measures = {f"val_{name}": value for name, value in values.items()}
        measures[MILLISECONDS] = 1000 * seconds / len(texts)
        broken = self.definition.broken(measures)
        score = measures.pop(self.definition.objective)
        return dataclasses.replace(
            trial, status="completed", score=score, measures=measures, broken=broken
        )

    def figure(self, number: int) -> SummedFigure:
        """The objective of a trial that has ended, as a function of its texts."""
        texts = json.loads(self._texts_file(number).read_text(encoding="utf-8"))
        summed = scores_of(self.opened, texts, self.pairs.raw).summed
        return summed[self.definition.objective.removeprefix("val_")]

    def _texts_file(self, number: int) -> pathlib.Path:
        return self.folder.run(number).path.with_suffix(".json")

    def _writer(self, task: Search) -> Callable:
        """One graph for all trials that differ in nothing but α.

        Each width has its own: in the graph of a wider one a narrow beam would be as slow.
        """
        search = dataclasses.replace(task, length_penalty=0.0)
        if search not in self.writers:
            self.writers[search] = writer(self.opened, self.pairs, search)
        return self.writers[search]


def scores_of(opened: OpenRun, texts: list[str], raw: Mapping[str, list]) -> Scores:
    """What the run's task makes of a text for each example."""
    return opened.task.scores({"texts": [[text] for text in texts]}, raw)
