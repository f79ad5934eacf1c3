"""``python -m pipelines.compare RUN RUN ...``: evaluated runs side by side, with intervals.

The interval of a run's mean error, and of its difference to the first run on the same examples, is
the 95 % percentile bootstrap over examples (Efron and Tibshirani 1993, chapter 13).
"""

from __future__ import annotations

import argparse
import functools
import json
from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from pipelines.engine.application import UserError
from pipelines.engine.cli import run_command
from pipelines.engine.configuration import flatten
from pipelines.engine.run import Run

RESAMPLES = 2000


def errors_by_id(run: Run, split: str) -> dict[str, float]:
    """The error of every evaluated example; UserError if the split was not evaluated."""
    file = run.path / "predictions" / f"{split}.jsonl"
    if not file.exists():
        raise UserError(
            f"{run.path} has no predictions for {split}; make them with: "
            f"python -m pipelines.evaluate {run.path} --split {split}"
        )
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    return {row["id"]: row["error"] for row in rows}


def interval(values: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """95 % bootstrap interval of the mean of ``values`` [n]."""
    random = np.random.default_rng(seed)
    rows = (random.integers(0, len(values), len(values)) for _ in range(RESAMPLES))
    means = [values[chosen].mean() for chosen in rows]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def compare(paths: list[str], split: str) -> Table:
    """A table with a column per run.

    Raises:
        UserError: for runs of different applications, or without common evaluated examples.
    """
    runs = [Run(path) for path in paths]
    applications = {run.configuration.application for run in runs}
    if len(applications) > 1:
        raise UserError(f"runs of different applications: {', '.join(sorted(applications))}")
    errors = [errors_by_id(run, split) for run in runs]
    common = sorted(set.intersection(*(set(e) for e in errors)))
    if not common:
        raise UserError(f"the runs have no {split} example in common")
    table = Table("", *(run.path.name for run in runs), title=f"{split}: {len(common):,} examples")
    for name in runs[0].scores[split]:
        values = [run.scores[split].get(name) for run in runs]
        table.add_row(name, *("-" if value is None else f"{value:.4g}" for value in values))
    columns = np.array([[e[i] for i in common] for e in errors])
    table.add_row("mean error", *(_with_interval(column) for column in columns))
    differences = columns - columns[0]
    table.add_row("against the first", "", *(_with_interval(d) for d in differences[1:]))
    options = [flatten(json.loads(run.configuration.to_json())) for run in runs]
    for name in dict.fromkeys(name for option in options for name in option):
        values = [option.get(name) for option in options]
        if any(value != values[0] for value in values):
            table.add_row(f"--{name}", *map(str, values))
    return table


def _with_interval(values: np.ndarray) -> str:
    low, high = interval(values)
    return f"{values.mean():.4g} [{low:.4g}, {high:.4g}]"


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
