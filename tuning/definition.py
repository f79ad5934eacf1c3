"""What a search is to do: kept in its folder, so that a resumed search does the same."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pipelines.diagnosis.selection import Limit
from pipelines.engine.application import Application, Recipe, UserError, choose, load_application
from pipelines.engine.assembly import assemble
from pipelines.engine.configuration import Configuration, parse
from tuning.trials import Dimension

Tuner = Literal["random", "hyperband", "bayesian", "grid"]
LATENCY, PARAMETERS = "latency_ms", "parameters"
# What may grow when a search is resumed.
GROWING = ("trials", "default")
SEEN_IN_SPACE = ("vary", "priority")
SMALLEST = {"trials": 1, "executions": 1, "folds": 2, "refine": 0, "seed": 0}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Definition:
    """A search, before any trial.

    Args:
        application: what is tuned.
        options: of the command line of its application, the same in all trials.
        vary: dimensions that the user gave.
        priority: the last one that is varied of the application's own; None: all.
        space: what is varied.
        tuner: how settings are proposed.
        trials: at most so many.
        refine: how often the box shrinks around the best trials, after equal shares of them.
        seed: of the proposals, the weights and the order of examples.
        objective: the measure.
        limits: what a trial must keep to be the best, e.g. ``latency_ms<=10``.
        executions: how often each trial is trained, with other seeds.
        folds: parts of all examples that are not for the test, on each of which a trial is scored
            that was trained on the others, in every execution; None: trained on the training split
            and scored on the validation split.
        default: whether the recipe is also trained as it is, to compare with.
        stop_hopeless: whether the median rule ends trials before their last epoch.
    """

    application: str
    options: tuple[str, ...] = ()
    vary: tuple[str, ...] = ()
    priority: int | None = None
    space: tuple[Dimension, ...]
    tuner: Tuner = "random"
    trials: int = 20
    refine: int = 0
    seed: int = 0
    objective: str
    limits: tuple[str, ...] = ()
    executions: int = 1
    folds: int | None = None
    default: bool = False
    stop_hopeless: bool = False

    def __post_init__(self) -> None:
        """Raises UserError for what no search can do."""
        for name, bound in SMALLEST.items():
            value = getattr(self, name)
            if value is not None and value < bound:
                raise UserError(f"--{name} must be at least {bound}, not {value}")
        for text in self.limits:
            Limit.parse(text)
        if self.tuner == "hyperband" and "epochs" in {one.name for one in self.space}:
            raise UserError("hyperband itself varies the epochs: leave --vary epochs out")
        if self.tuner == "hyperband" and self.stop_hopeless:
            raise UserError("hyperband itself ends what falls behind: leave --stop_hopeless out")
        if self.refine and self.tuner != "random":
            raise UserError(
                f"--refine goes with --tuner random; {self.tuner} has a plan of its own"
            )
        if self.trials <= self.refine:
            raise UserError(
                f"--refine {self.refine} makes {self.refine + 1} rounds, which takes as many "
                f"--trials or more, not {self.trials}"
            )

    @property
    def direction(self) -> Literal["min", "max"]:
        """The engine's rule: the lower the better for a loss or an error."""
        return Recipe(monitor=self.objective).monitor_mode

    @property
    def round_size(self) -> int:
        """Trials of a round; the last one may have fewer."""
        return -(-self.trials // (self.refine + 1))

    @property
    def trainings(self) -> int:
        """Of each trial: every execution of every fold."""
        return self.executions * (self.folds or 1)

    def training(self, configuration: Configuration, number: int) -> Configuration:
        """One training of a trial with a configuration: all folds of an execution follow another.

        Args:
            configuration: of the trial.
            number: of the training, from 0.
        """
        execution, fold = divmod(number, self.folds or 1)
        recipe, partition = configuration.recipe, configuration.partition
        recipe = dataclasses.replace(recipe, seed=recipe.seed + execution)
        if self.folds:
            partition = dataclasses.replace(partition, fold=f"{fold + 1}/{self.folds}")
        return dataclasses.replace(configuration, recipe=recipe, partition=partition)

    def configuration(self, values: Mapping[str, Any]) -> Configuration:
        """What the command line of the application makes of the fixed options and of a trial's.

        Raises:
            UserError: for a combination that the application refuses.
        """
        own = {"monitor": self.objective, "seed": self.seed}
        options = [*self.options, *as_options({**values, **own})]
        return configured(load_application(self.application), options)

    def broken(self, measures: Mapping[str, float]) -> tuple[str, ...]:
        """The limits that measures do not keep, as the user wrote them."""
        return tuple(text for text in self.limits if not Limit.parse(text).holds(measures))

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> Definition:
        """Reads what ``to_json`` wrote."""
        values = json.loads(text)
        space = tuple(Dimension(**_tuples(dimension)) for dimension in values.pop("space"))
        return cls(space=space, **_tuples(values))

    def changes(self, later: Definition) -> list[str]:
        """What cannot be resumed as ``later``, a phrase for each difference."""
        here, there = (json.loads(one.to_json()) for one in (self, later))
        spaces = [{one["name"]: one for one in values.pop("space")} for values in (here, there)]
        changes = [
            f"{name}: {_told(value)} → {_told(there[name])}"
            for name, value in here.items()
            if there[name] != value
            and name not in SEEN_IN_SPACE
            and (name not in GROWING or (name == "trials" and self.refine))
        ]
        for name in dict.fromkeys([*spaces[0], *spaces[1]]):
            before, after = (space.get(name) for space in spaces)
            if before is None or after is None:
                changes.append(f"{name} {'no longer' if after is None else 'now'} varies")
            elif before != after:
                parts = ", ".join(
                    f"{part} {_told(before[part])} → {_told(after[part])}"
                    for part in before
                    if before[part] != after[part]
                )
                changes.append(f"{name}: {parts}")
        return changes


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with tuples where JSON has lists."""
    listed = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
    if "when" in listed:
        listed["when"] = {name: tuple(allowed) for name, allowed in listed["when"].items()}
    return listed


def as_options(values: Mapping[str, Any]) -> list[str]:
    """Options of a command line, by their names without hyphens."""
    return [f"--{name}={_spelled(value)}" for name, value in values.items()]


def _spelled(value: Any) -> str:
    """A value as the command line reads it."""
    return value if isinstance(value, str) else json.dumps(value)


def _told(value: Any) -> str:
    value = " ".join(map(str, value)) if isinstance(value, list) else value
    return "nothing" if value in ("", None) else _spelled(value)


def configured(application: Application, options: Sequence[str]) -> Configuration:
    """The configuration of an application's command line."""
    return parse(application, options)[0]


def measured_names(configuration: Configuration) -> list[str]:
    """The measures of a validation split that training with ``configuration`` reports."""
    compiled = assemble(configuration).task.compile_arguments()
    metrics = [*compiled.get("metrics", ()), *compiled.get("weighted_metrics", ())]
    return [f"val_{name}" for name in ("loss", *(metric.name for metric in metrics))]


def check_measures(
    definition: Definition, objectives: Sequence[str], others: Sequence[str]
) -> None:
    """Raises UserError for an objective or a limit that no trial has."""
    choose("--objective", definition.objective, objectives)
    for text in definition.limits:
        choose("measure in --limit", Limit.parse(text).name, [*others, *objectives])
