"""Memory for large requests: kept by the process instead of fetched from the kernel every time.

The GNU C library gives large blocks back as soon as they are free, and the kernel clears every page
of the next ones. A tensor of 10 MB passes through half a dozen such blocks (message, contents,
output, answer …), and to map and to clear them took five times as long as all the rest of the
request.
"""

from __future__ import annotations

import ctypes

# Their numbers in malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3

_LARGEST_ON_HEAP = 32 * 2**20  # bytes; the most that the library accepts
_MOST_KEPT = 128 * 2**20  # bytes at the end of a heap


def keep_freed_memory() -> None:
    """Takes effect for this process from now on; without the GNU C library nothing happens."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_ON_HEAP)
        mallopt(_M_TRIM_THRESHOLD, _MOST_KEPT)
