"""Parallel text: files of one sentence a line, each line the translation of the same line beside.

A file is named ``<part>.<language>`` or ``<part>.<language>.gz``, as in ``train.en`` and
``train.de``, ``val.en.gz``, ``test_2016_flickr.en.gz``; where no part of the name says training,
validation or test, the file counts as training. A split that is missing is cut off the training
part by a hash of the source sentence.
"""

from __future__ import annotations

import functools
import logging
import pathlib
import re
from collections import defaultdict

from pipelines.engine.application import UserError, choose
from pipelines.sources.files import accept, data_path, decode, read_lines
from pipelines.sources.splits import SPLITS, complete, split_in_name
from pipelines.sources.string_rows import StringRows

FILE_NAME = re.compile(r"(?P<part>.+)\.(?P<language>[a-z]{2,3}([-_][A-Za-z]{2,4})?)")

log = logging.getLogger(__name__)


class ParallelText(StringRows):
    """Sentences in two languages.

    Args:
        data_dir: the folder of the files.
        source_language: what to translate from, as the files' names give it; needed if there are
            more than two languages, else the first of the alphabet.
        target_language: what to translate into.
        strict: refuse the data if a row is damaged, instead of leaving it out.
    """

    place = "files"
    licence = "the user's own"
    citation = "the user's own"
    columns = ("id", "source", "target", "group")

    def __init__(
        self,
        *,
        data_dir: str | None = None,
        source_language: str | None = None,
        target_language: str | None = None,
        strict: bool = False,
    ):
        self.data_dir = data_dir
        self.source_language = source_language
        self.target_language = target_language
        self.strict = strict

    def rows(self, split: str) -> list[tuple[str, ...]]:
        return self._rows[split]

    @functools.cached_property
    def _rows(self) -> dict[str, list[tuple[str, ...]]]:
        folder = data_path(self.data_dir, "parallel text, such as train.en and train.de")
        files = _find(folder)
        source, target = self._languages(folder, files)
        rows, official, skipped = [], [], []
        for part in sorted(files):
            if source in files[part] and target in files[part]:
                good, bad = _read_pair(files[part][source], files[part][target])
                rows += [(f"{part}/{line:06d}", *pair, pair[0]) for line, *pair in good]
                official += [split_in_name(part) or "train"] * len(good)
                skipped += bad
        self.skipped = accept(skipped, self.strict)
        if not rows:
            raise UserError(f"{folder}: no file has a usable row both in {source} and in {target}")
        by_split = {split: [] for split in SPLITS}
        parts = complete(official, [group for *_, group in rows])
        for row, split in zip(rows, parts, strict=True):
            by_split[split].append(row)
        _report_overlap(by_split)
        return by_split

    def _languages(self, folder: pathlib.Path, files: dict[str, dict]) -> tuple[str, str]:
        present = sorted({language for languages in files.values() for language in languages})
        given = [name for name in (self.source_language, self.target_language) if name]
        for name in given:
            choose(f"language in {folder}", name, present)
        if len(given) == 2 and given[0] != given[1]:
            return given[0], given[1]
        if len(present) != 2 or len(given) == 2:
            raise UserError(
                f"{folder}: text in {len(present)} languages ({', '.join(present)}); choose two of "
                "them with --source.source_language and --source.target_language"
            )
        first, second = present
        swapped = self.source_language == second or self.target_language == first
        return (second, first) if swapped else (first, second)


def _find(folder: pathlib.Path) -> dict[str, dict[str, pathlib.Path]]:
    """The text files by part and language."""
    files: dict[str, dict[str, pathlib.Path]] = defaultdict(dict)
    for path in sorted(folder.iterdir()):
        if path.is_file() and (name := FILE_NAME.fullmatch(path.name.removesuffix(".gz"))):
            files[name["part"]][name["language"]] = path
    if not files:
        raise UserError(f"{folder}: no text file is named like train.en or train.en.gz")
    return files


def _read_pair(
    source: pathlib.Path, target: pathlib.Path
) -> tuple[list[tuple[int, str, str]], list[str]]:
    """Rows (line number, source, target), and what is wrong with the lines left out."""
    sides = [read_lines(source), read_lines(target)]
    if len(sides[0]) != len(sides[1]):
        raise UserError(
            f"{source} has {len(sides[0]):,} lines, {target} has {len(sides[1]):,}: parallel files "
            "need equally many"
        )
    good, bad = [], []
    for number, pair in enumerate(zip(*sides, strict=True), start=1):
        texts = [decode(line) for line in pair]
        if damage := _damage(texts):
            side, reason = damage
            bad.append(f"{(source, target)[side]}, line {number}: {reason}")
        else:
            good.append((number, *(text.strip() for text in texts)))
    return good, bad


def _damage(texts: list[str | None]) -> tuple[int, str] | None:
    """Which side of a row is broken, and how."""
    for side, text in enumerate(texts):
        if text is None:
            return side, "is not UTF-8"
        if not text.strip():
            return side, "is empty"
    return None


def _report_overlap(by_split: dict[str, list[tuple[str, ...]]]) -> None:
    """Says how many sentences of the official held-out parts were trained on; they are kept."""
    trained = {group for *_, group in by_split["train"]}
    for split in SPLITS[1:]:
        seen = sum(group in trained for *_, group in by_split[split])
        if seen:
            counts = f"{seen:,} of {len(by_split[split]):,} source sentences of {split}"
            log.warning("%s also occur in train; the official splits are kept", counts)
