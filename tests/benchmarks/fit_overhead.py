"""What the engine's ``fit`` costs beside a bare ``keras.Model.fit``.

Model, pictures, optimizer and validation are the same. Ours also draws each epoch's order
statelessly, scales pixels in every batch, and writes checkpoints, metrics and TensorBoard logs
after every epoch; the bare fit reads scaled float32 pixels from a plain shuffled dataset and writes
nothing. Whole epochs are timed, all of that included. Operations are deterministic on both sides,
because that holds for a process; ``determinism`` measures what it costs.
"""

from __future__ import annotations

import pathlib
import statistics
import tempfile
import time
from typing import Protocol

import keras

from pipelines.engine.assembly import Assembly
from pipelines.engine.data import training_data
from pipelines.engine.run import Run
from pipelines.engine.train import TrainingData, fit
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
    return take_turns(assembly, data, bare)


class Peer(Protocol):
    """Another way to fit.

    Attributes:
        steps: of an epoch.
    """

    steps: int

    def step_time(self) -> float:
        """Milliseconds a step of one more epoch."""


def take_turns(
    assembly: Assembly, data: TrainingData, peer: Peer
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Milliseconds a step of the engine's epochs, each beside one of the peer's."""
    assert peer.steps == data.steps_per_epoch
    turns = Turns(peer)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "run")
        run = Run.create(path, assembly.configuration, assembly.preprocessor.save)
        fit(
            assembly.learner(data.model_arguments),
            assembly.task,
            assembly.configuration.recipe,
            data,
            run,
            callbacks=[turns],
        )
    return tuple(turns.ours[WARM_UP:]), tuple(turns.peer[WARM_UP : len(turns.ours)])


class Turns(keras.callbacks.Callback):
    """Lets the peer have its epoch before each one of the engine's, and times both.

    An epoch of the engine's lasts from there to the beginning of its next, whatever it does in
    between; the last one has no next, and is not counted. What the engine prefetches during the
    other's turn (a few of hundreds of batches) is to its advantage, and slows the other.
    """

    def __init__(self, rival: Peer) -> None:
        super().__init__()
        self.rival = rival
        self.ours: list[float] = []
        self.peer: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        if epoch > 0:
            seconds = time.perf_counter() - self.began
            self.ours.append(1000 * seconds / self.rival.steps)
        self.peer.append(self.rival.step_time())
        self.began = time.perf_counter()
