"""Vectors that say where in a sequence a token stands.

- Vaswani et al.: Attention Is All You Need, 2017, https://arxiv.org/abs/1706.03762, section 3.5.
"""

from __future__ import annotations

from keras import ops
from keras.config import floatx


def sinusoidal_positions(positions, dim: int):
    """The published encoding: with i = ⌊k / 2⌋, component k of position p is
    sin(p / 10000^(2i / dim)) where k is even and cos of the same where it is odd.

    Args:
        positions: int32 of any shape, from 0.
        dim: size of the vectors.

    Returns:
        float32, the shape of ``positions`` followed by ``dim``.
    """
    k = ops.arange(dim)
    exponent = ops.cast(2 * (k // 2), floatx()) / dim
    angles = ops.cast(positions, floatx())[..., None] / ops.power(10_000.0, exponent)
    return ops.where(ops.equal(k % 2, 0), ops.sin(angles), ops.cos(angles))
