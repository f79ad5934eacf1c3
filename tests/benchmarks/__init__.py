"""Measurements that no test run makes: python -m tests.benchmarks [NAME ...] [--quick].

A benchmark is a file here with ``measure(quick: bool) -> list[Comparison]``. It runs in a process
of its own, on a machine that should do nothing else. What is not Python of this environment stands
in ``peers/`` and runs in that of ``requirements-bench.txt``.
"""

import pipelines  # noqa: F401  # keeps TensorFlow from greeting every process
