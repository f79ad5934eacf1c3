"""The contact sheet: training pictures as they are, beside what augmentation made of them."""

from __future__ import annotations

import pathlib

import numpy as np

from pipelines.tasks.task import Evaluation, Figure

EXAMPLES = 8
EPOCHS = 7
SHOWN_SHARE = 0.05  # of a mixed target; smaller ones are not named


def draw_contact_sheet(evaluation: Evaluation, folder: pathlib.Path) -> Figure | None:
    """Draws a row for each of the first training pictures; None where nothing augments them.

    Over mixed pictures stand the shares of the classes in their targets.
    """
    from matplotlib.figure import Figure as Canvas

    plain, *views = evaluation.training_views(EXAMPLES, EPOCHS)
    columns = [np.asarray(batch["features"]["image"]) for batch in (plain, *views)]
    if all(np.array_equal(columns[0], column) for column in columns):
        return None
    targets = [np.asarray(batch["target"]) for batch in (plain, *views)]

    rows = len(columns[0])
    height, width = columns[0].shape[1:3]
    tall = 1.25 * height / width + 0.22
    canvas = Canvas(figsize=(1.35 * len(columns), tall * rows + 0.4), layout="constrained")
    grid = canvas.subplots(rows, len(columns), squeeze=False)
    for place, axes in np.ndenumerate(grid):
        row, column = place
        axes.axis("off")
        axes.imshow(np.squeeze(columns[column][row]), cmap="gray", vmin=0, vmax=255)
        target = targets[column][row]
        if column == 0 or target.ndim:
            axes.set_title(_named(target, evaluation.preprocessor.labels), fontsize=8)
    canvas.savefig(folder / "augmentation.png", dpi=110)
    caption = (
        f"Training pictures as they are (left), and as the model saw them in epochs 1 to {EPOCHS}."
    )
    if targets[1].ndim > 1:
        caption += " In training, they were mixed with others than these."
    return Figure("augmentation.png", "Augmented pictures", caption)


def _named(target: np.ndarray, labels: list[str]) -> str:
    """A class index as its label; shares of classes as the larger ones, the largest first."""
    if not target.ndim:
        return labels[target]
    largest = [place for place in np.argsort(-target) if target[place] >= SHOWN_SHARE]
    return ", ".join(f"{labels[place]} {target[place]:.0%}" for place in largest[:2])
