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
        """[..., S, dim] → keys and values [..., heads, S, dim / heads]."""
        return self._split(self.key(sequence)), self._split(self.value(sequence))

    def call(self, queries, keys, values, mask):
        """Looks at the sequence once for each query.

        Args:
            queries: [..., Q, dim].
            keys: [..., heads, S, dim / heads], from ``keys_values``.
            values: like the keys.
            mask: bool that broadcasts to [..., heads, Q, S], false where a query must not look.

        Returns:
            [..., Q, dim], and the float32 weights [..., heads, Q, S], which add up to one.
        """
        queries = self._split(self.query(queries))
        products = ops.einsum("...qd,...sd->...qs", queries, keys)
        products = ops.cast(products, floatx()) / (self.dim // self.heads) ** 0.5
        weights = ops.softmax(ops.where(mask, products, MASKED))
        seen = ops.einsum("...qs,...sd->...qd", ops.cast(weights, values.dtype), values)
        seen = ops.swapaxes(seen, -3, -2)
        seen = ops.reshape(seen, (*ops.shape(seen)[:-2], self.dim))
        return self.output_projection(seen), weights

    def _split(self, vectors):
        """[..., T, dim] → [..., heads, T, dim / heads]."""
        shape = (*ops.shape(vectors)[:-1], self.heads, self.dim // self.heads)
        return ops.swapaxes(ops.reshape(vectors, shape), -3, -2)

    def get_config(self):
        return {**super().get_config(), "dim": self.dim, "heads": self.heads}
