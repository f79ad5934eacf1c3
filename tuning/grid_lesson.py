"""``python -m tuning.grid_lesson GRID RANDOM``: why a random search beats a grid.

    python -m tuning.search house_prices --priority 2 --tuner grid --trials 32 --run grid
    python -m tuning.search house_prices --priority 2 --trials 32 --run random
    python -m tuning.grid_lesson runs/tuning/house_prices/grid runs/tuning/house_prices/random

The two searches side by side, in ``grid_lesson.md`` of the first one's folder.

After J. Bergstra and Y. Bengio, "Random Search for Hyper-Parameter Optimization", 2012,
https://www.jmlr.org/papers/v13/bergstra12a.html, figure 1: of many hyperparameters few matter, and
one does not know which. A grid of n values each in d dimensions tries n values of the one that
matters in n^d trials; as many random trials try n^d values of it.
"""

from __future__ import annotations

import argparse
import functools
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipelines.diagnosis.findings import Section, document, save_picture, table
from pipelines.engine.application import UserError
from pipelines.engine.bootstrap import digits
from pipelines.engine.cli import run_command
from pipelines.engine.run import write_text
from tuning.folder import Folder
from tuning.report.axes import Axis, ScoreAxis, in_lines
from tuning.report.progress import best_so_far, expected_best, finished, scored, trials_to_reach
from tuning.trials import Search

GRID, RANDOM = "tab:purple", "tab:blue"


def write(grid: Search, random: Search, folder: pathlib.Path) -> None:
    """Writes ``grid_lesson.md`` and its pictures.

    Args:
        grid: a finished search over a grid.
        random: a finished random search over the same space, for the same objective.
        folder: where to; it is made if it is not there.

    Raises:
        UserError: for searches that cannot be compared, or if the disk refuses.
    """
    names = [dimension.name for dimension in grid.space]
    if (names, grid.objective) != ([d.name for d in random.space], random.objective):
        raise UserError("only searches of the same space and objective can be compared")
    if not grid.ranked() or not random.ranked():
        raise UserError("a search without a score cannot be compared")
    folder.mkdir(parents=True, exist_ok=True)
    save_picture(draw_values(grid, random), folder / "grid_values.png")
    save_picture(draw_progress(grid, random), folder / "grid_progress.png")
    values = (
        "Every line is a value that was tried, the higher the better it scored; each axis is even "
        "in its own scale.\n\n![Values that were tried](grid_values.png)\n\n"
        f"{_counts(grid, random)}"
    )
    progress = (
        "Thin: the best score so far, in the order of the trials. Thick: what so many trials find "
        "on average if they are taken in any order, so that a grid that happens to begin in a good "
        "corner has no advantage.\n\n![The best of so many trials](grid_progress.png)"
    )
    sections = [
        Section("What it comes to", verdict(grid, random)),
        Section("Values that were tried", values),
        Section("The best of so many trials", progress),
    ]
    title = f"{grid.application}: a grid and a random search"
    write_text(folder / "grid_lesson.md", document(title, sections))


def distinct(search: Search) -> dict[str, int]:
    """How many different values of each hyperparameter were tried."""
    return {
        dimension.name: len(
            {
                trial.hyperparameters[dimension.name]
                for trial in finished(search)
                if dimension.name in trial.hyperparameters
            }
        )
        for dimension in search.space
    }


def verdict(grid: Search, random: Search) -> str:
    """Which search found more, and after how many trials; whatever it was."""
    tried, drawn = distinct(grid), distinct(random)
    first = min(grid.space, key=lambda dimension: dimension.priority).name
    best, other = grid.ranked()[0].score, random.ranked()[0].score
    count, others = len(finished(grid)), len(finished(random))
    reached = trials_to_reach(random, best)
    told = (
        f"The grid's {count} trials tried {tried[first]} values of {first}, the {others} random "
        f"ones {drawn[first]}. The grid's best {grid.objective} is {digits(best)}, that of the "
        f"random search {digits(other)}. "
    )
    if reached is None:
        return told + (
            f"Here the random search did not reach the grid's best in its {others} trials: it is "
            "chance, and what a grid has among its few values may be good."
        )
    return told + (
        f"The random search was as good as the whole grid after {reached} "
        f"trial{'s' * (reached > 1)} ({reached / count:.0%} of the grid's): a grid tries the same "
        "few values of each hyperparameter again and again, of those that matter as of the others."
    )


