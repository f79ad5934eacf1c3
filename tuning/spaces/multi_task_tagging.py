"""Multi-task tagging: a small network that sees, whatever it is asked about."""

from __future__ import annotations

from pipelines.engine.configuration import Configuration
from tuning.dimensions import batch_size, betas, decay, learning_rate, weight_decay
from tuning.scales import choice
from tuning.trials import Dimension

OBJECTIVE = "val_macro_f1"


def space(configuration: Configuration) -> list[Dimension]:
    """Of either architecture; activations that are kept on the disk cannot be augmented."""
    names = ("none", "crop", "crop_flip", "crop_flip_light", "affine")
    augmented = configuration.transfer != "cached"
    return [
        learning_rate(1e-4, 1e-1),
        *betas(),
        batch_size(configuration),
        decay(),
        weight_decay(),
        *([choice("arrange.augment", *names, priority=4)] if augmented else []),
    ]
