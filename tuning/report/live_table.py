"""The table of a search on the terminal, made anew whenever a trial has something to tell."""

from __future__ import annotations

import collections

from rich.markup import escape
from rich.table import Table

from pipelines.engine.bootstrap import digits
from tuning.report.axes import spelled
from tuning.report.progress import failed, reason, scored, spelled_score
from tuning.trials import Search, Trial

BEST = 5
LATEST = 8
OPTIONS = 5  # hyperparameters that have a column
SUMMED = {
    "completed": "completed",
    "stopped": "stopped early",
    "failed": "failed",
    "running": "running",
}


def live_table(search: Search) -> Table:
    """The best trials and the latest ones, in the order in which they began.

    For ``rich.live.Live.update``. Of many hyperparameters those of the highest priority are shown.
    """
    better = "lower" if search.direction == "min" else "higher"
    options = sorted(search.space, key=lambda dimension: dimension.priority)[:OPTIONS]
    table = Table(
        title=f"{search.application}: {search.tuner} search, {better} {search.objective} is better",
        caption=_summary(search),
    )
    for name in ("trial", search.objective, "epochs", "seconds"):
        table.add_column(name, justify="right")
    for dimension in options:
        table.add_column(dimension.name, justify="right", overflow="fold")
    table.add_column("")
    ranked = search.ranked()
    places = {trial.number: place for place, trial in enumerate(ranked, 1)}
    shown = {trial.number for trial in [*ranked[:BEST], *search.trials[-LATEST:]]}
    shown |= {trial.number for trial in search.trials if trial.status == "running"}
    for trial in search.trials:
        if trial.number in shown:
            table.add_row(
                str(trial.number),
                _score(trial),
                str(len(trial.curve) or ""),
                f"{trial.seconds:.0f}",
                *(
                    escape(spelled(trial.hyperparameters[dimension.name]))
                    if dimension.name in trial.hyperparameters
                    else ""
                    for dimension in options
                ),
                escape(_remark(search, trial, places.get(trial.number))),
                style=_style(trial, places.get(trial.number)),
            )
    return table


def _score(trial: Trial) -> str:
    if trial.status == "running":
        return digits(trial.curve[-1]) + " …" if trial.curve else "…"
    if not scored(trial):
        return ""
    return spelled_score(trial)


def _remark(search: Search, trial: Trial, place: int | None) -> str:
    if trial.status == "running":
        return "runs"
    if failed(trial):
        return f"failed: {reason(search, trial)}"
    if trial.status == "stopped":
        return "stopped: hopeless"
    if trial.broken:
        return f"breaks {', '.join(trial.broken)}"
    return "best" if place == 1 else ""


def _style(trial: Trial, place: int | None) -> str:
    if trial.status == "running":
        return "cyan"
    if failed(trial):
        return "red"
    if trial.status == "stopped":
        return "dim"
    if trial.broken:
        return "yellow"
    return "bold green" if place == 1 else ""


def _summary(search: Search) -> str:
    counts = collections.Counter("failed" if failed(t) else t.status for t in search.trials)
    told = ", ".join(
        f"{counts[status]} {what}" for status, what in SUMMED.items() if counts[status]
    )
    default = "" if search.default is None else f"; default recipe {digits(search.default)}"
    return f"{told or 'no trial yet'}{default}"
