"""The chief of a search: hands out trials over gRPC, and looks after its workers.

The protocol is keras-tuner's. Its own chief waits for ever for a worker that was killed; here a
local worker is started anew, under its old name, so that it gets its trial back and goes on from
the last epoch; and the trial of a worker elsewhere that gives no sign of life is given to another.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent import futures
from typing import Any

import grpc
from keras_tuner.src import protos
from keras_tuner.src.distribute.oracle_chief import OracleServicer

from pipelines.engine.application import UserError
from tuning.folder import Folder
from tuning.signs_of_life import Silence
from tuning.tuner import ADDRESS, PORT, TUNER, trial_number
from tuning.worker import CHIEF_ON_STDIN

ROOT = pathlib.Path(__file__).parents[1]
PAUSE = 0.5  # seconds between two looks at the workers
STARTS = 5  # of a worker, without a trial begun, until something else must be wrong
SILENCE = 120.0  # seconds without a sign of life until a worker elsewhere is lost
FAREWELL = 30.0  # seconds in which workers may learn that there is nothing more
# What TensorFlow and the libraries below it read the number of their threads from.
THREADS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")


def serve(oracle: Any, address: str) -> tuple[grpc.Server, int]:
    """Answers workers at ``host:port``; port 0 is any that is free. Returns the server and port."""
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=1))
    protos.get_service_grpc().add_OracleServicer_to_server(OracleServicer(oracle), server)
    try:
        port = server.add_insecure_port(address)
    except RuntimeError:
        raise UserError(f"the chief cannot listen at {address}") from None
    server.start()
    return server, port


def direct(folder: Folder, oracle: Any, workers: int, look: Callable[[], Any]) -> None:
    """Has all trials run by ``workers`` processes of this machine.

    Args:
        folder: of the search.
        oracle: of the search.
        workers: how many.
        look: called again and again meanwhile.

    Raises:
        UserError: what a worker failed with, where no trial is to blame.
    """
    server, port = serve(oracle, "127.0.0.1:0")
    team = [Worker(folder, f"worker{number}", port, workers) for number in range(workers)]
    try:
        # Each is looked at every time: one that has died is started anew while others still run.
        while [worker for worker in team if not worker.finished()]:
            look()
            time.sleep(PAUSE)
    finally:
        for worker in team:
            worker.stop()
        folder.forgive()
        server.stop(grace=None)


def direct_elsewhere(
    folder: Folder, oracle: Any, look: Callable[[], Any], silence: float = SILENCE
) -> None:
    """Has all trials run by workers that others have started.

    Args:
        folder: of the search.
        oracle: of the search.
        look: called again and again meanwhile.
        silence: seconds without a sign of life until a worker is lost.
    """
    server, _ = serve(oracle, f"{os.environ[ADDRESS]}:{os.environ[PORT]}")
    silences = Silence()
    try:
        while not oracle.over:
            look()
            time.sleep(PAUSE)
            for name, trial in list(oracle.ongoing_trials.items()):
                if silences.of(folder.attempt_file(trial_number(trial))) > silence:
                    print(f"{name} is lost; its trial goes to another worker")
                    oracle.give_up(name)
        until = time.monotonic() + FAREWELL
        while oracle.tuner_ids and time.monotonic() < until:
            time.sleep(PAUSE)
    finally:
        server.stop(grace=None)


class Worker:
    """A process that runs trials, started anew whenever it dies."""

    def __init__(self, folder: Folder, name: str, port: int, team: int) -> None:
        self.folder, self.name = folder, name
        self.log = folder.path / "logs" / f"{name}.txt"
        threads = str(max(1, (os.cpu_count() or 1) // team))
        self.environment = dict.fromkeys(THREADS, threads) | os.environ
        self.environment |= {TUNER: name, ADDRESS: "127.0.0.1", PORT: str(port)}
        self.starts, self.begun = 0, 0
        self.process = self._start()

    def _start(self) -> subprocess.Popen:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "tuning.worker", CHIEF_ON_STDIN, self.folder.path.resolve()],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the chief
            )

    def finished(self) -> bool:
        """Whether it has run out of trials; starts it anew if it has died instead.

        Raises:
            UserError: if there is no use in that.
        """
        status = self.process.poll()
        if status is None or status == 0:
            return status == 0
        begun = len(list((self.folder.path / "records").glob("*.json")))
        self.starts = self.starts + 1 if begun == self.begun else 1
        self.begun = begun
        if status == 2 or self.starts >= STARTS:
            lines = self.log.read_text(errors="replace").strip().splitlines() or [""]
            last = lines[-1].removeprefix("error: ")
            raise UserError(f"{self.name} ended with status {status}: {last} (see {self.log})")
        self.process = self._start()
        return False

    def stop(self) -> None:
        """Kills the process, if it runs: what is on the disk is whole."""
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
