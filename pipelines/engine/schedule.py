"""How the learning rate changes in the course of a run.

Schedules are Keras's, or serialisable as Keras's are, and functions of the step alone, so that a
resumed run goes on where it stopped.
"""

from __future__ import annotations

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


@keras.saving.register_keras_serializable(package="zoo")
class InverseSquareRootOfEpoch(keras.optimizers.schedules.LearningRateSchedule):
    """Falls by stairs: the n-th, counted from 1, is 1 / √n of the first.

    Args:
        learning_rate: the height of the first.
        steps: length of a stair.
    """

    def __init__(self, learning_rate: float, steps: int) -> None:
        self.learning_rate = learning_rate
        self.steps = steps

    def __call__(self, step):
        number = keras.ops.cast(step // self.steps, "float32") + 1.0
        return self.learning_rate / keras.ops.sqrt(number)

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


def learning_rate(recipe: Recipe, total_steps: int):
    """A number, or a schedule over ``total_steps`` steps.

    "steps" divides by ten after one half and three quarters of the run, as He et al. 2016
    (section 4.2) do for CIFAR-10; "cosine" is SGDR without restarts (Loshchilov and Hutter 2017).
    """
    rate, schedules = recipe.learning_rate, keras.optimizers.schedules
    steps_per_epoch = max(1, total_steps // recipe.epochs)
    stair = steps_per_epoch * recipe.decay_epochs
    schedule = {
        "constant": lambda: rate,
        "cosine": lambda: schedules.CosineDecay(rate, total_steps),
        "steps": lambda: schedules.PiecewiseConstantDecay(
            [total_steps // 2, total_steps * 3 // 4], [rate, rate / 10, rate / 100]
        ),
        "inverse_sqrt": lambda: InverseSquareRoot(rate, max(recipe.warmup_steps, 1)),
        "inverse_sqrt_epoch": lambda: InverseSquareRootOfEpoch(rate, stair),
        "inverse_time": lambda: schedules.InverseTimeDecay(
            rate, stair, 1.0 if recipe.decay is None else recipe.decay, staircase=True
        ),
        "exponential": lambda: schedules.ExponentialDecay(
            rate, stair, 0.95 if recipe.decay is None else recipe.decay, staircase=True
        ),
        # The last step of each stretch, which Keras counts as part of it.
        "manual": lambda: schedules.PiecewiseConstantDecay(
            [(epoch - 1) * steps_per_epoch - 1 for epoch in recipe.manual_rates],
            [rate, *recipe.manual_rates.values()],
        ),
    }[recipe.schedule]()
    return LinearWarmup(schedule, recipe.warmup_steps) if recipe.warmup_steps else schedule
