"""``python -m pipelines.<application>``: trains, evaluates on the test split and reports."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import pathlib
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import keras

from pipelines.engine.application import Application, UserError
from pipelines.engine.assembly import Assembly, assemble
from pipelines.engine.bootstrap import digits
from pipelines.engine.configuration import Command, Configuration, parse
from pipelines.engine.interrupt import remembered_interrupts
from pipelines.engine.prepared import read_prepared, write_prepared
from pipelines.engine.run import Run
from pipelines.engine.train import (
    TrainingData,
    distribution_strategy,
    fit,
    prepare_backend,
)
from pipelines.tasks.task import Evaluation

SMOKE_STEPS = 2
SMOKE_FIT_EXAMPLES = 256
SMOKE_TEST_EXAMPLES = 32


def run_command(
    command: Callable[[Sequence[str]], None], arguments: Sequence[str] | None = None
) -> None:
    """Runs a command of the zoo; a failure that the user can mend is one line and status 2.

    Args:
        command: what to run, a function of the command line.
        arguments: the command line, by default the process's own.
    """
    try:
        with remembered_interrupts():
            command(sys.argv[1:] if arguments is None else arguments)
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as interrupt:
        print(f"\nstopped; {interrupt}".removesuffix("; "), file=sys.stderr)
        sys.exit(130)


def parse_with_search(
    parser: argparse.ArgumentParser, arguments: Sequence[str]
) -> tuple[argparse.Namespace, list[str]]:
    """A command's own options, and those that say how to search for texts: ``--task.beam_width``.

    All others are refused as the parser does it.
    """
    options, search = parser.parse_known_args(arguments)
    names = [one for one in search if one.startswith("--")]
    if names[:1] != search[:1] or not all(name.startswith("--task.") for name in names):
        parser.error(f"unrecognized arguments: {' '.join(search)}")
    return options, search


def main(application: Application, arguments: Sequence[str] | None = None) -> None:
    """The command line of one application; ``arguments`` default to the process's own."""
    run_command(functools.partial(train, application), arguments)


def train(application: Application, arguments: Sequence[str]) -> None:
    """Does what the command line says: prepares arrays, or trains, evaluates and reports.

    Raises:
        UserError: for anything that the user can mend.
    """
    assembly, command = read_command(application, arguments)
    if command.prepare:
        _fit_preprocessor(assembly, command)
        data = _read(assembly, command)
        write_prepared(
            command.prepare,
            assembly.configuration.to_json(),
            assembly.preprocessor,
            data,
            command.passes,
        )
        print(f"prepared: {command.prepare}")
        return
    run = train_run(assembly, command, distribution_strategy())
    print(f"model: {run.model_file}")
    _evaluate(run, command)


def read_command(application: Application, arguments: Sequence[str]) -> tuple[Assembly, Command]:
    """Everything that a command line names, on a backend that is ready for it."""
    configuration, command = parse(application, arguments)
    if command.smoke:
        recipe = dataclasses.replace(configuration.recipe, epochs=1)
        configuration = dataclasses.replace(configuration, recipe=recipe)
    prepare_backend(configuration.recipe)
    return assemble(configuration), command


def train_run(
    assembly: Assembly,
    command: Command,
    strategy: Any = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    **reading: Any,
) -> Run:
    """Trains a new run, or continues one, and returns it finished.

    Args:
        assembly: what to train; its preprocessor is fitted here, or restored from the run.
        command: where, and whether from the start.
        strategy: a ``tf.distribute.Strategy`` to train under, or None.
        callbacks: further ones, called before the engine's own.
        reading: further options of ``training_data``.

    Raises:
        UserError: for anything that the user can mend.
    """
    configuration = assembly.configuration
    run = Run(pathlib.Path(command.runs_dir, configuration.application, _name(assembly, command)))
    if command.resume:
        _check_resume(configuration, run, command)
    else:
        run.require_new()
    if command.prepared:
        _check_prepared(configuration, command.prepared)
        data = read_prepared(command.prepared, configuration.recipe.seed)
        copy = functools.partial(
            shutil.copytree, pathlib.Path(command.prepared, "preprocessor"), dirs_exist_ok=True
        )
    else:
        if command.resume:
            assembly.preprocessor.restore(run.preprocessor_folder)
        else:
            _fit_preprocessor(assembly, command)
        replicas = strategy.num_replicas_in_sync if strategy else 1
        data = _read(assembly, command, replicas=replicas, **reading)
        copy = assembly.preprocessor.save
    learner = assembly.learner(data.model_arguments)
    parameters = _count_parameters(learner.build)
    if not command.resume:
        run = Run.create(run.path, configuration, copy, prepared=command.prepared)
    print(f"run: {run.path} ({configuration.architecture}, {parameters:,} parameters)")
    try:
        fit(learner, assembly.task, configuration.recipe, data, run, strategy, callbacks)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"continue with the same command and --run {run.path.name} --resume"
        ) from None
    return run


