"""Tiny language models given by tables of probabilities, and the search that misses nothing."""

from __future__ import annotations

import itertools

import keras
import numpy as np
from keras import ops

from models.layers.reserved_tokens import BEGIN, END, PADDING


class Table:
    """A model whose next token depends on the source, the step and the previous token.

    Its state is the number of steps of each hypothesis and a copy of all that it has read, so that
    it writes nonsense where state does not follow its hypothesis. Its attention looks at the
    position of the step.

    Args:
        probabilities: [sources, steps, V, V], or less: [V, V] is the same for all.
    """

    def __init__(self, probabilities):
        probabilities = np.asarray(probabilities, "float32")
        while probabilities.ndim < 4:
            probabilities = probabilities[None]
        with np.errstate(divide="ignore"):
            self.logits = ops.convert_to_tensor(np.log(probabilities))
        self.shape = probabilities.shape
        self.steps = 0

    def encode(self, features):
        source = ops.convert_to_tensor(features["source"])
        return {"mask": ops.not_equal(source, PADDING), "kind": source[:, 0] % self.shape[0]}

    def start(self, memory, rows, length):
        kind = ops.repeat(memory["kind"][:, None], rows, axis=1)
        read = ops.zeros((*ops.shape(kind), length), "int32")
        return {"memory": memory, "read": read, "count": ops.zeros_like(kind)}

    def step(self, tokens, position, state):
        self.steps += 1
        memory, count, length = state["memory"], state["count"], state["read"].shape[-1]
        here = ops.equal(ops.arange(length, dtype="int32"), count[..., None])
        read = ops.where(here, tokens[..., None], state["read"])
        previous = ops.take_along_axis(read, count[..., None], axis=-1)[..., 0]
        kind = memory["kind"][:, None] + ops.zeros_like(count)
        _, steps, vocabulary, _ = self.shape
        row = (kind * steps + ops.minimum(count, steps - 1)) * vocabulary + previous
        logits = ops.take(ops.reshape(self.logits, (-1, vocabulary)), row, axis=0)
        attention = ops.one_hot(count, memory["mask"].shape[1])
        return logits, {"memory": memory, "read": read, "count": count + 1}, attention

    def __call__(self, inputs, training=False):
        """Teacher forcing: [B, T, V] logits after the given tokens [B, T]."""
        kind = np.asarray(inputs["source"])[:, :1] % self.shape[0]
        given = np.asarray(inputs["target"])
        step = np.minimum(np.arange(given.shape[1]), self.shape[1] - 1)
        return ops.convert_to_tensor(np.asarray(self.logits)[kind, step, given])

    def score(self, kind, tokens):
        """The log-probability of written tokens, computed anew, in float64."""
        table = np.asarray(self.logits, "float64")[kind % self.shape[0]]
        table = table - np.log(np.exp(table).sum(-1, keepdims=True))
        steps = [min(step, self.shape[1] - 1) for step in range(len(tokens))]
        return sum(table[s, p, t] for s, p, t in zip(steps, [BEGIN, *tokens], tokens, strict=False))


def random_table(seed, sources=4, steps=3, vocabulary=6, sharpness=1.5):
    """Random probabilities of every token after every other, the reserved ones too."""
    logits = np.random.default_rng(seed).normal(size=(sources, steps, vocabulary, vocabulary))
    return Table(np.asarray(keras.ops.softmax((sharpness * logits).astype("float32"))))


def all_answers(model, kind, length, normalizer):
    """Every answer of at most ``length`` tokens: (ended, objective, tokens), best first."""
    written = [token for token in range(model.shape[-1]) if token not in (PADDING, BEGIN, END)]
    answers = []
    for count in range(length + 1):
        for tokens in itertools.product(written, repeat=count):
            ended = count < length
            answer = [*tokens, END] if ended else list(tokens)
            objective = model.score(kind, answer) / normalizer(len(answer))
            answers.append((ended, objective, answer))
    return sorted(answers, key=lambda answer: answer[:2], reverse=True)
