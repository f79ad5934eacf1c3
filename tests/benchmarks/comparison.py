"""What a benchmark finds: figures of ours, each beside one of a peer, and what a target is worth.

Two identical runs easily differ by some per cent, so that single figures say nothing. Ours and the
peer's are measured in turns; what counts is the median of the pairs' effects with its confidence
interval from order statistics, which assumes no distribution (David and Nagaraja 2003, "Order
Statistics", section 7.1).
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from typing import Any, Literal

CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """Figures of one kind, ours and a peer's.

    Attributes:
        name: what was measured.
        unit: of ours and the peer's.
        ours: figures in the order they were measured.
        peer: the figure measured next to each of ours; empty if ours are judged as they are.
        better: whether higher or lower figures are.
        effect: what is judged: ours / peer or ours - peer.
        target: the worst effect that is good enough; None: only reported.
        reason: what is known to keep ours from the target; shown unless it is met.
    """

    name: str
    unit: str
    ours: tuple[float, ...]
    peer: tuple[float, ...] = ()
    better: Literal["higher", "lower"] = "lower"
    effect: Literal["ratio", "difference"] = "ratio"
    target: float | None = None
    reason: str = ""

    @property
    def effects(self) -> list[float]:
        """One number per pair, or ours where there is no peer."""
        if not self.peer:
            return list(self.ours)
        pairs = zip(self.ours, self.peer, strict=True)
        return [one / other if self.effect == "ratio" else one - other for one, other in pairs]

    @property
    def interval(self) -> tuple[float, float]:
        """Where the median of all effects lies with 95 % confidence.

        Fewer than six effects cannot give that much; their whole range is returned.
        """
        effects = sorted(self.effects)
        rank = interval_rank(len(effects))
        return effects[rank], effects[-1 - rank]

    @property
    def verdict(self) -> Literal["met", "missed", "undecided", "no target"]:
        """Met or missed if the whole interval lies on that side of the target."""
        if self.target is None:
            return "no target"
        sign = 1 if self.better == "lower" else -1
        best, worst = sorted(sign * (bound - self.target) for bound in self.interval)
        return "met" if worst <= 0 else "missed" if best > 0 else "undecided"

    def to_json(self) -> dict[str, Any]:
        """All figures, and what they come to."""
        return dataclasses.asdict(self) | {
            "median": statistics.median(self.effects),
            "interval": self.interval,
            "verdict": self.verdict,
        }

    def __str__(self) -> str:
        low, high = self.interval
        found = f"{statistics.median(self.effects):.4g} [{low:.4g}, {high:.4g}]"
        if self.peer:
            ours, peer = statistics.median(self.ours), statistics.median(self.peer)
            unit = f" {self.unit}" if self.effect == "difference" else ""
            found = (
                f"{ours:.4g} against {peer:.4g} {self.unit}; {self.effect} {found}{unit}"
                f" of {len(self.ours)} pairs"
            )
        else:
            found = f"{found} {self.unit}, {len(self.ours)} times"
        if self.target is None:
            return f"{self.name}: {found}"
        sign = "≤" if self.better == "lower" else "≥"
        reason = f" ({self.reason})" if self.reason and self.verdict != "met" else ""
        return f"{self.name}: {found}; target {sign} {self.target:g} {self.verdict}{reason}"


def interval_rank(count: int) -> int:
    """Values at each end of ``count`` sorted ones that the median's interval may leave out.

    The median of all values lies below the one after ``rank`` others only if at most ``rank`` of
    the values lie below it, each of which does so with probability one half.
    """
    rank, tail = 0, 0.5**count
    while tail + math.comb(count, rank + 1) * 0.5**count <= (1 - CONFIDENCE) / 2:
        rank += 1
        tail += math.comb(count, rank) * 0.5**count
    return rank
