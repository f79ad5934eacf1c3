"""Which columns of a table a model relies on: what shuffling each of them costs.

After L. Breiman, "Random Forests", 2001, section 10, https://doi.org/10.1023/A:1010933404324: the
values of one column are dealt out anew among the examples, and the mean error rises by as much as
the model made use of them. Of two columns that tell the same, neither seems to matter much.
"""

from __future__ import annotations

import functools
import pathlib

import numpy as np

from pipelines.engine.lazy import tensorflow as tf
from pipelines.tasks.examples import by_example
from pipelines.tasks.task import Evaluation, Figure, Task

EXAMPLES = 1000  # that are answered for each column
SHOWN = 20


def importance(task: Task, evaluation: Evaluation) -> dict[str, float]:
    """By column, by how much the mean error rises if its values are shuffled."""
    preprocessor = evaluation.preprocessor
    examples = {name: values[:EXAMPLES] for name, values in evaluation.examples.items()}
    columns = {name: np.array(examples[name]) for name in preprocessor.signature}
    count = len(examples["id"])

    @functools.partial(tf.function, autograph=False)
    def answer(raw: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        inputs = preprocessor.model_inputs(preprocessor.features(raw))
        return preprocessor.answer(task.respond(evaluation.model, inputs), raw)

    def error(changed: dict[str, np.ndarray]) -> float:
        raw = {name: tf.constant(values) for name, values in (columns | changed).items()}
        return float(task.scores(by_example(answer(raw)), examples).errors.mean())

    order = np.random.default_rng(0).permutation(count)
    as_it_is = error({})
    return {name: error({name: values[order]}) - as_it_is for name, values in columns.items()}


def draw_importance(task: Task, evaluation: Evaluation, folder: pathlib.Path) -> Figure:
    """Draws the columns that matter most."""
    from matplotlib.figure import Figure as Canvas

    found = sorted(importance(task, evaluation).items(), key=lambda entry: entry[1])[-SHOWN:]
    canvas = Canvas(figsize=(7, 1.2 + 0.25 * len(found)), layout="constrained")
    axes = canvas.subplots()
    axes.barh([name for name, _ in found], [rise for _, rise in found])
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set(xlabel=f"rise of: {evaluation.scores.unit}", title="if a column is shuffled")
    canvas.savefig(folder / "columns.png", dpi=110)
    caption = (
        f"By how much the mean error on up to {EXAMPLES:,} examples of {evaluation.split} rises if "
        "the values of a column are shuffled. The columns were taken for "
        f"{evaluation.preprocessor.description}."
    )
    return Figure("columns.png", "Columns", caption)
