"""Requests as fast as they are answered: h2load, with a recorded body.

A generator in Python would be slower than the servers that it measures. h2load sees that an HTTP
answer came and how many bytes it had, so that a gRPC error (an answer without bytes) shows; whether
the bytes are right is checked by asking the same server now and then, with an ordinary client.
"""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import re
import shutil
import statistics
import struct
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator

from google.protobuf.message import Message

from pipelines.engine.application import UserError

PREDICT = "/tensorflow.serving.PredictionService/Predict"
GRPC_HEADERS = ("content-type: application/grpc", "te: trailers")
GRPC_PREFIX = 5  # bytes before a message: whether it is compressed, and its length


@dataclasses.dataclass(frozen=True)
class Load:
    """What a run of the generator saw.

    Attributes:
        rate: requests a second.
        begins: when each request began, in seconds since 1970.
        seconds: how long each took.
        data: bytes of all answers.
    """

    rate: float
    begins: list[float]
    seconds: list[float]
    data: int

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def grpc_body(message: Message) -> bytes:
    """A message as a gRPC call sends it."""
    return struct.pack(">BI", 0, message.ByteSize()) + message.SerializeToString()


def generate(
    url: str,
    body: bytes,
    *,
    requests: int,
    concurrency: int,
    headers: tuple[str, ...] = GRPC_HEADERS,
    http1: bool = False,
) -> Load:
    """Sends ``requests`` requests, ``concurrency`` at a time, each over a connection of its own.

    Raises:
        UserError: if h2load is not installed, or an answer was not an HTTP success.
    """
    if shutil.which("h2load") is None:
        raise UserError("no h2load on the PATH; Debian and Ubuntu: apt-get install nghttp2-client")
    with tempfile.TemporaryDirectory() as folder:
        sent, log = pathlib.Path(folder, "body"), pathlib.Path(folder, "log")
        sent.write_bytes(body)
        words = ["h2load", "-n", str(requests), "-c", str(concurrency), "-m", "1", "-t", "1"]
        words += [word for header in headers for word in ("-H", header)]
        words += ["--h1"] * http1 + ["-d", str(sent), f"--log-file={log}", url]
        ended = subprocess.run(words, capture_output=True, text=True, check=True)
        rows = [line.split() for line in log.read_text().splitlines()]
    if f"{requests} succeeded" not in ended.stdout:
        raise UserError(f"not every request to {url} was answered:\n{ended.stdout}")
    return Load(
        rate=float(re.search(r"([\d.]+) req/s", ended.stdout)[1]),
        begins=[int(begin) / 1e6 for begin, _, _ in rows],
        seconds=[int(took) / 1e6 for _, _, took in rows],
        data=int(re.search(r"\((\d+)\) data", ended.stdout)[1]),
    )


def generate_predictions(
    port: int, request: Message, answer_bytes: int, *, requests: int, concurrency: int
) -> Load:
    """Sends a Predict request many times; every answer must have ``answer_bytes`` bytes.

    Raises:
        UserError: see ``generate``; also for an answer of another length.
    """
    load = generate(
        f"http://127.0.0.1:{port}{PREDICT}",
        grpc_body(request),
        requests=requests,
        concurrency=concurrency,
    )
    expected = requests * (GRPC_PREFIX + answer_bytes)
    if load.data != expected:
        raise UserError(f"{expected} bytes of answers expected, {load.data} came: errors?")
    return load


@contextlib.contextmanager
def checking(ask_and_compare: Callable[[], None], every_seconds: float = 0.1) -> Iterator[None]:
    """Calls a function now and then while the block runs; its error is the block's."""
    stop, errors = threading.Event(), []

    def check() -> None:
        try:
            while True:
                ask_and_compare()
                if stop.wait(every_seconds):
                    return
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=check)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    if errors:
        raise errors[0]
