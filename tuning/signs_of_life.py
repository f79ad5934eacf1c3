"""How a chief knows that a worker on another machine still lives: it touches a file it shares."""

from __future__ import annotations

import contextlib
import pathlib
import threading
import time
from collections.abc import Callable, Iterator

INTERVAL = 5.0  # seconds between two signs


@contextlib.contextmanager
def alive(file: pathlib.Path) -> Iterator[None]:
    """Within it a file that is there is touched again and again."""
    over = threading.Event()

    def touch() -> None:
        while not over.wait(INTERVAL):
            with contextlib.suppress(OSError):  # the next sign may get through
                file.touch()

    thread = threading.Thread(target=touch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class Silence:
    """How long files have not been touched, by the clock of the one who looks.

    The clock of another machine, or of a file server, may be another one.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.seen: dict[pathlib.Path, tuple[float | None, float]] = {}

    def of(self, file: pathlib.Path) -> float:
        """Seconds since a new sign was first seen here."""
        touched = file.stat().st_mtime if file.exists() else None
        if file not in self.seen or self.seen[file][0] != touched:
            self.seen[file] = (touched, self.clock())
        return self.clock() - self.seen[file][1]
