"""What several pictures draw."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GRID = 150  # points along each side of a plane


def panels(count: int, *, rows: int = 1) -> tuple[Figure, list[Axes]]:
    """A picture of ``count`` panels."""
    from matplotlib.figure import Figure

    columns = -(-count // rows)
    picture = Figure(figsize=(4.3 * columns, 3.7 * rows), layout="constrained")
    return picture, list(picture.subplots(rows, columns, squeeze=False).flat)


def draw_regions(
    axes: Axes, answer: Callable[[np.ndarray], np.ndarray], x: np.ndarray, labels: np.ndarray
) -> None:
    """Two classes of points in the plane, and where a network takes each for granted.

    Args:
        axes: what to draw on.
        answer: points [n, 2] → logits [n, 2].
        x: [examples, 2].
        labels: [examples] 0 or 1.
    """
    low, high = x.min(axis=0) - 0.3, x.max(axis=0) + 0.3
    sides = [np.linspace(low[side], high[side], GRID) for side in range(2)]
    points = np.stack(np.meshgrid(*sides), axis=-1).reshape(-1, 2)
    classes = answer(points).argmax(axis=1).reshape(GRID, GRID)
    axes.contourf(*sides, classes, levels=[-0.5, 0.5, 1.5], colors=["#cfe2f3", "#fbe0c8"])
    for label, colour, marker in ((0, "tab:blue", "o"), (1, "tab:orange", "^")):
        axes.scatter(*x[labels == label].T, s=12, c=colour, marker=marker, label=f"class {label}")
    axes.set(xlabel="first feature", ylabel="second feature")


def draw_errors(
    axes: Axes, errors: Mapping[str, Sequence[float]], labels: Sequence[str], form: str = "%.1f"
) -> None:
    """Two errors for each of several ways, side by side as bars.

    Args:
        axes: what to draw on.
        errors: way → two shares.
        labels: what the two are of.
        form: of the per cent above the bars.
    """
    places = np.arange(len(errors))
    for number, label in enumerate(labels):
        shares = [100 * each[number] for each in errors.values()]
        bars = axes.bar(places + 0.38 * number, shares, 0.36, label=label)
        axes.bar_label(bars, fmt=form)
    axes.set_xticks(places + 0.19, errors, fontsize="small")
    axes.margins(y=0.25)  # room for the legend
    axes.set_ylabel("error, %")
    axes.legend(fontsize="small")
