"""The dimensions of any recipe, on which the applications' spaces build."""

from __future__ import annotations

from pipelines.engine.application import Recipe
from pipelines.engine.configuration import Configuration
from tuning.scales import choice, log, one_minus
from tuning.trials import Dimension

ADAM = {"optimizer": ("adam", "adamw")}
MOMENTUM = {"optimizer": ("momentum",)}


def learning_rate(low: float = 1e-4, high: float = 1.0) -> Dimension:
    """α = 10^r with r uniform, by default from -4 to 0."""
    return log("learning_rate", low, high, priority=1)


def batch_size(configuration: Configuration, halvings: int = 2, doublings: int = 1) -> Dimension:
    """The recipe's own, halved and doubled."""
    own = configuration.recipe.rows(Recipe.batch_size)
    sizes = [max(1, own // 2**n) for n in range(halvings, 0, -1)]
    sizes += [own * 2**n for n in range(doublings + 1)]
    return choice("batch_size", *dict.fromkeys(sizes), priority=2)


def betas() -> list[Dimension]:
    """β₁, or momentum's β, = 1 - 10^r with r uniform from -3 to -1, β₂ with r from -4 to -2."""
    return [
        one_minus("momentum", 0.9, 0.999, priority=2, when=MOMENTUM),
        one_minus("beta_1", 0.9, 0.999, priority=2, when=ADAM),
        one_minus("beta_2", 0.99, 0.9999, priority=3, when=ADAM),
    ]


def decay() -> Dimension:
    """How the learning rate falls."""
    return choice("schedule", "constant", "cosine", "steps", priority=3)


def l2() -> Dimension:
    """λ of the penalty λ / 2m on the squares of the weights, for m examples."""
    return log("l2", 1e-2, 1e2, priority=4)


def weight_decay(low: float = 1e-6, high: float = 1e-2) -> Dimension:
    """Decoupled decay of the weights, for rules that know it."""
    return log("weight_decay", low, high, priority=4)
