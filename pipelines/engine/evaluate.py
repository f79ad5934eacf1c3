"""Answers, scores and errors of a split: what every figure of a report stands on."""

from __future__ import annotations

import dataclasses
import functools
import json
import sys
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from rich.progress import track

from pipelines.engine.answers import OpenRun
from pipelines.engine.application import UserError, choose
from pipelines.engine.bootstrap import digits
from pipelines.engine.data import (
    READ_BATCH,
    Examples,
    evaluation_batches,
    raw_batches,
    readable,
    training_views,
)
from pipelines.engine.lazy import tensorflow as tf
from pipelines.engine.report import write_report, write_report_beside
from pipelines.engine.run import write_text
from pipelines.tasks.examples import by_example
from pipelines.tasks.task import Evaluation

LONGEST_NAME = 160  # characters of a list of runs in the name of a file


def evaluate(
    opened: OpenRun, split: str = "test", limit: int | None = None, *, look_inside: bool = True
) -> Evaluation:
    """Answers every example of a split and compares with the truth.

    Writes ``predictions/<split>.jsonl``, ``scores.json``, ``report.md`` and its pictures; of a run
    that was opened to search otherwise than as it was trained to, as ``evaluate_together`` does.

    Args:
        opened: the run.
        split: of the run's source.
        limit: examples to answer; None: all.
        look_inside: whether the report shows what goes on inside the network.

    Raises:
        UserError: for a split that the source lacks, or damaged data.
    """
    evaluation = answer_split(opened, split, limit)
    evaluation = dataclasses.replace(
        evaluation,
        baselines=_baselines(opened, evaluation.examples),
        training_views=functools.partial(training_views, opened.assembly),
        look_inside=look_inside,
    )
    name = changed_name(opened, split)
    record(opened, name, evaluation)
    if name == split:
        write_report(opened.run, opened.task, evaluation)
    else:
        what = f"With {', '.join(f'--{key} {value}' for key, value in opened.changes.items())}."
        write_report_beside(opened.run, opened.task, evaluation, name, what)
    return evaluation


def answer_split(opened: OpenRun, split: str, limit: int | None = None) -> Evaluation:
    """As ``evaluate``, but writes nothing."""
    choose("split", split, opened.assembly.source.splits)
    recipe = opened.assembly.configuration.recipe
    batches = evaluation_batches(
        opened.assembly.source,
        opened.preprocessor,
        opened.assembly.arrange,
        split,
        batch_size=recipe.rows(READ_BATCH),
        seed=recipe.seed,
        limit=limit,
    )

    def answer(batch: dict[str, Any]) -> dict[str, tf.Tensor]:
        inputs = opened.preprocessor.model_inputs(batch["features"])
        response = opened.task.respond(opened.model, inputs)
        assessed = opened.task.assess(opened.model, inputs, batch["target"])
        return opened.preprocessor.answer(response, batch["example"]) | assessed

    return _compared(opened, split, batches, answer)


