"""Teaching experiments, each at most two minutes, a picture and a paragraph.

python -m pipelines.experiments                        every experiment, one line each
python -m pipelines.experiments NAME|all [--seed S]    does it: runs/experiments/NAME/report.md
"""

from __future__ import annotations

import argparse
import functools
import pathlib
import textwrap
from collections.abc import Sequence

from pipelines.engine.application import UserError
from pipelines.engine.cli import run_command
from pipelines.experiments.laboratory.experiment import (
    experiment_names,
    run_experiment,
    summary,
    write_experiment,
)


def run(arguments: Sequence[str]) -> None:
    """Does what the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.experiments", description="Teaching experiments."
    )
    parser.add_argument("name", nargs="?", help="an experiment, or all; without one: the list")
    parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn")
    parser.add_argument(
        "--dir",
        type=pathlib.Path,
        default=pathlib.Path("runs", "experiments"),
        help="picture and paragraph go to its folder NAME (default: %(default)s)",
    )
    options = parser.parse_args(arguments)
    if options.seed < 0:
        raise UserError(f"--seed must be at least 0, not {options.seed}")
    if options.name is None:
        for name in experiment_names():
            print(f"{name:24} {summary(name)}")
        return
    for name in experiment_names() if options.name == "all" else [options.name]:
        experiment = run_experiment(name, options.seed)
        write_experiment(name, experiment, options.dir / name)
        print(f"{name}: {summary(name)}")
        print(textwrap.fill(experiment.paragraph, 100))
        print(f"report: {options.dir / name}/report.md\n")


main = functools.partial(run_command, run)

if __name__ == "__main__":
    main()
