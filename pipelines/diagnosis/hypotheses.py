"""Written texts with their log-probabilities: what a search found, and what a human wrote.

Both are judged by the objective of the search, log P / N(T), with T the number of tokens, the end
token counted (``pipelines.tasks.decoding``).
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
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
    """Sources and references of a split, as they came and as tokens.

    Attributes:
        raw: the fields of the examples, but for pictures, as Python's values.
        features: what the preprocessor makes of the sources.
        target: [examples, (tokens)] ragged ids of the references; of captions [examples,
            (captions), (tokens)].
    """

    raw: dict[str, list]
    features: dict[str, Any]
    target: Any

    @classmethod
    def read(cls, source: Any, preprocessor: Any, split: str, limit: int | None) -> Pairs:
        """The first ``limit`` examples of a split; UserError where there are none."""
        pieces = []
        for batch in readable(raw_batches(source, split, limit)):
            raw = {n: value for n, value in batch.items() if n not in preprocessor.encoded}
            pieces.append((raw, preprocessor.features(batch), preprocessor.target(batch)))
        if not pieces:
            raise UserError(f"the {split} split has no examples")
        raw, features, target = tf.nest.map_structure(lambda *x: tf.concat(x, axis=0), *pieces)
        raw = {name: [plain(value) for value in column.numpy()] for name, column in raw.items()}
        return cls(raw, features, target)

    def batches(self, rows: int) -> Iterator[tuple[np.ndarray, dict[str, Any], Any]]:
        """Indices, features and targets of ``rows`` examples at a time, those of like length."""
        order = np.argsort(self.target.row_lengths().numpy(), kind="stable")
        for start in range(0, len(order), rows):
            chosen = order[start : start + rows]
            features = {name: tf.gather(ids, chosen) for name, ids in self.features.items()}
            yield chosen, features, tf.gather(self.target, chosen)


def writer(
    opened: Any, pairs: Pairs, task: Search
) -> Callable[[float], tuple[Hypotheses, list[str], float]]:
    """A function that has the model write a text for every source, again and again.

    One graph serves all length penalties; neither its tracing nor its first batch counts as
    decoding time.

    Args:
        opened: a run whose task is a ``Search``.
        pairs: what to write about.
        task: the run's, with whatever search is wanted; its length penalty is not read.

    Returns:
        ``write(length_penalty)``: the best answers, their texts, and the seconds that decoding
        took.
    """
    preprocessor = opened.preprocessor

    def best(features: dict, penalty: Any) -> tuple:
        response = task.respond(opened.model, features, Wishes(length_penalty=penalty))
        texts = preprocessor.answer(response, {})["texts"]
        return response["tokens"][:, 0], response["scores"][:, 0], texts[:, 0]

    rows = min(max(HYPOTHESES // task.beam_width, 1), ROWS)
    count = -(-int(pairs.target.nrows()) // rows)

    def batches() -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
        # Anew each time: scaled, the pictures of a split would fill the memory.
        for index, features, _ in pairs.batches(rows):
            yield index, preprocessor.model_inputs(features)

    traced = _traced(best, (x for _, x in batches()), tf.TensorSpec([None], tf.float32))
    index, inputs = next(batches())
    traced(inputs, tf.zeros(len(index)))

    def write(length_penalty: float) -> tuple[Hypotheses, list[str], float]:
        off = not sys.stdout.isatty()
        started = time.perf_counter()
        indices, answers = [], []
        for index, inputs in track(batches(), "  ...", total=count, transient=True, disable=off):
            indices.append(index)
            answers.append(traced(inputs, tf.fill([len(index)], length_penalty)))
        seconds = time.perf_counter() - started
        tokens, scores, texts = _in_order(indices, answers)
        return Hypotheses.of(tokens, scores), [plain(text) for text in texts], seconds

    return write


def references(opened: Any, pairs: Pairs) -> Hypotheses:
    """What the humans wrote, with the log-probabilities that teacher forcing gives."""
    batches = [
        (index, opened.preprocessor.model_inputs(features | {"target": target}))
        for index, features, target in pairs.batches(ROWS)
    ]
    traced = _traced(
        lambda inputs: opened.task.forced(opened.model, inputs), [inputs for _, inputs in batches]
    )
    scores = [(traced(inputs)["scores"],) for _, inputs in batches]
    (scores,) = _in_order([index for index, _ in batches], scores)
    return Hypotheses.of(pairs.target.to_tensor(PADDING).numpy(), scores)


def _traced(function: Callable, batches: Iterable[dict[str, Any]], *rest: Any) -> Any:
    """``function`` as one graph for all these batches of inputs, and further arguments."""

    def common(first: tf.TensorSpec, *others: tf.TensorSpec) -> tf.TensorSpec:
        shape = first.most_specific_common_supertype(others).shape
        return tf.TensorSpec([None, *shape[1:]], first.dtype)

    specs = [tf.nest.map_structure(tf.TensorSpec.from_tensor, inputs) for inputs in batches]
    inputs = tf.nest.map_structure(common, *specs)
    return tf.function(function, autograph=False).get_concrete_function(inputs, *rest)


def _in_order(indices: list[np.ndarray], batches: list[tuple]) -> list[list]:
    """The rows of each column of all batches, as the examples came."""
    back = np.argsort(np.concatenate(indices))
    columns = ([row for x in column for row in x.numpy()] for column in zip(*batches, strict=True))
    return [[rows[i] for i in back] for rows in columns]
