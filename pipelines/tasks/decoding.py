"""Decoding: what an autoregressive model writes, token by token, until it says that it has ended.

A model is known by its ``encode``, ``start`` and ``step`` alone. All buffers have their final size
from the start, and the loop ends as soon as every row has.
"""

from __future__ import annotations

import keras
from keras import ops

from models.layers.reserved_tokens import BEGIN, END, PADDING


def decode(model: keras.Model, features: dict, *, maximum_length: int) -> dict:
    """Writes the most probable next token, again and again (greedy decoding).

    Padding and begin tokens are never written. Scores are natural logarithms of the model's own
    probabilities, so that a score is what teacher forcing gives the same tokens.

    Args:
        model: has ``encode(features) -> memory``, ``start(memory, rows, length) -> state`` and
            ``step(tokens, position, state) -> logits, state, attention``.
        features: the model's inputs, ``source`` [B, S] among them.
        maximum_length: tokens after which a row that has not ended is cut, the end token counted.

    Returns:
        The n (here 1) best of each row, best first, T = ``maximum_length``: ``tokens`` [B, n, T]
        int32, padded after the end token; ``scores`` [B, n] float32, the total log-probability, the
        end token's included; ``lengths`` [B, n] int32, tokens without the end token; ``alignment``
        [B, n, T, S] float32, the attention of each step, zeros after the end token.
    """
    batch, width = ops.shape(features["source"])
    state = model.start(model.encode(features), ops.arange(batch, dtype="int32"), maximum_length)
    # Steps come first in the buffers, so that each step replaces one contiguous slice.
    tokens = ops.full((maximum_length, batch), PADDING, "int32")
    alignment = ops.zeros((maximum_length, batch, width), "float32")
    previous = ops.full((batch,), BEGIN, "int32")
    scores = ops.zeros((batch,), "float32")
    finished = ops.zeros((batch,), "bool")

    def unfinished(position, finished, *_):
        return ops.logical_and(position < maximum_length, ops.logical_not(ops.all(finished)))

    def write(position, finished, previous, scores, tokens, alignment, state):
        logits, state, attention = model.step(previous, position, state)
        chosen, log_probability = _most_probable(logits)
        chosen = ops.where(finished, PADDING, chosen)
        scores = scores + ops.where(finished, 0.0, log_probability)
        attention = ops.where(finished[:, None], 0.0, attention)
        here = ops.reshape(position, (1, 1))
        tokens = ops.scatter_update(tokens, here, chosen[None])
        alignment = ops.scatter_update(alignment, here, attention[None])
        finished = ops.logical_or(finished, ops.equal(chosen, END))
        return position + 1, finished, chosen, scores, tokens, alignment, state

    position = ops.convert_to_tensor(0, "int32")
    _, _, _, scores, tokens, alignment, _ = ops.while_loop(
        unfinished, write, (position, finished, previous, scores, tokens, alignment, state)
    )
    tokens = ops.transpose(tokens)
    written = ops.logical_and(ops.not_equal(tokens, PADDING), ops.not_equal(tokens, END))
    return {
        "tokens": tokens[:, None],
        "scores": scores[:, None],
        "lengths": ops.sum(ops.cast(written, "int32"), axis=-1)[:, None],
        "alignment": ops.transpose(alignment, (1, 0, 2))[:, None],
    }


def _most_probable(logits):
    """[N, V] logits → the best token that may be written [N] int32 and its log-probability [N]."""
    log_probabilities = ops.log_softmax(ops.cast(logits, "float32"))
    token = ops.arange(logits.shape[-1])
    forbidden = ops.logical_or(ops.equal(token, PADDING), ops.equal(token, BEGIN))
    allowed = ops.where(forbidden, -float("inf"), log_probabilities)
    return ops.cast(ops.argmax(allowed, axis=-1), "int32"), ops.max(allowed, axis=-1)
