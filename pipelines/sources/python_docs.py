"""Python's own documentation of the language: a real text in every installation of Python.

The topics of ``help()`` (``pydoc_data.topics``), about 41,000 words of prose, without their code,
grammar, tables and headings.
"""

from __future__ import annotations

import functools
import re

from pipelines.sources.splits import SPLITS, complete
from pipelines.sources.string_rows import StringRows

LIST_MARK = re.compile(r"^(\*|\d+\.|\[\d+\]) +")


class PythonDocs(StringRows):
    """One example a paragraph; whole topics are training, validation or test.

    A paragraph that several topics share counts once, for the first of them.
    """

    place = "built in"
    licence = "Python Software Foundation License Version 2"
    citation = "Python Software Foundation, The Python Language Reference, https://docs.python.org"
    columns = ("id", "text", "group")

    def rows(self, split: str) -> list[tuple[str, ...]]:
        return self._rows[split]

    @functools.cached_property
    def _rows(self) -> dict[str, list[tuple[str, ...]]]:
        from pydoc_data.topics import topics

        first_topic: dict[str, str] = {}
        for topic in sorted(topics):
            for paragraph in prose(topics[topic]):
                first_topic.setdefault(paragraph, topic)
        by_split = {split: [] for split in SPLITS}
        parts = complete([None] * len(first_topic), list(first_topic.values()))
        for number, (text, topic) in enumerate(first_topic.items()):
            by_split[parts[number]].append((f"{topic}/{number:05d}", text, topic))
        return by_split


def prose(text: str) -> list[str]:
    """The paragraphs of running text of a topic, each on one line."""
    paragraphs = []
    for block in re.split(r"\n\s*\n", text):
        lines = [LIST_MARK.sub("", line.strip()) for line in block.strip("\n").split("\n")]
        if _is_prose(lines):
            paragraphs.append(" ".join(lines))
    return paragraphs


def _is_prose(lines: list[str]) -> bool:
    """Prose is several words with a stop at the end; code, grammar and tables are symbols."""
    text = " ".join(lines)
    words = len(re.findall(r"[A-Za-z]{2,}", text))
    symbols = len(re.findall(r"[=<>+~^\\]", text))
    ruled = any(re.fullmatch(r"[-*=+|~^\" ]{4,}", line) for line in lines)
    stops = re.match(r'[A-Z"(*]', text) and re.search(r'[.:;?!)"*]$', text)
    code = "::=" in text or ">>>" in text or symbols * 12 > words
    return bool(stops) and words > 3 and not ruled and not code
