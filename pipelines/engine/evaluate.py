"""Answers, scores and errors of a split: what every figure of a report stands on."""

from __future__ import annotations

import functools
import json
import sys
from typing import Any

import numpy as np
from rich.progress import track

from pipelines.engine.answers import OpenRun
from pipelines.engine.application import choose
from pipelines.engine.data import evaluation_batches, readable, training_views
from pipelines.engine.lazy import tensorflow as tf
from pipelines.engine.report import write_report
from pipelines.engine.run import write_text
from pipelines.tasks.task import Evaluation


def evaluate(opened: OpenRun, split: str = "test", limit: int | None = None) -> Evaluation:
    """Answers every example of a split and compares with the truth.

    Writes ``predictions/<split>.jsonl``, ``scores.json``, ``report.md`` and its pictures.

    Raises:
        UserError: for a split that the source lacks, or damaged data.
    """
    source = opened.assembly.source
    choose("split", split, source.splits)
    answers, examples = _collect(opened, split, limit)
    scores = opened.task.scores(answers, examples)
    evaluation = Evaluation(
        model=opened.model,
        preprocessor=opened.preprocessor,
        source=source,
        split=split,
        answers=answers,
        examples=examples,
        scores=scores,
        training_views=functools.partial(training_views, opened.assembly),
    )
    _write_predictions(opened, evaluation)
    intervals = {name: figure.interval() for name, figure in scores.summed.items()}
    opened.run.write_scores(
        split, scores.values | {"examples": len(scores.errors), "intervals": intervals}
    )
    write_report(opened.run, opened.task, evaluation)
    return evaluation


def _collect(
    opened: OpenRun, split: str, limit: int | None
) -> tuple[dict[str, list], dict[str, list]]:
    recipe = opened.assembly.configuration.recipe
    batches = evaluation_batches(
        opened.assembly.source,
        opened.preprocessor,
        opened.assembly.arrange,
        split,
        batch_size=recipe.batch_size,
        seed=recipe.seed,
        limit=limit,
    )

    @tf.function(autograph=False, reduce_retracing=True)
    def answer(batch: dict[str, Any]) -> dict[str, tf.Tensor]:
        inputs = opened.preprocessor.model_inputs(batch["features"])
        response = opened.task.respond(opened.model, inputs)
        assessed = opened.task.assess(opened.model, inputs, batch["target"])
        return opened.preprocessor.answer(response, batch["example"]) | assessed

    answers: dict[str, list] = {}
    examples: dict[str, list] = {}
    progress = track(readable(batches), f"Answering {split}", disable=not sys.stdout.isatty())
    for batch in progress:
        _extend(answers, answer(batch))
        raw = batch["example"].items()
        _extend(examples, {k: v for k, v in raw if k not in opened.preprocessor.encoded})
    return answers, examples


def _extend(columns: dict[str, list], batch: dict[str, tf.Tensor]) -> None:
    for name, values in batch.items():
        columns.setdefault(name, []).extend(values.numpy())


def _write_predictions(opened: OpenRun, evaluation: Evaluation) -> None:
    """One JSON object per example: its id, error, raw fields and answers."""
    folder = opened.run.path / "predictions"
    folder.mkdir(exist_ok=True)
    lines = [
        json.dumps({"error": float(error)} | _row(evaluation.examples, i) | _row(answers, i))
        for answers in [evaluation.answers]
        for i, error in enumerate(evaluation.scores.errors)
    ]
    write_text(folder / f"{evaluation.split}.jsonl", "\n".join(lines) + "\n")


def _row(columns: dict[str, list], index: int) -> dict[str, Any]:
    # Attention maps and other grids would be most of the file, and belong in pictures.
    return {
        name: plain(values[index]) for name, values in columns.items() if np.ndim(values[index]) < 2
    }


def plain(value: Any) -> Any:
    """A numpy value or array, or bytes, as what JSON and a person read."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, np.ndarray):
        return [plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value
