"""From texts to pairs of a word and a neighbour, each with a few random words to tell it from.

Mikolov et al. 2013, "Distributed Representations of Words and Phrases and their Compositionality",
sections 2.2 (negative sampling) and 2.3 (sub-sampling), with the conventions of the authors'
program: frequent words are dropped before neighbours are looked for, each word's window is drawn
anew, and random words follow the word counts to the power of 3/4. The program skips a random word
that happens to be the true neighbour; here the distribution leaves that word out, so that every
pair has the same number of random words.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pipelines.arrange import draws
from pipelines.engine.lazy import tensorflow as tf

NOISE_EXPONENT = 0.75
KEEP, REACH, NOISE, ORDER = range(4)  # what a draw is for


def arrange(
    dataset: tf.data.Dataset,
    preprocessor: Any,
    *,
    training: bool,
    seed: int,
    batch_size: int,
    window: int = 5,
    negatives: int = 5,
    subsample: float = 1e-3,
) -> tf.data.Dataset:
    """Batches of texts → batches of ``batch_size`` pairs.

    Features are ``center`` [batch] and ``candidates`` [batch, 1 + negatives], int32, the true
    neighbour first; the target is 1 for it and 0 for the random words, float32 of the same shape.
    Pairs of one batch of texts are mixed with each other. Outside training all words stay, windows
    are full and the random words are those of epoch 0.

    Args:
        dataset: batches of texts with ``words`` among their features.
        preprocessor: knows the words' counts.
        training: whether to draw windows, drop frequent words and mix the pairs.
        seed: of all draws.
        batch_size: pairs in a batch.
        window: largest distance, in words, of a neighbour.
        negatives: random words for each pair.
        subsample: share of all words above which a word counts as frequent and is partly dropped;
            0 keeps all.
    """
    keep = keep_probabilities(preprocessor.counts, subsample if training else 0.0)
    noise = noise_distribution(preprocessor.counts)

    def pairs(batch: dict[str, Any]) -> dict[str, Any]:
        words = _words(batch["features"]["words"], draws.keys(seed, batch["epoch"], batch["index"]))
        if training:
            words = _subsampled(words, keep)
            reach = 1 + tf.cast(draws.uniform(draws.keys(words["key"], REACH)) * window, tf.int64)
            return _mixed(_neighbours(words, reach, window))
        full = tf.fill(tf.shape(words["text"]), tf.constant(window, tf.int64))
        found = _neighbours(words, full, window)
        return found | _named(found, batch, preprocessor) if "example" in batch else found

    def with_noise(pair: dict[str, Any]) -> dict[str, Any]:
        chance = draws.uniform(draws.keys(pair["key"][:, None], tf.range(negatives)))
        candidates = tf.concat(
            [pair["context"][:, None], other_words(noise, pair["context"], chance)], axis=1
        )
        target = tf.one_hot(tf.zeros_like(pair["context"]), 1 + negatives)
        example = {"example": pair["example"]} if "example" in pair else {}
        features = {"center": pair["center"], "candidates": candidates}
        return {"features": features, "target": target, **example}

    options = {"num_parallel_calls": tf.data.AUTOTUNE, "deterministic": True}
    return dataset.map(pairs, **options).rebatch(batch_size).map(with_noise, **options)


def keep_probabilities(counts: np.ndarray, subsample: float) -> np.ndarray:
    """[vocabulary size] float64: how likely an occurrence of each word stays.

    The formula is the program's, (√(f/t) + 1) · t/f, which differs from the paper's equation 5.
    """
    if not subsample:
        return np.ones(len(counts))
    ratio = subsample * counts.sum() / counts
    return np.minimum(1.0, np.sqrt(ratio) + ratio)


def noise_distribution(counts: np.ndarray) -> np.ndarray:
    """[vocabulary size] float64: cumulative probabilities of the words as random ones."""
    cumulative = np.cumsum(counts**NOISE_EXPONENT)
    return cumulative / cumulative[-1]


def other_words(cumulative: np.ndarray, word: tf.Tensor, chance: tf.Tensor) -> tf.Tensor:
    """Random words, given that they are not ``word``.

    Args:
        cumulative: [vocabulary size] float64 cumulative probabilities.
        word: [batch] int32, the word to leave out.
        chance: [batch, n] float64, uniform in [0, 1).

    Returns:
        [batch, n] int32.
    """
    start = tf.gather(np.concatenate([[0.0], cumulative[:-1]]), word)[:, None]
    width = tf.gather(np.diff(cumulative, prepend=0.0), word)[:, None]
    point = chance * (1 - width)
    point = tf.where(point < start, point, point + width)
    found = tf.searchsorted(cumulative, tf.reshape(point, [-1]), side="right")
    return tf.reshape(tf.minimum(found, len(cumulative) - 1), tf.shape(point))


def _words(words: tf.RaggedTensor, text_keys: tf.Tensor) -> dict[str, tf.Tensor]:
    """All words of a batch in one row: number, text, position in it, and key for draws."""
    text = words.value_rowids()
    position = tf.range(tf.size(text, tf.int64)) - tf.gather(words.row_starts(), text)
    key = draws.keys(tf.gather(text_keys, text), position)
    return {"number": words.values, "text": text, "position": position, "key": key}


def _subsampled(words: dict[str, tf.Tensor], keep: np.ndarray) -> dict[str, tf.Tensor]:
    stays = draws.uniform(draws.keys(words["key"], KEEP)) < tf.gather(keep, words["number"])
    return {name: tf.boolean_mask(column, stays) for name, column in words.items()}


def _neighbours(words: dict[str, tf.Tensor], reach: tf.Tensor, window: int) -> dict[str, tf.Tensor]:
    """Pairs of each word with those of its text at most ``reach`` words away, in reading order."""
    count = tf.size(reach, tf.int64)
    offsets = tf.constant([*range(-window, 0), *range(1, window + 1)], tf.int64)
    places = tf.range(count)[:, None] + offsets
    inside = (places >= 0) & (places < count)
    same_text = tf.gather(words["text"], tf.where(inside, places, 0)) == words["text"][:, None]
    near = tf.abs(offsets) <= reach[:, None]
    center, slot = tf.unstack(tf.where(inside & same_text & near), axis=1)
    context = center + tf.gather(offsets, slot)
    return {
        "center": tf.gather(words["number"], center),
        "context": tf.gather(words["number"], context),
        "key": draws.keys(tf.gather(words["key"], center), NOISE, slot),
        "text": tf.gather(words["text"], center),
        "center_position": tf.gather(words["position"], center),
        "context_position": tf.gather(words["position"], context),
    }


def _mixed(pairs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Model inputs and keys of the pairs, in an order that their keys decide."""
    seed = tf.bitcast(draws.keys(tf.reduce_max(pairs["key"]), ORDER), tf.int32)
    order = tf.random.experimental.stateless_shuffle(tf.range(tf.size(pairs["center"])), seed)
    return {name: tf.gather(pairs[name], order) for name in ("center", "context", "key")}


def _named(pairs: dict[str, tf.Tensor], batch: dict, preprocessor: Any) -> dict[str, dict]:
    """For people: each pair's words and a name for it: text:position:position."""
    place = [tf.gather(batch["example"]["id"], pairs["text"])]
    place += [tf.strings.as_string(pairs[f"{word}_position"]) for word in ("center", "context")]
    return {
        "example": {
            "id": tf.strings.join(place, separator=":"),
            "center": preprocessor.spell(pairs["center"]),
            "context": preprocessor.spell(pairs["context"]),
        }
    }
