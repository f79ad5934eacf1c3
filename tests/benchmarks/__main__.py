"""Runs benchmarks, prints what they found and writes it to runs/benchmarks/<name>.json."""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
from collections.abc import Sequence

from pipelines.engine.application import choose
from pipelines.engine.cli import run_command
from tests.benchmarks.comparison import Comparison
from tests.benchmarks.discovery import benchmark_names, run_apart
from tests.benchmarks.machine import describe

RESULTS = pathlib.Path("runs", "benchmarks")


def main(arguments: Sequence[str] | None = None) -> None:
    """Exits with status 1 if a target was missed beyond doubt."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("name", nargs="*", help=f"of: {', '.join(benchmark_names())} (all)")
    parser.add_argument(
        "--quick", action="store_true", help="few and short rounds: does everything run?"
    )
    options = parser.parse_args(arguments)
    names = [choose("benchmark", name, benchmark_names()) for name in options.name]
    missed = 0
    for name in names or benchmark_names():
        machine = describe()
        print(f"{name} (load average {machine['load_average'][0]})", flush=True)
        comparisons = run_apart(name, options.quick)
        for comparison in comparisons:
            print(f"  {comparison}", flush=True)
        missed += sum(comparison.verdict == "missed" for comparison in comparisons)
        write(name, options.quick, machine, comparisons)
    sys.exit(1 if missed else 0)


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
