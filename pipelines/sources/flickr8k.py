"""Photographs with several captions each, in the files of Flickr8k.

The captions are lines of ``<picture>#<number><tab><caption>`` in a file named ``*token*.txt``, as
in ``Flickr8k.token.txt``. The pictures lie anywhere below the folder, in .tar files too. Where
there are lists such as ``Flickr_8k.trainImages.txt``, ``…devImages.txt`` and ``…testImages.txt``,
they are the splits; what they lack is cut off by a hash of the pictures' names.
"""

from __future__ import annotations

import functools
import pathlib
import re
from collections import defaultdict

from pipelines.engine.application import UserError, choose
from pipelines.engine.lazy import tensorflow as tf
from pipelines.sources.class_folders import Picture, find_damage, find_pictures, read_pictures
from pipelines.sources.files import accept, data_path, decode, read_lines
from pipelines.sources.source import Source
from pipelines.sources.splits import NAMES, complete, rank

CAPTION = re.compile(r"(?P<picture>[^\t]+)#\d+\t(?P<caption>.*\S.*)")
LIST = re.compile(r".*?(?P<split>train|dev|val|test)Images\.txt")


class Flickr8k(Source):
    """One example a picture, with all its captions; a picture belongs to one split.

    Args:
        data_dir: the folder of pictures and captions.
        strict: refuse the data if a picture or a line is damaged, instead of leaving it out.
    """

    place = "files"
    licence = "the photographs belong to their authors on Flickr: non-commercial research"
    citation = (
        "M. Hodosh, P. Young, J. Hockenmaier (2013), Framing Image Description as a Ranking Task, "
        "Journal of Artificial Intelligence Research 47"
    )

    def __init__(self, *, data_dir: str | None = None, strict: bool = False):
        self.data_dir = data_dir
        self.strict = strict

    @property
    def fields(self) -> dict[str, tf.TensorSpec]:
        names = ("id", "image", "captions", "group")
        return {name: tf.TensorSpec((), tf.string) for name in names}

    def load(self, split: str) -> tf.data.Dataset:
        examples = self._examples[choose("split", split, self.splits)]
        if not examples:
            raise UserError(f"{self.data_dir}: too few pictures: none is left for {split!r}")
        pictures, captions = zip(*examples, strict=True)
        names = [_file_name(picture) for picture in pictures]
        return read_pictures(
            pictures, {"id": names, "captions": ["\n".join(c) for c in captions], "group": names}
        )

    @functools.cached_property
    def _examples(self) -> dict[str, list[tuple[Picture, list[str]]]]:
        folder = data_path(self.data_dir, "photographs and their captions, Flickr8k.token.txt")
        captions, bad = _read_captions(folder)
        found = sorted(find_pictures(folder), key=lambda picture: picture.name)
        damage = find_damage(folder, found)
        bad += [f"{name}: {reason}" for name, reason in damage.items()]
        sound = {_file_name(p): p for p in found if p.name not in damage}
        bad += [f"{name}: there is no such picture" for name in captions if name not in sound]
        self.skipped = accept(bad, self.strict)
        names = sorted(set(captions) & set(sound), key=rank)
        if not names:
            raise UserError(f"{folder}: there are captions, but none of a picture that is there")
        listed = _read_lists(folder)
        parts = complete([listed.get(name) for name in names], names)
        examples = {split: [] for split in self.splits}
        for name, split in zip(names, parts, strict=True):
            if split in examples:
                examples[split].append((sound[name], captions[name]))
        return examples


def _file_name(picture: Picture) -> str:
    return pathlib.PurePosixPath(picture.name).name


def _read_captions(folder: pathlib.Path) -> tuple[dict[str, list[str]], list[str]]:
    """The captions of each picture, by its file name, and what is wrong with lines left out."""
    files = sorted(file for file in folder.rglob("*token*.txt") if "lemma" not in file.name)
    if not files:
        raise UserError(f"{folder}: there is no file of captions, such as Flickr8k.token.txt")
    captions, bad = defaultdict(list), []
    for file in files:
        for number, line in enumerate(read_lines(file), 1):
            found = CAPTION.fullmatch(decode(line) or "")
            if found:
                captions[found["picture"]].append(" ".join(found["caption"].split()))
            else:
                bad.append(f"{file}, line {number}: is no picture#number, tab, caption")
    return dict(captions), bad


def _read_lists(folder: pathlib.Path) -> dict[str, str]:
    """The official split of each picture, by its file name."""
    return {
        name.decode("utf-8", "replace").strip(): NAMES[found["split"]]
        for file in sorted(folder.rglob("*Images.txt"))
        if (found := LIST.fullmatch(file.name))
        for name in read_lines(file)
    }
