"""The pictures of a search: which settings were tried, what they scored, and how it came about.

In all of them the best trials are orange, those that break a limit are red, those that were stopped
because they were hopeless grey, and failed ones black.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from tuning.report.axes import ABSENT, Axis, ScoreAxis, in_lines
from tuning.report.importance import Importance
from tuning.report.progress import best_so_far, failed, finished, scored
from tuning.trials import Search, Trial

BEST = 3  # trials that are told apart, if there are three times as many
SLICES = 12


@dataclasses.dataclass(frozen=True)
class Look:
    """How one kind of trials is drawn."""

    label: str
    colour: str
    line: str = "-"
    width: float = 1.0
    opacity: float = 1.0
    order: float = 2.0
    marker: str = "o"


LOOKS = {
    "completed": Look("completed", "tab:blue", opacity=0.45),
    "broken": Look("breaks a limit", "tab:red", line="--", opacity=0.7, order=2.1, marker="s"),
    "stopped": Look("stopped early", "tab:gray", opacity=0.8, order=2.1, marker="v"),
    "failed": Look("failed", "black", line=":", opacity=0.7, order=2.2, marker="x"),
    "running": Look("running", "tab:purple", line="-.", order=2.3),
    "best": Look("best", "tab:orange", width=2.4, order=3.0),
}
DEFAULT = {"color": "tab:green", "linestyle": "--", "linewidth": 1.2}


def kinds(search: Search) -> dict[str, list[Trial]]:
    """The trials that have ended, by how they are drawn; the best ones in their order."""
    ranked, ended = search.ranked(), finished(search)
    best = max(1, min(BEST, len(ranked) // 3))
    return {
        "completed": ranked[best:],
        "broken": [t for t in ended if scored(t) and t.broken and t.status == "completed"],
        "stopped": [trial for trial in ended if trial.status == "stopped"],
        "failed": [trial for trial in ended if failed(trial)],
        "best": ranked[:best],
    }


def parallel_coordinates(search: Search) -> Any:
    """A line a trial, over one axis a hyperparameter, to its score; the best score is on top."""
    from matplotlib.figure import Figure as Canvas

    axes_of = [Axis(dimension) for dimension in search.space]
    score = ScoreAxis.of(search, _scores(search))
    last = len(axes_of)
    canvas = Canvas(figsize=(max(6.0, 1.45 * (last + 1)), 4.8), layout="constrained")
    axes = canvas.subplots()
    labels = []
    below = set()  # places where a line leaves the axis
    for kind, trials in kinds(search).items():
        for trial in reversed(trials):  # so that the best is drawn over the others
            heights = [a.position(trial.hyperparameters.get(a.dimension.name)) for a in axes_of]
            heights.append(ABSENT if kind == "failed" else score.position(trial.score))
            below |= {place for place, height in enumerate(heights) if height == ABSENT}
            _line(axes, range(last + 1), heights, kind)
            if kind == "best":
                labels.append((heights[-1], str(trial.number)))
    for place, axis in enumerate([*axes_of, score]):
        positions, words = axis.ticks()
        if place in below:
            words = [*words, "not used" if place < last else "failed"]
            positions = [*positions, ABSENT]
        _vertical(axes, place, positions, words)
    for height, (_, label) in zip(
        _apart([h for h, _ in sorted(labels)]), sorted(labels), strict=True
    ):
        axes.text(last + 0.06, height, label, va="center", color="tab:orange", weight="bold")
    axes.set_yticks([])
    names = [*(axis.dimension.name for axis in axes_of), search.objective]
    axes.set_xticks(range(last + 1), map(in_lines, names), fontsize=9)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.set(xlim=(-0.35, last + 0.45), ylim=(ABSENT - 0.05 if below else -0.05, 1.05))
    for side in axes.spines.values():
        side.set_visible(False)
    _legend(canvas, kinds(search))
    return canvas


def _apart(heights: Sequence[float]) -> list[float]:
    """Rising heights, moved down as far as needed for a line of text each."""
    placed: list[float] = []
    for height in reversed(heights):
        placed.append(min([height, *(placed[-1] - 0.045 for _ in placed[-1:])]))
    return placed[::-1]


def slices(search: Search, names: Sequence[str]) -> Any:
    """The score of every trial against each of the first few of these hyperparameters."""
    from matplotlib.figure import Figure as Canvas

    score = ScoreAxis.of(search, _scores(search))
    drawn = {kind: trials for kind, trials in kinds(search).items() if kind != "failed"}
    chosen = {dimension.name: Axis(dimension) for dimension in search.space}
    chosen = [chosen[name] for name in names][:SLICES]
    rows = -(-len(chosen) // 4)
    across = -(-len(chosen) // rows)
    canvas = Canvas(figsize=(3.3 * across + 0.4, 2.9 * rows + 0.4), layout="constrained")
    grid = canvas.subplots(rows, across, squeeze=False, sharey=True).ravel()
    for axes in grid[len(chosen) :]:
        axes.axis("off")
    for number, (axes, axis) in enumerate(zip(grid, chosen, strict=False)):
        positions, labels = axis.ticks()
        if any(axis.dimension.name not in trial.hyperparameters for trial in finished(search)):
            positions, labels = [ABSENT, *positions], ["not used", *labels]
        turned = sum(map(len, labels)) > 24 or "not used" in labels
        axes.set_xticks(
            positions,
            labels,
            fontsize=8,
            rotation=30 if turned else 0,
            ha="right" if turned else "center",
        )
        axes.set_xlim(min(positions[0], 0) - 0.06, 1.06)
        axes.set_title(axis.dimension.name, fontsize=10)
        score.apply(axes)
        axes.set_ylabel(score.label if number % across == 0 else "", fontsize=8)
        _default(axes, search)
        for kind, trials in drawn.items():
            places = [axis.position(t.hyperparameters.get(axis.dimension.name)) for t in trials]
            _points(axes, places, score.shown([t.score for t in trials]), kind)
    _legend(canvas, drawn, search.default)
    return canvas


def importance_bars(found: Importance) -> Any:
    """What each hyperparameter decides, alone and together with others."""
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(7, 1.3 + 0.3 * len(found.names)), layout="constrained")
    axes = canvas.subplots()
    names = found.names[::-1]
    alone, jointly = 100 * found.alone[::-1], 100 * found.jointly[::-1]
    axes.barh(names, alone, label="alone")
    axes.barh(names, jointly, left=alone, label="in concert with others", color="#9dbcd4")
    axes.set(xlabel="share of the variance of the predicted rank (%)", xlim=(0, None))
    axes.legend(loc="lower right", fontsize=8)
    return canvas


def learning_curves(search: Search) -> Any:
    """The objective after each epoch of every trial that has any."""
    from matplotlib.figure import Figure as Canvas

    values = [value for trial in search.trials for value in trial.curve]
    score = ScoreAxis.of(search, values if search.default is None else [*values, search.default])
    canvas = Canvas(figsize=(8.5, 4.8), layout="constrained")
    axes = canvas.subplots()
    drawn = kinds(search)
    drawn["running"] = [trial for trial in search.trials if trial.status == "running"]
    for kind, trials in drawn.items():
        for trial in reversed(trials):
            curve = score.shown(trial.curve)
            _line(axes, range(1, len(curve) + 1), curve, kind)
            ends = np.flatnonzero(np.isfinite(curve))
            if len(ends) and (kind in ("best", "stopped", "failed") or len(curve) == 1):
                _points(axes, [ends[-1] + 1], [curve[ends[-1]]], kind)
    _whole_numbers(axes)
    axes.set_xlabel("epoch")
    score.apply(axes)
    _default(axes, search)
    _legend(canvas, drawn, search.default)
    return canvas


def progress(search: Search) -> Any:
    """The best score so far against the trials that have ended, and against time."""
    from matplotlib.figure import Figure as Canvas

    trials = finished(search)
    score = ScoreAxis.of(search, _scores(search))
    size, unit = time_unit(max(trial.began + trial.seconds for trial in trials))
    numbers = np.arange(1, len(trials) + 1)
    times = np.array([trial.began + trial.seconds for trial in trials]) / size
    best = best_so_far(search)
    canvas = Canvas(figsize=(9.5, 4.0), layout="constrained")
    left, right = canvas.subplots(1, 2, sharey=True)
    for axes, places, end in ((left, numbers, len(trials)), (right, times, times[-1])):
        score.apply(axes)
        axes.step([*places, end], [*best, best[-1]], where="post", color="tab:orange", linewidth=2)
        _default(axes, search)
        place_of = {trial.number: place for trial, place in zip(trials, places, strict=True)}
        for kind, members in kinds(search).items():
            heights = (
                [score.worst] * len(members)
                if kind == "failed"
                else score.shown([trial.score for trial in members])
            )
            _points(axes, [place_of[trial.number] for trial in members], heights, kind)
    _whole_numbers(left)
    _mark_rounds(left, trials)
    left.set_xlabel("trials ended")
    right.set(xlabel=f"time since the search began ({unit})", ylabel="", xlim=(0, None))
    _legend(canvas, kinds(search), search.default)
    return canvas


def _whole_numbers(axes: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def _mark_rounds(axes: Any, trials: Sequence[Trial]) -> None:
    """Where a search from coarse to fine went on to its next round."""
    for number, (before, after) in enumerate(itertools.pairwise(trials), 1):
        if after.round > before.round:
            axes.axvline(number + 0.5, color="grey", linewidth=0.8)
            axes.annotate(
                f" round {after.round + 1}",
                (number + 0.5, 1),
                xycoords=("data", "axes fraction"),
                va="top",
                fontsize=8,
                color="grey",
            )


def beyond_axis(search: Search) -> int:
    """How many scores are worse than the pictures show."""
    axis = ScoreAxis.of(search, _scores(search))
    return sum(axis.shown(trial.score) != trial.score for trial in search.trials if scored(trial))


def _scores(search: Search) -> list[float]:
    scores = [trial.score for trial in search.trials if scored(trial)]
    return scores if search.default is None or not scores else [*scores, search.default]


def time_unit(longest: float) -> tuple[float, str]:
    """The number of seconds, and the name, of the unit that suits a time."""
    if longest < 180:
        return 1.0, "s"
    return (60.0, "min") if longest < 3 * 3600 else (3600.0, "h")


def _line(axes: Any, places: Any, heights: Any, kind: str) -> None:
    look = LOOKS[kind]
    axes.plot(
        places,
        heights,
        color=look.colour,
        linestyle=look.line,
        linewidth=look.width,
        alpha=look.opacity,
        zorder=look.order,
    )


def _points(axes: Any, places: Any, heights: Any, kind: str) -> None:
    look = LOOKS[kind]
    axes.scatter(
        places,
        heights,
        s=26 if kind == "best" else 16,
        color=look.colour,
        marker=look.marker,
        alpha=look.opacity,
        zorder=look.order,
        clip_on=False,
    )


def _vertical(axes: Any, place: int, positions: list[float], labels: list[str]) -> None:
    """One axis of parallel coordinates with its labels beside it."""
    axes.plot([place, place], [0, 1], color="black", linewidth=0.8, zorder=2.5)
    for height, label in zip(positions, labels, strict=True):
        axes.plot([place - 0.03, place], [height, height], color="black", linewidth=0.8)
        axes.text(
            place - 0.05,
            height,
            label,
            ha="right",
            va="center",
            fontsize=8,
            zorder=4,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.6},
        )


def _default(axes: Any, search: Search) -> None:
    """The score of the application's own recipe, where it is known."""
    if search.default is not None:
        axes.axhline(search.default, zorder=1.5, **DEFAULT)


def _legend(canvas: Any, drawn: dict[str, list[Trial]], default: float | None = None) -> None:
    """Above the picture: the kinds of trials in it, and the default recipe."""
    from matplotlib.lines import Line2D

    handles = []
    for kind, trials in drawn.items():
        look = LOOKS[kind]
        numbers = ", ".join(str(trial.number) for trial in trials)
        if trials:
            handle = Line2D(
                [],
                [],
                color=look.colour,
                linestyle=look.line,
                linewidth=look.width,
                marker=look.marker,
                markersize=4,
                label=f"best: {numbers}" if kind == "best" else f"{look.label} ({len(trials)})",
            )
            handles.append(handle)
    if default is not None:
        handles.append(Line2D([], [], **DEFAULT, label="default recipe"))
    if handles:
        canvas.legend(
            handles=handles,
            loc="outside upper center",
            ncols=6,
            fontsize=8,
            frameon=False,
            columnspacing=1.2,
            handlelength=1.7,
        )
