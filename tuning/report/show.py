"""What a search shows: a table that lives on a terminal, lines elsewhere, a report in the end."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from rich.console import Console
from rich.live import Live

from pipelines.engine.bootstrap import digits
from tuning.folder import Folder
from tuning.report.document import write
from tuning.report.live_table import live_table
from tuning.report.progress import spelled_score
from tuning.report.tensorboard import write_hparams
from tuning.trials import Search, Trial

REFRESHED = 1  # times a second


class Show:
    """Looks at the folder of a search and shows what is new.

    Args:
        folder: of the search.
    """

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        # Not whatever sys.stdout is later: what a trial prints goes to its log.
        self.console = Console(file=sys.stdout)
        self.told = self._ended(folder.search())

    @contextlib.contextmanager
    def live(self) -> Iterator[None]:
        """Within it the table is kept up to date, on a terminal."""
        if not self.console.is_terminal:
            yield
            return
        with Live(
            console=self.console,
            get_renderable=lambda: live_table(self.folder.search()),
            refresh_per_second=REFRESHED,
            redirect_stdout=False,
            redirect_stderr=False,
        ):
            yield

    def __call__(self) -> None:
        """Writes ``best.json`` and tells what has ended since the last time."""
        search = self.folder.search()
        ended = self._ended(search)
        if ended == self.told:
            return
        self.folder.write_best(search)
        if not self.console.is_terminal:
            for trial in search.trials:
                if trial.number in ended - self.told:
                    self.console.print(_line(trial, search), markup=False, soft_wrap=True)
        self.told = ended

    def report(self) -> None:
        """Writes the report, and the trials for TensorBoard."""
        search = self.folder.search()
        write(search, self.folder.path)
        write_hparams(search, self.folder.path / "hparams", self.folder.began)
        print(f"report: {self.folder.path / 'report.md'}")

    def _ended(self, search: Search) -> set[int]:
        return {trial.number for trial in search.trials if trial.status != "running"}


def _line(trial: Trial, search: Search) -> str:
    what = f"failed: {trial.reason}"
    if trial.score is not None:
        what = f"{search.objective} {spelled_score(trial)}"
        what += f" (breaks {', '.join(trial.broken)})" if trial.broken else ""
    if trial.status == "stopped":
        what += f", stopped as hopeless after {len(trial.curve)} epochs"
    options = " ".join(
        f"--{name} {digits(value) if isinstance(value, float) else value}"
        for name, value in trial.hyperparameters.items()
    )
    return f"trial {trial.number}: {what} in {trial.seconds:.0f} s: {options}"
