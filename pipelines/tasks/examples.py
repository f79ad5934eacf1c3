"""The examples of an evaluation: labels as text, pictures as the model sees them."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import numpy as np

from pipelines.engine.lazy import tensorflow as tf
from pipelines.tasks.task import Evaluation

READ_BATCH = 256


def texts(values) -> np.ndarray:
    """Labels as an array of ``str``, of the same shape; TensorFlow hands them out as bytes."""
    array = np.array([np.asarray(value).tolist() for value in values])
    return np.char.decode(array) if array.dtype.kind == "S" else array.astype(str)


def by_example(answers: dict) -> dict[str, list]:
    """Tensors or arrays [examples, …] by name as lists of one entry for each example."""
    return {name: list(np.asarray(values)) for name, values in answers.items()}


def pictures(evaluation: Evaluation, rows: Sequence[int]) -> np.ndarray:
    """uint8 [rows, height, width, channels]: the pictures of these examples."""
    names = texts(evaluation.examples["id"])[np.asarray(rows, int)]
    wanted, source = set(names), evaluation.source
    dataset = source.load(evaluation.split)
    dataset = dataset.unbatch() if source.blocks else dataset
    encoded = {}
    for row in dataset.as_numpy_iterator():
        if (name := row["id"].decode()) in wanted:
            encoded[name] = row["image"]
        if len(encoded) == len(wanted):
            break  # the rest may have to be drawn or read from the disk first
    batches = tf.data.Dataset.from_tensor_slices({"image": [encoded[name] for name in names]})
    pixels = batches.batch(READ_BATCH).map(evaluation.preprocessor.features)
    return np.concatenate([batch["image"] for batch in pixels.as_numpy_iterator()])


def draw_titled(pixels: Sequence[np.ndarray], titles: Sequence[str], file: pathlib.Path) -> None:
    """Draws pictures in rows of five, each under its title."""
    from matplotlib.figure import Figure as Canvas

    columns = min(5, len(pixels))
    rows = -(-len(pixels) // columns)
    canvas = Canvas(figsize=(2.2 * columns, 2.8 * rows), layout="constrained")
    grid = canvas.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.axis("off")
    for axes, picture, title in zip(grid, pixels, titles, strict=False):
        axes.imshow(np.squeeze(picture), cmap="gray", vmin=0, vmax=255)
        axes.set_title(title, fontsize=9)
    canvas.savefig(file, dpi=110)
