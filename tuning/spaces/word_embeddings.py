"""Word vectors: plain gradient descent, whose steps are as many times larger as a batch is."""

from __future__ import annotations

from pipelines.engine.configuration import Configuration
from tuning.dimensions import batch_size, decay, learning_rate
from tuning.scales import choice
from tuning.trials import Dimension

OBJECTIVE = "val_accuracy"


def space(configuration: Configuration) -> list[Dimension]:
    """The rate is that of a batch: the one of a pair, as published, times the batch size.

    The options of ``arrange`` stay as they are: they also change the pairs that the score counts.
    """
    return [
        learning_rate(3.0, 300.0),
        batch_size(configuration),
        choice("model.embedding_dim", 50, 100, 200, priority=2),
        decay(),
    ]
