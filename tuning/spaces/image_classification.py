"""Image classification: most of what counts is the learning rate and the augmentation."""

from __future__ import annotations

from pipelines.engine.configuration import Configuration
from tuning.dimensions import batch_size, betas, decay, learning_rate, weight_decay
from tuning.scales import choice, integer, linear
from tuning.trials import Dimension

OBJECTIVE = "val_accuracy"


def space(configuration: Configuration) -> list[Dimension]:
    """Of any architecture; with published weights small steps are enough."""
    started = bool(configuration.model.get("weights")) or configuration.transfer == "finetune"
    return [
        learning_rate(1e-5, 1e-2) if started else learning_rate(1e-4, 1e-1),
        *betas(),
        batch_size(configuration),
        choice("model.activation", "tanh", "relu", priority=3),
        integer("model.kernel_size", 2, 5, priority=4),
        decay(),
        weight_decay(),
        linear("model.dropout", 0.0, 0.5, priority=4),
        linear("task.label_smoothing", 0.0, 0.2, priority=4),
        *_augmentation(configuration),
    ]


def _augmentation(configuration: Configuration) -> list[Dimension]:
    """The recipe's own, and what leaves a digit readable, or a photograph's subject in it.

    None of cached activations.
    """
    if configuration.transfer == "cached":
        return []
    names = ("none", "crop_flip", "basic", "cutout", "mixup", "cutmix", "randaugment")
    if configuration.preprocess["channels"] == 1:
        names = ("none", "crop", "affine", "warp")
    own = configuration.arrange["augment"]
    return [choice("arrange.augment", *dict.fromkeys([*names, own]), priority=4)]
