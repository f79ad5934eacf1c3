"""The way of the zoo's own optimizers over a surface."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras
import numpy as np

from pipelines.engine.application import Recipe
from pipelines.engine.optimizer import optimizer


def path(
    name: str,
    learning_rate: float,
    gradient: Callable[[np.ndarray], np.ndarray],
    start: Sequence[float],
    steps: int,
) -> np.ndarray:
    """The points that ``--optimizer name`` visits: [steps + 1, dimensions].

    Args:
        name: of the update rule.
        learning_rate: its step size.
        gradient: point [dimensions] → gradient there.
        start: the first point.
        steps: how many follow.
    """
    rule = optimizer(Recipe(optimizer=name, learning_rate=learning_rate), steps)
    point = keras.Variable(np.array(start), dtype="float32")
    points = [np.array(start)]
    for _ in range(steps):
        slope = keras.ops.convert_to_tensor(gradient(points[-1]), "float32")
        rule.apply([slope], [point])
        points.append(keras.ops.convert_to_numpy(point).astype(float))
    return np.stack(points)
