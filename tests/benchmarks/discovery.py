"""The benchmarks by name, each run in a process of its own."""

from __future__ import annotations

import concurrent.futures
import importlib
import multiprocessing
import pathlib

from tests.benchmarks.comparison import Comparison


def benchmark_names() -> list[str]:
    """The files here that define ``measure``."""
    files = pathlib.Path(__file__).parent.glob("*.py")
    return sorted(file.stem for file in files if "\ndef measure(" in file.read_text())


def run(name: str, quick: bool) -> list[Comparison]:
    """Runs one benchmark in this process."""
    return importlib.import_module(f"tests.benchmarks.{name}").measure(quick)


def run_apart(name: str, quick: bool) -> list[Comparison]:
    """Runs one benchmark in a new process, which nothing has warmed up or filled."""
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as process:
        return process.submit(run, name, quick).result()
