"""What deterministic operations cost: the same bare fit with them and without.

The engine switches them on so that a resumed run ends with the same bits. They hold for a whole
process, so two processes take turns, epoch by epoch.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.benchmarks.bare_fit import WARM_UP, BareFit, Case, cases, silence
from tests.benchmarks.comparison import Comparison
from tests.benchmarks.processes import process


def measure(quick: bool) -> list[Comparison]:
    return [compare(case) for case in cases(quick)]


def compare(case: Case) -> Comparison:
    with process(prepare, case, True) as with_it, process(prepare, case, False) as without:
        steps = [(with_it(), without()) for _ in range(WARM_UP + case.pairs)]
    ours, peer = zip(*steps[WARM_UP:], strict=True)
    return Comparison(
        name=f"deterministic fit of {case.architecture}", unit="ms a step", ours=ours, peer=peer
    )


def prepare(case: Case, deterministic: bool) -> Callable[[], float]:
    """In a process of its own: what fits an epoch and says how long a step took."""
    bare = BareFit(case.assembled(deterministic))

    def step_time() -> float:
        with silence():
            return bare.step_time()

    return step_time
