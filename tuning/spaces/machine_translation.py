"""Machine translation: recurrent networks and Transformers, which need small steps at first."""

from __future__ import annotations

from pipelines.engine.configuration import Configuration
from tuning.dimensions import ADAM, batch_size, betas, learning_rate
from tuning.scales import choice, integer, linear
from tuning.trials import Dimension

# Not the loss, which label smoothing changes.
OBJECTIVE = "val_token_accuracy"


def space(configuration: Configuration) -> list[Dimension]:
    """Of either kind of network; ``dim`` is a multiple of every number of heads here."""
    return [
        learning_rate(1e-4, 3e-2),
        *betas(),
        batch_size(configuration, halvings=1),
        integer("model.units", 32, 256, priority=2),
        choice("model.dim", 64, 128, 256, priority=2),
        choice("model.embedding_dim", 32, 64, 128, priority=3),
        choice("model.hidden_dim", 128, 256, 512, priority=3),
        integer("model.layers", 1, 6, priority=3),
        integer("model.depth", 1, 3, priority=3),
        choice("model.heads", 2, 4, 8, priority=3),
        choice("schedule", "constant", "cosine", "inverse_sqrt", priority=3),
        integer("warmup_steps", 0, 400, priority=3),
        choice("epsilon", 1e-9, 1e-8, 1e-7, priority=4, when=ADAM),
        choice("model.cell", "gru", "lstm", priority=4),
        linear("model.dropout", 0.0, 0.4, priority=4),
        linear("task.label_smoothing", 0.0, 0.2, priority=4),
    ]
