"""Two processes that take turns, for what holds for a whole process."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any


@contextlib.contextmanager
def process(prepare: Callable[..., Callable], *arguments: Any) -> Iterator[Callable]:
    """A fresh process that calls ``prepare(*arguments)``, and then what that returned when asked.

    It prepares while this one goes on: two that are started one after the other do so together.
    """
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    child = spawn.Process(target=_answer, args=(there, prepare, *arguments), daemon=True)
    child.start()
    there.close()

    def ask(*request: Any) -> Any:
        here.send(request)
        return here.recv()

    try:
        yield ask
    finally:
        here.close()
        child.join()


def _answer(connection: Connection, prepare: Callable[..., Callable], *arguments: Any) -> None:
    """In the process: an answer to every request, until the other end is closed."""
    prepared = prepare(*arguments)
    with contextlib.suppress(EOFError):
        while True:
            connection.send(prepared(*connection.recv()))
