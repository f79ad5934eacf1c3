"""Peak memory of ``make demo``: all its processes together, training, exports, server and client.

Memory that processes share is counted once: the kernel's proportional set size, which divides each
page by the number of processes that map it, summed over the demo's session and sampled twice a
second. ``make`` itself (some 3 MiB) is not among them.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from tests.benchmarks.comparison import Comparison
from tests.benchmarks.machine import GIB

ROOT = pathlib.Path(__file__).parents[2]
SAMPLE_SECONDS = 0.5


def measure(quick: bool) -> list[Comparison]:
    peaks = tuple(demo_peak() / GIB for _ in range(1 if quick else 3))
    return [Comparison(name="peak memory of the demo", unit="GiB", ours=peaks, target=2.5)]


def demo_peak() -> int:
    """Runs the demo in a copy of the repository that has no runs and no exports yet; bytes."""
    with tempfile.TemporaryDirectory() as folder:
        for package in ("models", "pipelines", "serving"):
            shutil.copytree(ROOT / package, pathlib.Path(folder, package))
        demo = subprocess.Popen(
            [sys.executable, "-m", "serving.demo"],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        peak = 0
        try:
            while demo.poll() is None:
                peak = max(peak, session_memory(demo.pid))
                time.sleep(SAMPLE_SECONDS)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(demo.pid, signal.SIGTERM)  # what an interrupted demo leaves behind
        if demo.returncode:
            raise subprocess.CalledProcessError(demo.returncode, demo.args)
        return peak


def session_memory(session: int) -> int:
    """Proportional set size of all processes of a session, in bytes."""
    total = 0
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):  # it has just ended
            if os.getsid(int(folder.name)) == session:
                rollup = (folder / "smaps_rollup").read_text()
                total += 1024 * int(re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)[1])
    return total
