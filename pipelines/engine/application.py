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
        batch_size: examples a step, over all replicas: all of the training split (batch gradient
            descent), some (mini-batches) or 1 (stochastic gradient descent).
        optimizer: the update rule.
        learning_rate: the (initial) step size α.
        schedule: how α falls in the course of the run. Not at all (constant); with e, the number of
            finished epochs, to α / (1 + decay · e) (inverse_time), α · decay^e (exponential) or
            α / √(1 + e) (inverse_sqrt_epoch); along half a cosine to zero (cosine); to a tenth
            after one half and again after three quarters of the epochs (steps); by hand (manual);
            or to α / √t at the t-th step, and with a warm-up of w steps to α · √(w / t) after it
            (inverse_sqrt; with α = 1 / √(dim · w) the Transformer's own schedule, "Noam"). The k
            that books put above a root is part of α.
        decay: the number in inverse_time, where none is 1, and in exponential, where none is 0.95.
        decay_epochs: of how many epochs e counts one: more than 1 make a staircase of these three.
        rates: of the manual schedule: 11:1e-3,16:1e-4 is a rate of 0.001 from the 11th epoch on and
            of 0.0001 from the 16th, and the learning rate up to then.
        warmup_steps: steps over which the learning rate first rises linearly from zero.
        momentum: β, how much of its velocity the momentum rule keeps a step. The velocity is
            β v + g here; where it is β v + (1 - β) g, α is larger by 1 / (1 - β).
        rho: how much of the squared gradient's running mean RMSprop keeps a step.
        beta_1: how much of the gradient's running mean Adam keeps a step.
        beta_2: how much of the squared gradient's running mean Adam keeps a step.
        epsilon: what keeps Adam and RMSprop from dividing by zero: Adam adds it to the root of the
            latter, before that is corrected for its start from zero; RMSprop to what the root is
            taken of.
        weight_decay: decoupled decay of all weights a step, relative to the learning rate.
        l1: λ of a penalty of λ / 2m times the sum of the absolute weights on the loss, for m
            training examples; of kernels alone, not of biases, normalization and embeddings.
        l2: likewise of a penalty of λ / 2m times the sum of their squares. Keras's factor is
            λ / 2m; gradient descent then shrinks kernels as a weight decay of λ / m does.
        initializer: how kernels begin, in place of the architecture's own way: at zero; normal with
            deviation 0.01 (small); or normal with variance 2 / inputs (he), 1 / inputs (xavier) or
            2 / (inputs + outputs) (glorot). None: the architecture's.
        clip_norm: largest norm of the gradient over all weights; longer ones are scaled down.
        monitor: the measure that picks the best checkpoint and stops early; the lower the better
            if its name ends with loss or error, else the higher.
        averaged_epochs: the weights that are kept are the mean of those after the best epoch and
            after so many epochs up to it (Vaswani et al. 2017, section 6.1, average five
            checkpoints); 1: no mean.
        ema: β of an exponentially weighted average of the weights over the steps, corrected for its
            start from zero: about the last 1 / (1 - β) steps count. It is validated and kept in
            place of the weights themselves; none: no average.
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
    batch_size: int | Literal["all"] = 64
    optimizer: Literal["sgd", "momentum", "rmsprop", "adam", "adamw"] = "adam"
    learning_rate: float = 1e-3
    schedule: Literal[
        "constant",
        "cosine",
        "steps",
        "inverse_sqrt",
        "inverse_sqrt_epoch",
        "inverse_time",
        "exponential",
        "manual",
    ] = "constant"
    decay: float | None = None
    decay_epochs: int = 1
    rates: str | None = None
    warmup_steps: int = 0
    momentum: float = 0.9
    rho: float = 0.9
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7
    weight_decay: float = 0.0
    l1: float = 0.0
    l2: float = 0.0
    initializer: Literal["zeros", "small", "he", "xavier", "glorot"] | None = None
    clip_norm: float | None = None
    monitor: str = "val_loss"
    averaged_epochs: int = 1
    ema: float | None = None
    patience: int | None = None
    normalization_momentum: float | None = None
    mixed_precision: Literal["float32", "bfloat16", "float16"] = "float32"
    steps_per_execution: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises UserError for numbers that no training can have, or that go unread."""
        at_least_one = ("epochs", "averaged_epochs", "patience", "decay_epochs")
        bounds = dict.fromkeys((*at_least_one, "steps_per_execution"), 1)
        bounds |= dict.fromkeys(("warmup_steps", "weight_decay", "l1", "l2", "seed"), 0)
        bounds |= {} if self.batch_size == "all" else {"batch_size": 1}
        for name, bound in bounds.items():
            value = getattr(self, name)
            if value is not None and value < bound:
                raise UserError(f"--{name} must be at least {bound}, not {value}")
        for name in ("momentum", "rho", "beta_1", "beta_2", "ema", "normalization_momentum"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise UserError(f"--{name} must be at least 0 and below 1, not {value}")
        for name in ("learning_rate", "epsilon", "clip_norm", "decay"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UserError(f"--{name} must be above 0, not {value}")
        self._check_schedule()
        if self.ema is not None and self.averaged_epochs > 1:
            raise UserError("--ema and --averaged_epochs exclude each other: one average is kept")

    def _check_schedule(self) -> None:
        readers = {
            "decay": ("inverse_time", "exponential"),
            "decay_epochs": ("inverse_time", "exponential", "inverse_sqrt_epoch"),
            "rates": ("manual",),
        }
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        for name, schedules in readers.items():
            if getattr(self, name) != defaults[name] and self.schedule not in schedules:
                raise UserError(
                    f"--{name} is read by --schedule {' or '.join(schedules)}, not by "
                    f"{self.schedule}"
                )
        if self.schedule == "manual" and not self.manual_rates:
            raise UserError("--schedule manual needs --rates, such as 11:1e-3,16:1e-4")

    @property
    def manual_rates(self) -> dict[int, float]:
        """Learning rates by the epoch, counted from 1, that they start with; UserError for others.

        Epochs and rates are above 0.
        """
        found = {}
        for pair in listed(self.rates):
            epoch, _, rate = pair.partition(":")
            try:
                found[int(epoch)] = float(rate)
            except ValueError:
                raise UserError(
                    f"--rates are pairs such as 11:1e-3,16:1e-4, epoch and rate, not {pair}"
                ) from None
        if not all(epoch > 0 and rate > 0 for epoch, rate in found.items()):
            raise UserError(f"--rates are epochs from 1 on and rates above 0, not {self.rates}")
        return dict(sorted(found.items()))

    @property
    def foresees_its_end(self) -> bool:
        """Whether the learning rate depends on how many epochs there will be."""
        return self.schedule in ("cosine", "steps")

    def rows(self, examples: int) -> int:
        """Examples a step, where there are so many."""
        return examples if self.batch_size == "all" else self.batch_size

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
