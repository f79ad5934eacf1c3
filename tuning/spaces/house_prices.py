"""House prices: a network of dense layers on the numbers of a table."""

from __future__ import annotations

from pipelines.engine.configuration import Configuration
from tuning.dimensions import batch_size, betas, decay, l2, learning_rate, weight_decay
from tuning.scales import choice, integer, linear
from tuning.trials import Dimension

# Not the loss, of which ``task.loss`` and ``l2`` change what it counts.
OBJECTIVE = "val_root_mean_squared_error"


def space(configuration: Configuration) -> list[Dimension]:
    """Of either architecture; a linear regression has no layers."""
    return [
        learning_rate(),
        *betas(),
        batch_size(configuration),
        integer("model.units", 32, 256, priority=2),
        integer("model.depth", 1, 4, priority=3),
        decay(),
        weight_decay(),
        linear("model.dropout", 0.0, 0.3, priority=4),
        l2(),
        choice("task.loss", "squared", "huber", priority=4),
        choice("preprocess.pieces", 0, 8, 16, 32, priority=4),
    ]