def evaluate_together(
    members: Sequence[OpenRun], split: str = "test", limit: int | None = None, *, crops: int = 1
) -> tuple[str, Evaluation]:
    """As ``evaluate``, with the mean of the answers of several runs to several views.

    Everything goes into the folder of the first run, whose source is read, under the name that is
    returned, beside what ``evaluate`` wrote: into ``predictions/<name>.jsonl``, ``scores.json`` and
    ``<name>/report.md``.

    Args:
        members: one run or more.
        split: of the first run's source.
        limit: examples to answer; None: all.
        crops: views of each picture.

    Raises:
        UserError: for runs that answer different questions, answers without a mean, and as
            ``evaluate`` does.
    """
    require_one_question(members)
    first = members[0]
    choose("split", split, first.assembly.source.splits)
    rows = max(1, first.assembly.configuration.recipe.rows(READ_BATCH) // crops)
    batches = raw_batches(first.assembly.source, split, limit, rows)

    def answer(batch: dict[str, Any]) -> dict[str, tf.Tensor]:
        views = [member.preprocessor.views(batch["example"], crops) for member in members]
        inputs = [
            (member.model, member.preprocessor.model_inputs(features))
            for member, features in zip(members, views, strict=True)
        ]
        response = first.task.respond_together(inputs, crops)
        return first.preprocessor.answer(response, batch["example"])

    evaluation = _compared(first, split, batches.map(lambda raw: {"example": raw}), answer)
    name = joint_name(split, crops, [member.run.path.name for member in members[1:]])
    record(first, name, evaluation)
    what = "The mean of the answers of: " + ", ".join(
        f"{member.run.path.name} ({member.assembly.configuration.architecture}, "
        f"{member.model.count_params():,} parameters)"
        for member in members
    )
    write_report_beside(first.run, first.task, evaluation, name, f"{what}.")
    return name, evaluation


def require_one_question(members: Sequence[OpenRun]) -> None:
    """Raises UserError for runs whose answers are not about the same thing."""
    first = members[0]
    for other in members[1:]:
        both = f"{first.run.path} and {other.run.path} answer different questions: "
        applications = [one.application.name for one in (first, other)]
        if applications[0] != applications[1]:
            raise UserError(f"{both}{' and '.join(applications)}")
        classes = [list(one.preprocessor.labels) for one in (first, other)]
        if classes[0] != classes[1]:
            only = sorted(set(classes[0]) ^ set(classes[1]))
            listed = ", ".join(only[:5]) + ", ..." * (len(only) > 5)
            raise UserError(f"{both}only one of them knows {listed}")


def changed_name(opened: OpenRun, split: str) -> str:
    """What an evaluation is called, for instance ``test-beam_width-8`` where that was asked for."""
    spelled = [
        f"{name.removeprefix('task.')}-{digits(value) if isinstance(value, float) else value}"
        for name, value in opened.changes.items()
    ]
    return "-".join([split, *spelled])


def joint_name(split: str, crops: int, others: Sequence[str]) -> str:
    """What a joint evaluation is called, for instance ``test-10-crops-with-second-third``."""
    name = f"{split}-{crops}-crops" if crops > 1 else split
    joined = "-".join(others)
    if len(joined) > LONGEST_NAME:
        joined = f"{len(others)}-others-{zlib.crc32(joined.encode()):08x}"
    return f"{name}-with-{joined}" if others else name


def _compared(
    opened: OpenRun, split: str, batches: tf.data.Dataset, answer: Callable[[dict], dict]
) -> Evaluation:
    """Answers to all batches, each with its raw fields under ``example``, against the truth."""
    answer = tf.function(answer, autograph=False, reduce_retracing=True)
    answers: dict[str, list] = {}
    examples: dict[str, list] = {}
    progress = track(readable(batches), f"Answering {split}", disable=not sys.stdout.isatty())
    for batch in progress:
        _extend(answers, answer(batch))
        raw = batch["example"].items()
        _extend(examples, {k: v for k, v in raw if k not in opened.preprocessor.encoded})
    return Evaluation(
        model=opened.model,
        preprocessor=opened.preprocessor,
        source=opened.assembly.source,
        split=split,
        answers=answers,
        examples=examples,
        scores=opened.task.scores(answers, examples),
    )


def _baselines(opened: OpenRun, examples: dict[str, list]) -> dict[str, dict[str, float]]:
    """The figures of the application's baselines, fitted on the whole training split."""
    if not opened.application.baselines:
        return {}
    training = Examples.read(opened.assembly.source, opened.preprocessor, "train")
    raw = {name: tf.constant(np.array(values)) for name, values in examples.items()}
    features = opened.preprocessor.features(raw)
    figures = {}
    for name, baseline in opened.application.baselines.items():
        response = baseline(opened.preprocessor, training, features)
        answers = by_example(opened.preprocessor.answer(response, raw))
        figures[name] = opened.task.scores(answers, examples).values
    return figures


def _extend(columns: dict[str, list], batch: dict[str, tf.Tensor]) -> None:
    for name, values in batch.items():
        columns.setdefault(name, []).extend(values.numpy())


def record(opened: OpenRun, name: str, evaluation: Evaluation) -> None:
    """Writes the figures and one JSON object per example: its id, error, raw fields and answers."""
    folder = opened.run.path / "predictions"
    folder.mkdir(exist_ok=True)
    lines = [
        json.dumps({"error": float(error)} | _row(evaluation.examples, i) | _row(answers, i))
        for answers in [evaluation.answers]
        for i, error in enumerate(evaluation.scores.errors)
    ]
    write_text(folder / f"{name}.jsonl", "\n".join(lines) + "\n")
    scores = evaluation.scores
    intervals = {figure: summed.interval() for figure, summed in scores.summed.items()}
    about = {"examples": len(scores.errors), "intervals": intervals}
    if evaluation.baselines:
        about["baselines"] = evaluation.baselines
    opened.run.write_scores(name, scores.values | about)


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
    if isinstance(value, np.floating) and np.isnan(value):  # JSON has no such number
        return None
    return value.item() if isinstance(value, np.generic) else value
