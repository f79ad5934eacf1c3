"""The user's own pictures with tags: a folder of pictures, and a table of what is on each.

The table is the one .csv or .tsv file of the folder. It has a row for each picture, by its path
below the folder, and a column for each tag: 1, yes or true where the picture shows it; 0, -1, no or
false where it does not; nothing where nobody said. A column ``split`` is no tag: it puts a picture
into validation or test, else it is in training. What of these is missing is cut off the rest by a
hash of the paths.
"""

from __future__ import annotations

import functools
import pathlib

from pipelines.engine.application import UserError, choose
from pipelines.engine.lazy import tensorflow as tf
from pipelines.sources.class_folders import find_damage, find_pictures, read_pictures
from pipelines.sources.csv_files import Rows, find_tables
from pipelines.sources.files import accept, data_path
from pipelines.sources.source import Source
from pipelines.sources.splits import NAMES, complete, rank

SAID = {
    **dict.fromkeys((b"1", b"yes", b"true"), True),
    **dict.fromkeys((b"0", b"-1", b"no", b"false"), False),
    b"": None,
}
SPLIT = "split"


class TaggedPictures(Source):
    """Pictures with the tags that a table tells of them.

    Args:
        data_dir: the folder of the pictures and the table.
        picture: the column that holds the paths of the pictures; by default the first.
        strict: refuse the data if a picture or a row is damaged, instead of leaving it out.
    """

    place = "files"
    licence = "the user's own"
    citation = "the user's own"

    def __init__(
        self, *, data_dir: str | None = None, picture: str | None = None, strict: bool = False
    ):
        self.data_dir = data_dir
        self.picture = picture
        self.strict = strict

    @property
    def fields(self) -> dict[str, tf.TensorSpec]:
        return {n: tf.TensorSpec((), tf.string) for n in ("id", "image", "present", "absent")}

    def load(self, split: str) -> tf.data.Dataset:
        examples = self._examples[choose("split", split, self.splits)]
        if not examples:
            raise UserError(f"{self.data_dir}: too few pictures: none is left for {split!r}")
        pictures, said = zip(*examples, strict=True)

        def listed(value: bool) -> list[str]:
            return ["\n".join(tag for tag in tags if tags[tag] is value) for tags in said]

        columns = {"present": listed(True), "absent": listed(False)}
        return read_pictures(pictures, {"id": [p.name for p in pictures], **columns})

    @functools.cached_property
    def _examples(self) -> dict[str, list[tuple]]:
        """By split: a ``Picture``, and what is said of each tag."""
        folder = data_path(self.data_dir, "pictures and a table of their tags")
        tables = find_tables(folder)
        if len(tables) > 1:
            raise UserError(f"{folder}: which table? there is {', '.join(t.name for t in tables)}")
        said, official, bad = self._read_table(tables[0])
        found = sorted(find_pictures(folder), key=lambda picture: picture.name)
        damage = find_damage(folder, found)
        bad += [f"{name}: {reason}" for name, reason in damage.items()]
        sound = {picture.name: picture for picture in found if picture.name not in damage}
        bad += [f"{name}: there is no such picture" for name in said if name not in sound]
        self.skipped = accept(bad, self.strict)
        names = sorted(set(said) & set(sound), key=rank)
        if not names:
            raise UserError(f"{tables[0]}: tells of no picture that is there; {'; '.join(bad[:3])}")
        examples = {split: [] for split in self.splits}
        parts = complete([official[name] for name in names], names)
        for name, split in zip(names, parts, strict=True):
            examples[split].append((sound[name], said[name]))
        return examples

    def _read_table(
        self, table: pathlib.Path
    ) -> tuple[dict[str, dict[str, bool | None]], dict[str, str], list[str]]:
        """What is said of each picture's tags, its official split, and what is wrong with rows."""
        rows = Rows([table], separator=None)
        picture = choose("column", self.picture or rows.header[0], rows.header)
        tags = [cell for cell in rows.header if cell not in ("", picture, SPLIT)]
        if not tags:
            raise UserError(f"{table}: has no column besides {picture}, so there is no tag")
        rows.read({cell: cell for cell in rows.header if cell})
        if not rows.digests:
            raise UserError(f"{table}: has no usable row; {'; '.join(rows.skipped[:3])}")
        names = [name.decode() for name in rows.column(picture)]
        columns = {tag: [value.lower() for value in rows.column(tag).tolist()] for tag in tags}
        splits = rows.column(SPLIT).tolist() if SPLIT in rows.header else [b""] * len(names)
        said, official, bad = {}, {}, list(rows.skipped)
        for row, name in enumerate(names):
            values = {tag: columns[tag][row] for tag in tags}
            unread = [
                f"{tag} is {value.decode()!r}" for tag, value in values.items() if value not in SAID
            ]
            split = splits[row].decode().lower()
            if split and split not in NAMES:
                unread.append(f"{SPLIT} is {split!r}")
            if unread or name in said:
                bad.append(f"{name}: {unread[0] if unread else 'has two rows'}")
                continue
            said[name] = {tag: SAID[value] for tag, value in values.items()}
            official[name] = NAMES.get(split, "train")
        return said, official, bad
