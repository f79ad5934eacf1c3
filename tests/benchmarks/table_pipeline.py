"""A table of a million rows, from a CSV file to standardized batches: rows a second, and memory.

In a fresh process: the file is read, its columns are found out, the preprocessor is fitted, and the
training rows are kept as features; then every epoch gathers them in an order of its own. The rate
is that of whole epochs after the first; the memory is the process's peak, less what it had when
TensorFlow had been imported and had run its first operation.
"""

from __future__ import annotations

import os
import pathlib
import tempfile
import time
from collections.abc import Callable

import numpy as np

from tests.benchmarks.comparison import Comparison
from tests.benchmarks.processes import process
from tests.benchmarks.serving_memory import MIB, resident_memory

ROWS = 1_000_000
BATCH = 1024
NUMBERS = 8
HEADER = [*(f"number {place}" for place in range(NUMBERS)), "day", "town", "kind", "price"]
TOWNS, KINDS = 200, 5


def measure(quick: bool) -> list[Comparison]:
    rows, passes = (20_000, 2) if quick else (ROWS, 10)
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "houses.csv")
        write_table(file, rows)
        with process(prepare, str(file)) as ask:
            peak, rates = ask(passes)
    about = f"{rows:,} rows of {len(HEADER)} columns"
    return [
        Comparison(
            name=f"memory above TensorFlow's: {about}", unit="MiB", ours=(peak,), target=500
        ),
        Comparison(
            name=f"batches of {BATCH} after the first epoch: {about}",
            unit="rows/s",
            ours=tuple(rates),
            better="higher",
            target=300_000,
        ),
    ]


def write_table(file: pathlib.Path, rows: int, block: int = 50_000) -> None:
    """Numbers, some of them missing, days, towns and kinds, and a price that follows from them."""
    draw = np.random.default_rng(0)
    days = np.arange("2000-01-01", "2020-01-01", dtype="datetime64[D]").astype(str)
    with file.open("w") as table:
        table.write(",".join(HEADER) + "\n")
        for start in range(0, rows, block):
            count = min(block, rows - start)
            numbers = draw.normal(100, 30, (count, NUMBERS)).round(3)
            cells = [list(map(str, column)) for column in numbers.T.tolist()]
            for row in np.flatnonzero(draw.random(count) < 0.05):
                cells[0][row] = ""
            towns, kinds = draw.integers(TOWNS, size=count), draw.integers(KINDS, size=count)
            prices = (numbers.sum(1) + 3 * towns + 50 * kinds).round(2)
            cells += [
                days[draw.integers(len(days), size=count)].tolist(),
                [f"town {town}" for town in towns.tolist()],
                [f"kind {kind}" for kind in kinds.tolist()],
                list(map(str, prices.tolist())),
            ]
            table.writelines(",".join(row) + "\n" for row in zip(*cells, strict=True))


def prepare(file: str) -> Callable[[int], tuple[float, list[float]]]:
    """In a process of its own: the function from a number of epochs to peak memory and rates."""
    import tensorflow as tf

    from pipelines.engine.application import load_application
    from pipelines.engine.assembly import assemble
    from pipelines.engine.configuration import parse
    from pipelines.engine.data import raw_batches, training_data
    from pipelines.engine.train import prepare_backend

    options = ("--dataset=csv", f"--data_dir={file}", "--source.target=price")
    configuration, _ = parse(load_application("house_prices"), [*options, f"--batch_size={BATCH}"])
    prepare_backend(configuration.recipe)
    tf.reduce_sum(tf.ones([8, 8])).numpy()
    alone = resident_memory(os.getpid())
    assembly = assemble(configuration)
    assembly.preprocessor.fit(raw_batches(assembly.source, "train"))
    data = training_data(assembly)
    batches = iter(data.training(0))

    def epoch() -> float:
        """Rows a second of all steps of an epoch."""
        started = time.perf_counter()
        seen = sum(len(next(batches)[1]) for _ in range(data.steps_per_epoch))
        return seen / (time.perf_counter() - started)

    def run(passes: int) -> tuple[float, list[float]]:
        epoch()
        rates = [epoch() for _ in range(passes)]
        return (resident_memory(os.getpid(), peak=True) - alone) / MIB, rates

    return run
