"""CIFAR-10: 32 × 32 colour photographs of ten classes, 50,000 for training and 10,000 for test.

Read from the authors' own files, "binary version" or "python version", or from class folders.
"""

from __future__ import annotations

import codecs
import functools
import io
import pathlib
import pickle
from typing import Any

import numpy as np

from pipelines.engine.application import UserError
from pipelines.engine.lazy import tensorflow as tf
from pipelines.sources.class_folders import ClassFolders
from pipelines.sources.files import data_path, read
from pipelines.sources.pixel_arrays import PixelArrays, Pixels

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
PLANES = (3, 32, 32)
RECORD = 1 + 3 * 32 * 32
FOLDERS = (".", "cifar-10-batches-bin", "cifar-10-batches-py")


class Cifar(PixelArrays):
    """The official batches in ``data_dir`` or in the folder that the archive makes there.

    Five of six parts are for training, of which the last tenth is the validation split, as in He
    et al. (2015), https://arxiv.org/abs/1512.03385, section 4.2. A folder of class folders or tar
    files is read as such, with the splits that it has.

    Args:
        data_dir: the folder of the data.
        strict: refuse class folders if a picture is damaged, instead of leaving it out.
        subset: options of ``LabelledPictures``.
    """

    place = "files"
    licence = "none stated by its authors"
    citation = "A. Krizhevsky (2009), Learning Multiple Layers of Features from Tiny Images"

    def __init__(self, *, data_dir: str | None = None, strict: bool = False, **subset: Any):
        super().__init__(**subset)
        self.data_dir = data_dir
        self.strict = strict

    def all_examples(self, split: str) -> tf.data.Dataset:
        if self._batches:
            return super().all_examples(split)
        dataset = self._folders.all_examples(split)
        self.skipped = self._folders.skipped
        return dataset

    @functools.cached_property
    def _folders(self) -> ClassFolders:
        return ClassFolders(data_dir=self.data_dir, strict=self.strict)

    @functools.cached_property
    def _batches(self) -> dict[str, pathlib.Path]:
        """The files of the official batches by name, or none."""
        folder = data_path(self.data_dir, "CIFAR-10's batches, or class folders")
        for place in FOLDERS:
            files = sorted((folder / place).glob("*_batch*"))
            batches = {file.stem: file for file in files if file.suffix in ("", ".bin")}
            if batches:
                return batches
        return {}

    def pictures(self, split: str) -> Pixels:
        names = [name for name in self._batches if name.startswith("data_batch")]
        wanted = ["test_batch"] if split == "test" else names
        if not wanted or not set(wanted) <= set(self._batches):
            raise UserError(
                f"{self.data_dir}: of CIFAR-10 there is only {', '.join(self._batches)}"
            )
        parts = [_read_batch(self._batches[name]) for name in wanted]
        ids = [
            f"{name}/{row:05d}"
            for name, (labels, _) in zip(wanted, parts, strict=True)
            for row in range(len(labels))
        ]
        labels = [CLASSES[label] for labels, _ in parts for label in labels]
        pixels = np.concatenate([pixels for _, pixels in parts]).transpose(0, 2, 3, 1)
        first_validation = len(ids) - len(ids) // 10
        rows = {"train": slice(first_validation), "validation": slice(first_validation, None)}
        return Pixels(ids, pixels, labels)[rows.get(split, slice(None))]


def _read_batch(file: pathlib.Path) -> tuple[list[int], np.ndarray]:
    """Labels and pixels [examples, channel, row, column] of one official batch."""
    labels, pixels = (_read_binary if file.suffix == ".bin" else _read_pickle)(file)
    if len(labels) != len(pixels) or not all(0 <= label < len(CLASSES) for label in labels):
        raise UserError(f"{file}: is no batch of CIFAR-10: labels out of range or missing")
    return labels, pixels.reshape(-1, *PLANES)


def _read_binary(file: pathlib.Path) -> tuple[list[int], np.ndarray]:
    content = np.frombuffer(read(file), np.uint8)
    if not len(content) or len(content) % RECORD:
        raise UserError(
            f"{file}: truncated: {len(content):,} bytes is no multiple of {RECORD:,}, one picture"
        )
    rows = content.reshape(-1, RECORD)
    return rows[:, 0].tolist(), rows[:, 1:]


def _read_pickle(file: pathlib.Path) -> tuple[list[int], np.ndarray]:
    try:
        batch = _Unpickler(io.BytesIO(read(file)), encoding="bytes").load()
        labels, pixels = list(batch[b"labels"]), np.asarray(batch[b"data"], np.uint8)
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{file}: is no batch of CIFAR-10, or is damaged ({error})") from error
    if pixels.ndim != 2 or pixels.shape[1] != RECORD - 1:
        raise UserError(f"{file}: pixels of shape {pixels.shape}, expected [pictures, 3072]")
    return labels, pixels


class _Unpickler(pickle.Unpickler):
    """Loads NumPy arrays and plain values only: a pickle can otherwise run any program."""

    def find_class(self, module: str, name: str):
        allowed = {
            ("numpy", "_reconstruct"): np.zeros(0).__reduce__()[0],
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            ("_codecs", "encode"): codecs.encode,
        }
        if found := allowed.get((module.partition(".")[0], name)):
            return found
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")
