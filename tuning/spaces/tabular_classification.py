"""Classification of the rows of a table: dense layers, few and narrow."""

from __future__ import annotations

from pipelines.engine.configuration import Configuration
from tuning.dimensions import batch_size, betas, decay, learning_rate, weight_decay
from tuning.scales import choice, integer, linear
from tuning.trials import Dimension

# Which no dimension here changes: ``l2`` would add to it.
OBJECTIVE = "val_loss"


def space(configuration: Configuration) -> list[Dimension]:
    """Of any architecture; a regression has neither units nor layers."""
    return [
        learning_rate(),
        *betas(),
        batch_size(configuration),
        integer("model.units", 4, 64, priority=2),
        integer("model.depth", 2, 6, priority=3),
        decay(),
        weight_decay(),
        choice("model.activation", "relu", "tanh", "leaky_relu", priority=4),
        choice("model.batch_normalization", "none", "before", "after", priority=4),
        linear("model.dropout", 0.0, 0.5, priority=4),
        choice("preprocess.pieces", 0, 4, 8, priority=4),
    ]
