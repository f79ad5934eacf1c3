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
        scores = ops.where(mask[:, None], ops.cast(scores, "float32"), MASKED)
        weights = ops.softmax(scores)
        return ops.matmul(ops.cast(weights, values.dtype), values), weights

    def get_config(self):
        return {**super().get_config(), "units": self.units}
