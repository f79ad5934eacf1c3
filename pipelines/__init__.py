"""Applications and commands, run as python -m pipelines.<name>."""

import contextlib
import os


@contextlib.contextmanager
def _without_standard_error():
    """Sends what C++ libraries print to standard error nowhere."""
    saved = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


# TensorFlow greets every process with notes about instruction sets and missing GPU drivers, some of
# them before it reads this variable. A user's first line should be the program's own.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if os.environ.get("KERAS_BACKEND", "tensorflow") == "tensorflow":
    with contextlib.suppress(ImportError), _without_standard_error():
        import tensorflow  # noqa: F401
