"""What a search has tried: one record a trial, and the search as a whole."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dimension:
    """One hyperparameter's range, by the dotted name of its option.

    Args:
        name: the option, e.g. ``learning_rate`` or ``model.dropout``.
        scale: in which coordinate values are drawn evenly: as they are; in their logarithm; in the
            logarithm of their distance to one; or one of ``choices``.
        low: smallest value, of a number.
        high: largest value, of a number.
        choices: all values, of a choice.
        priority: 1 is what the curriculum has one tune first (the learning rate).
        when: the choices on which it depends, name → the values with which it means anything.
    """

    name: str
    scale: Literal["linear", "integer", "log", "one_minus", "choice"]
    low: float | None = None
    high: float | None = None
    choices: tuple[Any, ...] = ()
    priority: int = 1
    when: Mapping[str, tuple[Any, ...]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial:
    """One setting of the hyperparameters and what came of it.

    Args:
        number: from 1, in the order in which trials began.
        round: of a search from coarse to fine, from 0.
        status: how it stands; stopped: ended before its last epoch because it was hopeless.
        hyperparameters: option → value.
        score: the objective, the mean over all its trainings; none of a trial that runs or failed.
        spread: standard deviation of the objective over its trainings; none of a single one.
        measures: further figures by name, e.g. ``latency_ms``, ``parameters``, ``val_accuracy``.
        broken: the limits that it does not keep, as the user wrote them.
        curve: the objective after each epoch (of the first training).
        began: seconds from the beginning of the search.
        seconds: that it took.
        reason: of its failure, one line.
    """

    number: int
    round: int = 0
    status: Literal["running", "completed", "stopped", "failed"] = "completed"
    hyperparameters: Mapping[str, Any]
    score: float | None = None
    spread: float | None = None
    measures: Mapping[str, float] = dataclasses.field(default_factory=dict)
    broken: tuple[str, ...] = ()
    curve: tuple[float, ...] = ()
    began: float = 0.0
    seconds: float = 0.0
    reason: str = ""

    @property
    def eligible(self) -> bool:
        """Whether it may be the best: trained to its end, with a score, and within all limits."""
        scored = self.score is not None and math.isfinite(self.score)
        return self.status == "completed" and scored and not self.broken


@dataclasses.dataclass(frozen=True, kw_only=True)
class Search:
    """All trials of one search.

    Args:
        application: what is tuned.
        tuner: how settings are proposed, e.g. ``random``.
        objective: the measure, e.g. ``val_accuracy``.
        direction: which of two scores is the better one.
        space: what is varied.
        trials: in the order of their numbers.
        default: the objective of the application's own recipe, where it was measured.
    """

    application: str
    tuner: str
    objective: str
    direction: Literal["min", "max"]
    space: Sequence[Dimension]
    trials: Sequence[Trial]
    default: float | None = None

    def ranked(self) -> list[Trial]:
        """The completed trials that keep every limit, the best first."""
        sign = 1 if self.direction == "min" else -1
        kept = [trial for trial in self.trials if trial.eligible]
        return sorted(kept, key=lambda trial: sign * trial.score)
