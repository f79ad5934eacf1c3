"""Callbacks that end the training of a trial before its last epoch."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

import keras

from tuning.trials import Search

FEWEST = 3  # trials that a median is worth something of


class StopAfter(keras.callbacks.Callback):
    """Ends a training, whose schedules are of all its epochs, after a part of them."""

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self.epochs = epochs

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if epoch + 1 >= self.epochs:
            self.model.stop_training = True


class MedianRule(keras.callbacks.Callback):
    """Ends a hopeless training.

    That is one whose best value so far is worse than the median of what the completed trials had
    reached on average up to the same epoch (Golovin et al. 2017, "Google Vizier", section 3.2).

    Args:
        search: looks up all trials so far.
        history: of the run, as far as it has come before this training.
    """

    def __init__(self, search: Callable[[], Search], history: Sequence[dict[str, float]]) -> None:
        super().__init__()
        self.search = search
        self.metrics = list(history)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        search = self.search()
        self.metrics.append(logs)
        curve = [metrics[search.objective] for metrics in self.metrics]
        if hopeless(search, curve):
            self.model.stop_training = True


def hopeless(search: Search, curve: Sequence[float]) -> bool:
    """Whether the median rule stops a trial with this curve."""
    epochs = len(curve)
    completed = [
        statistics.fmean(trial.curve[:epochs])
        for trial in search.trials
        if trial.status == "completed" and len(trial.curve) >= epochs
    ]
    if len(completed) < FEWEST:
        return False
    if search.direction == "min":
        return min(curve) > statistics.median(completed)
    return max(curve) < statistics.median(completed)
