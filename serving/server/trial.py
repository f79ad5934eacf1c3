"""A trial in a process of its own, for graphs that might take the server with them.

TensorFlow checks some properties of a graph by ending the process, so that one wrong byte in a
``saved_model.pb`` that can still be parsed may be the end of every model of a server. An export has
a checksum beside it; where that doesn't fit, because the file is damaged or was edited, another
process loads the version first.
"""

from __future__ import annotations

import logging
import os
import pathlib
import subprocess
import sys

import grpc
import tensorflow as tf
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from tensorflow.core.protobuf.fingerprint_pb2 import FingerprintDef
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel as SavedModelProto

from serving.server.errors import StatusError
from serving.server.saved_model import SavedModel

_log = logging.getLogger(__name__)
_REPOSITORY = pathlib.Path(__file__).parents[2]
# The most of to_hash_bucket_fast, which gives Fingerprint64's remainder.
_BUCKETS = 2**63 - 1


def is_as_exported(directory: pathlib.Path) -> bool:
    """Whether a version's graph fits its checksum; False only if there are both, and they differ.

    TensorFlow's own function that computes the checksum ends the process at some damages.
    """
    try:
        written = FingerprintDef.FromString((directory / "fingerprint.pb").read_bytes())
        saved_model = SavedModelProto.FromString((directory / "saved_model.pb").read_bytes())
    except (OSError, DecodeError):
        return True
    if not saved_model.meta_graphs:
        return True
    remainder = int(tf.strings.to_hash_bucket_fast(_serialized(saved_model), _BUCKETS))
    return remainder == written.saved_model_checksum % _BUCKETS


def _serialized(message: Message) -> bytes:
    """A message as C++ serializes it for the checksum: maps in the order of their keys.

    Python's protobuf has another order of integers, and of texts that begin alike.
    """
    pieces = []
    for field, value in message.ListFields():
        kind = field.message_type
        if kind is not None and kind.GetOptions().map_entry:
            pieces += [_map_entry(message, field, key) for key in sorted(value)]
        elif kind is not None:
            parts = value if field.is_repeated else [value]
            pieces += [_delimited(field.number, _serialized(part)) for part in parts]
        else:
            alone = type(message)(**{field.name: value})
            pieces.append(alone.SerializeToString())
    return b"".join(pieces)


def _map_entry(message: Message, field: FieldDescriptor, key: int | str) -> bytes:
    value = getattr(message, field.name)[key]
    if not isinstance(value, Message):
        alone = type(message)(**{field.name: {key: value}})
        return alone.SerializeToString()
    written_key = _delimited(1, key.encode()) if isinstance(key, str) else b"\x08" + _varint(key)
    return _delimited(field.number, written_key + _delimited(2, _serialized(value)))


def _delimited(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    written = bytearray()
    while number > 127:
        written.append(number & 127 | 128)
        number >>= 7
    return bytes([*written, number])


def survive(directory: pathlib.Path) -> None:
    """Loads a version in another process.

    Raises:
        StatusError: DATA_LOSS if that ends the process. Any other failure is no danger: it comes
            again, as an error, when this process loads the version.
    """
    _log.warning("%s is not as it was exported: another process loads it first", directory)
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
