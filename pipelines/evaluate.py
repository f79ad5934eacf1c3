"""``python -m pipelines.evaluate RUN``: scores, predictions and report of a finished run."""

from __future__ import annotations

import argparse

from pipelines.engine.answers import open_run
from pipelines.engine.cli import print_scores, run_command
from pipelines.engine.evaluate import evaluate


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m pipelines.evaluate", description=__doc__)
    parser.add_argument("run", help="path of a run folder")
    parser.add_argument("--split", default="test", help="train, validation or test")
    arguments = parser.parse_args()
    scores = evaluate(open_run(arguments.run), arguments.split).scores
    print_scores(arguments.split, scores.values, len(scores.errors))
    print(f"report: {arguments.run}/report.md")


if __name__ == "__main__":
    run_command(main)
