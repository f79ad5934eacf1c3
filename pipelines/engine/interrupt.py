"""Ctrl-C while a model is fitted."""

from __future__ import annotations

import signal
import threading
from typing import Any

import keras


class StopOnInterrupt(keras.callbacks.Callback):
    """Within its context SIGINT stops training after the step at hand; a second one stops at once.

    Python's own handler raises KeyboardInterrupt wherever the program happens to be. In a
    destructor, or in Python that TensorFlow calls, that is printed and forgotten, and training
    would go on.
    """

    def __init__(self) -> None:
        super().__init__()
        self.asked = False
        self._replaced: Any = None

    def __enter__(self) -> StopOnInterrupt:
        in_main_thread = threading.current_thread() is threading.main_thread()
        if in_main_thread and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._replaced = signal.signal(signal.SIGINT, self._ask)
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
