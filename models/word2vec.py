"""Word vectors from the words around them: skip-gram with negative sampling.

Mikolov, Sutskever, Chen, Corrado, Dean 2013, "Distributed Representations of Words and Phrases and
their Compositionality", https://arxiv.org/abs/1310.4546, section 2.2, equation 4.

Every word has two vectors: ``word_vectors`` for the word itself, which is what training is for, and
``context_vectors`` for the word as a neighbour of others. A word and a neighbour score the dot
product of the one with the other. The output matrix of the paper's figure 1 is never multiplied as
a whole: only the rows of the true context and of a few random words are looked up.

Inputs: ``center`` [batch] int32 and ``candidates`` [batch, 1 + negatives] int32, the true context
first. Output: logits [batch, 1 + negatives] float32. Parameters: 2 · vocabulary size · dimensions.

As in the authors' program, word vectors start uniform within ±1/2 / dimensions and context vectors
at zero. No deviation from the paper.
"""

from __future__ import annotations

import keras
from keras import layers, ops
from keras.config import floatx


def skip_gram(vocabulary_size: int = 10_000, *, embedding_dim: int = 100) -> keras.Model:
    """Scores how well each candidate goes with the word in the center.

    Args:
        vocabulary_size: number of words.
        embedding_dim: numbers in the vector of a word.
    """
    center = keras.Input((), dtype="int32", name="center")
    candidates = keras.Input((None,), dtype="int32", name="candidates")
    word = word_vectors(vocabulary_size, embedding_dim)(center)
    contexts = context_vectors(vocabulary_size, embedding_dim)(candidates)
    scores = ops.einsum("bd,bcd->bc", word, contexts)
    logits = layers.Activation("linear", dtype=floatx(), name="logits")(scores)
    return keras.Model({"center": center, "candidates": candidates}, logits, name="skip_gram")


def word_vectors(vocabulary_size: int, embedding_dim: int) -> layers.Embedding:
    """The table [vocabulary size, dimensions] that training is for."""
    limit = 0.5 / embedding_dim
    initial = keras.initializers.RandomUniform(-limit, limit)
    return layers.Embedding(vocabulary_size, embedding_dim, initial, name="word_vectors")


def context_vectors(vocabulary_size: int, embedding_dim: int) -> layers.Embedding:
    """The table [vocabulary size, dimensions] of words as neighbours of others."""
    return layers.Embedding(vocabulary_size, embedding_dim, "zeros", name="context_vectors")
