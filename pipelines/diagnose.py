"""``python -m pipelines.diagnose RUN``: which error of a finished run to work on next.

Writes ``diagnosis.md`` and its pictures into the run folder. What is looked into is decided by the
application. Where answers are searched for (translation), that is whether the search or the model
is at fault for them, and which beam width and which length penalty are best.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Sequence

from pipelines.diagnosis.findings import Request, write_findings
from pipelines.engine.answers import open_run
from pipelines.engine.application import UserError, choose
from pipelines.engine.cli import run_command


def run(arguments: Sequence[str]) -> None:
    """Does what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.diagnose", description=__doc__)
    parser.add_argument("run", help="path of a run folder")
    parser.add_argument(
        "--split", default="validation", help="train, validation or test (default: %(default)s)"
    )
    parser.add_argument(
        "--examples", type=int, default=300, help="how many, the first ones (default: %(default)s)"
    )
    parser.add_argument(
        "--beam_widths",
        type=int,
        nargs="+",
        default=[1, 2, 3, 5, 10, 20, 50, 100],
        help="the searches to try, besides the run's own (default: %(default)s)",
    )
    parser.add_argument(
        "--length_penalties",
        type=float,
        nargs="+",
        default=[0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0],
        help="the length penalties to try, besides the run's own (default: %(default)s)",
    )
    options = vars(parser.parse_args(arguments))
    path = options.pop("run")
    request = Request(**options)
    opened = open_run(path)
    choose("split", request.split, opened.assembly.source.splits)
    diagnoses = opened.application.diagnoses
    if not diagnoses:
        raise UserError(
            f"nothing is known to diagnose in {opened.application.name}; "
            f"its mistakes are in {opened.run.path}/report.md"
        )
    findings = [diagnosis(opened, request) for diagnosis in diagnoses]
    write_findings(opened.run, request, findings)
    for found in findings:
        print("\n".join(found.advice))
    print(f"diagnosis: {opened.run.path}/diagnosis.md")


main = functools.partial(run_command, run)

if __name__ == "__main__":
    main()
