"""Error analysis: of which kind the errors are, and what fixing each kind could gain at most.

After A. Ng, "Machine Learning Yearning", 2018, chapters 14 to 18: a person looks at wrong answers
and marks what each has to do with. If 8 of 100 errors are dogs, solving dogs altogether takes an
error of 10 % to no less than 9.2 %: so an idea's ceiling is known before any work on it. An error
may also be the label's: that share says whether labels are worth correcting.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from pipelines.diagnosis.findings import table
from pipelines.engine.bootstrap import digits, interval, ratio, spelled

MISLABELLED = "incorrectly labelled"
NO_MARK = ("", "0", "-", "n", "no", "false")
# The part of the errors from which on wrong labels hide what a change to the model does.
WORTH_CORRECTING = 1 / 4


@dataclasses.dataclass(frozen=True)
class Tag:
    """A kind of error.

    Attributes:
        name: what a person called it.
        examples: how many wrong answers have to do with it.
        share: of the errors that were looked at. Where errors count something other than right and
            wrong, it is the part of their sum.
        bounds: its 95 % interval.
        gain: what the error of the whole set falls by if all of these are put right.
        ceiling: what it then is; no work on this kind leads below.
    """

    name: str
    examples: int
    share: float
    bounds: tuple[float, float]
    gain: float
    ceiling: float


def is_marked(cell: str) -> bool:
    """Whether a person has marked a cell: anything but nothing and no."""
    return cell.strip().lower() not in NO_MARK


def assess_tags(marks: Mapping[str, np.ndarray], errors: np.ndarray, error: float) -> list[Tag]:
    """What each kind of error makes up, the largest first; what nobody marked is left out.

    Args:
        marks: for each kind bool [examples], whether an example that was looked at is of it; one
            may be of several.
        errors: [examples] how wrong the answer to each is.
        error: the mean error of the whole set that they are taken from.
    """
    tags = []
    for name, marked in marks.items():
        if marked.any():
            part = ratio(marked * errors, errors)
            gain = error * part.value
            bounds = interval(part.resampled())
            tags.append(Tag(name, int(marked.sum()), part.value, bounds, gain, error - gain))
    return sorted(tags, key=lambda tag: -tag.share)


def advice_on_tags(tags: Sequence[Tag], error: float) -> list[str]:
    """What to work on, one sentence each."""
    sentences = []
    kinds = [tag for tag in tags if tag.name != MISLABELLED]
    if kinds:
        largest = kinds[0]
        sentences.append(
            f"Of the kinds of errors {largest.name} is the largest: all of it put right takes the "
            f"error from {digits(error)} to {digits(largest.ceiling)} at best."
        )
    for tag in tags:
        if tag.name == MISLABELLED:
            worth = tag.share >= WORTH_CORRECTING
            sentences.append(
                f"Of the error of {digits(error)}, {digits(tag.gain)} is due to wrong labels and "
                f"{digits(tag.ceiling)} to other causes: "
                + (
                    "correct labels first, in dev and test alike, right answers looked at too."
                    if worth
                    else "other causes come first."
                )
            )
    if not tags:
        sentences.append("No example is marked: write anything into the cells that apply.")
    return sentences


def table_of_tags(tags: Sequence[Tag]) -> str:
    """A Markdown table."""
    rows = [
        [
            tag.name,
            str(tag.examples),
            spelled(tag.share, tag.bounds),
            digits(tag.gain),
            digits(tag.ceiling),
        ]
        for tag in tags
    ]
    return table(["kind", "examples", "share of the errors", "gain", "error left at best"], rows)
