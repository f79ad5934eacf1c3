"""What a finished run costs: what a choice among runs is limited by, besides how good they are."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np

from pipelines.engine.application import DEFAULT_SIGNATURE
from pipelines.engine.lazy import tensorflow as tf
from pipelines.engine.run import Run

ANSWERS = 20  # that are timed


def megabytes(run: Run) -> float:
    """The size of ``model.keras``, in 10⁶ bytes."""
    run.require_finished()
    return run.model_file.stat().st_size / 1e6


def training_seconds(run: Run) -> float:
    """How long all epochs took, on whatever machine they ran."""
    return sum(epoch["seconds"] for epoch in run.history)


def latency_ms(run: Run) -> float:
    """The median time from one raw example to its answer, in this process, on this machine now."""
    from pipelines.engine.answers import open_run

    opened = open_run(run.path)
    answer = opened.functions()[DEFAULT_SIGNATURE]
    samples = opened.sample_inputs(1)[DEFAULT_SIGNATURE]
    inputs = {name: tf.constant(values) for name, values in samples.items()}
    seconds = []
    for _ in range(1 + ANSWERS):
        started = time.perf_counter()
        for value in answer(**inputs).values():
            value.numpy()
        seconds.append(time.perf_counter() - started)
    return 1000 * float(np.median(seconds[1:]))  # the first one warms up


COSTS: Mapping[str, Callable[[Run], float]] = {
    "megabytes": megabytes,
    "training_seconds": training_seconds,
    "latency_ms": latency_ms,
}
