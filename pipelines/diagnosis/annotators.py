"""What humans get wrong, from what several of them answered to the same examples.

A human's error stands for the lowest that is possible, and nobody's lowest is above what anybody
has reached: so it is the error of the best, an expert rather than the average, and of them all
together, by majority, where that is lower (A. Ng, "Machine Learning Yearning", 2018, chapter 19).

A CSV file holds a row for each example and a column for each annotator; an empty cell was not
answered, and who answered few of the examples is not judged. A column ``label`` holds the truth,
``id`` is not read. Without a ``label`` an annotator is held against what most of the others say,
and against nothing where they are divided; the majority cannot be judged then, and the error is how
often the best differs from the rest.
"""

from __future__ import annotations

import collections
import csv
import pathlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from pipelines.diagnosis.error_ladder import Rung
from pipelines.engine.application import UserError

TRUTH, IGNORED = "label", ("id",)
TOGETHER = "the majority"
ENOUGH = 0.5  # of the answers of whoever was judged by the most of them


def read_annotations(file: pathlib.Path) -> dict[str, list[str]]:
    """The answers of each annotator, and ``label`` where it is known; "" where there is none.

    Raises:
        UserError: for a file that cannot be read or holds too few annotators.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, restval="")
            rows = list(reader)
            names = [name for name in reader.fieldnames or () if name not in IGNORED]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read {file}: {error}") from None
    columns = {name: [row[name].strip() for row in rows] for name in names}
    needed = 1 if TRUTH in columns else 3
    if len(columns.keys() - {TRUTH}) < needed or not rows:
        raise UserError(
            f"{file}: write a row for each example and a column for each annotator: one or more "
            f"beside a column named {TRUTH}, three or more without"
        )
    return columns


def annotators_errors(answers: Mapping[str, Sequence[str]]) -> dict[str, np.ndarray]:
    """For each annotator [examples it is judged by] 1 where it is wrong, else 0.

    Args:
        answers: as of ``read_annotations``.
    """
    people = {name: given for name, given in answers.items() if name != TRUTH}
    judged = dict(people)
    if TRUTH in answers:
        judged[TOGETHER] = [majority(given) for given in zip(*people.values(), strict=True)]
    errors = {}
    for name, given in judged.items():
        others = [column for other, column in people.items() if other != name]
        truth = answers.get(TRUTH) or [majority(row) for row in zip(*others, strict=True)]
        pairs = [(one, other) for one, other in zip(given, truth, strict=True) if one and other]
        errors[name] = np.array([one != other for one, other in pairs], float)
    most = max(map(len, errors.values()))
    return {name: wrong for name, wrong in errors.items() if len(wrong) >= max(1, ENOUGH * most)}


def majority(answers: Iterable[str]) -> str:
    """What most of those say who say something; "" where no answer has most."""
    counts = collections.Counter(answer for answer in answers if answer).most_common(2)
    divided = not counts or (len(counts) == 2 and counts[0][1] == counts[1][1])
    return "" if divided else counts[0][0]


def best_annotator(answers: Mapping[str, Sequence[str]]) -> Rung:
    """The rung of the human: the lowest error among annotators, and of their majority.

    Raises:
        UserError: if nobody answered anything that can be judged.
    """
    errors = annotators_errors(answers)
    if not errors:
        raise UserError("no annotator answered an example whose truth is known")
    return Rung.measured("human", min(errors.values(), key=np.mean))
