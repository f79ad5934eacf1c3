"""Written texts with their log-probabilities: what a search found, and what a human wrote.

Both are judged by the objective of the search, log P / N(T), with T the number of tokens, the end
token counted (``pipelines.tasks.decoding``).
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from rich.progress import track

from models.layers.reserved_tokens import END, PADDING
from pipelines.engine.application import UserError
from pipelines.engine.data import raw_batches, readable
from pipelines.engine.evaluate import plain
from pipelines.engine.lazy import tensorflow as tf
from pipelines.tasks.decoding import Search, Wishes

# So many are followed at a time, over all rows of a batch, that their state fits into memory.
HYPOTHESES = 200
ROWS = 32
# Writing token by token and teacher forcing round differently: smaller differences mean nothing.
ROUNDING = 1e-4


@dataclasses.dataclass(frozen=True)
class Hypotheses:
    """One text for each of some sources.

    Attributes:
        tokens: [texts] tuples of ids without padding, the end token last unless a text was cut.
        scores: [texts] log-probabilities of all these tokens.
    """

    tokens: list[tuple[int, ...]]
    scores: np.ndarray

    @classmethod
    def of(cls, tokens: Iterable[np.ndarray], scores: Sequence[float]) -> Hypotheses:
        """Rows of ids with padding, and their log-probabilities."""
        return cls([tuple(row[row != PADDING].tolist()) for row in tokens], np.asarray(scores))

    @property
    def ended(self) -> np.ndarray:
        """[texts] whether they have their end token."""
        return np.array([END in row for row in self.tokens])

    @property
    def lengths(self) -> np.ndarray:
        """[texts] numbers of tokens, the end token counted."""
        return np.array([len(row) for row in self.tokens])

    def objectives(self, search: Search, length_penalty: float) -> np.ndarray:
        """[texts] log P / N(T) with α = ``length_penalty``."""
        length = keras.ops.convert_to_tensor(self.lengths, "float32")
        return self.scores / np.asarray(search.normalizer(length, length_penalty))


def preferred(
    one: Hypotheses, other: Hypotheses, search: Search, length_penalty: float
) -> np.ndarray:
    """[texts] whether the objective of ``one`` is larger than that of ``other``, by more than
    rounding. What was cut has that of what was written of it."""
    ours, theirs = (texts.objectives(search, length_penalty) for texts in (one, other))
    return ours > theirs + ROUNDING * np.maximum(1, np.abs(theirs))


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Sources and references of a split, as texts and as tokens.

    Attributes:
        raw: ``source`` and ``target``, lists of texts.
        features: what the preprocessor makes of the sources.
        target: [examples, (tokens)] ragged ids of the references.
    """

    raw: dict[str, list[str]]
    features: dict[str, Any]
    target: Any

    @classmethod
    def read(cls, source: Any, preprocessor: Any, split: str, limit: int | None) -> Pairs:
        """The first ``limit`` examples of a split; UserError where there are none."""
        batches = list(readable(raw_batches(source, split, limit)))
        if not batches:
            raise UserError(f"the {split} split has no examples")
        raw = tf.nest.map_structure(lambda *parts: tf.concat(parts, axis=0), *batches)
        texts = {n: [plain(value) for value in raw[n].numpy()] for n in ("source", "target")}
        return cls(texts, preprocessor.features(raw), preprocessor.target(raw))

    def batches(self, rows: int) -> Iterator[tuple[np.ndarray, dict[str, Any], Any]]:
        """Indices, features and targets of ``rows`` examples at a time, those of like length."""
        order = np.argsort(self.target.row_lengths().numpy(), kind="stable")
        for start in range(0, len(order), rows):
            chosen = order[start : start + rows]
            features = {name: tf.gather(ids, chosen) for name, ids in self.features.items()}
            yield chosen, features, tf.gather(self.target, chosen)


def search_again(
    opened: Any, pairs: Pairs, beam_width: int, length_penalties: list[float]
) -> Iterator[tuple[Hypotheses, list[str], float]]:
    """What the model writes with one beam and several length penalties.

    One graph serves all penalties; neither its tracing nor its first batch counts as decoding time.

    Args:
        opened: a run whose task is a ``Search``.
        pairs: what to translate.
        beam_width: of the search; all else is as in the run, but that nothing is paid for coverage.
        length_penalties: α of each search.

    Yields:
        For each penalty the best answers, their texts, and the seconds that decoding took.
    """
    task = dataclasses.replace(opened.task, beam_width=beam_width, answers=1, coverage_penalty=0.0)
    preprocessor = opened.preprocessor

    def translate(features: dict, penalty: Any) -> tuple:
        response = task.respond(opened.model, features, Wishes(length_penalty=penalty))
        texts = preprocessor.answer(response, {})["texts"]
        return response["tokens"][:, 0], response["scores"][:, 0], texts[:, 0]

    rows = min(max(HYPOTHESES // beam_width, 1), ROWS)
    batches = [
        (index, preprocessor.model_inputs(features)) for index, features, _ in pairs.batches(rows)
    ]
    traced = _traced(translate, batches[0][1], tf.TensorSpec([None], tf.float32))
    traced(*batches[0][1:], tf.zeros(len(batches[0][0])))
    for penalty in length_penalties:
        progress = track(batches, "  ...", transient=True, disable=not sys.stdout.isatty())
        started = time.perf_counter()
        answers = [traced(inputs, tf.fill([len(index)], penalty)) for index, inputs in progress]
        seconds = time.perf_counter() - started
        tokens, scores, texts = _in_order([index for index, _ in batches], answers)
        yield Hypotheses.of(tokens, scores), [plain(text) for text in texts], seconds


def references(opened: Any, pairs: Pairs) -> Hypotheses:
    """What the humans wrote, with the log-probabilities that teacher forcing gives."""
    batches = [
        (index, opened.preprocessor.model_inputs(features | {"target": target}))
        for index, features, target in pairs.batches(ROWS)
    ]
    traced = _traced(lambda inputs: opened.task.forced(opened.model, inputs), batches[0][1])
    scores = [(traced(inputs)["scores"],) for _, inputs in batches]
    (scores,) = _in_order([index for index, _ in batches], scores)
    return Hypotheses.of(pairs.target.to_tensor(PADDING).numpy(), scores)


def _traced(function: Any, inputs: dict[str, Any], *rest: Any) -> Any:
    """``function`` as a graph for inputs like these, of any size."""
    specs = {name: tf.TensorSpec([None] * len(x.shape), x.dtype) for name, x in inputs.items()}
    return tf.function(function, autograph=False).get_concrete_function(specs, *rest)


def _in_order(indices: list[np.ndarray], batches: list[tuple]) -> list[list]:
    """The rows of each column of all batches, as the examples came."""
    back = np.argsort(np.concatenate(indices))
    columns = ([row for x in column for row in x.numpy()] for column in zip(*batches, strict=True))
    return [[rows[i] for i in back] for rows in columns]
