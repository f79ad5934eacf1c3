"""What a search varies: an application's hyperparameters, for keras-tuner and within bounds.

``tuning/spaces/<application>.py`` holds ``space(configuration)``, the dimensions that are worth
tuning. The command line leaves some out, and adds or changes others.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import itertools
import json
import math
import re
import statistics
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, get_args, get_type_hints

import keras_tuner as kt

from pipelines.engine.application import UserError, choose
from pipelines.engine.configuration import Configuration, flatten
from tuning import scales
from tuning.trials import Dimension, Trial

SCALES = get_args(get_type_hints(Dimension)["scale"])


def space_of(
    configuration: Configuration,
    fixed: Collection[str] = (),
    varied: Sequence[Dimension] = (),
    priority: int | None = None,
) -> list[Dimension]:
    """The dimensions of one search, the most important first.

    Args:
        configuration: of the trials; what its architecture has no option for is left out.
        fixed: options that are the same in all trials.
        varied: further dimensions, or other bounds of some.
        priority: the last one that is varied; None: all.

    Raises:
        UserError: if nothing is left, an option does not exist, or a bound is none.
    """
    options = flatten(json.loads(configuration.to_json()))
    own = {
        dimension.name: dimension
        for dimension in _module(configuration.application).space(configuration)
        if dimension.name in options
        and dimension.name not in fixed
        and (priority is None or dimension.priority <= priority)
    }
    for dimension in varied:
        choose("option to vary", dimension.name, options)
        if dimension.name in fixed:
            raise UserError(f"--{dimension.name} cannot be both fixed and varied")
    dimensions = list((own | {dimension.name: dimension for dimension in varied}).values())
    if not dimensions:
        raise UserError(
            "the space is empty: every hyperparameter is fixed; give fewer options, or a dimension "
            "such as --vary 'learning_rate=log(1e-4,1e-1)'"
        )
    varying = {dimension.name for dimension in dimensions}
    return [
        scales.check(_without_constants(dimension, varying))
        for dimension in sorted(dimensions, key=lambda dimension: dimension.priority)
        if _can_matter(dimension, varying, options)
    ]


def objective_of(application: str) -> str:
    """What trials of an application are compared by, unless the user says otherwise."""
    return _module(application).OBJECTIVE


def _module(application: str) -> Any:
    return importlib.import_module(f"tuning.spaces.{application}")


def _can_matter(dimension: Dimension, varying: Collection[str], options: Mapping[str, Any]) -> bool:
    """Whether what the dimension depends on varies, or always is as it needs it."""
    return all(
        name in varying or options.get(name) in values for name, values in dimension.when.items()
    )


def _without_constants(dimension: Dimension, varying: Collection[str]) -> Dimension:
    when = {name: values for name, values in dimension.when.items() if name in varying}
    return dataclasses.replace(dimension, when=when)


def parse_dimension(text: str) -> Dimension:
    """``learning_rate=log(1e-4,1e-1)`` or ``optimizer=choice(adam,sgd)`` as a dimension.

    Raises:
        UserError: for anything else.
    """
    form = re.fullmatch(r"(?:--)?([\w.]+)=(\w+)\((.*)\)", text.strip())
    if not form:
        raise UserError(
            f"--vary {text} is no dimension; write for instance 'learning_rate=log(1e-4,1e-1)', "
            f"with one of the scales {', '.join(SCALES)}"
        )
    name, scale, listed = form.groups()
    choose("scale", scale, SCALES)
    values = _read(listed)
    if scale == "choice":
        return scales.check(scales.choice(name, *values))
    if len(values) != 2 or not all(type(value) in (int, float) for value in values):
        raise UserError(f"--vary {text}: {scale} needs two numbers, the lower one first")
    low, high = values
    return scales.check(Dimension(name=name, scale=scale, low=low, high=high))


def _read(listed: str) -> list[Any]:
    """JSON values, or texts without quotes, between commas."""
    with contextlib.suppress(ValueError):
        return json.loads(f"[{listed}]")
    values = []
    for text in filter(None, map(str.strip, listed.split(","))):
        try:
            values.append(json.loads(text))
        except ValueError:
            values.append(text)
    return values


def declare(hyperparameters: kt.HyperParameters, dimensions: Sequence[Dimension]) -> None:
    """Tells keras-tuner of the dimensions.

    It knows no log-uniform distance to one (its ``reverse_log`` is another law), so that it is told
    of the distance itself; and choices of one plain type only, so that it is told of their JSON.
    """
    ordered = sorted(dimensions, key=lambda dimension: bool(dimension.when))
    for dimension in ordered:
        with _conditions(hyperparameters, dimension):
            name, low, high = tuner_name(dimension), dimension.low, dimension.high
            if dimension.scale == "choice":
                hyperparameters.Choice(name, [json.dumps(value) for value in dimension.choices])
            elif dimension.scale == "integer":
                hyperparameters.Int(name, int(low), int(high))
            elif dimension.scale == "one_minus":
                hyperparameters.Float(name, 1 - high, 1 - low, sampling="log")
            else:
                hyperparameters.Float(name, low, high, sampling=dimension.scale)


def tuner_name(dimension: Dimension) -> str:
    """What a dimension is called in keras-tuner."""
    return f"1-{dimension.name}" if dimension.scale == "one_minus" else dimension.name


@contextlib.contextmanager
def _conditions(hyperparameters: kt.HyperParameters, dimension: Dimension) -> Iterator[None]:
    with contextlib.ExitStack() as scopes:
        for name, values in dimension.when.items():
            spelled = [json.dumps(value) for value in values]
            scopes.enter_context(hyperparameters.conditional_scope(name, spelled))
        yield


def options_of(dimensions: Sequence[Dimension], values: Mapping[str, Any]) -> dict[str, Any]:
    """Option → value, of what keras-tuner proposes."""
    options = {}
    for dimension in dimensions:
        if (name := tuner_name(dimension)) in values:
            value = values[name]
            if dimension.scale == "choice":
                value = json.loads(value)
            elif dimension.scale == "one_minus":
                value = 1 - value
            options[dimension.name] = value
    return options


def proposal(dimensions: Sequence[Dimension], options: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of ``options_of``: keras-tuner's values."""
    values = {}
    for dimension in dimensions:
        if dimension.name in options:
            value = options[dimension.name]
            if dimension.scale == "choice":
                value = json.dumps(value)
            elif dimension.scale == "one_minus":
                value = 1 - value
            values[tuner_name(dimension)] = value
    return values


