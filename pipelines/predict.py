"""``python -m pipelines.predict RUN --<feature> VALUE|@file``: a run's answers without a server.

One value, or with ``--files`` many, answered by the very functions that an export holds. ``@file``
reads a file's bytes. A ``.txt`` file among ``--files`` is read a value a line, any other whole.

Of a table, columns may be left out: they are missing. ``--files`` are then CSV files whose first
lines name the columns.
"""

from __future__ import annotations

import argparse
import csv
import functools
import io
import json
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipelines.engine.answers import open_run
from pipelines.engine.application import DEFAULT_SIGNATURE, UserError, choose
from pipelines.engine.cli import run_command
from pipelines.engine.data import refusal
from pipelines.engine.evaluate import plain
from pipelines.engine.lazy import tensorflow as tf
from pipelines.sources.csv_files import MISSING, as_name

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
    missing = opened.preprocessor.missing
    if options.files:
        _print_csv(function, specs, options.files, missing)
    else:
        _print_answer(answers(function, specs, _values(rest, specs, missing)), options.json)


def _values(
    arguments: list[str], specs: dict[str, tf.TensorSpec], missing: Mapping[str, Any]
) -> dict[str, list]:
    """``--name VALUE|@file`` for every input of the signature, or what stands for a missing one."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.predict RUN", exit_on_error=False, allow_abbrev=False
    )
    for name in specs:
        parser.add_argument(f"--{name}", required=name not in missing)
    try:
        values = vars(parser.parse_args(arguments))
    except (argparse.ArgumentError, SystemExit):
        wanted = " ".join(f"--{name} VALUE|@file" for name in specs)
        raise UserError(f"give {wanted}") from None
    return {
        name: [missing[name] if value is None else _value(name, value, specs[name])]
        for name, value in values.items()
    }


def _value(name: str, value: str, spec: tf.TensorSpec) -> Any:
    """What stands on the command line or in a CSV file, as what the signature asks for."""
    if spec.dtype == tf.string:
        return read_bytes(value[1:]) if value.startswith("@") else value.encode()
    try:
        number = float(value)
        return number if spec.dtype.is_floating else int(value)
    except ValueError:
        raise UserError(f"{name} is {value!r}, which is no {spec.dtype.name}") from None


def read_table(
    files: Sequence[str], specs: Mapping[str, tf.TensorSpec], missing: Mapping[str, Any]
) -> tuple[list[str], dict[str, list]]:
    """What to call each row of CSV files, and their columns.

    Raises:
        UserError: for a file without any of the columns, or text where a number belongs.
    """
    origins, columns = [], {name: [] for name in specs}
    for file in files:
        text = read_bytes(file).decode("utf-8-sig", "replace")
        reader = csv.DictReader(io.StringIO(text, newline=""))
        cells = {as_name(cell): cell for cell in reader.fieldnames or ()}
        if not set(cells) & set(specs):
            raise UserError(f"{file}: the first line names none of the columns {', '.join(specs)}")
        for row in reader:
            origins.append(f"{file}:{reader.line_num}")
            for name, spec in specs.items():
                cell = (row.get(cells.get(name)) or "").strip()
                given = (
                    _value(f"{origins[-1]}: {name}", cell, spec) if cell not in MISSING else None
                )
                columns[name].append(missing[name] if given is None else given)
    return origins, columns


def _print_answer(columns: dict[str, list], as_json: bool) -> None:
    row = {name: values[0] for name, values in columns.items()}
    if as_json:
        print(json.dumps(row, ensure_ascii=False))
        return
    for name, value in row.items():
        if np.ndim(value) < 2:  # grids such as attention weights are for programs: --json
            print(f"{name}: {value}")


def _print_csv(
    function: Any,
    specs: dict[str, tf.TensorSpec],
    files: list[str],
    missing: Mapping[str, Any],
) -> None:
    if set(specs) <= set(missing):
        origins, inputs = read_table(files, specs, missing)
    elif len(specs) == 1:
        values = read_values(files)
        origins = [origin for origin, _ in values]
        inputs = {next(iter(specs)): [value for _, value in values]}
    else:
        raise UserError(f"--files gives a single input, the signature takes {', '.join(specs)}")
    columns = answers(function, specs, inputs)
    flat = {name: rows for name, rows in columns.items() if np.ndim(rows[0]) < 2}
    writer = csv.writer(sys.stdout)
    writer.writerow(["file", *flat])
    for number, origin in enumerate(origins):
        cells = (rows[number] for rows in flat.values())
        writer.writerow([origin, *(json.dumps(c) if isinstance(c, list) else c for c in cells)])


main = functools.partial(run_command, run)

if __name__ == "__main__":
    main()
