"""From a recipe to a Keras optimizer, and optimizers made of others."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import keras

from pipelines.engine.application import Recipe
from pipelines.engine.schedule import Thawed, learning_rate


class GroupedOptimizer(keras.optimizers.Optimizer):
    """Each group of variables has an optimizer of its own, with its own learning rate and decay.

    Norms are clipped within a group. The rate that is reported is the first group's.

    Args:
        groups: pairs of an optimizer and its variables, which together are all trained ones.
    """

    def __init__(self, groups: Sequence[tuple[keras.optimizers.Optimizer, list]]) -> None:
        super().__init__(learning_rate=0.0, name="grouped")
        self.optimizers = [optimizer for optimizer, _ in groups]
        self.members = [[id(variable) for variable in variables] for _, variables in groups]

    def build(self, variables: list) -> None:
        super().build(variables)
        place = {id(variable): number for number, variable in enumerate(variables)}
        self.places = [[place[member] for member in members] for members in self.members]
        for optimizer, places in zip(self.optimizers, self.places, strict=True):
            optimizer.build([variables[number] for number in places])

    @property
    def variables(self) -> list:
        own = super().variables
        return own + [variable for each in self.optimizers for variable in each.variables]

    @property
    def learning_rate(self):
        return self.optimizers[0].learning_rate

    def apply(self, grads: list, trainable_variables: list | None = None) -> None:
        for optimizer, places in zip(self.optimizers, self.places, strict=True):
            optimizer.apply([grads[number] for number in places])
        self.iterations.assign_add(1)


class AveragingOptimizer(keras.optimizers.Optimizer):
    """Another optimizer, with an exponentially weighted average of what it makes of the weights.

    v_t = β v_(t-1) + (1 - β) θ_t starts at v_0 = 0, which v_t / (1 - β^t) makes up for. That
    quotient itself is kept: it goes (1 - β) / (1 - β^t) of the way to θ_t, at first all of it.

    Args:
        inner: what changes the weights.
        beta: β, how much of the average a step keeps.
    """

    def __init__(self, inner: keras.optimizers.Optimizer, beta: float) -> None:
        super().__init__(learning_rate=0.0, name="averaging")
        self.inner = inner
        self.beta = beta

    def build(self, variables: list) -> None:
        super().build(variables)
        self.inner.build(variables)
        self.averages = self.add_optimizer_variables(variables, "average")

    @property
    def variables(self) -> list:
        return super().variables + self.inner.variables

    @property
    def learning_rate(self):
        return self.inner.learning_rate

    def apply(self, grads: list, trainable_variables: list | None = None) -> None:
        self.inner.apply(grads)
        self.iterations.assign_add(1)
        beta = keras.ops.convert_to_tensor(self.beta, "float32")
        kept = keras.ops.power(beta, keras.ops.cast(self.iterations, "float32"))
        share = (1.0 - beta) / (1.0 - kept)
        for average, weight in zip(self.averages, self._trainable_variables, strict=True):
            average.assign(average + keras.ops.cast(share, average.dtype) * (weight - average))

    @contextlib.contextmanager
    def averages_in_place(self) -> Iterator[None]:
        """For as long as it lasts, the weights are their averages."""
        self.swap()
        try:
            yield
        finally:
            self.swap()

    def swap(self) -> None:
        """Exchanges the weights with their averages."""
        for average, weight in zip(self.averages, self._trainable_variables, strict=True):
            value = keras.ops.convert_to_numpy(weight)
            weight.assign(average)
            average.assign(value)


def optimizer(
    recipe: Recipe, total_steps: int, *, share: float = 1.0, first_step: int = 0
) -> keras.optimizers.Optimizer:
    """The recipe's update rule.

    Args:
        recipe: how a model is fitted.
        total_steps: of the run.
        share: of the recipe's learning rate.
        first_step: the first step that changes anything.
    """
    rate = learning_rate(recipe, total_steps)
    common = {
        "learning_rate": Thawed(rate, share, first_step) if (share, first_step) != (1, 0) else rate,
        "weight_decay": recipe.weight_decay or None,
        "global_clipnorm": recipe.clip_norm,
    }
    adam = {"beta_1": recipe.beta_1, "beta_2": recipe.beta_2, "epsilon": recipe.epsilon}
    return {
        "sgd": lambda: keras.optimizers.SGD(**common),
        "momentum": lambda: keras.optimizers.SGD(momentum=recipe.momentum, **common),
        "rmsprop": lambda: keras.optimizers.RMSprop(
            rho=recipe.rho, epsilon=recipe.epsilon, **common
        ),
        "adam": lambda: keras.optimizers.Adam(**common, **adam),
        "adamw": lambda: keras.optimizers.AdamW(
            **common | {"weight_decay": recipe.weight_decay}, **adam
        ),
    }[recipe.optimizer]()
