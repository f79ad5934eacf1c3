"""Where results are kept that can be computed again: deleting them only costs time."""

from __future__ import annotations

import os
import pathlib


def cache_folder() -> pathlib.Path:
    """The zoo's part of the user's cache folder (``$XDG_CACHE_HOME``, else ``~/.cache``)."""
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    return cache / "keras-application-zoo"
