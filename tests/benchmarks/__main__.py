"""Runs benchmarks, prints what they found and writes it to runs/benchmarks/<name>.json."""

from __future__ import annotations

import argparse
import importlib
import json
import pathlib
import signal
import subprocess
import sys
from collections.abc import Sequence

from pipelines.engine.application import choose
from pipelines.engine.cli import run_command
from tests.benchmarks.comparison import Comparison
from tests.benchmarks.machine import describe

RESULTS = pathlib.Path("runs", "benchmarks")


def benchmark_names() -> list[str]:
    """The files here that define ``measure``."""
    files = pathlib.Path(__file__).parent.glob("*.py")
    return sorted(file.stem for file in files if "\ndef measure(" in file.read_text())


def main(arguments: Sequence[str]) -> None:
    """Exits with status 1 if a target was missed beyond doubt or a benchmark failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("name", nargs="*", help=f"of: {', '.join(benchmark_names())} (all)")
    parser.add_argument(
        "--quick", action="store_true", help="few and short rounds: does everything run?"
    )
    options = parser.parse_args(arguments)
    names = [choose("benchmark", name, benchmark_names()) for name in options.name]
    if len(names) == 1:
        sys.exit(1 if run(names[0], options.quick) else 0)
    flags = ["--quick"] * options.quick
    # Each in a process that no other has warmed up or filled.
    statuses = [
        subprocess.run(
            [sys.executable, "-m", "tests.benchmarks", name, *flags], check=False
        ).returncode
        for name in names or benchmark_names()
    ]
    sys.exit(1 if any(statuses) else 0)


def run(name: str, quick: bool) -> int:
    """Runs one benchmark in this process; the number of targets that it missed."""
    machine = describe()
    print(f"{name} (load average {machine['load_average'][0]})", flush=True)
    # What a benchmark has started ends with it, however it ends.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    comparisons = importlib.import_module(f"tests.benchmarks.{name}").measure(quick)
    for comparison in comparisons:
        print(f"  {comparison}", flush=True)
    write(name, quick, machine, comparisons)
    return sum(comparison.verdict == "missed" for comparison in comparisons)


def write(name: str, quick: bool, machine: dict, comparisons: list[Comparison]) -> None:
    """Writes the figures; those of quick rounds beside the others, not over them."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    found = {
        "benchmark": name,
        "quick": quick,
        "machine": machine,
        "comparisons": [comparison.to_json() for comparison in comparisons],
    }
    file = RESULTS / f"{name}{'-quick' if quick else ''}.json"
    file.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    run_command(main)
