"""From text to the numbers of its words, most frequent word first, without padding or unknowns.

A word is a run of letters, marks, digits and underscores, with apostrophes inside it ("don't",
straight or curly).
Words outside the vocabulary are taken out, so that their neighbours become neighbours of each
other, as in the word2vec program.
"""

from __future__ import annotations

import collections
import json
import pathlib
from typing import ClassVar

import numpy as np

from pipelines.engine.application import UserError
from pipelines.engine.lazy import tensorflow as tf
from pipelines.preprocess.preprocessor import Preprocessor

BETWEEN_WORDS = r"[^\p{L}\p{M}\p{N}_']+|\B'|'\B"
UNKNOWN = -1
VOCABULARY_FILE = "vocabulary.json"


class WordPreprocessor(Preprocessor):
    """Splits texts into words and numbers them.

    Args:
        minimum_count: how often a word must occur in the training texts to be in the vocabulary.
        maximum_vocabulary: largest number of words, the most frequent ones; none: no limit.
        lower_case: whether "Tuple" and "tuple" are one word.

    Attributes:
        words: the vocabulary, the most frequent word first; a word's place is its number.
        counts: [vocabulary size] int64, how often each occurs in the training texts.
    """

    supplies: ClassVar[tuple[str, ...]] = ("vocabulary_size",)

    def __init__(
        self,
        *,
        minimum_count: int = 5,
        maximum_vocabulary: int | None = None,
        lower_case: bool = True,
    ) -> None:
        self.minimum_count = minimum_count
        self.maximum_vocabulary = maximum_vocabulary
        self.lower_case = lower_case

    def fit(self, dataset: tf.data.Dataset) -> None:
        """Counts the words of the training texts.

        Raises:
            UserError: if fewer than two words are frequent enough.
        """
        total = collections.Counter()
        for batch in dataset.map(self._count):
            words, counts = (column.numpy() for column in batch)
            total.update(dict(zip(words.tolist(), counts.tolist(), strict=True)))
        frequent = [(word, n) for word, n in total.items() if n >= self.minimum_count]
        frequent.sort(key=lambda entry: (-entry[1], entry[0]))
        frequent = frequent[: self.maximum_vocabulary]
        if len(frequent) < 2:
            raise UserError(
                f"{len(frequent)} of {len(total)} words occur {self.minimum_count} times or more in"
                " the training texts and two are needed: give more text or a smaller"
                " --preprocess.minimum_count"
            )
        self._hold([word.decode() for word, _ in frequent], [count for _, count in frequent])

    def _count(self, batch: dict) -> tuple[tf.Tensor, tf.Tensor]:
        words, _, counts = tf.unique_with_counts(self.tokenize(batch["text"]).flat_values)
        return words, counts

    def _hold(self, words: list[str], counts: list[int]) -> None:
        self.words = words
        self.counts = np.array(counts, np.int64)
        numbers = tf.range(len(words), dtype=tf.int64)
        entries = tf.lookup.KeyValueTensorInitializer(tf.constant(words), numbers)
        self._numbers = tf.lookup.StaticHashTable(entries, default_value=UNKNOWN)

    def tokenize(self, text: tf.Tensor) -> tf.RaggedTensor:
        """[batch] strings → [batch, (words)] strings; bytes that are not UTF-8 part words."""
        text = tf.strings.unicode_transcode(text, "UTF-8", "UTF-8", errors="replace")
        text = tf.strings.regex_replace(text, "’", "'")
        if self.lower_case:
            text = tf.strings.lower(text, encoding="utf-8")
        return tf.strings.split(tf.strings.regex_replace(text, BETWEEN_WORDS, " "))

    def number(self, words: tf.Tensor) -> tf.Tensor:
        """[n] words, spelt as in the vocabulary → [n] int32 numbers, ``UNKNOWN`` for others."""
        return tf.cast(self._numbers.lookup(words), tf.int32)

    def look_up(self, text: tf.Tensor) -> tf.Tensor:
        """[batch] strings as people type them → [batch] int32 numbers.

        Case and surrounding punctuation are treated as in a text. ``UNKNOWN`` stands for anything
        that is not exactly one word of the vocabulary.
        """
        return self.number(tf.strings.reduce_join(self.tokenize(text), axis=-1, separator=" "))

    def spell(self, numbers: tf.Tensor) -> tf.Tensor:
        """Numbers → words in a tensor of the same shape; the empty string for ``UNKNOWN``."""
        known = numbers != UNKNOWN
        return tf.where(known, tf.gather(tf.constant(self.words), tf.where(known, numbers, 0)), "")

    def features(self, batch: dict) -> dict:
        """``text`` [batch] string → ``words`` [batch, (words)] int32, only known ones."""
        tokens = self.tokenize(batch["text"])
        numbers = tokens.with_flat_values(self.number(tokens.flat_values))
        return {"words": tf.ragged.boolean_mask(numbers, numbers != UNKNOWN)}

    def target(self, batch: dict) -> tf.Tensor:
        """Nothing, [batch, 0]: a text is its own target, which ``arrange`` takes from its words."""
        return tf.zeros([tf.shape(batch["text"])[0], 0])

    @property
    def signature(self) -> dict[str, tf.TensorSpec]:
        return {"text": tf.TensorSpec([None], tf.string)}

    def model_arguments(self) -> dict:
        return {"vocabulary_size": len(self.words)}

    @property
    def trackables(self) -> list:
        return [self._numbers]

    def save(self, folder: pathlib.Path) -> None:
        vocabulary = {"words": self.words, "counts": self.counts.tolist()}
        (folder / VOCABULARY_FILE).write_text(json.dumps(vocabulary, ensure_ascii=False), "utf-8")

    def restore(self, folder: pathlib.Path) -> None:
        self._hold(**json.loads((folder / VOCABULARY_FILE).read_text("utf-8")))
