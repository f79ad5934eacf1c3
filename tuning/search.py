"""``python -m tuning.search <application>``: finds better hyperparameters than the recipe's.

    python -m tuning.search house_prices --trials 30 --refine 2
    python -m tuning.search image_classification --trials 20 --workers 2 --epochs 10
    python -m tuning.search house_prices --tuner bayesian --limit 'latency_ms<=2' --model.depth 2
    python -m tuning.search house_prices --folds 5 --stop_hopeless
    python -m tuning.search house_prices --run NAME --resume

Every option of ``python -m pipelines.<application>`` may be given too, and is then the same in all
trials. All else in ``tuning/spaces/<application>.py`` varies; ``--vary`` adds to it or sets other
bounds, ``--priority 1`` leaves the learning rate alone, 2 what comes next to it, and so on. With
``--default`` the recipe as it is is trained first, and with ``--refine`` the box shrinks around it
too, if it is among the best. Trials
are compared by a measure of the validation split; the test split is not touched. With ``--folds K``
each is trained K times instead, as ``python -m pipelines.cross_validate`` does it: scored on one
part of the training and validation examples, trained on the others; what counts is the mean. With
``--executions E`` all of that is done E times, with other seeds.

With ``--workers`` trials run at the same time, in processes of their own. On several machines that
share the folder of the search, ``KERASTUNER_TUNER_ID=chief`` with ``KERASTUNER_ORACLE_IP`` and
``KERASTUNER_ORACLE_PORT`` makes this process their chief; the workers are ``python -m
tuning.worker``.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, get_args

from pipelines.engine.application import UserError, application_names, choose, load_application
from pipelines.engine.bootstrap import digits
from pipelines.engine.cli import run_command
from pipelines.engine.configuration import ALIASES, Command, Configuration, parse
from tuning import definition as definitions
from tuning.chief import direct, direct_elsewhere
from tuning.definition import LATENCY, PARAMETERS, Definition
from tuning.folder import Folder
from tuning.oracles import FAILURES_IN_A_ROW, HyperbandOracle, oracle_of
from tuning.report.progress import spelled_score
from tuning.report.show import Show
from tuning.space import objective_of, parse_dimension, space_of
from tuning.trials import Trial
from tuning.tuner import Tuner, begun_oracle, is_chief

RUNS = "runs/tuning"
# Of the engine's command line, what makes no search.
NO_SEARCH = ("smoke", "prepare", "passes", "prepared")


def run(arguments: Sequence[str]) -> None:
    """Does what the command line says.

    Raises:
        UserError: for anything that the user can mend.
    """
    options, rest = _parser().parse_known_args(arguments)
    given = vars(options)
    workers = given.pop("workers", 1)
    if workers < 1:
        raise UserError(f"--workers must be at least 1, not {workers}")
    choose("application", given["application"], application_names())
    if rest:
        given["options"] = tuple(rest)
    _search(begun(given, define), workers)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tuning.search",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,  # a resumed search keeps what is not given
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("application", help="its name, before all options")
    add("--tuner", choices=get_args(definitions.Tuner), help="default: random")
    add("--trials", type=int, metavar="N", help="at most so many (default: 20; Hyperband: all)")
    add("--refine", type=int, metavar="K", help="halve the box around the best trials K times")
    add("--vary", action="append", metavar="NAME=SCALE(...)", help="a dimension of the space")
    add("--priority", type=int, choices=(1, 2, 3, 4), help="vary nothing less important")
    add("--objective", metavar="M", help="measure of the validation split")
    add("--limit", action="append", dest="limits", metavar="M<=X", help="e.g. 'latency_ms<=10'")
    add("--executions", type=int, metavar="E", help="trainings of a trial, with other seeds")
    add("--folds", type=int, metavar="K", help="trainings of a trial, each scored on another part")
    add("--default", action="store_true", help="also train the recipe as it is, for comparison")
    add("--stop_hopeless", action="store_true", help="end trials that fall behind the median")
    add("--seed", type=int, metavar="S", help="of the proposals and of the trainings (default: 0)")
    add("--workers", type=int, metavar="W", help="trials at the same time (default: 1)")
    add("--run", metavar="NAME", help="name of the search's folder")
    add("--runs_dir", metavar="DIR", help=f"folder of all searches (default: {RUNS})")
    add("--resume", action="store_true", help="continue the search --run")
    return parser


def define(given: Mapping[str, Any]) -> Definition:
    """The search that options describe.

    Raises:
        UserError: if there is no such search.
    """
    listed = {name: tuple(given.get(name, ())) for name in ("options", "vary", "limits")}
    application = load_application(given["application"])
    own = [name[2:] for name in _parser()._option_string_actions if name.startswith("--")]
    configuration, command = parse(application, listed["options"], beside=own)
    fixed = [_option(argument) for argument in listed["options"] if argument.startswith("--")]
    _check_fixed(configuration, command, fixed, given.get("folds"))
    varied = [parse_dimension(text) for text in listed["vary"]]
    space = space_of(configuration, fixed, varied, given.get("priority"))
    values = {"objective": objective_of(configuration.application)} | dict(given) | listed
    definition = Definition(**values | {"space": tuple(space)})
    names = definitions.measured_names(configuration)
    definitions.check_measures(definition, names, [LATENCY, PARAMETERS])
    oracle = oracle_of(definition, configuration.recipe.epochs, ranked=lambda: [])
    if isinstance(oracle, HyperbandOracle) and "trials" not in given:
        return dataclasses.replace(definition, trials=oracle.plan)
    return definition


def _check_fixed(
    configuration: Configuration, command: Command, fixed: Sequence[str], folds: int | None
) -> None:
    """Refuses options of the application that make no search, or none with folds."""
    for name in NO_SEARCH:
        if getattr(command, name) != getattr(Command, name):
            raise UserError(f"--{name} makes no search; leave it out")
    if "monitor" in fixed:
        raise UserError("trials are kept by what they are compared by: --objective, not --monitor")
    for name in ("fold", "dev_source"):
        if folds and getattr(configuration.partition, name):
            raise UserError(f"--folds and --{name} exclude each other")


def _option(argument: str) -> str:
    name = argument.partition("=")[0]
    return ALIASES.get(name, name).removeprefix("--")


def _name(given: Mapping[str, Any]) -> str:
    return "-".join([given.get("tuner", "random"), time.strftime("%Y%m%d-%H%M%S")])


def begun(
    given: dict[str, Any],
    define: Callable[[Mapping[str, Any]], Definition],
    kind: type[Definition] = Definition,
) -> Folder:
    """The folder of a new search, or with ``--resume`` of one that was begun.

    Args:
        given: what was given on the command line; where to is taken out.
        define: makes the definition of what remains.
        kind: of the definition.

    Raises:
        UserError: if there is no such search, or the folder is not as it must be.
    """
    resume, name = given.pop("resume", False), given.pop("run", None)
    path = pathlib.Path(given.pop("runs_dir", RUNS), given["application"], name or _name(given))
    folder = Folder(path, kind)
    if not resume:
        folder.create(define(given))
        return folder
    if not name:
        raise UserError("--resume needs --run NAME, the search to continue")
    before = folder.definition
    later = define({**vars(before), **given})
    if changes := before.changes(later):
        raise UserError(
            f"--resume continues {folder.path} as it was begun; not with {'; '.join(changes)}"
        )
    folder.write_definition(later)
    return folder


def _search(folder: Folder, workers: int) -> None:
    """Runs what trials are left, and reports."""
    with shown(folder) as show:
        if folder.definition.default:
            Tuner(folder).train_default()
        if is_chief():
            direct_elsewhere(folder, begun_oracle(folder), look=show)
        elif workers > 1:
            direct(folder, begun_oracle(folder), workers, look=show)
        else:
            Tuner(folder, ended=show).run()
    search, best = folder.search(), best_trial(folder)
    if search.default is not None:
        print(f"the recipe as it is: {search.objective} {digits(search.default)}")
    print(
        f"best: trial {best.number}, {search.objective} {spelled_score(best)}; train and test it:"
    )
    print(f"  python -m pipelines.{search.application} --config {folder.best_file}")


@contextlib.contextmanager
def shown(folder: Folder) -> Iterator[Show]:
    """Within it the trials of a search run, and are shown as they end; then it is reported."""
    definition = folder.definition
    print(f"search: {folder.path} ({definition.tuner}, {len(definition.space)} hyperparameters)")
    show = Show(folder)
    try:
        with show.live():
            yield show
        show()
        show.report()
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"continue with the same command and --run {folder.path.name} --resume"
        ) from None


def best_trial(folder: Folder) -> Trial:
    """The best one of a search that has ended; UserError with the reason where there is none."""
    search = folder.search()
    last = [trial for trial in search.trials if trial.status == "failed"][-1:]
    failed = [trial.status == "failed" for trial in search.trials[-FAILURES_IN_A_ROW:]]
    if len(failed) == FAILURES_IN_A_ROW and all(failed):
        raise UserError(
            f"{FAILURES_IN_A_ROW} trials failed in a row, the last one so: {last[0].reason} "
            f"(see {folder.log(last[0].number)})"
        )
    ranked = search.ranked()
    if not ranked:
        raise UserError("no trial keeps the limits: see the report")
    begun, planned = len(search.trials), folder.definition.trials
    if begun < planned:
        print(f"{begun} of {planned} trials: {search.tuner} has no more settings to propose")
    return ranked[0]


main = functools.partial(run_command, run)

if __name__ == "__main__":
    main()
