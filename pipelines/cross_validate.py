"""``python -m pipelines.cross_validate APPLICATION --folds K ...``: how good a recipe is.

Where there is too little data for a dev set of its own: all examples but those of the test split
are cut into K parts, the same everywhere, and K runs are trained, each of which leaves one part out
and is scored on it (M. Stone, "Cross-Validatory Choice and Assessment of Statistical Predictions",
1974). All further options are those of training. The test split is not touched. The runs are called
NAME-fold-1 and so on; with --resume those that are finished are not trained again.
"""

from __future__ import annotations

import argparse
import functools
import pathlib
import time
from collections.abc import Mapping, Sequence

import numpy as np

from pipelines.engine.answers import open_run
from pipelines.engine.application import Application, UserError, load_application
from pipelines.engine.bootstrap import digits
from pipelines.engine.cli import (
    SMOKE_TEST_EXAMPLES,
    print_evaluation,
    read_command,
    run_command,
    train_run,
)
from pipelines.engine.configuration import Command
from pipelines.engine.evaluate import evaluate
from pipelines.engine.train import distribution_strategy
from pipelines.tasks.task import Evaluation


def spread(folds: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, float]]:
    """The mean of each figure over the folds, and its standard deviation among them.

    Args:
        folds: the figures of each fold, two or more; figures that not all have are left out.
    """
    common = [name for name in folds[0] if all(name in fold for fold in folds)]
    values = {name: [fold[name] for fold in folds] for name in common}
    return {name: (float(np.mean(v)), float(np.std(v, ddof=1))) for name, v in values.items()}


def train_fold(application: Application, arguments: Sequence[str]) -> Evaluation:
    """Trains the run that a command line names, and scores it on the part left out."""
    assembly, command = read_command(application, arguments)
    run = train_run(assembly, command, distribution_strategy())
    limit = SMOKE_TEST_EXAMPLES if command.smoke else None
    return evaluate(open_run(run.path), "validation", limit, look_inside=False)


def run(arguments: Sequence[str]) -> None:
    """Does what the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.cross_validate", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("application", help="as listed by python -m pipelines")
    parser.add_argument("--folds", type=int, default=5, help="parts (default: %(default)s)")
    parser.add_argument("--run", help="first part of the runs' names (default: the time)")
    parser.add_argument("--runs_dir", default=Command.runs_dir, help="folder of all runs")
    parser.add_argument("--resume", action="store_true", help="continue the runs of this name")
    options, rest = parser.parse_known_args(arguments)
    application = load_application(options.application)
    if options.folds < 2:
        raise UserError(f"--folds must be at least 2, not {options.folds}")
    if options.resume and not options.run:
        raise UserError("--resume needs --run NAME, the runs to continue")
    name = options.run or f"folds-{time.strftime('%Y%m%d-%H%M%S')}"
    scored = []
    for number in range(1, options.folds + 1):
        fold = f"{name}-fold-{number}"
        path = pathlib.Path(options.runs_dir, application.name, fold)
        asked = [f"--fold={number}/{options.folds}", f"--run={fold}"]
        asked += [f"--runs_dir={options.runs_dir}"]
        asked += ["--resume"] if options.resume and path.exists() else []
        evaluation = train_fold(application, [*rest, *asked])
        print_evaluation(f"fold {number} of {options.folds}", evaluation)
        scored.append(evaluation.scores.values)
    print(f"mean ± standard deviation of {options.folds} folds:")
    for figure, (mean, deviation) in spread(scored).items():
        print(f"{figure}: {digits(mean)} ± {digits(deviation)}")


main = functools.partial(run_command, run)

if __name__ == "__main__":
    main()
