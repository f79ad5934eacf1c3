"""Handwritten digits: 1,797 real scans, 8 × 8 pixels, that come with scikit-learn.

They are the test part of UCI's "Optical Recognition of Handwritten Digits", by 13 writers whose
names are not recorded, so that the splits cannot be made by writer.
"""

from __future__ import annotations

import numpy as np

from pipelines.sources.pixel_arrays import PixelArrays, Pixels
from pipelines.sources.splits import complete

BLUR = 1.0  # standard deviation, in pixels of a scan


class Digits(PixelArrays):
    """The scans in grey, ink bright; 60 % training, 20 % validation and 20 % test of each digit."""

    place = "built in"
    licence = "CC BY 4.0 (UCI Machine Learning Repository)"
    citation = (
        "E. Alpaydin, C. Kaynak (1998), Optical Recognition of Handwritten Digits, UCI Machine "
        "Learning Repository, https://doi.org/10.24432/C50P49"
    )

    def pictures(self, split: str) -> Pixels:
        from sklearn.datasets import load_digits

        scans = load_digits()
        ids = [f"digits/{number:04d}" for number in range(len(scans.target))]
        labels = [str(digit) for digit in scans.target]
        shades = np.rint(self.seen(scans.images) * (255 / 16)).astype(np.uint8)[..., None]
        splits = complete([None] * len(ids), ids, strata=labels, held_out=0.2)
        return Pixels(ids, shades, labels)[[i for i, name in enumerate(splits) if name == split]]

    def seen(self, scans: np.ndarray) -> np.ndarray:
        """float [scans, 8, 8] from 0 to 16 as the camera shows them: here as they are."""
        return scans


class BlurredDigits(Digits):
    """The same scans in the same splits, out of focus: what a worse camera would have made.

    A dev set of another distribution than the training set (``--dev_source digits_blurred``).
    """

    def seen(self, scans: np.ndarray) -> np.ndarray:
        from scipy.ndimage import gaussian_filter

        return gaussian_filter(scans, sigma=(0, BLUR, BLUR), mode="constant")
