"""Text: normalisation, tokenizers, and the preprocessor of translation; all inside the graph.

Whatever the tokenizer, text is first made valid UTF-8 (each undecodable byte becomes U+FFFD) and
brought into a Unicode normal form; white space and control characters become single spaces, with
none at the ends. Special token ids are those of ``models.layers.reserved_tokens``.
"""

from __future__ import annotations

import bisect
import collections
import dataclasses
import io
import json
import pathlib
from collections.abc import Iterable
from typing import Any, Literal

from models.layers.reserved_tokens import BEGIN, END, PADDING, RESERVED, UNKNOWN
from pipelines.engine.application import UserError, choose
from pipelines.engine.lazy import tensorflow as tf
from pipelines.engine.lazy import tensorflow_text
from pipelines.preprocess.preprocessor import Preprocessor

REPLACEMENT = "\ufffd"  # how an unknown token reads
# A word may hold apostrophes and hyphens; every other visible character stands alone.
WORD_OR_SYMBOL = r"([\p{L}\p{M}\p{N}]+(?:['’\-][\p{L}\p{M}\p{N}]+)*|[^\s])"
NO_SPACE_BEFORE = r" ([.,;:!?%)\]}…])"
NO_SPACE_AFTER = r"([(\[{¿¡]) "


def clean(texts: tf.Tensor, form: str, lower_case: bool) -> tf.Tensor:
    """[B] bytes → [B] valid UTF-8 in the normal form ``form`` with single spaces."""
    texts = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")
    texts = tensorflow_text.normalize_utf8(texts, form)
    if lower_case:
        texts = tf.strings.lower(texts, encoding="utf-8")
    return tf.strings.strip(tf.strings.regex_replace(texts, r"[\s\p{Z}\p{Cc}]+", " "))


class Vocabulary:
    """Tokens cut by a rule, numbered by a table: common ground of characters and words."""

    def __init__(self, tokens: list[str]):
        self.tokens = tokens
        numbers = tf.range(RESERVED, RESERVED + len(tokens), dtype=tf.int32)
        self.table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(tf.constant(tokens, tf.string), numbers), UNKNOWN
        )
        self.strings = tf.constant(["", "", "", REPLACEMENT, *tokens])

    @classmethod
    def train(cls, texts: Iterable[tf.Tensor], size: int | None, minimum_count: int) -> Vocabulary:
        """Counts the tokens of batches of clean texts; keeps the ``size`` - 4 most frequent."""
        counts = collections.Counter()
        for batch in texts:
            counts.update(cls.split(batch).flat_values.numpy())
        # Ties in code point order, so that the numbers do not depend on the order of examples.
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        frequent = [token.decode() for token, count in ranked if count >= minimum_count]
        return cls(frequent if size is None else frequent[: size - RESERVED])

    @staticmethod
    def split(texts: tf.Tensor) -> tf.RaggedTensor:
        """[B] clean texts → [B, (tokens)] strings."""
        raise NotImplementedError

    @staticmethod
    def join(tokens: tf.RaggedTensor) -> tf.Tensor:
        """[B, (tokens)] strings → [B] texts."""
        raise NotImplementedError

    @property
    def size(self) -> int:
        return RESERVED + len(self.tokens)

    @property
    def trackable(self):
        return self.table

    def tokenize(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """[B] clean texts → [B, (tokens)] int32."""
        return self.table[self.split(texts)]

    def detokenize(self, ids: tf.RaggedTensor) -> tf.Tensor:
        """[B, (tokens)] int32 → [B] texts; unknown tokens read U+FFFD, other reserved nothing."""
        return self.join(self.pieces(ids))

    def pieces(self, ids: tf.RaggedTensor) -> tf.RaggedTensor:
        """[B, (tokens)] int32 → what each of them reads."""
        return tf.ragged.map_flat_values(lambda values: tf.gather(self.strings, values), ids)

    def save(self, file: pathlib.Path) -> None:
        tokens = json.dumps(self.tokens, ensure_ascii=False, indent=0)
        file.with_suffix(".json").write_text(tokens, encoding="utf-8")

    @classmethod
    def restore(cls, file: pathlib.Path) -> Vocabulary:
        return cls(json.loads(file.with_suffix(".json").read_text(encoding="utf-8")))


class Characters(Vocabulary):
    """One token a code point."""

    @staticmethod
    def split(texts):
        return tf.strings.unicode_split(texts, "UTF-8")

    @staticmethod
    def join(tokens):
        return tf.strings.reduce_join(tokens, axis=-1)


class Words(Vocabulary):
    """One token a word or symbol, in any alphabet that separates words by spaces.

    Joined again, closing punctuation follows its word without a space, as in English; the exact
    spacing of the original is not kept.
    """

    @staticmethod
    def split(texts):
        return tf.strings.split(tf.strings.regex_replace(texts, WORD_OR_SYMBOL, r" \1 "))

    @staticmethod
    def join(tokens):
        text = tf.strings.reduce_join(tokens, axis=-1, separator=" ")
        text = tf.strings.regex_replace(text, NO_SPACE_BEFORE, r"\1")
        return tf.strings.regex_replace(text, NO_SPACE_AFTER, r"\1")


class Subwords:
    """Pieces of words, learned by SentencePiece (Kudo, Richardson 2018, arXiv:1808.06226)."""

    def __init__(self, model: bytes):
        self.model = model
        self.tokenizer = tensorflow_text.SentencepieceTokenizer(model, out_type=tf.int32)
        self.size = int(self.tokenizer.vocab_size())
        self.tokenize = self.tokenizer.tokenize
        self.detokenize = self.tokenizer.detokenize
        self.pieces = self.tokenizer.id_to_string

    @classmethod
    def train(cls, texts: Iterable[tf.Tensor], size: int | None, algorithm: str) -> Subwords:
        """Learns up to ``size`` pieces from batches of clean texts.

        Raises:
            UserError: where no size is given, or SentencePiece cannot train on the texts.
        """
        import sentencepiece

        if size is None:
            raise UserError("subwords need a size: --preprocess.vocabulary_size 8000, for example")
        file = io.BytesIO()
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=(text.decode() for batch in texts for text in batch.numpy()),
                model_writer=file,
                model_type=algorithm,
                vocab_size=size,
                hard_vocab_limit=algorithm == "bpe",  # unigram may find fewer in a small text
                character_coverage=1.0,
                normalization_rule_name="identity",  # the graph has normalised already
                pad_id=PADDING,
                bos_id=BEGIN,
                eos_id=END,
                unk_id=UNKNOWN,
                unk_surface=REPLACEMENT,
                num_threads=1,  # the order of sums, and so the pieces, are then reproducible
                minloglevel=2,
            )
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise UserError(
                f"SentencePiece cannot learn {size} pieces from these texts: {reason}; "
                "try another --preprocess.vocabulary_size"
            ) from error
        return cls(file.getvalue())

    @property
    def trackable(self):
        return self.tokenizer

    def save(self, file: pathlib.Path) -> None:
        file.with_suffix(".model").write_bytes(self.model)

    @classmethod
    def restore(cls, file: pathlib.Path) -> Subwords:
        return cls(file.with_suffix(".model").read_bytes())


