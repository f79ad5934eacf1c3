"""Image captioning: a small network that sees, and one that writes."""

from __future__ import annotations

from pipelines.engine.configuration import Configuration
from tuning.dimensions import batch_size, betas, decay, learning_rate
from tuning.scales import choice, integer, linear, log
from tuning.trials import Dimension

# Not the loss, which label smoothing changes.
OBJECTIVE = "val_token_accuracy"


def space(configuration: Configuration) -> list[Dimension]:
    """Of either kind of writer; ``dim`` is a multiple of every number of heads here."""
    return [
        learning_rate(1e-4, 3e-2),
        *betas(),
        batch_size(configuration),
        integer("model.units", 64, 512, priority=2),
        choice("model.dim", 64, 128, 256, priority=2),
        choice("model.hidden_dim", 128, 256, 512, priority=3),
        choice("model.embedding_dim", 32, 64, 128, priority=3),
        integer("model.layers", 1, 4, priority=3),
        choice("model.heads", 2, 4, 8, priority=3),
        decay(),
        integer("warmup_steps", 0, 400, priority=3),
        linear("model.dropout", 0.0, 0.5, priority=4),
        log("model.attention_penalty", 1e-2, 1e1, priority=4),
        linear("task.label_smoothing", 0.0, 0.2, priority=4),
    ]
