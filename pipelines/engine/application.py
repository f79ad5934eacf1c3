"""What an application is: sources, a preprocessor, an arrangement, a task, a recipe, builders.

Everything here is a frozen value. An application file in ``pipelines/`` fills one in and does
nothing else; the engine's other files turn it into a command line, a training run and an export.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import pathlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

DEFAULT_SIGNATURE = "serving_default"


class UserError(Exception):
    """Something that the user can put right: shown as one line, without a traceback."""


def choose(kind: str, name: str, allowed: Iterable[str]) -> str:
    """Returns ``name`` if it is allowed; raises UserError listing what is, the nearest first."""
    allowed = list(allowed)
    if name in allowed:
        return name
    near = difflib.get_close_matches(name, allowed, n=len(allowed), cutoff=0.0)
    raise UserError(f"unknown {kind} {name!r}; there is: {', '.join(near)}")


def listed(names: str | None) -> list[str]:
    """Names that an option separates by commas."""
    return [name.strip() for name in (names or "").split(",") if name.strip()]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a model is fitted. Every field is an option of the same name on the command line.

    Args:
        epochs: passes over the training examples.
        batch_size: examples a step, over all replicas.
        optimizer: the update rule.
        learning_rate: the (initial) step size.
        schedule: how the learning rate falls over the run: not at all; along half a cosine to
            zero; to a tenth after one half and again after three quarters of the epochs; or with
            the inverse square root of the step, after the warm-up (the Transformer's own schedule,
            "Noam", is this with a learning rate of 1 / √(dim · warmup_steps)).
        warmup_steps: steps over which the learning rate first rises linearly from zero.
        beta_1: how much of the gradient's running mean Adam keeps a step.
        beta_2: how much of the squared gradient's running mean Adam keeps a step.
        epsilon: what Adam adds to the root of the latter before it divides by it.
        weight_decay: decoupled decay of the weights a step, relative to the learning rate.
        clip_norm: largest norm of the gradient over all weights; longer ones are scaled down.
        monitor: the measure that picks the best checkpoint and stops early; the lower the better
            if its name ends with loss or error, else the higher.
        averaged_epochs: the weights that are kept are the mean of those after the best epoch and
            after so many epochs up to it (Vaswani et al. 2017, section 6.1, average five
            checkpoints); 1: no mean.
        patience: epochs without a better ``monitor`` after which training stops; none: never.
        normalization_momentum: how much of its running statistics batch normalization keeps a
            step, in place of the architecture's own share; none: that one. After n steps at
            momentum m a share m^n of them is what they began with, and answers are given with
            them: the published 0.99 and 0.999 are for runs of 10,000 steps and more.
        mixed_precision: number format of the layers' arithmetic; weights stay float32.
        steps_per_execution: steps that run between two looks at the callbacks.
        seed: of the initial weights, the order of examples, augmentation and dropout.
    """

    epochs: int = 10
    batch_size: int = 64
    optimizer: Literal["sgd", "momentum", "rmsprop", "adam", "adamw"] = "adam"
    learning_rate: float = 1e-3
    schedule: Literal["constant", "cosine", "steps", "inverse_sqrt"] = "constant"
    warmup_steps: int = 0
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7
    weight_decay: float = 0.0
    clip_norm: float | None = None
    monitor: str = "val_loss"
    averaged_epochs: int = 1
    patience: int | None = None
    normalization_momentum: float | None = None
    mixed_precision: Literal["float32", "bfloat16", "float16"] = "float32"
    steps_per_execution: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises UserError for a number that no training can have."""
        at_least_one = ("epochs", "batch_size", "averaged_epochs", "patience")
        bounds = dict.fromkeys((*at_least_one, "steps_per_execution"), 1)
        bounds |= dict.fromkeys(("warmup_steps", "weight_decay", "seed"), 0)
        for name, bound in bounds.items():
            value = getattr(self, name)
            if value is not None and value < bound:
                raise UserError(f"--{name} must be at least {bound}, not {value}")
        for name in ("beta_1", "beta_2", "normalization_momentum"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise UserError(f"--{name} must be at least 0 and below 1, not {value}")
        for name in ("learning_rate", "epsilon", "clip_norm"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UserError(f"--{name} must be above 0, not {value}")

    @property
    def monitor_mode(self) -> Literal["min", "max"]:
        return "min" if self.monitor.endswith(("loss", "error")) else "max"


@dataclasses.dataclass(frozen=True)
class Variant:
    """A builder (or a source) with what it changes of the application's defaults."""

    builder: Callable[..., Any]
    recipe: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    source: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    preprocess: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    arrange: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    task: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    model: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """What one signature takes from a client and how it gets to the answer.

    The default asks for the preprocessor's ``signature`` and answers as evaluation does. An
    application gives its own functions where a client sends something else than training reads.

    Args:
        inputs: preprocessor → the spec of each raw input, as in ``Preprocessor.signature``.
        features: preprocessor, raw inputs → what ``respond`` reads.
        respond: task, model, features → named numbers.
        answer: preprocessor, numbers, raw inputs → what the client reads.
        samples: preprocessor, a raw batch of the source → raw inputs as a client would send them
            (they warm up an exported model).
        compiled: where ``respond`` decodes, so that ``serving.export --jit_compile`` has it
            compiled: the axis of each of its features and outputs that is as long as the text that
            is read. None: it is never compiled.
    """

    inputs: Callable = lambda preprocessor: preprocessor.signature
    features: Callable = lambda preprocessor, batch: preprocessor.model_inputs(
        preprocessor.features(batch)
    )
    respond: Callable = lambda task, model, features: task.respond(model, features)
    answer: Callable = lambda preprocessor, response, inputs: preprocessor.answer(response, inputs)
    samples: Callable = lambda preprocessor, raw: {
        name: raw[name] for name in preprocessor.signature
    }
    compiled: Mapping[str, int] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Application:
    """One use of the zoo, from raw examples to a served answer.

    Args:
        name: the module's name in ``pipelines/``.
        summary: one line for ``python -m pipelines``.
        sources: where raw examples come from, by name; the first is the default.
        preprocessor: the class that decodes, scales and tokenises.
        arrange: ``arrange(dataset, preprocessor, *, training, seed, batch_size, ...)``: what only
            fitting does to batches of features and targets.
        task: the class of the loss, the metrics and the answer.
        recipe: how a model is fitted unless a source or an architecture says otherwise.
        architectures: the builders, by name; the first is the default.
        transfer: ways to start from a backbone that has learned elsewhere, by name, none of them by
            default; what a way changes of ``arrange`` cannot be otherwise with it.
        endpoints: the signatures of the export.
        baselines: by name, what other programs make of the same examples, scored beside the model:
            ``baseline(fitted preprocessor, training Examples, features to answer) -> response``,
            numpy arrays as of ``Task.respond``.
        diagnoses: ``diagnose(opened run, request) -> findings``: what ``pipelines.diagnose`` looks
            into besides bias and variance.
        check: ``check(configuration)``: raises UserError for options that exclude each other, and
            warns of those that hardly go together.
    """

    name: str
    summary: str
    sources: Mapping[str, Variant]
    preprocessor: type
    arrange: Callable
    task: type
    recipe: Recipe
    architectures: Mapping[str, Variant]
    transfer: Mapping[str, Variant] = dataclasses.field(default_factory=dict)
    endpoints: Mapping[str, Endpoint] = dataclasses.field(
        default_factory=lambda: {DEFAULT_SIGNATURE: Endpoint()}
    )
    baselines: Mapping[str, Callable] = dataclasses.field(default_factory=dict)
    diagnoses: tuple[Callable, ...] = ()
    check: Callable = lambda configuration: None


def application_names() -> list[str]:
    """Every application: the modules of ``pipelines/`` that define ``application``."""
    folder = pathlib.Path(__file__).parents[1]
    return sorted(
        module.name
        for module in pkgutil.iter_modules([str(folder)])
        if not module.ispkg and "\napplication = " in (folder / f"{module.name}.py").read_text()
    )


def load_application(name: str) -> Application:
    """Imports ``pipelines.<name>`` and returns its application; UserError where there is none."""
    choose("application", name, application_names())
    return importlib.import_module(f"pipelines.{name}").application
