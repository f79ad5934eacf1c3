"""Pictures with captions: bytes of a picture in, pixels and tokens out, written tokens to texts."""

from __future__ import annotations

import pathlib
from typing import Any, ClassVar, Literal

from pipelines.engine.lazy import tensorflow as tf
from pipelines.preprocess.image import PicturePreprocessor
from pipelines.preprocess.text import (
    Tokenization,
    best_pieces,
    dense,
    longest,
    spelled,
    written,
)


class CaptionPreprocessor(PicturePreprocessor):
    """Pictures as in ``image.py``; captions as texts in ``text.py``.

    Every caption ends with the end token; a longer one than the maximum loses its last tokens.

    Args:
        tokenizer: what a token is: a character, a word or symbol, or a SentencePiece subword
            learned by the unigram language model or by byte pair encoding.
        vocabulary_size: largest number of token ids, four reserved ones included; none: all tokens
            of the training captions (not for subwords).
        minimum_count: characters and words seen less often in training are unknown tokens.
        maximum_length: tokens of a caption in training, the end token included.
        lower_case: whether upper case is folded, in the answers too.
        normal_form: the Unicode normal form of all text.
        pictures: options of ``PicturePreprocessor``.
    """

    supplies: ClassVar[tuple[str, ...]] = ("input_shape", "vocabulary_size")

    def __init__(
        self,
        *,
        tokenizer: Literal["characters", "words", "unigram", "bpe"] = "words",
        vocabulary_size: int | None = None,
        minimum_count: int = 1,
        maximum_length: int = 40,
        lower_case: bool = True,
        normal_form: Literal["NFC", "NFKC"] = "NFKC",
        **pictures: Any,
    ):
        super().__init__(**pictures)
        self.tokenization = Tokenization(
            tokenizer=tokenizer,
            vocabulary_size=vocabulary_size,
            minimum_count=minimum_count,
            lower_case=lower_case,
            normal_form=normal_form,
        )
        self.maximum_length = maximum_length

    @property
    def tolerant(self) -> bool:
        return self.tokenization.tokenizer in ("characters", "words")

    def fit(self, dataset: tf.data.Dataset) -> None:
        """Learns the colours, and the vocabulary from raw batches of ``image`` and ``captions``."""
        found = self.learn_colours(dataset, lambda batch: (batch["captions"],))
        self.tokenizer = self.tokenization.learn(
            tf.strings.split(captions, "\n").flat_values for (captions,) in found
        )

    def target(self, batch: dict) -> tf.RaggedTensor:
        """``captions`` [B], one a line → [B, (captions), (tokens)] int32, the end token last."""
        captions = tf.strings.split(batch["captions"], "\n")
        return captions.with_values(self.caption(captions.values))

    def caption(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """[B] texts → [B, (tokens)] int32, the end token last."""
        return self.tokenization.ids(self.tokenizer, texts, self.maximum_length)

    def model_inputs(self, features: dict) -> dict:
        """Scaled pixels, and dense ids where there is a ``target``."""
        target = {"target": dense(features["target"])} if "target" in features else {}
        return super().model_inputs(features) | target

    def answer(self, response: dict, inputs: dict) -> dict:
        """Written tokens → texts, best first.

        Args:
            response: of ``Captioning.respond``.
            inputs: not needed.

        Returns:
            ``texts`` [B, n]; ``scores`` [B, n], log-probabilities with the end token's; ``lengths``
            [B, n], tokens without the end token; ``attention`` [B, n, L, rows, columns], how much
            each token written, the end token last, looked at each place of the picture (L = longest
            length + 1; zeros after the end, and where a model does not look).
        """
        return written(self.tokenizer, response) | {
            "attention": response["attention"][:, :, : longest(response)]
        }

    def attending_tokens(self, response: dict) -> dict:
        """What the maps of ``attention`` stand for: ``tokens`` [B, n, L] strings, ∎ at the end."""
        return {"tokens": spelled(self.tokenizer, response["tokens"][:, :, : longest(response)])}

    def pieces(self, response: dict) -> list[list[str]]:
        """What each token of the best answers reads; ends read ∎."""
        return best_pieces(self.tokenizer, response)

    def adopt(self, folder: pathlib.Path) -> None:
        super().restore(folder)

    def model_arguments(self) -> dict:
        return {
            "input_shape": (*self.size, self.channels),
            "vocabulary_size": self.tokenizer.size,
        }

    @property
    def trackables(self) -> list:
        return [self.tokenizer.trackable]

    def save(self, folder: pathlib.Path) -> None:
        super().save(folder)
        self.tokenizer.save(folder / "captions")

    def restore(self, folder: pathlib.Path) -> None:
        super().restore(folder)
        self.tokenizer = self.tokenization.restore(folder / "captions")
