"""Random next tokens: at a temperature, from the k most probable or from the nucleus, by seed.

- Top-k: Fan, Lewis, Dauphin: Hierarchical Neural Story Generation, 2018,
  https://arxiv.org/abs/1805.04833, section 5.4.
- Nucleus (top-p): Holtzman et al.: The Curious Case of Neural Text Degeneration, 2020,
  https://arxiv.org/abs/1904.09751, section 3.1.

Keras draws whole tensors from one seed. A served row must not depend on the rows it is batched
with, so here each row has a seed of its own: its random numbers are a hash of the seed, the number
of the draw and the position.
"""

from __future__ import annotations

from keras import ops


def draw(logits, temperature, seed, position, *, top_k: int = 0, top_p: float = 1.0):
    """One token for each hypothesis, in proportion to its probability.

    Args:
        logits: [B, K, V] float32, -inf where a token must not be drawn.
        temperature: [B] float32 above 0, by which logits are divided: below 1 sharper, above 1
            flatter than the model.
        seed: [B] int32.
        position: scalar int32, the number of tokens before.
        top_k: only the k most probable tokens are drawn; 0: all.
        top_p: only the fewest tokens whose probabilities reach p together are drawn; 1: all.

    Returns:
        [B, K] int32.
    """
    _, slots, vocabulary = logits.shape
    logits = logits / temperature[:, None, None]
    tokens = None
    if top_k or top_p < 1:
        logits, tokens = ops.top_k(logits, min(top_k or vocabulary, vocabulary))
    probabilities = ops.softmax(logits)
    if top_p < 1:
        before = ops.cumsum(probabilities, axis=-1) - probabilities
        probabilities = ops.where(before < top_p, probabilities, 0.0)
    cumulative = ops.cumsum(probabilities, axis=-1)
    numbers = uniform(seed[:, None], ops.arange(slots, dtype="int32")[None], position)
    # Below 1 by a whole unit of float32's last place, so that the product stays below the total.
    threshold = numbers[..., None] * cumulative[..., -1:]
    chosen = ops.sum(ops.cast(cumulative <= threshold, "int32"), axis=-1)
    if tokens is None:
        return chosen
    return ops.take_along_axis(tokens, chosen[..., None], axis=-1)[..., 0]


def uniform(*numbers):
    """A random number in [0, 1) for each combination of integers, always the same for the same.

    Args:
        numbers: int32 tensors that broadcast together.

    Returns:
        float32, one of 2²³ equidistant values.
    """
    mixed = ops.cast(0, "uint32")
    for number in numbers:
        mixed = _mix(ops.bitwise_xor(_mix(mixed), ops.cast(number, "uint32")))
    return ops.cast(ops.cast(ops.right_shift(mixed, _word(9)), "int32"), "float32") * 2.0**-23


def _mix(word):
    """A bijection of 32 bits after which every input bit moves every output bit half the time.

    The constants are those of Ettinger's lowbias32 (Wellons: Prospecting for Hash Functions, 2018,
    https://nullprogram.com/blog/2018/07/31/). An offset keeps zero from mapping to itself.
    """
    word = word + _word(0x9E3779B9)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        word = ops.bitwise_xor(word, ops.right_shift(word, _word(shift))) * _word(factor)
    return ops.bitwise_xor(word, ops.right_shift(word, _word(16)))


def _word(number: int):
    return ops.convert_to_tensor(number, "uint32")
