"""What deterministic operations cost: the same bare fit with them and without.

The engine switches them on so that a resumed run ends with the same bits. They hold for a whole
process, so two processes take turns, epoch by epoch.
"""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection

from tests.benchmarks.bare_fit import WARM_UP, BareFit, Case, cases, silence
from tests.benchmarks.comparison import Comparison


def measure(quick: bool) -> list[Comparison]:
    return [compare(case) for case in cases(quick)]


def compare(case: Case) -> Comparison:
    with (
        process(case, deterministic=True) as with_it,
        process(case, deterministic=False) as without,
    ):
        steps = [(with_it(), without()) for _ in range(WARM_UP + case.pairs)]
    ours, peer = zip(*steps[WARM_UP:], strict=True)
    return Comparison(
        name=f"deterministic fit of {case.architecture}", unit="ms a step", ours=ours, peer=peer
    )


@contextlib.contextmanager
def process(case: Case, deterministic: bool) -> Iterator[Callable[[], float]]:
    """A process that fits an epoch whenever it is asked to, and says how long a step took."""
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    child = spawn.Process(target=answer, args=(there, case, deterministic), daemon=True)
    child.start()
    there.close()

    def step_time() -> float:
        here.send("an epoch")
        return here.recv()

    try:
        yield step_time
    finally:
        here.close()
        child.join()


def answer(connection: Connection, case: Case, deterministic: bool) -> None:
    """In the process: an epoch for every request, until the other end is closed."""
    bare = BareFit(case.assembled(deterministic))
    with silence(), contextlib.suppress(EOFError):
        while connection.recv():
            connection.send(bare.step_time())
