"""``python -m pipelines.diagnose RUN``: which error of a finished run to work on next.

Writes ``diagnosis.md`` and its pictures into the run folder. For every application it measures the
error of the training, dev and test sets, names the gaps between them and says which options act on
the largest. Where answers are searched for (translation), it also asks whether the search or the
model is at fault for them, and which beam width and which length penalty are best.

An error analysis takes two steps. --errors FILE writes a sheet of wrong dev answers, with their
pictures, in whose empty columns a person marks what each error has to do with; --tags FILE reads it
and says what fixing each kind could gain, into ``error_analysis.md``. --label_errors FILE writes
such a sheet of examples whose labels are probably wrong.

With ``--gradient_check`` it compares the gradients of the run's model with central differences
instead, and writes ``gradient_check.md``.
"""

from __future__ import annotations

import argparse
import functools
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from pipelines.diagnosis.bias_variance import bias_variance
from pipelines.diagnosis.error_analysis import advice_on_tags, assess_tags, table_of_tags
from pipelines.diagnosis.error_sheet import read_sheet, write_errors
from pipelines.diagnosis.findings import Request, write_findings
from pipelines.diagnosis.gradient_check import gradient_check
from pipelines.diagnosis.label_errors import write_suspects
from pipelines.engine.answers import OpenRun, open_run
from pipelines.engine.application import choose
from pipelines.engine.cli import run_command
from pipelines.engine.run import Run, write_text

ERROR_COUNT = 100  # what a person marks in an hour


def run(arguments: Sequence[str]) -> None:
    """Does what the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.diagnose",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
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
        help="train, validation or test: what is searched again, or whose errors are analysed "
        "(default: %(default)s)",
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
    analysis = parser.add_argument_group("In place of the diagnosis")
    instead = analysis.add_mutually_exclusive_group()
    instead.add_argument("--errors", type=pathlib.Path, help="a new sheet (CSV) of wrong answers")
    analysis.add_argument(
        "--error_count",
        type=int,
        default=ERROR_COUNT,
        help="rows of it at most, drawn fairly (default: %(default)s)",
    )
    instead.add_argument("--tags", type=pathlib.Path, help="a sheet that a person has marked")
    instead.add_argument(
        "--label_errors",
        type=pathlib.Path,
        help="a new sheet of examples with suspected labels; needs the package cleanlab",
    )
    instead.add_argument(
        "--gradient_check",
        action="store_true",
        help="compare the gradients of the model with central differences, on a few examples",
    )
    options = vars(parser.parse_args(arguments))
    path, count = options.pop("run"), options.pop("error_count")
    names = ("errors", "tags", "label_errors", "gradient_check")
    errors, tags, suspects, gradients = (options.pop(name) for name in names)
    request = Request(**options)
    if tags:
        _analyse(Run(path), request.split, tags)
    elif errors:
        wrong = write_errors(open_run(path), request.split, errors, count)
        print(f"{wrong:,} answers to {request.split} are wrong; to mark: {errors}")
    elif suspects:
        found = write_suspects(open_run(path), request.split, suspects)
        print(f"{found:,} labels of {request.split} are suspected; to check: {suspects}")
    elif gradients:
        _diagnose(open_run(path), request, [gradient_check], "gradient_check.md")
    else:
        opened = open_run(path)
        _diagnose(opened, request, [bias_variance, *opened.application.diagnoses], "diagnosis.md")


def _diagnose(opened: OpenRun, request: Request, diagnoses: Sequence[Callable], file: str) -> None:
    choose("split", request.split, opened.assembly.source.splits)
    findings = [diagnose(opened, request) for diagnose in diagnoses]
    write_findings(opened.run, findings, file)
    for found in findings:
        print("\n".join(found.advice))
    print(f"diagnosis: {opened.run.path / file}")


def _analyse(run: Run, split: str, file: pathlib.Path) -> None:
    recorded = run.predictions(split)
    sheet = read_sheet(file, recorded)
    error = float(np.mean([row["error"] for row in recorded.values()]))
    tags = assess_tags(sheet.marks, sheet.errors, error)
    text = "\n".join([*advice_on_tags(tags, error), "", table_of_tags(tags)])
    write_text(run.path / "error_analysis.md", f"# Error analysis of {split}\n\n{text}\n")
    print(text)


def _number_or_file(text: str) -> float | pathlib.Path:
    try:
        return float(text)
    except ValueError:
        return pathlib.Path(text)


main = functools.partial(run_command, run)

if __name__ == "__main__":
    main()
