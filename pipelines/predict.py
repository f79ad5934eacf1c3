"""``python -m pipelines.predict RUN --<feature> VALUE|@file``: a run's answers without a server.

One value, or with ``--files`` many, answered by the very functions that an export holds. ``@file``
reads a file's bytes. A ``.txt`` file among ``--files`` is read a value a line, any other whole.
"""

from __future__ import annotations

import argparse
import csv
import functools
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipelines.engine.answers import open_run
from pipelines.engine.application import DEFAULT_SIGNATURE, UserError, choose
from pipelines.engine.cli import run_command
from pipelines.engine.data import refusal
from pipelines.engine.evaluate import plain
from pipelines.engine.lazy import tensorflow as tf

BATCH = 32


def read_bytes(path: str) -> bytes:
    """A file's bytes; UserError if it cannot be read."""
    try:
        return pathlib.Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None


def read_values(files: list[str]) -> list[tuple[str, bytes]]:
    """(name, value) pairs: a line each of ``.txt`` files, the whole of any other file."""
    values = []
    for file in files:
        content = read_bytes(file)
        if file.endswith(".txt"):
            lines = content.splitlines()
            values += [(f"{file}:{number}", line) for number, line in enumerate(lines, start=1)]
        else:
            values.append((file, content))
    return values


def answers(
    function: Any, specs: dict[str, tf.TensorSpec], inputs: dict[str, list]
) -> dict[str, list]:
    """Asks a traced signature about rows of values, in batches.

    Raises:
        UserError: with the graph's own words, if it refuses the values.
    """
    collected: dict[str, list] = {}
    for start in range(0, len(next(iter(inputs.values()))), BATCH):
        try:
            batch = {
                name: tf.constant(rows[start : start + BATCH], specs[name].dtype)
                for name, rows in inputs.items()
            }
            for name, values in function(**batch).items():
                collected.setdefault(name, []).extend(plain(value) for value in values.numpy())
        except tf.errors.InvalidArgumentError as error:
            raise UserError(f"refused: {refusal(error)}") from None
    return collected


def run(arguments: Sequence[str]) -> None:
    """Does what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.predict", description=__doc__)
    parser.add_argument("run", help="path of a run folder")
    parser.add_argument("--signature", default=DEFAULT_SIGNATURE)
    parser.add_argument("--files", nargs="+", help="one value each; the answers are CSV")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options, rest = parser.parse_known_args(arguments)
    opened = open_run(options.run)
    functions = opened.functions()
    function = functions[choose("signature", options.signature, functions)]
    specs = opened.inputs(options.signature)
    if options.files:
        _print_csv(function, specs, options.files)
    else:
        _print_answer(answers(function, specs, _values(rest, list(specs))), options.json)


def _values(arguments: list[str], names: list[str]) -> dict[str, list]:
    """``--name VALUE|@file`` for every input of the signature."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.predict RUN", exit_on_error=False, allow_abbrev=False
    )
    for name in names:
        parser.add_argument(f"--{name}", required=True)
    try:
        values = vars(parser.parse_args(arguments))
    except (argparse.ArgumentError, SystemExit):
        wanted = " ".join(f"--{name} VALUE|@file" for name in names)
        raise UserError(f"give {wanted}") from None
    return {
        name: [read_bytes(value[1:]) if value.startswith("@") else value.encode()]
        for name, value in values.items()
    }


def _print_answer(columns: dict[str, list], as_json: bool) -> None:
    row = {name: values[0] for name, values in columns.items()}
    if as_json:
        print(json.dumps(row, ensure_ascii=False))
        return
    for name, value in row.items():
        if np.ndim(value) < 2:  # grids such as attention weights are for programs: --json
            print(f"{name}: {value}")


def _print_csv(function: Any, specs: dict[str, tf.TensorSpec], files: list[str]) -> None:
    if len(specs) != 1:
        raise UserError(f"--files gives a single input, the signature takes {', '.join(specs)}")
    (name,) = specs
    values = read_values(files)
    columns = answers(function, specs, {name: [value for _, value in values]})
    flat = {name: rows for name, rows in columns.items() if np.ndim(rows[0]) < 2}
    writer = csv.writer(sys.stdout)
    writer.writerow(["file", *flat])
    for number, (origin, _) in enumerate(values):
        cells = (rows[number] for rows in flat.values())
        writer.writerow([origin, *(json.dumps(c) if isinstance(c, list) else c for c in cells)])


main = functools.partial(run_command, run)

if __name__ == "__main__":
    main()
