"""``python -m tuning.decoding RUN``: finds a better search for what a trained model writes.

    python -m tuning.decoding runs/machine_translation/first --trials 20
    python -m tuning.decoding runs/machine_translation/first --tuner grid --limit 'ms_per_text<=20'
    python -m tuning.decoding runs/image_captioning/first --objective val_bleu_4 --examples 500
    python -m tuning.decoding RUN --vary 'task.coverage_penalty=linear(0,0.5)' \\
        --vary 'task.length_normalization=choice(power,gnmt)'
    python -m tuning.decoding RUN --run NAME --resume

Of a run that answers with texts (translation, captioning) the beam's width and the exponent α of
the length, by which log-probabilities are divided, are found without another training: the model
is loaded once and writes the texts of the validation split again and again. ``--vary`` sets other
bounds, or adds the form of that divisor, a penalty on what was not read, or the maximum length. The
test split is not touched.

In the end the best search is held against the run's own by the paired bootstrap over the examples,
and named as options of ``pipelines.evaluate`` and ``serving.export``. The best of many is flattered
by the examples that chose it: what it is worth, only the test split tells.
"""

from __future__ import annotations

import argparse
import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.diagnosis.hypotheses import Pairs
from pipelines.engine.answers import OpenRun, open_run
from pipelines.engine.application import UserError, choose
from pipelines.engine.bootstrap import digits, interval, spelled
from pipelines.engine.cli import run_command
from pipelines.tasks.decoding import Search
from tuning import scales
from tuning.definition import as_options, check_measures
from tuning.folder import DEFAULT
from tuning.search import begun, best_trial, shown
from tuning.space import parse_dimension
from tuning.tuned_decoding import (
    MILLISECONDS,
    SPLIT,
    DecodingDefinition,
    TunedDecoding,
    scores_of,
)
from tuning.tuner import Tuner

RUNS = "runs/decoding"
TUNERS = ("random", "bayesian", "grid")
SPACE = (scales.integer("task.beam_width", 1, 12), scales.linear("task.length_penalty", 0.0, 2.0))
VARIABLE = (
    *(dimension.name for dimension in SPACE),
    "task.length_normalization",
    "task.coverage_penalty",
    "task.maximum_length",
)
LOOKED_AT = 256  # examples, to know what is measured


def run(arguments: Sequence[str]) -> None:
    """Does what the command line says.

    Raises:
        UserError: for anything that the user can mend.
    """
    given = vars(_parser().parse_args(arguments))
    opened = open_run(given["trained"])
    name = opened.application.name
    if not isinstance(opened.task, Search):
        raise UserError(f"{given['trained']} is a run of {name}, which searches for no texts")
    given = {"runs_dir": RUNS, **given, "application": name}
    given["trained"] = os.path.abspath(given["trained"])
    folder = begun(given, functools.partial(define, opened), DecodingDefinition)
    decoding = TunedDecoding(folder, opened)
    with shown(folder) as show:
        tuner = Tuner(folder, ended=show, hypermodel=decoding)
        tuner.train_default()
        tuner.run()
    _conclude(decoding)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tuning.decoding",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,  # a resumed search keeps what is not given
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("trained", metavar="RUN", help="path of a run folder")
    add("--tuner", choices=TUNERS, help="default: random")
    add("--trials", type=int, metavar="N", help="at most so many (default: 20)")
    add("--refine", type=int, metavar="K", help="halve the box around the best trials K times")
    add("--vary", action="append", metavar="NAME=SCALE(...)", help="a dimension of the space")
    add("--objective", metavar="M", help="measure of the validation split (default: the first)")
    add("--limit", action="append", dest="limits", metavar="M<=X", help="e.g. 'ms_per_text<=20'")
    add("--examples", type=int, metavar="N", help="measure on the first N (default: all)")
    add("--seed", type=int, metavar="S", help="of the proposals (default: 0)")
    add("--run", metavar="NAME", help="name of the search's folder")
    add("--runs_dir", metavar="DIR", help=f"folder of all such searches (default: {RUNS})")
    add("--resume", action="store_true", help="continue the search --run")
    return parser


def define(opened: OpenRun, given: Mapping[str, Any]) -> DecodingDefinition:
    """The search that options describe.

    Args:
        opened: the trained run.
        given: the options.

    Raises:
        UserError: if there is no such search.
    """
    raw = Pairs.read(opened.assembly.source, opened.preprocessor, SPLIT, LOOKED_AT).raw
    scores = scores_of(opened, [""] * len(raw["id"]), raw)
    listed = {name: tuple(given.get(name, ())) for name in ("vary", "limits")}
    varied = [parse_dimension(text) for text in listed["vary"]]
    for dimension in varied:
        choose("option to vary", dimension.name, VARIABLE)
    space = {dimension.name: dimension for dimension in (*SPACE, *varied)}
    values = {"objective": f"val_{next(iter(scores.values))}"} | dict(given) | listed
    definition = DecodingDefinition(**values | {"space": tuple(space.values())})
    # Only what is a function of sums can in the end be held against the run's own search.
    objectives = [f"val_{name}" for name in scores.summed]
    others = [f"val_{name}" for name in scores.values if name not in scores.summed]
    check_measures(definition, objectives, [MILLISECONDS, *others])
    for dimension in definition.space:
        for value in dimension.choices or [scales.value_at(dimension, x) for x in (0.0, 0.3, 1.0)]:
            definition.configuration({dimension.name: value})  # refuses what no search can be
    return definition


def _conclude(decoding: TunedDecoding) -> None:
    """Holds the best trial against the run's own search, and says how to search so."""
    folder, opened = decoding.folder, decoding.opened
    search, best = folder.search(), best_trial(folder)
    own, found = (decoding.figure(number) for number in (DEFAULT, best.number))
    low, high = interval(found.gains_over(own))
    gain = spelled(found.value - own.value, (low, high))
    verdict = "better" if low > 0 else "worse" if high < 0 else "no better"
    print(f"the run's own search: {search.objective} {digits(own.value)}")
    print(f"best: trial {best.number}, {search.objective} {digits(found.value)}, a gain of {gain}")
    print(
        f"that is {verdict} than the run's own, on the {len(found.terms):,} examples of {SPLIT} "
        f"that chose it among {len(search.trials)} trials; to test it, and to export with it:"
    )
    chosen = folder.definition.configuration(best.hyperparameters)
    changes = opened.run.configuration.differences(chosen)
    options = as_options({name: value for name, (_, value) in changes.items()})
    for command in ("pipelines.evaluate", "serving.export"):
        print(" ", "python -m", command, opened.run.path, *options)


main = functools.partial(run_command, run)

if __name__ == "__main__":
    main()
