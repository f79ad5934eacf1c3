"""``python -m tuning.panda RUN``: watches one model while it is trained, and changes its course.

Where there is not the machinery to train many models at once (the caviar way: ``tuning.search``),
one is looked after like a panda's only cub: watch its figures, and nudge the learning rate as they
go. With ``--learning_rate`` the process that trains RUN is asked for another one.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Sequence

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from pipelines.engine.bootstrap import digits
from pipelines.engine.by_hand import wish
from pipelines.engine.cli import run_command
from pipelines.engine.run import Run

EPOCHS = 12  # the last ones
BETWEEN_LOOKS = 0.5  # seconds


def figures(run: Run, title: str) -> Table:
    """The metrics of the last epochs, and below them what was changed by hand."""
    history, changes = run.history, run.changes
    names = list(history[-1]) if history else ["epoch"]
    table = Table(*names, title=escape(title), caption="\n".join(_told(run, changes)))
    for metrics in history[-EPOCHS:]:
        table.add_row(*(digits(metrics[name]) for name in names))
    return table


def _told(run: Run, changes: Sequence[dict[str, float]]) -> list[str]:
    lines = [
        f"learning rate {digits(change['before'])} → {digits(change['learning_rate'])} by hand "
        f"after {change['epochs']:g} epochs"
        for change in changes
    ]
    if run.control_file.exists():
        lines.append("a change is asked for that training has not made yet")
    return lines + ["finished"] * run.finished


def run(arguments: Sequence[str]) -> None:
    """Does what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tuning.panda", description=__doc__)
    parser.add_argument("run", metavar="RUN", help="path of a run folder")
    parser.add_argument(
        "--learning_rate",
        type=float,
        help="what it shall be from now on; a schedule goes on in proportion to it",
    )
    parser.add_argument("--watch", action="store_true", help="show every epoch until the last one")
    options = parser.parse_args(arguments)
    watched = Run(options.run)
    title = f"{watched.configuration.application}: {watched.path}"
    if options.learning_rate is not None:
        wish(watched, options.learning_rate)
    with Live(figures(watched, title), console=Console(), auto_refresh=False) as live:
        while options.watch and not watched.finished:
            time.sleep(BETWEEN_LOOKS)
            live.update(figures(watched, title), refresh=True)


main = functools.partial(run_command, run)

if __name__ == "__main__":
    main()
