"""``report.md`` of a run: its figures in words and pictures."""

from __future__ import annotations

import pathlib

from pipelines.engine.run import Run, write_text
from pipelines.tasks.task import Evaluation, Figure, Task


def write_report(run: Run, task: Task, evaluation: Evaluation) -> None:
    """Draws all pictures into the run folder and writes the report around them."""
    figures = [*learning_curves(run), *task.figures(evaluation, run.path)]
    configuration = run.configuration
    lines = [
        f"# {configuration.application}: {run.path.name}",
        "",
        f"{configuration.architecture} on {configuration.dataset}, "
        f"{len(run.history)} epochs, {evaluation.model.count_params():,} parameters.",
        "",
    ]
    for split, scores in run.scores.items():
        lines += [f"## {split}: {scores['examples']:,} examples", "", "| figure | value |"]
        lines += ["|---|---|"]
        lines += [f"| {name} | {_figure(value)} |" for name, value in scores.items()]
        lines += [""]
    for figure in figures:
        lines += [f"## {figure.title}", "", figure.caption, "", f"![{figure.title}]({figure.file})"]
        lines += [""]
    if evaluation.source.skipped:
        lines += ["## Left out", "", *(f"- {item}" for item in evaluation.source.skipped), ""]
    write_text(run.path / "report.md", "\n".join(lines))


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
        axes.set(xlabel="epoch", title=name.replace("_", " "))
        axes.legend() if f"val_{name}" in history[0] else None
    file = pathlib.Path(run.path, "learning_curves.png")
    canvas.savefig(file, dpi=110)
    return [
        Figure(file.name, "Learning curves", "Metrics after each epoch on training and validation.")
    ]


def _figure(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
