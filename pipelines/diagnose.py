"""``python -m pipelines.diagnose RUN``: which error of a finished run to work on next.

Writes ``diagnosis.md`` and its pictures into the run folder. For every application it measures the
error of the training, dev and test sets, names the gaps between them and says which options act on
the largest. Where answers are searched for (translation), it also asks whether the search or the
model is at fault for them, and which beam width and which length penalty are best.

With ``--gradient_check`` it compares the gradients of the run's model with central differences
instead, and writes ``gradient_check.md``.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Sequence

from pipelines.diagnosis.bias_variance import bias_variance
from pipelines.diagnosis.findings import Request, write_findings
from pipelines.diagnosis.gradient_check import gradient_check
from pipelines.engine.answers import open_run
from pipelines.engine.application import choose
from pipelines.engine.cli import run_command


def run(arguments: Sequence[str]) -> None:
    """Does what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.diagnose", description=__doc__)
    parser.add_argument("run", help="path of a run folder")
    parser.add_argument(
        "--human_error", type=float, help="what a human, or the best system known, gets wrong"
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
    parser.add_argument(
        "--gradient_check",
        action="store_true",
        help="check the gradients of the model on a few examples, and nothing else",
    )
    options = vars(parser.parse_args(arguments))
    path = options.pop("run")
    request = Request(**options)
    opened = open_run(path)
    choose("split", request.split, opened.assembly.source.splits)
    name, diagnoses = "diagnosis.md", (bias_variance, *opened.application.diagnoses)
    if request.gradient_check:
        name, diagnoses = "gradient_check.md", (gradient_check,)
    findings = [diagnosis(opened, request) for diagnosis in diagnoses]
    write_findings(opened.run, findings, name)
    for found in findings:
        print("\n".join(found.advice))
    print(f"diagnosis: {opened.run.path}/{name}")


main = functools.partial(run_command, run)

if __name__ == "__main__":
    main()