def own_options(dimensions: Sequence[Dimension], configuration: Configuration) -> dict[str, Any]:
    """Option → value, of a configuration, as far as it is a setting within the bounds."""
    options = flatten(json.loads(configuration.to_json()))
    return {one.name: options[one.name] for one in dimensions if _is_within(one, options)}


def _is_within(dimension: Dimension, options: Mapping[str, Any]) -> bool:
    value = options.get(dimension.name)
    if any(options.get(name) not in allowed for name, allowed in dimension.when.items()):
        return False
    if dimension.scale == "choice":
        return value in dimension.choices
    return isinstance(value, int | float) and dimension.low <= value <= dimension.high


def refined(
    dimensions: Sequence[Dimension], ranked: Sequence[Trial], times: int
) -> list[Dimension]:
    """The box of a later round of a search from coarse to fine.

    Each time it is half as wide as before, in each dimension's own scale, around the median of the
    best third of all trials and with the best one in it. It never leaves the bounds. Of choices
    those are left that the best third made.

    Args:
        dimensions: with the user's bounds.
        ranked: the trials so far, the best first; and the recipe as it is, where it was trained.
        times: how often the box has shrunk, this time included.
    """
    best = ranked[: max(2, math.ceil(len(ranked) / 3))]
    return [_narrowed(dimension, best, 0.5**times) for dimension in dimensions]


def _narrowed(dimension: Dimension, best: Sequence[Trial], width: float) -> Dimension:
    name = dimension.name
    values = [trial.hyperparameters[name] for trial in best if name in trial.hyperparameters]
    if not values:
        return dimension
    if dimension.scale == "choice":
        chosen = tuple(value for value in dimension.choices if value in values)
        return dataclasses.replace(dimension, choices=chosen)
    places = [scales.position(dimension, value) for value in values]
    start = statistics.median(places) - width / 2
    start = min(max(start, places[0] - width), places[0])
    start = min(max(start, 0.0), 1 - width)
    low, high = (scales.value_at(dimension, place) for place in (start, start + width))
    return dataclasses.replace(dimension, low=low, high=high)


def grid(dimensions: Sequence[Dimension], points: int, at_most: int) -> list[dict[str, Any]] | None:
    """Every combination of ``points`` values of each number and of all choices; None: too many.

    The values of a number are the midpoints of equal parts of its scale.
    """
    axes = [_axis(dimension, points) for dimension in dimensions]
    cells: dict[str, dict[str, Any]] = {}
    for values in itertools.product(*axes):
        cell = {dimension.name: v for dimension, v in zip(dimensions, values, strict=True)}
        active = {
            dimension.name: cell[dimension.name]
            for dimension in dimensions
            if all(cell[name] in allowed for name, allowed in dimension.when.items())
        }
        cells[json.dumps(active)] = active  # what does not matter makes no further cell
        if len(cells) > at_most:
            return None
    return list(cells.values())


def _axis(dimension: Dimension, points: int) -> list[Any]:
    if dimension.scale == "choice":
        return list(dimension.choices)
    places = [(number + 0.5) / points for number in range(points)]
    return list(dict.fromkeys(scales.value_at(dimension, place) for place in places))