TOKENIZERS = {"characters": Characters, "words": Words, "unigram": Subwords, "bpe": Subwords}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tokenization:
    """How texts are normalised and cut into tokens.

    Args:
        tokenizer: what a token is: a character, a word or symbol, or a SentencePiece subword
            learned by the unigram language model or by byte pair encoding.
        vocabulary_size: largest number of token ids of each vocabulary, four reserved ones
            included; none: all tokens of the training texts (not for subwords).
        minimum_count: characters and words seen less often in training are unknown tokens.
        lower_case: whether upper case is folded, in the answers too.
        normal_form: the Unicode normal form of all text.

    Raises:
        UserError: for a tokenizer or a size that there cannot be.
    """

    tokenizer: Literal["characters", "words", "unigram", "bpe"] = "characters"
    vocabulary_size: int | None = None
    minimum_count: int = 1
    lower_case: bool = False
    normal_form: Literal["NFC", "NFKC"] = "NFKC"

    def __post_init__(self) -> None:
        choose("tokenizer", self.tokenizer, TOKENIZERS)
        if self.vocabulary_size is not None and self.vocabulary_size <= RESERVED:
            raise UserError(
                f"--preprocess.vocabulary_size {self.vocabulary_size}: {RESERVED} ids are "
                "reserved, more are needed"
            )

    def clean(self, texts: tf.Tensor) -> tf.Tensor:
        """[B] bytes → [B] normalised texts."""
        return clean(texts, self.normal_form, self.lower_case)

    def learn(self, texts: Iterable[tf.Tensor]) -> Vocabulary | Subwords:
        """A tokenizer that knows what there is in batches of raw texts."""
        texts = map(self.clean, texts)
        if self.tokenizer in ("unigram", "bpe"):
            return Subwords.train(texts, self.vocabulary_size, self.tokenizer)
        kind = TOKENIZERS[self.tokenizer]
        return kind.train(texts, self.vocabulary_size, self.minimum_count)

    def ids(
        self, tokenizer: Vocabulary | Subwords, texts: tf.Tensor, maximum: int
    ) -> tf.RaggedTensor:
        """[B] raw texts → [B, (tokens)] int32, the end token last, cut to ``maximum`` tokens."""
        return _ended(tokenizer.tokenize(self.clean(texts)), maximum)

    def restore(self, file: pathlib.Path) -> Vocabulary | Subwords:
        """The tokenizer that was saved as ``file``."""
        return TOKENIZERS[self.tokenizer].restore(file)


