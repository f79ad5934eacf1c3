"""Which labels are probably wrong, by cleanlab.

After C. G. Northcutt, L. Jiang, I. L. Chuang (2021), "Confident Learning: Estimating Uncertainty in
Dataset Labels", https://arxiv.org/abs/1911.00068: an example is suspected if the model is surer of
another class than it usually is of that class's own examples. A model says little of the labels
that it was fitted to: look at dev and test, and at training examples by the runs of a
cross-validation, each at its own dev set.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipelines.diagnosis.error_sheet import answered, write_sheet
from pipelines.engine.application import UserError
from pipelines.engine.evaluate import answer_split
from pipelines.tasks.classification import Classification
from pipelines.tasks.examples import texts


def suspected(labels: Sequence[int], probabilities: np.ndarray) -> np.ndarray:
    """[suspects] the rows whose labels are probably wrong, the likeliest first.

    Args:
        labels: [examples] the given classes.
        probabilities: [examples, classes] what the model thinks.

    Raises:
        UserError: where cleanlab is not installed.
    """
    try:
        from cleanlab.filter import find_label_issues
    except ImportError:
        raise UserError(
            "--label_errors needs cleanlab, which is not installed here; install it with: "
            "python -m pip install 'cleanlab>=2.9,<3'"
        ) from None
    return find_label_issues(
        np.asarray(labels), probabilities, return_indices_ranked_by="self_confidence", n_jobs=1
    )


def write_suspects(opened: Any, split: str, file: pathlib.Path) -> int:
    """Writes a sheet (``error_sheet.py``) of the examples with suspected labels, and counts them.

    Raises:
        UserError: where cleanlab is missing, answers are no classes, or the sheet is there already.
    """
    complete = with_all_classes(opened)
    evaluation = answered(opened, split, file)
    everything = answer_split(complete, split)
    classes = list(opened.preprocessor.labels)
    rows = suspected(*by_class(classes, everything.examples["label"], everything.answers))
    write_sheet(opened.run, evaluation, rows, file)
    return len(rows)


def with_all_classes(opened: Any) -> Any:
    """The run with answers that name every class; UserError where answers are no classes."""
    task, classes = opened.task, len(opened.preprocessor.labels)
    if not isinstance(task, Classification):
        raise UserError(f"--label_errors is for classes, not for {opened.application.name}")
    assembly = dataclasses.replace(opened.assembly, task=dataclasses.replace(task, top_k=classes))
    return dataclasses.replace(opened, assembly=assembly)


def by_class(
    classes: Sequence[str], labels: Sequence, answers: dict[str, list]
) -> tuple[np.ndarray, np.ndarray]:
    """[examples] given classes and [examples, classes] probabilities, in the order of ``classes``.

    Args:
        classes: their names.
        labels: [examples] the given ones, by name.
        answers: ``labels`` and ``probabilities`` [examples, classes], the most probable first.
    """
    index = {name: number for number, name in enumerate(classes)}
    places = np.vectorize(index.__getitem__)(texts(answers["labels"]))
    probabilities = np.zeros(places.shape)
    np.put_along_axis(probabilities, places, np.array(answers["probabilities"], float), axis=1)
    return np.array([index[name] for name in texts(labels)]), probabilities
