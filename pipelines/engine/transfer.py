"""Transfer learning: a new head on a backbone that has learned from other data.

The backbone is everything below a classifier's last layer with weights, or what a captioner sees
with, of a finished run or of the published weights that the builder has read. However it is fitted,
the run keeps the whole model, so that nothing that comes after training knows of transfer.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable

import keras
import numpy as np

from models.layers.backbone import InferenceMode, backbone_and_head
from pipelines.engine.application import Recipe, UserError
from pipelines.engine.optimizer import GroupedOptimizer, optimizer
from pipelines.engine.run import Run
from pipelines.engine.train import Learner

Build = Callable[[], keras.Model]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Transfer:
    """A way to start from a backbone. Fields are options, ``--backbone.<keyword>``.

    Args:
        run: folder of the finished run whose backbone it is; none: that of --model.weights.
    """

    run: str | None = None

    def learner(self, build: Build, recipe: Recipe) -> Learner:
        """What is fitted, given the builder of the whole model."""
        raise NotImplementedError

    def parts(self, build: Build, recipe: Recipe) -> tuple[keras.Model, keras.Model, keras.Model]:
        """The whole model on the learned backbone, with that and its new head as models.

        Raises:
            UserError: where the architecture has no backbone, or one of other shapes.
        """
        try:
            learned = self._learned
            keras.utils.set_random_seed(recipe.seed)  # the same head, whatever was built before
            whole = build()
            backbone, head = backbone_and_head(whole)
            if learned is not None:
                backbone.set_weights(learned)
        except ValueError as error:
            raise UserError(f"the backbone cannot be transferred: {error}") from None
        return whole, backbone, head

    @functools.cached_property
    def _learned(self) -> list[np.ndarray] | None:
        """The backbone's weights from the run, or None where the builder reads them."""
        if self.run is None:
            return None
        backbone, _ = backbone_and_head(Run(self.run).load_model())
        return backbone.get_weights()


class Cached(Transfer):
    """The head alone, on the backbone's activations, which are computed once and kept."""

    def learner(self, build: Build, recipe: Recipe) -> Learner:
        def alone() -> keras.Model:
            _, backbone, head = self.parts(build, recipe)
            backbone.trainable = False
            return head

        def keep(fitted: keras.Model) -> keras.Model:
            whole, _, head = self.parts(build, recipe)
            head.set_weights(fitted.get_weights())
            return whole

        return Learner(
            build=alone,
            keep=keep,
            network=lambda: self.parts(build, recipe)[1],
        )


class Frozen(Transfer):
    """The head alone, below it the backbone as it is, so that pictures can be augmented."""

    def learner(self, build: Build, recipe: Recipe) -> Learner:
        return Learner(
            build=lambda: self.joined(build, recipe, trainable=False),
            keep=lambda fitted: self.taken_apart(fitted, build, recipe),
        )

    def joined(self, build: Build, recipe: Recipe, *, trainable: bool) -> keras.Model:
        """The head on the backbone, whose statistics stay as they are."""
        whole, backbone, head = self.parts(build, recipe)
        backbone.trainable = trainable
        if head is whole:
            whole.settled = True
            return whole
        inputs = {
            name: keras.Input(tensor.shape[1:], name=name) for name, tensor in whole.input.items()
        }
        below = InferenceMode(backbone, name="backbone")
        return keras.Model(inputs, head({"activations": below(inputs)}), name=whole.name)

    def taken_apart(self, fitted: keras.Model, build: Build, recipe: Recipe) -> keras.Model:
        """The whole model with the weights of a joined one."""
        whole, backbone, head = self.parts(build, recipe)
        if head is whole:
            whole.set_weights(fitted.get_weights())
            return whole
        for part in (backbone, head):
            part.set_weights(fitted.get_layer(part.name).get_weights())
        return whole


@dataclasses.dataclass(frozen=True, kw_only=True)
class FineTuned(Frozen):
    """The head first, then the backbone from the top down, the lower the slower.

    Its layers are cut into groups of equal size. Each learns with a share of the learning rate of
    the group above it, from some epochs after that on (J. Howard, S. Ruder, 2018, Universal
    Language Model Fine-tuning for Text Classification, https://arxiv.org/abs/1801.06146, section
    3.2: discriminative rates, gradual unfreezing).

    Args:
        head_epochs: epochs of the head alone.
        groups: the number of groups of layers.
        group_epochs: epochs from one group's start to the next one's; 0: all start together.
        falloff: the learning rate of a group relative to that of the group above it, or the head.
    """

    head_epochs: int = 3
    groups: int = 3
    group_epochs: int = 1
    falloff: float = 0.3

    def __post_init__(self) -> None:
        bounds = {"head_epochs": 0, "groups": 1, "group_epochs": 0}
        for name, bound in bounds.items():
            if getattr(self, name) < bound:
                raise UserError(
                    f"--backbone.{name} must be at least {bound}, not {getattr(self, name)}"
                )
        if not 0 < self.falloff <= 1:
            raise UserError(f"--backbone.falloff must be above 0 and at most 1, not {self.falloff}")

    def learner(self, build: Build, recipe: Recipe) -> Learner:
        last = self.first_epoch(self.groups)
        if last >= recipe.epochs:
            raise UserError(
                f"the lowest layers would start after {last} epochs, of {recipe.epochs}; raise "
                "--epochs, or lower --backbone.head_epochs, .groups or .group_epochs"
            )
        frozen = super().learner(build, recipe)
        return dataclasses.replace(
            frozen,
            build=lambda: self.joined(build, recipe, trainable=True),
            optimizer=self.optimizer,
        )

    def first_epoch(self, depth: int) -> int:
        """The epoch, counted from 0, with which the ``depth``-th group below the head starts."""
        return self.head_epochs + (depth - 1) * self.group_epochs

    def optimizer(
        self, model: keras.Model, recipe: Recipe, total_steps: int
    ) -> keras.optimizers.Optimizer:
        """One optimizer a group; when it starts and how fast it is follows from the step alone."""
        steps_per_epoch = total_steps // recipe.epochs
        network = getattr(model, "backbone", None) or model.get_layer("backbone").network
        below = {id(variable) for variable in network.variables}
        head = [v for v in model.trainable_variables if id(v) not in below]
        groups = [(optimizer(recipe, total_steps), head)]
        layers = [layer for layer in network.layers if layer.trainable_variables]
        bounds = np.linspace(len(layers), 0, self.groups + 1).round().astype(int)
        for depth, (end, start) in enumerate(itertools.pairwise(bounds), 1):
            variables = [v for layer in layers[start:end] for v in layer.trainable_variables]
            if variables:
                step = self.first_epoch(depth) * steps_per_epoch
                own = optimizer(recipe, total_steps, share=self.falloff**depth, first_step=step)
                groups.append((own, variables))
        return GroupedOptimizer(groups)
