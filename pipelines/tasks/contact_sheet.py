"""The contact sheet: training pictures as they are, beside what augmentation made of them."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import numpy as np

from pipelines.tasks.task import Evaluation, Figure

EXAMPLES = 8
EPOCHS = 7
SHOWN_SHARE = 0.05  # of a mixed target; smaller ones are not named
LETTERS = 14  # of a label that fit above a picture


def draw_contact_sheet(
    evaluation: Evaluation,
    folder: pathlib.Path,
    title: Callable[[np.ndarray], str] | None = None,
) -> Figure | None:
    """Draws a row for each of the first training pictures; None where nothing augments them.

    Args:
        evaluation: with its ``training_views``.
        folder: where the picture goes.
        title: from a target to what stands above its picture; by default the name of its class,
            over mixed pictures the shares of the classes.
    """
    from matplotlib.figure import Figure as Canvas

    plain, *views = evaluation.training_views(EXAMPLES, EPOCHS)
    columns = [np.asarray(batch["features"]["image"]) for batch in (plain, *views)]
    if all(np.array_equal(columns[0], column) for column in columns):
        return None
    targets = [np.asarray(batch["target"]) for batch in (plain, *views)]

    rows = len(columns[0])
    mixed = title is None and targets[1].ndim > 1
    labels = evaluation.preprocessor.labels
    title = title or (lambda target: _named(target, labels))
    height, width = columns[0].shape[1:3]
    tall = 1.35 * height / width + (0.34 if mixed else 0.2)
    canvas = Canvas(figsize=(1.35 * len(columns), tall * rows), layout="constrained")
    for (row, column), axes in np.ndenumerate(canvas.subplots(rows, len(columns), squeeze=False)):
        axes.axis("off")
        axes.imshow(np.squeeze(columns[column][row]), cmap="gray", vmin=0, vmax=255)
        if column == 0 or mixed:
            axes.set_title(title(targets[column][row]), fontsize=8)
    canvas.savefig(folder / "augmentation.png", dpi=110)
    caption = (
        f"Training pictures as they are (left), and as the model saw them in epochs 1 to {EPOCHS}."
    )
    if mixed:
        caption += " In training, they were mixed with others than these."
    return Figure("augmentation.png", "Augmented pictures", caption)


def _named(target: np.ndarray, labels: list[str]) -> str:
    """A class index as its label; shares of classes as a line for each, the largest first."""
    if not target.ndim:
        return _short(labels[target])
    largest = [place for place in np.argsort(-target) if target[place] >= SHOWN_SHARE]
    return "\n".join(f"{target[place]:.0%} {_short(labels[place])}" for place in largest[:2])


def _short(label: str) -> str:
    return label if len(label) <= LETTERS else label[: LETTERS - 1] + "…"
