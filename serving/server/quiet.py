"""Silence while TensorFlow is imported: it writes several lines that no setting suppresses."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def standard_error_held_back() -> Iterator[None]:
    """Holds back what this process writes to standard error; shows it if the block fails."""
    with tempfile.TemporaryFile() as held, open(os.dup(2), "wb") as shown:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            shown.write(held.read())
            raise
        finally:
            os.dup2(shown.fileno(), 2)
