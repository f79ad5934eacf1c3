"""From a configuration to the objects it describes."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any

import keras

from pipelines.engine.application import Application, load_application
from pipelines.engine.configuration import Configuration, construct
from pipelines.engine.kernels import initialize
from pipelines.engine.train import Learner
from pipelines.engine.transfer import Transfer
from pipelines.sources.source import Source
from pipelines.tasks.task import Task


@dataclasses.dataclass(frozen=True)
class Assembly:
    """A configuration with the objects that it describes, none of which has seen data yet.

    Attributes:
        source: raw examples.
        preprocessor: not fitted.
        arrange: ``arrange(dataset, preprocessor, *, training, seed, batch_size)``.
        task: loss, metrics, response, scores.
        builder: ``builder(**model_arguments) -> keras.Model``.
        transfer: how to start from a backbone, or None to start from nothing.
    """

    configuration: Configuration
    application: Application
    source: Source
    preprocessor: Any
    arrange: Callable
    task: Task
    builder: Callable[..., keras.Model]
    transfer: Transfer | None = None

    def learner(self, model_arguments: dict[str, Any]) -> Learner:
        """What is fitted, given what the builder must know of the data."""
        recipe = self.configuration.recipe

        def build() -> keras.Model:
            model = self.builder(**model_arguments)
            if recipe.initializer is not None:
                initialize(model, recipe.initializer)
            if recipe.normalization_momentum is not None:
                set_normalization_momentum(model, recipe.normalization_momentum)
            return model

        return Learner(build) if self.transfer is None else self.transfer.learner(build, recipe)


def set_normalization_momentum(model: keras.Model, momentum: float) -> None:
    """How much of their running statistics the model's batch normalizations keep a step."""
    # Keras has no public way to the layers of layers, such as those of a captioner's backbone.
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = momentum


def assemble(configuration: Configuration) -> Assembly:
    """Makes everything that ``configuration`` names."""
    application = load_application(configuration.application)
    architecture = application.architectures[configuration.architecture].builder
    transfer = None
    if configuration.transfer:
        transfer = application.transfer[configuration.transfer].builder(**configuration.backbone)
    return Assembly(
        configuration=configuration,
        application=application,
        source=_source(configuration, application),
        preprocessor=application.preprocessor(**configuration.preprocess),
        arrange=functools.partial(application.arrange, **configuration.arrange),
        task=application.task(**configuration.task),
        builder=functools.partial(architecture, **configuration.model),
        transfer=transfer,
    )


def _source(configuration: Configuration, application: Application) -> Source:
    """The raw examples, in the sets that the configuration asks for."""
    given = {
        "data_dir": configuration.data_dir,
        "download": configuration.download,
        "strict": configuration.strict,
    }
    builder = application.sources[configuration.dataset].builder
    source = construct(builder, given, configuration.source)
    development = None
    if configuration.partition.development:
        name, folder = configuration.partition.development
        variant = application.sources[name]
        options = {**variant.source, **configuration.source}
        known = _options(variant.builder)
        shared = {option: value for option, value in options.items() if option in known}
        development = construct(variant.builder, given | {"data_dir": folder}, shared)
    return configuration.partition.of(source, development)


def _options(kind: type) -> set[str]:
    """The names of a source's options, those that it hands on to the classes above it too."""
    return {name for one in kind.__mro__ for name in inspect.signature(one.__init__).parameters}
