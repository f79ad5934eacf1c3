"""``python -m pipelines.evaluate RUN [RUN ...]``: scores, predictions and report of finished runs.

Several runs answer together: with the mean of their probabilities. With --crops they answer with
the mean over several views of each picture, as AlexNet did: 5 are the picture in the corners and in
the centre of a larger frame, 10 are these and their mirror images. (Signs, whose mirror image is
another sign, want 5.)

A run that searches for texts can do so otherwise than as it was trained to, by --task.beam_width,
--task.length_penalty and the other options of the search, after RUN; everything then goes into a
folder and under a name of its own (``python -m tuning.decoding`` finds the best).

With --slice FIELD the error is also shown by the values of a field of the examples (a label, a
column of a table), the worst first.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Sequence

from pipelines.diagnosis.slices import judgment, slices, table_of_slices
from pipelines.engine.answers import open_run
from pipelines.engine.application import choose
from pipelines.engine.cli import parse_with_search, print_evaluation, run_command
from pipelines.engine.evaluate import changed_name, evaluate, evaluate_together


def run(arguments: Sequence[str]) -> None:
    """Does what the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="path of a run folder")
    parser.add_argument("--split", default="test", help="train, validation or test")
    parser.add_argument("--crops", type=int, default=1, help="views of a picture: 1, 5 or 10")
    parser.add_argument(
        "--no_inside",
        action="store_true",
        help="leave out of an image run's report what goes on inside the network",
    )
    parser.add_argument("--slice", metavar="FIELD", help="show the error by the values of a field")
    options, search = parse_with_search(parser, arguments)
    members = [open_run(path, search) for path in options.runs]
    first = members[0]
    if options.slice:
        fields = set(first.assembly.source.fields) - set(first.preprocessor.encoded)
        choose("field", options.slice, sorted(fields))
    if len(members) == options.crops == 1:
        name = changed_name(first, options.split)
        evaluation = evaluate(first, options.split, look_inside=not options.no_inside)
    else:
        name, evaluation = evaluate_together(members, options.split, crops=options.crops)
    folder = first.run.path if name == options.split else first.run.path / name
    print_evaluation(name, evaluation)
    if options.slice:
        found = slices(evaluation.examples[options.slice], evaluation.scores.errors)
        print(table_of_slices(options.slice, found), judgment(options.slice, found), sep="\n\n")
    print(f"report: {folder}/report.md")


main = functools.partial(run_command, run)

if __name__ == "__main__":
    main()
