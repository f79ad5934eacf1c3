"""The machine that a figure was measured on, without which it means nothing."""

from __future__ import annotations

import datetime
import os
import pathlib
import platform
import re
from typing import Any

from pipelines.engine.run import environment

GIB = 2**30


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0))


def describe() -> dict[str, Any]:
    """Processor, memory, versions, and what else was running when the benchmark began."""
    return environment() | {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "processor": _processor(),
        "processors": processors(),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB, 1),
        "kernel": platform.release(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
    }


def _processor() -> str:
    model = re.search(r"model name\s*: (.+)", pathlib.Path("/proc/cpuinfo").read_text())
    return model[1] if model else platform.processor()