def _count_parameters(build: Callable[[], keras.Model]) -> int:
    """Builds the model once, so that what it cannot be is said before anything is written."""
    try:
        return build().count_params()
    except ValueError as error:
        raise UserError(f"the architecture cannot be built so: {error}") from None


def _name(assembly: Assembly, command: Command) -> str:
    configuration = assembly.configuration
    return command.run or "-".join(
        [
            *(["smoke"] if command.smoke else []),
            configuration.architecture,
            configuration.dataset,
            time.strftime("%Y%m%d-%H%M%S"),
        ]
    )


def _fit_preprocessor(assembly: Assembly, command: Command) -> None:
    from pipelines.engine.data import raw_batches

    backbone = Run(assembly.transfer.run) if assembly.transfer and assembly.transfer.run else None
    if backbone:
        backbone.require_finished()
    few = command.smoke and assembly.preprocessor.tolerant
    limit = SMOKE_FIT_EXAMPLES if few else None
    assembly.preprocessor.fit(raw_batches(assembly.source, "train", limit))
    if backbone:
        assembly.preprocessor.adopt(backbone.preprocessor_folder)


def _read(assembly: Assembly, command: Command, **options: Any) -> TrainingData:
    from pipelines.engine.data import training_data

    rows = assembly.configuration.recipe.rows(SMOKE_FIT_EXAMPLES)
    limit = SMOKE_STEPS * rows if command.smoke else None
    steps = SMOKE_STEPS if command.smoke else None
    data = training_data(assembly, limit=limit, max_steps=steps, **options)
    skipped = assembly.source.skipped
    if skipped:
        print(f"left out {len(skipped)}: {'; '.join(skipped[:3])}{' ...' * (len(skipped) > 3)}")
    return data


def _check_resume(configuration: Configuration, run: Run, command: Command) -> None:
    """A resumed run keeps its configuration; only more epochs, if no rate depends on them."""
    changed = run.configuration.differences(configuration)
    if not configuration.recipe.foresees_its_end:
        changed.pop("epochs", None)
    if changed:
        listed = ", ".join(
            f"--{name} {there} (was {here})" for name, (here, there) in changed.items()
        )
        raise UserError(f"--resume continues {run.path} as it was started; not with {listed}")
    if run.prepared != command.prepared:
        raise UserError(f"{run.path} was started with --prepared {run.prepared}; give the same")
    run.write_configuration(configuration)


def _check_prepared(configuration: Configuration, folder: str) -> None:
    """Only how the model is built and fitted may differ from when the arrays were written."""
    written = Configuration.from_json(pathlib.Path(folder, "config.json").read_text())
    recipe = {field.name for field in dataclasses.fields(configuration.recipe)} - {"batch_size"}
    changed = [
        name
        for name in written.differences(configuration)
        if name not in recipe | {"architecture"} and not name.startswith(("model.", "task."))
    ]
    if changed:
        raise UserError(
            f"{folder} was prepared with another --{', --'.join(changed)}; prepare it again"
        )


def _evaluate(run: Run, command: Command) -> None:
    """Scores the finished run on the test split, where TensorFlow is there to do it."""
    if keras.backend.backend() != "tensorflow":
        print(f"evaluate it under TensorFlow: python -m pipelines.evaluate {run.path}")
        return
    from pipelines.engine.answers import open_run
    from pipelines.engine.evaluate import evaluate

    evaluation = evaluate(open_run(run.path), limit=SMOKE_TEST_EXAMPLES if command.smoke else None)
    print_evaluation("test", evaluation)
    print(f"report: {run.path / 'report.md'}")


def print_evaluation(name: str, evaluation: Evaluation) -> None:
    """A line with every figure of a split, and one for each baseline."""
    everything = {name: evaluation.scores.values}
    everything |= {f"{name}, {other}": values for other, values in evaluation.baselines.items()}
    for title, values in everything.items():
        figures = ", ".join(f"{figure} {digits(value)}" for figure, value in values.items())
        print(f"{title}: {figures} ({len(evaluation.scores.errors):,} examples)")
