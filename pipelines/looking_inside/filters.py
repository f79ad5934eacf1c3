"""The filters of the first layer beside edge detectors that were made by hand.

J. M. S. Prewitt, "Object Enhancement and Extraction", 1970; I. Sobel, G. Feldman, 1968 (as told in
R. Duda, P. Hart, "Pattern Classification and Scene Analysis", 1973); H. Scharr, "Optimale
Operatoren in der Digitalen Bildverarbeitung", 2000; the lines and slanted edges as in R. Gonzalez,
R. Woods, "Digital Image Processing", section 10.2. For larger kernels a detector is smoothed by a
binomial filter to their size, as Sobel's own larger kernels are made.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
import scipy.signal

DETECTORS = {
    "Sobel, vertical edge": [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]],
    "Sobel, horizontal edge": [[-1, -2, -1], [0, 0, 0], [1, 2, 1]],
    "Sobel, 45° edge": [[0, 1, 2], [-1, 0, 1], [-2, -1, 0]],
    "Sobel, 135° edge": [[2, 1, 0], [1, 0, -1], [0, -1, -2]],
    "Prewitt, vertical edge": [[-1, 0, 1], [-1, 0, 1], [-1, 0, 1]],
    "Prewitt, horizontal edge": [[-1, -1, -1], [0, 0, 0], [1, 1, 1]],
    "Scharr, vertical edge": [[-3, 0, 3], [-10, 0, 10], [-3, 0, 3]],
    "Scharr, horizontal edge": [[-3, -10, -3], [0, 0, 0], [3, 10, 3]],
    "vertical line": [[-1, 2, -1], [-1, 2, -1], [-1, 2, -1]],
    "horizontal line": [[-1, -1, -1], [2, 2, 2], [-1, -1, -1]],
    "45° line": [[-1, -1, 2], [-1, 2, -1], [2, -1, -1]],
    "Laplacian, point": [[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]],
}


@dataclasses.dataclass(frozen=True)
class Match:
    """The learned filter that resembles a hand-made detector most.

    Attributes:
        detector: the detector's name.
        kernel: [rows, columns] the detector, of the filters' size.
        filter: the number of the learned filter.
        cosine: of the angle between the two; negative where dark and bright change places.
    """

    detector: str
    kernel: np.ndarray
    filter: int
    cosine: float


def first_filters(model: keras.Model) -> tuple[str, np.ndarray] | None:
    """The filters of the first layer whose filters are 3x3 pixels or more.

    Returns:
        its name and its filters [rows, columns, channels, filters]; None where there is none, or
        where it does not read the picture's own channels.
    """
    channels = model.inputs[0].shape[-1]
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D) and min(layer.kernel_size) >= 3:
            kernel = keras.ops.convert_to_numpy(layer.kernel).astype("float32")
            return (layer.name, kernel) if kernel.shape[2] == channels else None
    return None


def of_size(detector: Any, rows: int, columns: int) -> np.ndarray:
    """A 3x3 detector smoothed to a larger size; its norm is 1."""
    kernel = np.asarray(detector, float)
    smooth = np.outer(binomial(rows - 2), binomial(columns - 2))
    kernel = scipy.signal.convolve2d(kernel, smooth)
    return kernel / np.linalg.norm(kernel)


def binomial(size: int) -> np.ndarray:
    """Row ``size`` of Pascal's triangle."""
    row = np.ones(1)
    for _ in range(size - 1):
        row = np.convolve(row, [1, 1])
    return row


def matches(filters: np.ndarray) -> list[Match]:
    """For every hand-made detector the learned filter with the largest cosine, either way.

    A filter is compared as what it is on grey pictures: the sum over the channels.

    Args:
        filters: [rows, columns, channels, filters].
    """
    grey = filters.sum(axis=2)
    directions = grey / np.maximum(np.linalg.norm(grey, axis=(0, 1)), 1e-12)
    found = []
    for name, detector in DETECTORS.items():
        kernel = of_size(detector, *filters.shape[:2])
        cosines = np.tensordot(kernel, directions, axes=2)
        best = int(np.argmax(np.abs(cosines)))
        found.append(Match(name, kernel, best, float(cosines[best])))
    return found


def filtered(picture: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """A picture [height, width, channels] seen through a kernel [rows, columns(, channels)].

    As networks do it, without turning the kernel round; at the edges the picture is mirrored.
    """
    kernel = np.atleast_3d(kernel)
    planes = np.broadcast_to(picture, (*picture.shape[:2], kernel.shape[2]))
    return sum(
        scipy.signal.correlate2d(planes[..., c], kernel[..., c], mode="same", boundary="symm")
        for c in range(kernel.shape[2])
    )