class TranslationPreprocessor(Preprocessor):
    """Pairs of texts to pairs of token sequences, and written tokens back to text.

    Every sequence ends with the end token, so that an empty text is a sequence of one. A longer
    sequence than the maximum loses its last tokens, the end token with them: the model sees that
    the text goes on, and does not learn to stop there.

    Args:
        maximum_source_length: tokens of a source, the end token included.
        maximum_target_length: tokens of a target in training, the end token included.
        shared_vocabulary: whether source and target have one vocabulary, learned from both.
        tokenization: options of ``Tokenization``.
    """

    supplies = ("source_vocabulary_size", "target_vocabulary_size")

    def __init__(
        self,
        *,
        maximum_source_length: int = 64,
        maximum_target_length: int = 64,
        shared_vocabulary: bool = False,
        **tokenization: Any,
    ):
        self.tokenization = Tokenization(**tokenization)
        self.maximum_source_length = maximum_source_length
        self.maximum_target_length = maximum_target_length
        self.shared_vocabulary = shared_vocabulary

    def fit(self, dataset: tf.data.Dataset) -> None:
        """Learns the vocabularies from raw batches of ``source`` and ``target`` [B] strings."""
        dataset = dataset.cache()
        if self.shared_vocabulary:
            self.source_tokenizer = self._train(dataset, "source", "target")
            self.target_tokenizer = self.source_tokenizer
        else:
            self.source_tokenizer = self._train(dataset, "source")
            self.target_tokenizer = self._train(dataset, "target")

    def _train(self, dataset: tf.data.Dataset, *fields: str) -> Vocabulary | Subwords:
        return self.tokenization.learn(batch[field] for field in fields for batch in dataset)

    def features(self, batch: dict) -> dict:
        """``source`` [B] strings → ``source`` [B, (tokens)] int32, the end token last."""
        ids = self.tokenization.ids
        return {"source": ids(self.source_tokenizer, batch["source"], self.maximum_source_length)}

    def target(self, batch: dict) -> tf.RaggedTensor:
        """``target`` [B] strings → [B, (tokens)] int32, the end token last."""
        ids = self.tokenization.ids
        return ids(self.target_tokenizer, batch["target"], self.maximum_target_length)

    def longer(self, texts: tf.Tensor, tokens: int) -> tf.Tensor | None:
        """[B] sources → what they begin with when repeated, just over ``tokens`` tokens long.

        None where no source has so many, for longer ones are cut.
        """
        if tokens >= self.maximum_source_length:
            return None

        def lengthened(text: bytes) -> str:
            repeated = ((text.decode("utf-8", "replace") or "a") + " ") * (tokens + 1)

            def count(end: int) -> int:
                source = tf.constant([repeated[:end]])
                return int(self.features({"source": source})["source"].row_lengths()[0])

            return repeated[: bisect.bisect_right(range(len(repeated)), tokens, key=count)]

        return tf.constant([lengthened(text) for text in texts.numpy()])

    def model_inputs(self, features: dict) -> dict:
        """Ragged or dense ids → dense ids, padded with 0 and at least one wide."""
        return {name: dense(ids) for name, ids in features.items()}

    def answer(self, response: dict, inputs: dict) -> dict:
        """Written tokens → texts, best first.

        Args:
            response: of ``Translation.respond``: ``tokens`` [B, n, T], ``scores`` and ``lengths``
                [B, n], ``alignment`` [B, n, T, S], ``truncated`` [B].
            inputs: not needed.

        Returns:
            ``texts`` [B, n]; ``scores`` [B, n], log-probabilities with the end token's; ``lengths``
            [B, n], tokens without the end token; ``alignment`` [B, n, L, S], how much each token
            written, the end token last, looked at each token read (L = longest length + 1; zeros
            after the end); ``truncated`` [B], whether the source was longer than is read.
        """
        return written(self.target_tokenizer, response) | {
            "alignment": response["alignment"][:, :, : longest(response)],
            "truncated": response["truncated"],
        }

    def aligned_tokens(self, source: tf.Tensor, response: dict) -> dict:
        """What the columns and rows of ``alignment`` stand for.

        Args:
            source: [B, S] ids.
            response: of ``Translation.respond``.

        Returns:
            ``source_tokens`` [B, S] and ``target_tokens`` [B, n, L] strings; the end token reads ∎,
            padding is empty.
        """
        return {
            "source_tokens": spelled(self.source_tokenizer, source),
            "target_tokens": spelled(
                self.target_tokenizer, response["tokens"][:, :, : longest(response)]
            ),
        }

    def pieces(self, features: dict, response: dict) -> tuple[list[list[str]], list[list[str]]]:
        """What each token of the sources, and of their best answers, reads; ends read ∎."""
        return (
            _readable(self.source_tokenizer, features["source"]),
            best_pieces(self.target_tokenizer, response),
        )

    @property
    def signature(self) -> dict[str, tf.TensorSpec]:
        return {"source": tf.TensorSpec([None], tf.string)}

    def model_arguments(self) -> dict[str, int]:
        """The sizes of both vocabularies."""
        return {
            "source_vocabulary_size": self.source_tokenizer.size,
            "target_vocabulary_size": self.target_tokenizer.size,
        }

    @property
    def trackables(self) -> list:
        return [self.source_tokenizer.trackable, self.target_tokenizer.trackable]

    def save(self, folder: pathlib.Path) -> None:
        self.source_tokenizer.save(folder / "source")
        if not self.shared_vocabulary:
            self.target_tokenizer.save(folder / "target")

    def restore(self, folder: pathlib.Path) -> None:
        restore = self.tokenization.restore
        self.source_tokenizer = restore(folder / "source")
        self.target_tokenizer = (
            self.source_tokenizer if self.shared_vocabulary else restore(folder / "target")
        )


