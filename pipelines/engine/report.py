"""``report.md`` of a run: its figures in words and pictures."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

from pipelines.engine.bootstrap import digits
from pipelines.engine.run import Run, replacing, write_text
from pipelines.tasks.task import Evaluation, Figure, Task


def write_report(run: Run, task: Task, evaluation: Evaluation) -> None:
    """Draws all pictures into the run folder and writes the report around them."""
    figures = [*learning_curves(run), *task.figures(evaluation, run.path)]
    configuration = run.configuration
    what = (
        f"{configuration.architecture} on {configuration.dataset}, "
        f"{len(run.history)} epochs, {evaluation.model.count_params():,} parameters."
    )
    _write(run.path, run, what, run.scores, figures, evaluation)


def write_report_beside(run: Run, task: Task, evaluation: Evaluation, name: str, what: str) -> None:
    """Writes the report of an evaluation that is not of the run as it is into its folder ``name``.

    Args:
        run: whose folder it is.
        task: that draws the pictures.
        evaluation: to report.
        name: under which it was recorded.
        what: it is, a sentence.
    """
    scores = {key: run.scores[key] for key in (evaluation.split, name) if key in run.scores}
    with replacing(run.path / name) as folder:
        folder.mkdir()
        figures = task.figures(evaluation, folder)
        _write(folder, run, what, scores, figures, evaluation)


def _write(
    folder: pathlib.Path,
    run: Run,
    what: str,
    scores: dict[str, dict[str, Any]],
    figures: Sequence[Figure],
    evaluation: Evaluation,
) -> None:
    lines = [f"# {run.configuration.application}: {run.path.name}", "", what, ""]
    for name, values in scores.items():
        lines += [f"## {name}: {values['examples']:,} examples", "", *_table(values), ""]
    for figure in figures:
        lines += [f"## {figure.title}", "", figure.caption, "", f"![{figure.title}]({figure.file})"]
        lines += [""]
    if evaluation.source.skipped:
        lines += ["## Left out", "", *(f"- {item}" for item in evaluation.source.skipped), ""]
    write_text(folder / "report.md", "\n".join(lines))


def learning_curves(run: Run) -> list[Figure]:
    """Draws every metric against the epoch, training beside validation."""
    from matplotlib.figure import Figure as Canvas

    history = run.history
    names = [
        name
        for name in history[0]
        if not name.startswith("val_") and name not in {"epoch", "seconds"}
    ]
    canvas = Canvas(figsize=(4.2 * len(names), 3.2), layout="constrained")
    epochs = [metrics["epoch"] for metrics in history]
    for axes, name in zip(canvas.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for key, label in ((name, "training"), (f"val_{name}", "validation")):
            if key in history[0]:
                axes.plot(epochs, [metrics[key] for metrics in history], label=label, marker=".")
        for change in run.changes:
            axes.axvline(change["epochs"], color="grey", linestyle=":")
        axes.set(xlabel="epoch", title=name.replace("_", " "))
        axes.legend() if f"val_{name}" in history[0] else None
    file = pathlib.Path(run.path, "learning_curves.png")
    canvas.savefig(file, dpi=110)
    caption = "Metrics after each epoch on training and validation."
    if run.changes:
        caption += " Dotted: where the learning rate was changed by hand."
    return [Figure(file.name, "Learning curves", caption)]


def _table(scores: dict[str, Any]) -> list[str]:
    """The figures of a split, with their 95 % intervals and baselines where they have them."""
    baselines = scores.get("baselines", {})
    lines = [
        f"| figure | value | 95 % interval |{''.join(f' {name} |' for name in baselines)}",
        "|---|---|---|" + "---|" * len(baselines),
    ]
    intervals = scores.get("intervals", {})
    for name, value in scores.items():
        if name not in ("examples", "intervals", "baselines"):
            low_high = " – ".join(digits(bound) for bound in intervals.get(name, []))
            beside = "".join(f" {digits(values[name])} |" for values in baselines.values())
            lines.append(f"| {name} | {digits(value)} | {low_high} |{beside}")
    return lines
