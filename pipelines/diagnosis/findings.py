"""What a diagnosis is asked and what it finds, and ``diagnosis.md``, where that is written down."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from pipelines.engine.application import UserError
from pipelines.engine.run import Run, write_text

PICTURE_RESOLUTION = 110


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """What a diagnosis is asked.

    Attributes:
        split: whose examples are looked at.
        examples: how many of them, the first ones; None: all.
        beam_widths: of the searches that are tried.
        length_penalties: of the searches that are tried.

    Raises:
        UserError: for numbers that no diagnosis can have.
    """

    split: str
    examples: int | None
    beam_widths: Sequence[int]
    length_penalties: Sequence[float]

    def __post_init__(self) -> None:
        for name, values in (("examples", [self.examples]), ("beam_widths", self.beam_widths)):
            for value in values:
                if value is not None and value < 1:
                    raise UserError(f"--{name} must be at least 1, not {value}")


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of ``diagnosis.md``: a title, and Markdown of what was found."""

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


def write_findings(run: Run, request: Request, findings: Sequence[Findings]) -> None:
    """Replaces ``diagnosis.md`` of the run: the advice of all diagnoses first."""
    advice = [f"- {sentence}" for found in findings for sentence in found.advice]
    sections = [section for found in findings for section in found.sections]
    lines = [f"# {run.configuration.application}: diagnosis of {run.path.name}", ""]
    lines += [f"On the {request.split} split.", "", "## What to work on", "", *advice]
    for section in sections:
        lines += ["", f"## {section.title}", "", section.text]
    write_text(run.path / "diagnosis.md", "\n".join(lines) + "\n")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table of plain text."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(_escaped(cell) for cell in line)} |" for line in lines)


def _escaped(cell: str) -> str:
    return " ".join(cell.split()).replace("|", r"\|")
