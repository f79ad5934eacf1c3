"""The user's own pictures, one folder a class.

Either ``<class>/<picture>`` or ``{train,validation,test}/<class>/<picture>``, and .tar files in
place of any folder. A split that is missing is cut off by a hash of the pictures' names.

Each picture is decoded once, before training, because inside tf.data a single bad file would take
its whole batch along. What was found is remembered by name, size and time of change in the user's
cache folder, so that the next start is quick.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import multiprocessing.pool
import os
import pathlib
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from pipelines.engine.application import UserError
from pipelines.engine.cache import cache_folder
from pipelines.engine.lazy import tensorflow as tf
from pipelines.sources.files import accept, data_path
from pipelines.sources.labelled_pictures import LabelledPictures
from pipelines.sources.splits import NAMES, complete, rank

EXTENSIONS = (".jpg", ".jpeg", ".png", ".gif", ".bmp")


@dataclasses.dataclass(frozen=True)
class Picture:
    """Where a picture's bytes are: a file, or a stretch of a tar file.

    ``name`` is the path below the data folder, a tar file counting as a folder.
    """

    name: str
    file: pathlib.Path
    offset: int
    size: int
    changed: int

    def read(self) -> bytes:
        return _read_stretch(self.file, self.offset, self.size)


class ClassFolders(LabelledPictures):
    """Pictures in folders that are named after their classes.

    Args:
        data_dir: the folder that holds the classes' folders or the splits' folders.
        strict: refuse the data if a picture is damaged, instead of leaving it out.
        subset: options of ``LabelledPictures``.
    """

    place = "files"
    licence = "the user's own"
    citation = "the user's own"

    def __init__(self, *, data_dir: str | None = None, strict: bool = False, **subset: Any):
        super().__init__(**subset)
        self.data_dir = data_dir
        self.strict = strict

    def all_examples(self, split: str) -> tf.data.Dataset:
        examples = self._examples[split]
        if not examples:
            raise UserError(f"{self.data_dir}: too few pictures: none is left for {split!r}")
        # Mixed, so that the first few examples are of several classes.
        examples = sorted(examples, key=lambda example: rank(example[0].name))
        pictures = [picture for picture, _ in examples]
        columns = {
            "id": [picture.name for picture in pictures],
            "label": [label for _, label in examples],
        }
        return read_pictures(pictures, columns)

    @functools.cached_property
    def _examples(self) -> dict[str, list[tuple[Picture, str]]]:
        folder = data_path(self.data_dir, "pictures in one folder a class")
        found = sorted(find_pictures(folder), key=lambda picture: picture.name)
        if not found:
            raise UserError(f"{folder}: there is no picture ({', '.join(EXTENSIONS)}) in it")
        damage = find_damage(folder, found)
        bad = [f"{name}: {reason}" for name, reason in damage.items()]
        self.skipped = accept(bad, self.strict)
        sound = [picture for picture in found if picture.name not in damage]
        if not sound:
            raise UserError(f"{folder}: none of its {len(found)} pictures can be decoded: {bad[0]}")
        official, labels = zip(*_places([picture.name for picture in sound]), strict=True)
        if len(set(labels)) < 2:
            raise UserError(f"{folder}: there is only one class, {labels[0]!r}; expected several")
        names = [picture.name for picture in sound]
        examples = {split: [] for split in self.splits}
        parts = complete(official, names, strata=labels)
        for picture, label, split in zip(sound, labels, parts, strict=True):
            examples[split].append((picture, label))
        return examples


def find_pictures(folder: pathlib.Path) -> Iterator[Picture]:
    """Every picture below ``folder``, hidden files left out."""
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for file in (pathlib.Path(parent, name) for name in files if not name.startswith(".")):
            status = file.stat() if file.exists() else file.lstat()  # a link to nowhere is damaged
            name = file.relative_to(folder)
            if file.suffix == ".tar":
                yield from _members(file, name.with_suffix(""), status.st_mtime_ns)
            elif file.suffix.lower() in EXTENSIONS:
                yield Picture(name.as_posix(), file, 0, status.st_size, status.st_mtime_ns)


def _members(file: pathlib.Path, name: pathlib.Path, changed: int) -> Iterator[Picture]:
    try:
        with tarfile.open(file, "r:") as archive:
            for member in archive:
                path = pathlib.PurePosixPath(member.name)
                if member.isfile() and path.suffix.lower() in EXTENSIONS and path.name[0] != ".":
                    where = (name / path).as_posix()
                    yield Picture(where, file, member.offset_data, member.size, changed)
    except (tarfile.TarError, OSError) as error:
        raise UserError(f"{file}: is no tar file, or is truncated ({error})") from error


def _places(names: Sequence[str]) -> list[tuple[str | None, str]]:
    """The official split (or None) and the class of each picture.

    The class is the folder after the one that is named after a split; without such, the first
    folder in which the pictures differ.
    """
    folders = [pathlib.PurePosixPath(name).parent.parts for name in names]
    splits = [_split_level(parts) for parts in folders]
    loose = [parts for parts, level in zip(folders, splits, strict=True) if level is None]
    shared = len(os.path.commonprefix(loose)) if loose else 0
    places = []
    for parts, level in zip(folders, splits, strict=True):
        if level is not None:
            places.append((NAMES[parts[level].lower()], parts[level + 1]))
        elif parts:
            places.append((None, parts[min(shared, len(parts) - 1)]))
        else:
            places.append((None, "."))
    return places


def _split_level(parts: Sequence[str]) -> int | None:
    levels = (level for level, part in enumerate(parts[:-1]) if part.lower() in NAMES)
    return next(levels, None)


def find_damage(folder: pathlib.Path, pictures: Sequence[Picture]) -> dict[str, str]:
    """Why each damaged picture cannot be decoded, by name.

    Only pictures that are new or changed since the last time are decoded.
    """
    index = _index_file(folder)
    try:
        known = json.loads(index.read_text())
    except (OSError, ValueError):
        known = {}
    marks = [[picture.size, picture.changed, picture.offset] for picture in pictures]
    entries = {
        picture.name: known[picture.name]
        for picture, mark in zip(pictures, marks, strict=True)
        if known.get(picture.name, [None])[0] == mark
    }
    new = [(p, mark) for p, mark in zip(pictures, marks, strict=True) if p.name not in entries]
    if new:
        with multiprocessing.pool.ThreadPool() as pool:
            reasons = pool.map(_damage, [picture for picture, _ in new], chunksize=32)
        for (picture, mark), reason in zip(new, reasons, strict=True):
            entries[picture.name] = [mark, reason]
        _write(index, json.dumps(entries))
    return {name: reason for name, (_, reason) in sorted(entries.items()) if reason}


def _damage(picture: Picture) -> str:
    """Why TensorFlow cannot decode the picture, in a few words; empty if it can."""
    try:
        with tf.device("CPU"):
            tf.io.decode_image(picture.read(), expand_animations=False)
    except (tf.errors.OpError, OSError) as error:
        return str(error).split("[Op:")[0].split("{{")[0].strip() or "cannot be decoded"
    return ""


def _index_file(folder: pathlib.Path) -> pathlib.Path:
    key = hashlib.sha256(str(folder.resolve()).encode("utf-8", "surrogateescape")).hexdigest()
    return cache_folder() / f"pictures-{key[:16]}.json"


def _write(index: pathlib.Path, content: str) -> None:
    """Writes the index; a cache folder that cannot be written only costs time at the next start."""
    beside = index.with_suffix(f".{os.getpid()}")
    try:
        index.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(content)
        beside.replace(index)
    except OSError:
        beside.unlink(missing_ok=True)


def read_pictures(
    pictures: Sequence[Picture], columns: Mapping[str, Sequence[str]]
) -> tf.data.Dataset:
    """Examples with the bytes of each picture as ``image``, beside the other columns."""
    where = {
        "file": [str(picture.file) for picture in pictures],
        "offset": [picture.offset for picture in pictures],
        "size": [picture.size for picture in pictures],
    }

    def read(rows: dict, where: dict) -> dict:
        stretches = [where["file"], where["offset"], where["size"]]
        image = tf.numpy_function(_read_stretches, stretches, tf.string, stateful=False)
        return rows | {"image": tf.ensure_shape(image, (None,))}

    rows = tf.data.Dataset.from_tensor_slices((dict(columns), where)).batch(64)
    return rows.map(read, num_parallel_calls=tf.data.AUTOTUNE).unbatch()


def _read_stretches(files: np.ndarray, offsets: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    # An array of objects, since NumPy's own strings lose the zero bytes at their end.
    return np.array(
        [_read_stretch(*where) for where in zip(files, offsets, sizes, strict=True)], object
    )


def _read_stretch(file: str | bytes | pathlib.Path, offset: int, size: int) -> bytes:
    with open(file, "rb") as stream:
        stream.seek(offset)
        return stream.read(size)
