"""``python -m pipelines.diagnose RUN``: which error of a finished run to work on next.

Writes ``diagnosis.md`` and its pictures into the run folder. For every application it measures the
error of the training, dev and test sets, names the gaps between them and says which options act on
the largest. Where answers are searched for (translation), it also asks whether the search or the
model is at fault for them, and which beam width and which length penalty are best.
"""

from __future__ import annotations

import argparse
import functools
import pathlib
from collections.abc import Sequence

from pipelines.diagnosis.bias_variance import bias_variance
from pipelines.diagnosis.findings import Request, write_findings
from pipelines.engine.answers import open_run
from pipelines.engine.application import choose
from pipelines.engine.cli import run_command


def run(arguments: Sequence[str]) -> None:
    """Does what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.diagnose", description=__doc__)
    parser.add_argument("run", help="path of a run folder")
    parser.add_argument(
        "--human_error",
        type=_number_or_file,
        help="what a human, or the best system known, gets wrong; or a CSV file with what several "
        "people answered: a column for each of them, and one named label for the truth, if known",
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        help="the error that a gap may add without being worth any work (default: one point of "
        "per cent of the examples, or else a twentieth of the dev error)",
    )
    parser.add_argument(
        "--ladder_examples",
        type=int,
        default=Request.ladder_examples,
        help="how many of each split, the first ones, errors are measured on (default: "
        "%(default)s)",
    )
    parser.add_argument(
        "--split",
        default=Request.split,
        help="train, validation or test: what is searched again (default: %(default)s)",
    )
    parser.add_argument(
        "--examples",
        type=int,
        default=Request.examples,
        help="how many of them, the first ones (default: %(default)s)",
    )
    parser.add_argument(
        "--beam_widths",
        type=int,
        nargs="+",
        default=Request.beam_widths,
        help="the searches to try, besides the run's own (default: %(default)s)",
    )
    parser.add_argument(
        "--length_penalties",
        type=float,
        nargs="+",
        default=Request.length_penalties,
        help="the length penalties to try, besides the run's own (default: %(default)s)",
    )
    options = vars(parser.parse_args(arguments))
    path = options.pop("run")
    request = Request(**options)
    opened = open_run(path)
    choose("split", request.split, opened.assembly.source.splits)
    findings = [
        diagnosis(opened, request) for diagnosis in (bias_variance, *opened.application.diagnoses)
    ]
    write_findings(opened.run, findings)
    for found in findings:
        print("\n".join(found.advice))
    print(f"diagnosis: {opened.run.path}/diagnosis.md")


def _number_or_file(text: str) -> float | pathlib.Path:
    try:
        return float(text)
    except ValueError:
        return pathlib.Path(text)


main = functools.partial(run_command, run)

if __name__ == "__main__":
    main()
