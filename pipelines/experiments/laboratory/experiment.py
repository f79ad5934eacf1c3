"""What a teaching experiment finds, and its report, which says no more than was measured.

A file of ``pipelines/experiments/`` is an experiment: the first line of its docstring says what it
is about, and its ``run(seed)`` does it and returns an ``Experiment``.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import pathlib
import pkgutil
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipelines.engine.application import UserError, choose
from pipelines.engine.run import replacing, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FOLDER = pathlib.Path(__file__).parents[1]
PICTURE_RESOLUTION = 110


@dataclasses.dataclass(frozen=True)
class Claim:
    """Something that an experiment is to show.

    Attributes:
        name: what is claimed, as a clause.
        holds: whether the measured numbers say so.
        sentence: the same with those numbers; printed only if it holds.
    """

    name: str
    holds: bool
    sentence: str


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A finished experiment.

    Attributes:
        setting: what was done, one or two sentences that claim nothing.
        claims: what is to be seen.
        picture: the same drawn.
    """

    setting: str
    claims: Sequence[Claim]
    picture: Figure

    @property
    def paragraph(self) -> str:
        """What was done and what was seen; a claim that does not hold is only named as such."""
        seen = [claim.sentence for claim in self.claims if claim.holds]
        missing = [f"Not seen this time: {claim.name}." for claim in self.claims if not claim.holds]
        return " ".join([self.setting, *seen, *missing])


def experiment_names() -> list[str]:
    """Every experiment: the modules of ``pipelines/experiments/`` that are no command."""
    modules = pkgutil.iter_modules([str(FOLDER)])
    return sorted(m.name for m in modules if not m.ispkg and m.name != "__main__")


def summary(name: str) -> str:
    """The first line of an experiment's docstring; nothing is imported."""
    documentation = ast.get_docstring(ast.parse((FOLDER / f"{name}.py").read_text()))
    return documentation.partition("\n")[0]


def run_experiment(name: str, seed: int) -> Experiment:
    """Does an experiment; UserError where there is none of this name."""
    from threadpoolctl import threadpool_limits

    choose("experiment", name, experiment_names())
    module = importlib.import_module(f"pipelines.experiments.{name}")
    # Matrices as small as these wait for a second thread longer than they compute.
    with threadpool_limits(1):
        return module.run(seed)


def write_experiment(name: str, experiment: Experiment, folder: pathlib.Path) -> None:
    """Writes ``<name>.png`` and ``report.md`` around it into a folder, which is made if need be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make {folder}: {error.strerror or error}") from None
    with replacing(folder / f"{name}.png") as beside:
        experiment.picture.savefig(beside, dpi=PICTURE_RESOLUTION)
    title = summary(name).rstrip(".")
    write_text(
        folder / "report.md", f"# {title}\n\n{experiment.paragraph}\n\n![{title}]({name}.png)\n"
    )
