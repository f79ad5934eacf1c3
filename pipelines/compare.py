"""``python -m pipelines.compare RUN RUN ...``: evaluated runs side by side, with intervals.

The intervals of a run's figures, and of their differences to those of the first run, are the 95 %
percentile bootstrap over the examples that all runs have answered; for a difference, the examples
of both runs are drawn together (paired).

With --optimize FIGURE the best run is named, with --limit among those that are good enough:
--optimize accuracy --limit 'latency_ms<=10' --limit 'megabytes<=10'. Besides the figures of
evaluation there are what a run costs (``pipelines/diagnosis/costs.py``). Since whoever chooses by a
set is flattered by it, the choice is made by the validation split unless --split says otherwise.
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

from pipelines.diagnosis.costs import COSTS
from pipelines.diagnosis.selection import Limit, select
from pipelines.engine.application import UserError, choose, load_application
from pipelines.engine.bootstrap import SummedFigure, digits, interval, mean, spelled
from pipelines.engine.cli import run_command
from pipelines.engine.configuration import flatten
from pipelines.engine.run import Run


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
    answered = [run.predictions(split) for run in runs]
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


def selection(paths: list[str], split: str, optimize: str, limits: Sequence[Limit]) -> list[str]:
    """Which run to take and why not the others, one sentence each.

    Raises:
        UserError: for a figure that a run does not have.
    """
    wanted = [optimize, *(limit.name for limit in limits)]
    candidates = {path: _all_figures(Run(path), split, wanted) for path in paths}
    found = select(candidates, optimize, limits)
    asked = ", ".join(map(str, limits))
    sentences = [f"No run keeps {asked}."]
    if found.best:
        value = digits(candidates[found.best][optimize])
        among = f"the best of {len(found.ranking)}{f' that keep {asked}' if limits else ''}"
        sentences = [f"Take {found.best}: {optimize} {value} ({split}), {among}."]
    for path, broken in found.broken.items():
        why = (f"{limit} (it is {digits(candidates[path][limit.name])})" for limit in broken)
        sentences.append(f"{path} breaks {', '.join(why)}.")
    return sentences


def _all_figures(run: Run, split: str, wanted: Sequence[str]) -> dict[str, float]:
    """What evaluation found and what is wanted of the costs."""
    found = {name: x for name, x in run.scores[split].items() if isinstance(x, int | float)}
    for name in wanted:
        choose("figure", name, [*found, *COSTS])
    return found | {name: COSTS[name](run) for name in wanted if name in COSTS}


def run(arguments: Sequence[str]) -> None:
    """Does what the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="path of a run folder")
    parser.add_argument("--split", help="default: test, or validation with --optimize")
    parser.add_argument("--optimize", metavar="FIGURE", help="what shall be as good as it can be")
    parser.add_argument(
        "--limit",
        action="append",
        default=[],
        metavar="FIGURE<=X",
        help="what need only be good enough (<=, >=, < or >); give it as often as there are limits",
    )
    options = parser.parse_args(arguments)
    limits = [Limit.parse(text) for text in options.limit]
    if limits and not options.optimize:
        raise UserError("--limit needs --optimize FIGURE, what is best among those that keep it")
    split = options.split or ("validation" if options.optimize else "test")
    Console().print(compare(options.runs, split))
    if options.optimize:
        print("\n".join(selection(options.runs, split, options.optimize, limits)))


main = functools.partial(run_command, run)

if __name__ == "__main__":
    main()
