"""What the engine's ``fit`` costs beside a bare ``keras.Model.fit``.

Model, pictures, optimizer and validation are the same. Ours also draws each epoch's order
statelessly, scales pixels in every batch, and writes checkpoints, metrics and TensorBoard logs
after every epoch; the bare fit reads scaled float32 pixels from a plain shuffled dataset and writes
nothing. Whole epochs are timed, all of that included. Operations are deterministic on both sides,
because that holds for a process; ``determinism`` measures what it costs.
"""

from __future__ import annotations

import dataclasses
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable

from pipelines.engine.assembly import Assembly
from pipelines.engine.data import TrainingData, training_data
from pipelines.engine.run import Run
from pipelines.engine.train import fit
from tests.benchmarks.bare_fit import WARM_UP, BareFit, Case, cases, silence
from tests.benchmarks.comparison import Comparison

LONG_STEP = 50  # milliseconds


def measure(quick: bool) -> list[Comparison]:
    return [compare(case) for case in cases(quick)]


def compare(case: Case) -> Comparison:
    """Long steps are judged by their ratio, short ones by what comes on top of each."""
    with silence():
        ours, peer = step_times(case)
    if statistics.median(peer) >= LONG_STEP:
        bound = {"effect": "ratio", "target": 1.03}
    else:
        bound = {"effect": "difference", "target": 0.3}
    return Comparison(
        name=f"fit of {case.architecture}", unit="ms a step", ours=ours, peer=peer, **bound
    )


def step_times(case: Case) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Milliseconds a step, ours and bare, of epochs that took turns in one process."""
    assembly = case.assembled()
    data, bare = training_data(assembly), BareFit(assembly)
    assert bare.steps == data.steps_per_epoch
    return take_turns(assembly, data, bare.step_time)


def take_turns(
    assembly: Assembly, data: TrainingData, peer_step_time: Callable[[], float]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Milliseconds a step of the engine's epochs, and of those of a peer, each after one of them.

    Before each of its epochs the engine tells the data which it is; then the peer has its turn.
    """
    ours, peer, began = [], [], None

    def turn(epoch: int) -> None:
        nonlocal began
        if began is not None:
            ours.append(1000 * (time.perf_counter() - began) / data.steps_per_epoch)
        peer.append(peer_step_time())
        data.set_epoch(epoch)
        began = time.perf_counter()

    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "run")
        run = Run.create(path, assembly.configuration, assembly.preprocessor.save)
        fit(
            lambda: assembly.builder(**data.model_arguments),
            assembly.task,
            assembly.configuration.recipe,
            dataclasses.replace(data, set_epoch=turn),
            run,
        )
    # The engine's first turn is what comes before its first epoch; no turn follows its last.
    return tuple(ours[WARM_UP:]), tuple(peer[WARM_UP : len(ours)])
