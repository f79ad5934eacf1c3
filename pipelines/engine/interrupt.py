"""Ctrl-C: Python's own handler raises KeyboardInterrupt wherever the program happens to be.

In a destructor, in a callback of the garbage collector, or in Python that TensorFlow calls, that is
printed and forgotten, and the program would go on.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

import keras


class RaiseAndRemember:
    """A handler like Python's own that knows afterwards whether there was an interrupt."""

    def __init__(self) -> None:
        self.asked = False

    def __call__(self, number: int, frame: Any) -> None:
        self.asked = True
        raise KeyboardInterrupt


@contextlib.contextmanager
def remembered_interrupts() -> Iterator[None]:
    """Within it training does not begin after a SIGINT whose exception was lost."""
    replaced = _replace_handler(RaiseAndRemember())
    try:
        yield
    finally:
        if replaced is not None:
            signal.signal(signal.SIGINT, replaced)


class StopOnInterrupt(keras.callbacks.Callback):
    """Within its context SIGINT stops training after the step at hand; a second one stops at once.

    Raises:
        KeyboardInterrupt: also at its beginning, for an interrupt that was lost before.
    """

    def __init__(self) -> None:
        super().__init__()
        self.asked = False
        self._replaced: Any = None

    def __enter__(self) -> StopOnInterrupt:
        handler = signal.getsignal(signal.SIGINT)
        if isinstance(handler, RaiseAndRemember) and handler.asked:
            raise KeyboardInterrupt
        self._replaced = _replace_handler(self._ask)
        return self

    def _ask(self, number: int, frame: Any) -> None:
        self.asked = True
        self._restore()

    def _restore(self) -> None:
        if self._replaced is not None:
            signal.signal(signal.SIGINT, self._replaced)
            self._replaced = None

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if self.asked:
            raise KeyboardInterrupt

    on_test_batch_end = on_train_batch_end

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        self._restore()
        if self.asked and kind is None:
            raise KeyboardInterrupt


def _replace_handler(handler: Any) -> Any:
    """Sets the handler of SIGINT where that is Python's or ours; the one before, or None."""
    current = signal.getsignal(signal.SIGINT)
    ours = current is signal.default_int_handler or isinstance(current, RaiseAndRemember)
    if not ours or threading.current_thread() is not threading.main_thread():
        return None
    return signal.signal(signal.SIGINT, handler)
