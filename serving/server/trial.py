"""A trial in a process of its own, for graphs that might take the server with them.

TensorFlow checks some properties of a graph by ending the process, so that one wrong byte in a
``saved_model.pb`` that can still be parsed may be the end of every model of a server. An export has
a checksum beside it; where that doesn't fit, because the file is damaged or was edited, another
process loads the version first.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import grpc
from tensorflow.core.protobuf import fingerprint_pb2
from tensorflow.python.saved_model.pywrap_saved_model import fingerprinting

from serving.server.errors import StatusError
from serving.server.saved_model import SavedModel

_REPOSITORY = pathlib.Path(__file__).parents[2]


def is_as_exported(directory: pathlib.Path) -> bool:
    """Whether a version's graph fits its checksum; an export that is too old has none and does."""
    try:
        written = (directory / "fingerprint.pb").read_bytes()
    except OSError:
        return True
    try:
        computed = fingerprinting.CreateFingerprintDef(str(directory))
        checksums = {
            fingerprint_pb2.FingerprintDef.FromString(message).saved_model_checksum
            for message in (written, computed)
        }
    except Exception:
        return False
    return len(checksums) == 1


def survive(directory: pathlib.Path) -> None:
    """Loads a version in another process.

    Raises:
        StatusError: DATA_LOSS if that ends the process. Any other failure is no danger: it comes
            again, as an error, when this process loads the version.
    """
    trial = subprocess.run(
        [sys.executable, "-m", "serving.server.trial", str(directory)],
        cwd=_REPOSITORY,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "-1"},  # the GPUs' memory is the server's
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    if trial.returncode < 0:
        raise StatusError(
            grpc.StatusCode.DATA_LOSS,
            f"The graph in {directory} is not the one that was exported, and TensorFlow ends the "
            "process that loads it",
        )


if __name__ == "__main__":
    SavedModel(pathlib.Path(sys.argv[1]))
