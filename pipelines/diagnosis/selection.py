"""Which of several models to take: the best by one figure among those that keep all limits.

After A. Ng, "Machine Learning Yearning", 2018, chapter 9: of N things that matter one is made as
good as can be (the optimizing metric), the others need only be good enough (satisficing metrics),
and more of them is worth nothing.
"""

from __future__ import annotations

import dataclasses
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence

from pipelines.engine.application import UserError, choose
from pipelines.engine.bootstrap import digits

COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
# Figures whose names end so are the better the lower they are, all others the higher.
LOWER_IS_BETTER = ("loss", "error", "perplexity", "rmse", "mae", "seconds", "bytes", "parameters")


@dataclasses.dataclass(frozen=True)
class Limit:
    """What a figure must be to be good enough.

    Attributes:
        name: of the figure.
        comparison: one of ``COMPARISONS``.
        bound: what it is compared with.
    """

    name: str
    comparison: str
    bound: float

    @classmethod
    def parse(cls, text: str) -> Limit:
        """Reads ``latency_ms<=10``; UserError for what is no limit."""
        found = re.fullmatch(r"\s*([\w.]+)\s*(<=|>=|<|>)\s*(\S+)\s*", text)
        try:
            name, comparison, bound = found.groups()
            number = float(bound)
        except (AttributeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise UserError(
                f"{text!r} is no limit; write one like 'latency_ms<=10' (with the quotes)"
            )
        return cls(name, comparison, number)

    def __str__(self) -> str:
        return f"{self.name}{self.comparison}{digits(self.bound)}"

    def holds(self, figures: Mapping[str, float]) -> bool:
        """Whether the figure of this name keeps the limit; one that is NaN keeps none."""
        return COMPARISONS[self.comparison](figures[self.name], self.bound)


@dataclasses.dataclass(frozen=True)
class Selection:
    """What was chosen, and why not the others.

    Attributes:
        best: the name of the best candidate that keeps all limits; None if none does.
        ranking: all that keep them, the best first.
        broken: for each of the others the limits that it breaks.
    """

    best: str | None
    ranking: list[str]
    broken: dict[str, list[Limit]]


def select(
    candidates: Mapping[str, Mapping[str, float]], optimize: str, limits: Sequence[Limit] = ()
) -> Selection:
    """Chooses among candidates; of equals the one that was named first.

    Args:
        candidates: the figures of each, by name.
        optimize: the figure that shall be as good as it can be.
        limits: what must hold of others, or of the same.

    Raises:
        UserError: for a figure that a candidate does not have.
    """
    for figures in candidates.values():
        for name in (optimize, *(limit.name for limit in limits)):
            choose("figure", name, figures)
    broken = {
        name: [limit for limit in limits if not limit.holds(figures)]
        for name, figures in candidates.items()
    }
    kept = [name for name in candidates if not broken[name]]
    ranking = sorted(
        kept, key=lambda name: candidates[name][optimize], reverse=not lower_is_better(optimize)
    )
    return Selection(
        best=ranking[0] if ranking else None,
        ranking=ranking,
        broken={name: limits for name, limits in broken.items() if limits},
    )


def lower_is_better(figure: str) -> bool:
    """Whether a figure of this name is the better the lower it is."""
    return figure.endswith(LOWER_IS_BETTER)
