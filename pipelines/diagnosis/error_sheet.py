"""The sheet of an error analysis: a CSV file of wrong answers, for a person to mark their kinds in.

A row is an example: its id, the file of its picture where it has one, its raw fields, the answer
and its error; then columns that are empty: ``incorrectly labelled``, others to be named after what
one sees, and one for comments. Any cell that is not empty (nor "no", "n", "0", "false" or "-") is a
mark. Columns may be added and renamed; a row that nobody looked at is to be deleted.

The wrong answers are a sample by a hash of their ids, so that the shares found among them are those
among all.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipelines.diagnosis.error_analysis import MISLABELLED, is_marked
from pipelines.engine.application import UserError
from pipelines.engine.evaluate import answer_split, record
from pipelines.engine.run import Run, replacing, write_text
from pipelines.sources.splits import rank
from pipelines.tasks.examples import pictures
from pipelines.tasks.task import Evaluation

TO_NAME = ("kind 1", "kind 2", "kind 3")
COMMENTS = "comments"
PICTURE = "picture"
# The best of several answers stands in the sheet, under this name.
ONE_OF = {"labels": "answer", "texts": "answer", "value": "answer", "probabilities": "probability"}


def write_errors(opened: Any, split: str, file: pathlib.Path, count: int) -> int:
    """Writes a sheet of wrong answers to a split, all of which are recorded in the run.

    Args:
        opened: the run.
        split: of its source.
        file: a CSV file; pictures go into a folder beside it.
        count: how many wrong answers at most.

    Returns:
        how many answers are wrong in all.

    Raises:
        UserError: for a file that exists, which somebody may have marked.
    """
    evaluation = answered(opened, split, file)
    wrong = np.flatnonzero(evaluation.scores.errors)
    ids = [name.decode() for name in evaluation.examples["id"]]
    sample = sorted(wrong, key=lambda row: rank(ids[row]))[:count]
    write_sheet(opened.run, evaluation, sample, file)
    return len(wrong)


def answered(opened: Any, split: str, file: pathlib.Path) -> Evaluation:
    """The answers to a split, recorded in the run; UserError if the sheet is there already."""
    if file.exists():
        raise UserError(f"{file} is there already; give another name, or remove it")
    evaluation = answer_split(opened, split)
    record(opened, split, evaluation)
    return evaluation


def write_sheet(run: Run, evaluation: Evaluation, rows: Sequence[int], file: pathlib.Path) -> None:
    """Writes these rows of an evaluation, as recorded, in this order."""
    recorded = list(run.predictions(evaluation.split).values())
    lines = [_shown(recorded[row]) for row in rows]
    if "image" in evaluation.source.fields and lines:
        files = _write_pictures(evaluation, rows, file)
        named = zip(files, lines, strict=True)
        lines = [{"id": line["id"], PICTURE: str(picture)} | line for picture, line in named]
    names = list(dict.fromkeys(name for line in lines for name in line)) or ["id"]
    text = io.StringIO()
    writer = csv.DictWriter(text, [*names, MISLABELLED, *TO_NAME, COMMENTS], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    write_text(file, text.getvalue())


def _shown(recorded: dict[str, Any]) -> dict[str, Any]:
    """A recorded row as one of the sheet."""
    row = {"id": recorded["id"]}
    for name, value in recorded.items():
        first = value[0] if isinstance(value, list) and value else value
        row.setdefault(ONE_OF.get(name, name), first)
    return row


def _write_pictures(
    evaluation: Evaluation, rows: Sequence[int], file: pathlib.Path
) -> list[pathlib.Path]:
    """The pictures as the model sees them, as PNG files in a folder named after the sheet."""
    from matplotlib.image import imsave

    folder = file.with_suffix("")
    with replacing(folder) as beside:
        beside.mkdir(parents=True)
        for number, pixels in enumerate(pictures(evaluation, rows)):
            shades = np.repeat(pixels, 3, axis=-1) if pixels.shape[-1] == 1 else pixels
            imsave(beside / f"{number:04d}.png", shades)
    return [folder / f"{number:04d}.png" for number in range(len(rows))]


@dataclasses.dataclass(frozen=True)
class Sheet:
    """A sheet that a person has marked.

    Attributes:
        marks: for each kind of error bool [rows].
        errors: [rows] how wrong each answer is.
    """

    marks: dict[str, np.ndarray]
    errors: np.ndarray


def read_sheet(file: pathlib.Path, recorded: dict[str, dict[str, Any]]) -> Sheet:
    """Reads the marks.

    Args:
        file: the sheet.
        recorded: the predictions that it was made of, by id.

    Raises:
        UserError: for a file that cannot be read, or is of another run or split.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream, restval=""))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read {file}: {error}") from None
    ids = [row.get("id", "") for row in rows]
    unknown = [name for name in ids if name not in recorded]
    if unknown or not rows:
        what = f"{unknown[0]!r} is no example of this split" if unknown else "it has no rows"
        raise UserError(f"{file}: {what}; make a sheet of this run and split with --errors")
    given = {*_shown(recorded[ids[0]]), PICTURE, COMMENTS, None}
    return Sheet(
        marks={
            name: np.array([is_marked(row[name]) for row in rows])
            for name in rows[0]
            if name not in given
        },
        errors=np.array([recorded[name]["error"] for name in ids], float),
    )
