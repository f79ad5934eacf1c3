"""``python -m pipelines.compare RUN RUN ...``: evaluated runs side by side, with intervals.

The intervals of a run's figures, and of their differences to those of the first run, are the 95 %
percentile bootstrap over the examples that all runs have answered; for a difference, the examples
of both runs are drawn together (paired).
"""

from __future__ import annotations

import argparse
import functools
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from pipelines.engine.application import UserError, load_application
from pipelines.engine.bootstrap import SummedFigure, digits, interval, mean, spelled
from pipelines.engine.cli import run_command
from pipelines.engine.configuration import flatten
from pipelines.engine.run import Run


def predictions(run: Run, split: str) -> dict[str, dict[str, Any]]:
    """What was written of every evaluated example; UserError if the split was not evaluated."""
    file = run.path / "predictions" / f"{split}.jsonl"
    if not file.exists():
        raise UserError(
            f"{run.path} has no predictions for {split}; make them with: "
            f"python -m pipelines.evaluate {run.path} --split {split}"
        )
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    return {row["id"]: row for row in rows}


def figures(run: Run, rows: list[dict[str, Any]]) -> dict[str, SummedFigure]:
    """The mean error and the task's own figures of some evaluated examples."""
    configuration = run.configuration
    task = load_application(configuration.application).task(**configuration.task)
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    scores = task.scores(answers=columns, examples=columns)
    return {**scores.summed, "mean error": mean(np.array(columns["error"]))}


def compare(paths: list[str], split: str) -> Table:
    """A table with a column per run.

    Raises:
        UserError: for runs of different applications, or without common evaluated examples.
    """
    runs = [Run(path) for path in paths]
    applications = {run.configuration.application for run in runs}
    if len(applications) > 1:
        raise UserError(f"runs of different applications: {', '.join(sorted(applications))}")
    answered = [predictions(run, split) for run in runs]
    common = sorted(set.intersection(*map(set, answered)))
    if not common:
        raise UserError(f"the runs have no {split} example in common")
    table = Table("", *(run.path.name for run in runs), title=f"{split}: {len(common):,} examples")
    measured = [
        figures(run, [rows[name] for name in common])
        for run, rows in zip(runs, answered, strict=True)
    ]
    for name in runs[0].scores[split]:
        if name not in (*measured[0], "intervals", "baselines"):
            values = [run.scores[split].get(name) for run in runs]
            table.add_row(name, *("-" if value is None else digits(value) for value in values))
    for name, first in measured[0].items():
        row = [run.get(name) for run in measured]
        table.add_row(name, *(spelled(f.value, f.interval()) if f else "-" for f in row))
        table.add_row("  against the first", "", *(_gain(f, first) if f else "-" for f in row[1:]))
    options = [flatten(json.loads(run.configuration.to_json())) for run in runs]
    for name in dict.fromkeys(name for option in options for name in option):
        values = [option.get(name) for option in options]
        if any(value != values[0] for value in values):
            table.add_row(f"--{name}", *map(str, values))
    return table


def _gain(figure: SummedFigure, first: SummedFigure) -> str:
    return spelled(figure.value - first.value, interval(figure.gains_over(first)))


def run(arguments: Sequence[str]) -> None:
    """Does what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.compare", description=__doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="path of a run folder")
    parser.add_argument("--split", default="test")
    options = parser.parse_args(arguments)
    Console().print(compare(options.runs, options.split))


main = functools.partial(run_command, run)

if __name__ == "__main__":
    main()
