"""The user's own plain text: .txt files, packed (.gz) or not, alone or in a folder."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Literal

from pipelines.engine.application import UserError
from pipelines.sources.files import accept, data_path, decode, read_lines
from pipelines.sources.splits import SPLITS, complete, split_in_name
from pipelines.sources.string_rows import StringRows

MANY_FILES = 20
BLOCKS = 100


class TextFiles(StringRows):
    """Paragraphs or lines of text.

    Files whose names say train, valid or test make up these splits. Else whole files are cut where
    there are at least 20; in fewer, stretches of a hundredth of a file, so that neighbouring
    paragraphs mostly stay together.

    Args:
        data_dir: a .txt or .txt.gz file, or a folder that holds some, at any depth.
        unit: one example is a paragraph (up to an empty line) or a line.
        strict: refuse the text if a line of it is damaged, instead of leaving it out.
    """

    place = "files"
    licence = "the user's own"
    citation = "the user's own"
    columns = ("id", "text", "group")

    def __init__(
        self,
        *,
        data_dir: str | None = None,
        unit: Literal["paragraph", "line"] = "paragraph",
        strict: bool = False,
    ):
        self.data_dir = data_dir
        self.unit = unit
        self.strict = strict

    def rows(self, split: str) -> list[tuple[str, ...]]:
        return self._rows[split]

    @functools.cached_property
    def _rows(self) -> dict[str, list[tuple[str, ...]]]:
        path = data_path(self.data_dir, "text files (*.txt, *.txt.gz)")
        files = (
            [path] if path.is_file() else sorted([*path.rglob("*.txt"), *path.rglob("*.txt.gz")])
        )
        rows, official, skipped = [], [], []
        for file in files:
            name = file.name if file == path else file.relative_to(path).as_posix()
            lines = [decode(line) for line in read_lines(file)]
            skipped += [
                f"{file}, line {n}: is not UTF-8" for n, text in enumerate(lines, 1) if text is None
            ]
            units = list(self._units(lines))
            for number, (line, text) in enumerate(units):
                block = "" if len(files) >= MANY_FILES else f"#{number * BLOCKS // len(units):02d}"
                rows.append((f"{name}:{line}", text, name + block))
            official += [split_in_name(file.name.split(".")[0])] * len(units)
        self.skipped = accept(skipped, self.strict)
        if not rows:
            raise UserError(f"{path}: there is no text in it (*.txt, *.txt.gz, UTF-8)")
        by_split = {split: [] for split in SPLITS}
        parts = complete(official, [group for *_, group in rows])
        for row, split in zip(rows, parts, strict=True):
            by_split[split].append(row)
        return by_split

    def _units(self, lines: list[str | None]) -> Iterator[tuple[int, str]]:
        """The text of each paragraph or line, and the number of the line where it starts."""
        start, pending = 0, []
        for number, line in enumerate([*lines, ""], start=1):
            if line is None:
                continue
            if line.strip():
                start = start if pending else number
                pending.append(line.rstrip())
            if pending and (self.unit == "line" or not line.strip()):
                yield start, "\n".join(pending)
                pending = []
