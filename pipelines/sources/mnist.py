"""MNIST's handwritten digits: 28 × 28 pixels, grey, 60,000 for training and 10,000 for test."""

from __future__ import annotations

import math
import pathlib
from typing import Any

import numpy as np

from pipelines.engine.application import UserError
from pipelines.engine.lazy import tensorflow as tf
from pipelines.sources.catalogue import Catalogue
from pipelines.sources.files import data_path, read
from pipelines.sources.pixel_arrays import PixelArrays, Pixels

PREFIXES = {"train": "train", "validation": "train", "test": "t10k"}


class Mnist(PixelArrays):
    """The four IDX files, packed (.gz) or not; any data in that format, Fashion-MNIST among them.

    The validation split is the last 5,000 training examples (a tenth of a smaller set).

    Args:
        data_dir: the folder of the IDX files; without it the TensorFlow Datasets catalogue is used.
        download: whether the catalogue may download.
        subset: options of ``LabelledPictures``.
    """

    place = "files"
    licence = "none stated by its authors; often given as CC BY-SA 3.0"
    citation = (
        "Y. LeCun, L. Bottou, Y. Bengio, P. Haffner (1998), Gradient-based learning applied to "
        "document recognition, Proceedings of the IEEE 86(11)"
    )

    def __init__(self, *, data_dir: str | None = None, download: bool = False, **subset: Any):
        super().__init__(**subset)
        self.data_dir = data_dir
        self.download = download

    def all_examples(self, split: str) -> tf.data.Dataset:
        if self.data_dir is None:
            return Catalogue(dataset_name="mnist", download=self.download).all_examples(split)
        return super().all_examples(split)

    def pictures(self, split: str) -> Pixels:
        folder = data_path(self.data_dir, "MNIST's IDX files")
        prefix = PREFIXES[split]
        images = read_idx(_find(folder, f"{prefix}-images", "idx3-ubyte"))
        labels = read_idx(_find(folder, f"{prefix}-labels", "idx1-ubyte"))
        if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
            raise UserError(
                f"{folder}: images {images.shape} and labels {labels.shape} of {prefix} do not "
                "match; expected [examples, height, width] and [examples]"
            )
        ids = [f"{prefix}/{number:05d}" for number in range(len(labels))]
        pictures = Pixels(ids, images[..., None], [str(label) for label in labels])
        first_validation = len(ids) - min(5000, len(ids) // 10)
        parts = {"train": slice(first_validation), "validation": slice(first_validation, None)}
        return pictures[parts.get(split, slice(None))]


def _find(folder: pathlib.Path, name: str, kind: str) -> pathlib.Path:
    names = [f"{name}{dot}{kind}{packed}" for dot in "-." for packed in ("", ".gz")]
    for candidate in names:
        if (folder / candidate).is_file():
            return folder / candidate
    raise UserError(f"{folder}: there is no {' or '.join(names)}")


def read_idx(path: pathlib.Path) -> np.ndarray:
    """The array of unsigned bytes in an IDX file.

    The header is two zero bytes, the type (8: unsigned byte), the number of dimensions, then each
    dimension as a big-endian 32-bit number (http://yann.lecun.com/exdb/mnist/).

    Raises:
        UserError: for a file that is damaged, of another type, truncated or too long.
    """
    content = read(path)
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise UserError(f"{path}: is no IDX file of unsigned bytes")
    header = 4 + 4 * content[3]
    if len(content) < header:
        raise UserError(f"{path}: truncated: it ends within its header")
    shape = [int.from_bytes(content[at : at + 4], "big") for at in range(4, header, 4)]
    expected = header + math.prod(shape)
    if len(content) != expected:
        raise UserError(
            f"{path}: truncated or damaged: {len(content):,} bytes, {expected:,} for {shape}"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)
