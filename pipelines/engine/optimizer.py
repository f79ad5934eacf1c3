"""From a recipe to a Keras optimizer with its learning-rate schedule."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from pipelines.engine.application import Recipe


@keras.saving.register_keras_serializable(package="zoo")
class LinearWarmup(keras.optimizers.schedules.LearningRateSchedule):
    """Rises linearly over the first ``steps`` steps, then follows ``schedule``.

    Args:
        schedule: a learning rate, or a schedule counted from step 0 of training.
        steps: length of the rise; step ``steps - 1`` is the first at full height.
    """

    def __init__(self, schedule, steps: int) -> None:
        self.schedule = schedule
        self.steps = steps

    def __call__(self, step):
        step = keras.ops.cast(step, "float32")
        height = self.schedule(step) if callable(self.schedule) else self.schedule
        return height * keras.ops.minimum(1.0, (step + 1.0) / self.steps)

    def get_config(self) -> dict:
        schedule = self.schedule
        if callable(schedule):
            schedule = keras.saving.serialize_keras_object(schedule)
        return {"schedule": schedule, "steps": self.steps}

    @classmethod
    def from_config(cls, config: dict) -> LinearWarmup:
        schedule = config["schedule"]
        if isinstance(schedule, dict):
            schedule = keras.saving.deserialize_keras_object(schedule)
        return cls(schedule, config["steps"])


@keras.saving.register_keras_serializable(package="zoo")
class InverseSquareRoot(keras.optimizers.schedules.LearningRateSchedule):
    """Falls as 1 / √step after the first ``steps`` steps (Vaswani et al. 2017, section 5.3).

    Args:
        learning_rate: the height up to then.
        steps: at least 1.
    """

    def __init__(self, learning_rate: float, steps: int) -> None:
        self.learning_rate = learning_rate
        self.steps = steps

    def __call__(self, step):
        number = keras.ops.cast(step, "float32") + 1.0
        return self.learning_rate * keras.ops.sqrt(
            self.steps / keras.ops.maximum(number, self.steps)
        )

    def get_config(self) -> dict:
        return {"learning_rate": self.learning_rate, "steps": self.steps}


class Thawed(keras.optimizers.schedules.LearningRateSchedule):
    """Zero at first, then a share of another schedule.

    Args:
        schedule: a learning rate, or a schedule counted from step 0 of training.
        share: of its height.
        first_step: the first step that is not zero.
    """

    def __init__(self, schedule, share: float, first_step: int) -> None:
        self.schedule = schedule
        self.share = share
        self.first_step = first_step

    def __call__(self, step):
        height = self.schedule(step) if callable(self.schedule) else self.schedule
        return keras.ops.where(step < self.first_step, 0.0, self.share * height)


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


def learning_rate(recipe: Recipe, total_steps: int):
    """A number, or a schedule over ``total_steps`` steps.

    "steps" divides by ten after one half and three quarters of the run, as He et al. 2016
    (section 4.2) do for CIFAR-10; "cosine" is SGDR without restarts (Loshchilov and Hutter 2017).
    """
    rate = recipe.learning_rate
    schedule = {
        "constant": lambda: rate,
        "cosine": lambda: keras.optimizers.schedules.CosineDecay(rate, total_steps),
        "steps": lambda: keras.optimizers.schedules.PiecewiseConstantDecay(
            [total_steps // 2, total_steps * 3 // 4], [rate, rate / 10, rate / 100]
        ),
        "inverse_sqrt": lambda: InverseSquareRoot(rate, max(recipe.warmup_steps, 1)),
    }[recipe.schedule]()
    return LinearWarmup(schedule, recipe.warmup_steps) if recipe.warmup_steps else schedule


def optimizer(
    recipe: Recipe, total_steps: int, *, share: float = 1.0, first_step: int = 0
) -> keras.optimizers.Optimizer:
    """The recipe's update rule; the momentum is 0.9 where the rule has one.

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
        "momentum": lambda: keras.optimizers.SGD(momentum=0.9, **common),
        "rmsprop": lambda: keras.optimizers.RMSprop(**common),
        "adam": lambda: keras.optimizers.Adam(**common, **adam),
        "adamw": lambda: keras.optimizers.AdamW(
            **common | {"weight_decay": recipe.weight_decay}, **adam
        ),
    }[recipe.optimizer]()