def dense(ids: tf.Tensor | tf.RaggedTensor, multiple: int = 1) -> tf.Tensor:
    """[B, (tokens)] → [B, L] filled up with padding; L is a multiple of ``multiple``, at least 1.

    Dense ids come back as they are.
    """
    if not isinstance(ids, tf.RaggedTensor):
        return ids
    steps = tf.maximum(-(-ids.bounding_shape(axis=1) // multiple), 1)
    return ids.to_tensor(PADDING, shape=tf.stack([-1, steps * multiple]))


def _ended(ids: tf.RaggedTensor, maximum: int) -> tf.RaggedTensor:
    """Puts the end token after each sequence, then keeps the first ``maximum`` tokens."""
    end = tf.fill([ids.nrows(), 1], tf.constant(END, ids.dtype))
    return tf.concat([ids, end], axis=1)[:, :maximum]


def longest(response: dict) -> tf.Tensor:
    """The largest number of tokens of an answer, the end token counted."""
    return tf.reduce_max(tf.concat([[0], tf.reshape(response["lengths"], [-1])], 0)) + 1


def written(tokenizer: Vocabulary | Subwords, response: dict) -> dict:
    """``tokens`` [B, n, T], ``scores`` and ``lengths`` [B, n] of ``decode`` → ``texts``, ``scores``
    and ``lengths`` [B, n]."""
    tokens, lengths = response["tokens"], response["lengths"]
    flat = tf.reshape(tokens, [-1, tf.shape(tokens)[2]])
    ragged = tf.RaggedTensor.from_tensor(flat, lengths=tf.reshape(lengths, [-1]))
    texts = tf.reshape(tokenizer.detokenize(ragged), tf.shape(lengths))
    return {"texts": texts, "scores": response["scores"], "lengths": lengths}


def best_pieces(tokenizer: Vocabulary | Subwords, response: dict) -> list[list[str]]:
    """What each token of the best answers of ``decode`` reads; ends read ∎."""
    best = tf.RaggedTensor.from_tensor(response["tokens"][:, 0], padding=PADDING)
    return _readable(tokenizer, best)


def _readable(tokenizer: Vocabulary | Subwords, ids: tf.RaggedTensor) -> list[list[str]]:
    pieces = ids.with_flat_values(spelled(tokenizer, ids.flat_values))
    return [[piece.decode() for piece in row] for row in pieces.to_list()]


def spelled(tokenizer: Vocabulary | Subwords, ids: tf.Tensor) -> tf.Tensor:
    """What each token reads, whatever the shape; ends read ∎, padding is empty."""
    strings = tf.where(ids == END, "∎", tokenizer.pieces(ids))
    return tf.where(ids == PADDING, "", strings)
