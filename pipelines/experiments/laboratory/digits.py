"""The built-in digits as rows of numbers."""

from __future__ import annotations

import numpy as np

from pipelines.sources.digits import Digits


def digits(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Shades [examples, 64] from 0 to 1, ink bright, and digits [examples] of a split."""
    pictures = Digits().pictures(split)
    shades = pictures.pixels.reshape(len(pictures.labels), -1) / 255
    return shades, np.array(pictures.labels, int)
