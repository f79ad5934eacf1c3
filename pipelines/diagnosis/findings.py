"""What a diagnosis is asked and what it finds, and ``diagnosis.md``, where that is written down."""

from __future__ import annotations

import dataclasses
import math
import pathlib
from collections.abc import Sequence
from typing import Any

from pipelines.engine.application import UserError
from pipelines.engine.run import Run, replacing, write_text

PICTURE_RESOLUTION = 110


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """What a diagnosis is asked.

    Attributes:
        ladder_examples: how many of each split the error ladder stands on, the first ones.
        human_error: what a human, or the best system known, gets wrong, or a file of what several
            people answered (``annotators.py``); None: unknown.
        tolerance: the error that a gap of the ladder may add without being worth any work; None: a
            point of per cent of the examples, or else a twentieth of the dev error.
        split: whose examples are searched again.
        examples: how many of them, the first ones; None: all.
        beam_widths: of the searches that are tried.
        length_penalties: of the searches that are tried.

    Raises:
        UserError: for numbers that no diagnosis can have.
    """

    ladder_examples: int = 2000
    human_error: float | pathlib.Path | None = None
    tolerance: float | None = None
    split: str = "validation"
    examples: int | None = 300
    beam_widths: Sequence[int] = (1, 2, 3, 5, 10, 20, 50, 100)
    length_penalties: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)

    def __post_init__(self) -> None:
        whole = {
            "ladder_examples": [self.ladder_examples],
            "examples": [self.examples],
            "beam_widths": self.beam_widths,
        }
        for name, values in whole.items():
            for value in values:
                if value is not None and value < 1:
                    raise UserError(f"--{name} must be at least 1, not {value}")
        for name in ("human_error", "tolerance"):
            value = getattr(self, name)
            stated = value is not None and not isinstance(value, pathlib.Path)
            if stated and not 0 <= value < math.inf:
                raise UserError(f"--{name} is an error of 0 or more, not {value:g}")


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of a report: a title, and Markdown of what was found."""

    title: str
    text: str


@dataclasses.dataclass(frozen=True)
class Findings:
    """What one diagnosis found.

    Attributes:
        advice: what to work on next, one sentence each.
        sections: what that stands on.
    """

    advice: list[str]
    sections: list[Section]


def write_findings(run: Run, findings: Sequence[Findings], name: str = "diagnosis.md") -> None:
    """Replaces a file of the run: the advice of all diagnoses first."""
    advice = "\n".join(f"- {sentence}" for found in findings for sentence in found.advice)
    sections = [section for found in findings for section in found.sections]
    title = f"{run.configuration.application}: diagnosis of {run.path.name}"
    write_text(run.path / name, document(title, [Section("What to work on", advice), *sections]))


def document(title: str, sections: Sequence[Section]) -> str:
    """A page of Markdown."""
    parts = [f"# {title}", *(f"## {section.title}\n\n{section.text}" for section in sections)]
    return "\n\n".join(parts) + "\n"


def save_picture(canvas: Any, file: pathlib.Path) -> None:
    """Writes a matplotlib figure as a PNG file, whole or not at all."""
    with replacing(file) as beside:
        canvas.savefig(beside, dpi=PICTURE_RESOLUTION)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table of plain text."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(_escaped(cell) for cell in line)} |" for line in lines)


def _escaped(cell: str) -> str:
    return " ".join(cell.split()).replace("|", r"\|")