def _counts(grid: Search, random: Search) -> str:
    tried, drawn = distinct(grid), distinct(random)
    rows = [[name, str(tried[name]), str(drawn[name])] for name in tried]
    rows.append(["trials", str(len(finished(grid))), str(len(finished(random)))])
    return table(["different values of", "grid", "random"], rows)


def draw_values(grid: Search, random: Search) -> Any:
    """For each hyperparameter, the values that either search tried, with their best scores."""
    from matplotlib.figure import Figure as Canvas

    score = _score_axis(grid, random)
    count = len(grid.space)
    canvas = Canvas(figsize=(8, 1.15 * count + 0.7), layout="constrained")
    rows = canvas.subplots(count, 2, squeeze=False)
    for pair, dimension in zip(rows, grid.space, strict=True):
        axis = Axis(dimension)
        for axes, search, colour in zip(pair, (grid, random), (GRID, RANDOM), strict=True):
            trials = [trial for trial in finished(search) if scored(trial)]
            trials = [t for t in trials if dimension.name in t.hyperparameters]
            places = [axis.position(t.hyperparameters[dimension.name]) for t in trials]
            heights = [0.08 + 0.92 * score.position(trial.score) for trial in trials]
            axes.vlines(places, 0, heights, color=colour, alpha=0.6, linewidth=1.2)
            axes.set_xticks(*axis.ticks(), fontsize=7)
            axes.set(xlim=(-0.05, 1.05), ylim=(0, 1.05), yticks=[])
        pair[0].set_ylabel(
            in_lines(dimension.name), rotation=0, ha="right", va="center", fontsize=9
        )
    rows[0][0].set_title(f"grid, {len(finished(grid))} trials", fontsize=10)
    rows[0][1].set_title(f"random, {len(finished(random))} trials", fontsize=10)
    return canvas


def draw_progress(grid: Search, random: Search) -> Any:
    """The best score against the number of trials, of both."""
    from matplotlib.figure import Figure as Canvas
    from matplotlib.ticker import MaxNLocator

    canvas = Canvas(figsize=(7.5, 4.2), layout="constrained")
    axes = canvas.subplots()
    score = _score_axis(grid, random)
    for search, name, colour in ((grid, "grid", GRID), (random, "random", RANDOM)):
        numbers = np.arange(1, len(finished(search)) + 1)
        happened, expected = score.shown(best_so_far(search)), score.shown(expected_best(search))
        axes.step(numbers, happened, where="post", color=colour, linewidth=1, alpha=0.6)
        axes.plot(numbers, expected, color=colour, linewidth=2.5, label=name)
    axes.axhline(grid.ranked()[0].score, color=GRID, linestyle=":", label="the grid's best")
    score.apply(axes)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("trials")
    axes.legend()
    return canvas


def run(arguments: Sequence[str]) -> None:
    """Does what the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m tuning.grid_lesson",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("grid", metavar="GRID", help="folder of a search over a grid")
    parser.add_argument("random", metavar="RANDOM", help="folder of a random search")
    options = parser.parse_args(arguments)
    grid, random = Folder(options.grid).search(), Folder(options.random).search()
    write(grid, random, pathlib.Path(options.grid))
    print(verdict(grid, random))
    print(f"lesson: {options.grid}/grid_lesson.md")


def _score_axis(grid: Search, random: Search) -> ScoreAxis:
    """One axis for the scores of both."""
    scores = [t.score for search in (grid, random) for t in search.trials if scored(t)]
    axis = ScoreAxis.of(grid, scores)
    assert axis is not None  # both have a score
    return axis


main = functools.partial(run_command, run)

if __name__ == "__main__":
    main()
