"""``python -m pipelines.evaluate RUN``: scores, predictions and report of a finished run."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Sequence

from pipelines.engine.answers import open_run
from pipelines.engine.cli import print_scores, run_command
from pipelines.engine.evaluate import evaluate


def run(arguments: Sequence[str]) -> None:
    """Does what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.evaluate", description=__doc__)
    parser.add_argument("run", help="path of a run folder")
    parser.add_argument("--split", default="test", help="train, validation or test")
    options = parser.parse_args(arguments)
    scores = evaluate(open_run(options.run), options.split).scores
    print_scores(options.split, scores.values, len(scores.errors))
    print(f"report: {options.run}/report.md")


main = functools.partial(run_command, run)

if __name__ == "__main__":
    main()
