"""Attention: which positions of a sequence matter to a query.

- ``AdditiveAttention``: Bahdanau, Cho, Bengio: Neural Machine Translation by Jointly Learning to
  Align and Translate, 2015, https://arxiv.org/abs/1409.0473, section 3.1 and appendix A.1.2.
- ``MultiHeadAttention``: Vaswani et al.: Attention Is All You Need, 2017,
  https://arxiv.org/abs/1706.03762, section 3.2.

Both take several queries of one sequence, so that what is attended to is never repeated. Weights
are computed in float32: half precision is too coarse to add up hundreds of them.
"""

from __future__ import annotations

import keras
from keras import ops
from keras.config import floatx

MASKED = -1e9


@keras.saving.register_keras_serializable(package="zoo")
class AdditiveAttention(keras.layers.Layer):
    """Scores each position by v·tanh(W s + U h), with projections of its own (no biases).

    U h is the same at every decoding step, so ``keys`` gives it once for all of them.

    Args:
        units: size of the space in which query and keys are added.
    """

    def __init__(self, units: int, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.query_projection = keras.layers.Dense(units, use_bias=False, name="query")
        self.key_projection = keras.layers.Dense(units, use_bias=False, name="key")
        self.score = keras.layers.Dense(1, use_bias=False, name="score")

    def build(self, query_shape, values_shape, *_):
        self.query_projection.build(query_shape)
        self.key_projection.build(values_shape)
        self.score.build((None, None, None, self.units))

    def keys(self, values):
        """[B, S, H] annotations h → [B, S, units], their projections U h."""
        return self.key_projection(values)

    def call(self, query, values, keys, mask):
        """Looks once at the source.

        Args:
            query: [B, R, Q] decoder states s, R of each source.
            values: [B, S, H] annotations h.
            keys: [B, S, units] from ``keys(values)``.
            mask: [B, S] bool, false at padding. Where a row is all padding, all positions weigh
                the same.

        Returns:
            The contexts [B, R, H] and the float32 weights [B, R, S], which add up to one.
        """
        query = ops.expand_dims(self.query_projection(query), 2)
        scores = ops.squeeze(self.score(ops.tanh(query + ops.expand_dims(keys, 1))), -1)
        scores = ops.where(mask[:, None], ops.cast(scores, floatx()), MASKED)
        weights = ops.softmax(scores)
        return ops.matmul(ops.cast(weights, values.dtype), values), weights

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable(package="zoo")
class MultiHeadAttention(keras.layers.Layer):
    """softmax(Q Kᵀ / √d) V in several heads, each with projections of its own (no biases).

    Keys and values are projected by ``keys_values``, so that those of a source, or of what has been
    written, are computed once and kept.

    Args:
        dim: size of the model's vectors; each head has ``dim / heads`` of it.
        heads: number of heads.

    Raises:
        ValueError: where the heads do not divide ``dim``.
    """

    def __init__(self, dim: int, heads: int, **kwargs):
        super().__init__(**kwargs)
        if dim % heads:
            raise ValueError(f"{heads} heads do not divide {dim}")
        self.dim, self.heads = dim, heads
        self.query, self.key, self.value, self.output_projection = (
            keras.layers.Dense(dim, use_bias=False, name=name)
            for name in ("query", "key", "value", "output")
        )

    def build(self, *_):
        for projection in (self.query, self.key, self.value, self.output_projection):
            projection.build((None, self.dim))

    def keys_values(self, sequence) -> tuple:
        """[..., S, dim] → keys [..., heads, dim / heads, S], as products with queries take them,
        and values [..., heads, S, dim / heads]."""
        keys, values = self._split(self.key(sequence)), self._split(self.value(sequence))
        return ops.swapaxes(keys, -2, -1), values

    def call(self, queries, keys, values, mask):
        """Looks at the sequence once for each query.

        Args:
            queries: [..., Q, dim].
            keys: [..., heads, dim / heads, S], from ``keys_values``.
            values: [..., heads, S, dim / heads], likewise.
            mask: bool that broadcasts to [..., heads, Q, S], false where a query must not look.

        Returns:
            [..., Q, dim], and the float32 weights [..., heads, Q, S], which add up to one.
        """
        products = self._scaled(ops.matmul(self._split(self.query(queries)), keys))
        weights = ops.softmax(ops.where(mask, products, MASKED))
        seen = ops.matmul(ops.cast(weights, values.dtype), values)
        return self.output_projection(self._joined(seen)), weights

    def look_back(self, vectors, written, position, places):
        """Each hypothesis looks at what it consists of, among what all of a source have written.

        Args:
            vectors: [B, R, dim], at this position.
            written: keys and values [B, heads, R, T, dim / heads] of what stood in each of R places
                at the positions before.
            position: scalar, which position it is.
            places: [B, R, T] int32, where each hypothesis stood at this and at each position
                before; -1 after it.

        Returns:
            [B, R, dim], and ``written`` with this position's.
        """
        queries, *new = self._projected(vectors)
        written = tuple(
            _with_next(before, position, now) for before, now in zip(written, new, strict=True)
        )
        batch, heads, rows, length, size = ops.shape(written[0])
        # Where the vectors of each hypothesis lie, [B, heads, R, T], among those of all in a row.
        head = ops.reshape(ops.arange(batch * heads, dtype="int32"), (batch, heads, 1, 1))
        own = (head * rows + ops.maximum(places, 0)[:, None]) * length
        own = own + ops.arange(length, dtype="int32")
        keys, values = (ops.take(ops.reshape(v, (-1, size)), own, axis=0) for v in written)
        products = self._scaled(ops.matmul(keys, queries[..., None])[..., 0])
        weights = ops.softmax(ops.where(places[:, None] >= 0, products, MASKED))
        seen = ops.matmul(ops.cast(weights, values.dtype)[..., None, :], values)[..., 0, :]
        return self.output_projection(self._joined(seen)), written

    def _projected(self, vectors):
        """[..., T, dim] → queries, keys and values [..., heads, T, dim / heads], by one product."""
        kernels = [layer.kernel for layer in (self.query, self.key, self.value)]
        joined = ops.cast(ops.concatenate(kernels, axis=1), vectors.dtype)
        return [self._split(part) for part in ops.split(ops.matmul(vectors, joined), 3, axis=-1)]

    def _scaled(self, products):
        return ops.cast(products, floatx()) / (self.dim // self.heads) ** 0.5

    def _joined(self, seen):
        """[..., heads, Q, dim / heads] → [..., Q, dim]."""
        seen = ops.swapaxes(seen, -3, -2)
        return ops.reshape(seen, (*ops.shape(seen)[:-2], self.dim))

    def _split(self, vectors):
        """[..., T, dim] → [..., heads, T, dim / heads]."""
        shape = (*ops.shape(vectors)[:-1], self.heads, self.dim // self.heads)
        return ops.swapaxes(ops.reshape(vectors, shape), -3, -2)

    def get_config(self):
        return {**super().get_config(), "dim": self.dim, "heads": self.heads}


def _with_next(sequence, position, vectors):
    """[B, heads, R, length, size] with [B, heads, R, size] in place of one position's."""
    length, size = sequence.shape[-2:]
    flat = ops.reshape(sequence, (-1, length, size))
    row = ops.arange(ops.shape(flat)[0], dtype="int32")
    here = ops.stack([row, ops.zeros_like(row) + position], axis=1)
    updated = ops.scatter_update(flat, here, ops.reshape(vectors, (-1, size)))
    return ops.reshape(updated, ops.shape(sequence))
