"""The Transformer: encoder and decoder of attention alone.

- Vaswani et al.: Attention Is All You Need, 2017, https://arxiv.org/abs/1706.03762, section 3 and
  table 3 (``transformer_base``).
- ``transformer_small`` and ``transformer_tiny``: the sizes for small texts of Wu et al.: Good for
  Misconceived Reasons: An Empirical Revisiting on the Need for Visual Context in Multimodal Machine
  Translation, 2021, https://arxiv.org/abs/2105.14462, section 4.
- Normalization before each sublayer ("pre"): Xiong et al.: On Layer Normalization in the
  Transformer Architecture, 2020, https://arxiv.org/abs/2002.04745.

Inputs: ``source`` [B, S] and ``target`` [B, T], int32 token ids, padding 0; the target starts with
the begin token and is the previous tokens of what is predicted (teacher forcing).
Output: [B, T, target vocabulary] float32 logits.

As published: positions are sines and cosines; projections in attention have no biases; dropout
falls on each sublayer's output and on the sums of embeddings and positions, not on attention
weights; embeddings are multiplied by √dim and are the weights of the last layer too. Deviations:
none; where source and target have vocabularies of their own, only the target's is the last layer.
Parameters of the base model: 65 million in the paper; with its 37,000 shared tokens 63,045,632.
"""

from __future__ import annotations

from typing import Literal

import keras
from keras import ops
from keras.config import floatx

from models.layers.attention import MultiHeadAttention
from models.layers.positions import sinusoidal_positions
from models.layers.remade import RemadeModel
from models.layers.reserved_tokens import PADDING

Normalization = Literal["post", "pre"]
EPSILON = 1e-6
# For no more hypotheses than these XLA takes longer to turn the table of the last layer round than
# to multiply with it.
FEW_ROWS = 16


class Block(keras.layers.Layer):
    """Sublayers, each within a residual connection with dropout and layer normalization.

    The last sublayer is a network of two layers at each position.

    Args:
        dim: size of the model's vectors.
        hidden_dim: size of the network's hidden layer.
        heads: heads of attention.
        dropout: share of each sublayer's output that is dropped in training.
        normalization: whether a sublayer's sum ("post") or its input ("pre") is normalized.
    """

    attentions: tuple[str, ...] = ()

    def __init__(
        self,
        dim: int,
        hidden_dim: int,
        heads: int,
        dropout: float,
        normalization: Normalization,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.dim, self.hidden_dim, self.normalization = dim, hidden_dim, normalization
        for name in self.attentions:
            setattr(self, name, MultiHeadAttention(dim, heads, name=name))
        self.hidden = keras.layers.Dense(hidden_dim, activation="relu", name="hidden")
        self.shrink = keras.layers.Dense(dim, name="shrink")
        self.norms = [
            keras.layers.LayerNormalization(epsilon=EPSILON, name=f"{name}_norm")
            for name in (*self.attentions, "feed_forward")
        ]
        self.dropout = keras.layers.Dropout(dropout)

    def build(self, *_):
        for name in self.attentions:
            getattr(self, name).build()
        self.hidden.build((None, None, self.dim))
        self.shrink.build((None, None, self.hidden_dim))
        for norm in self.norms:
            norm.build((None, None, self.dim))

    def _residual(self, norm, vectors, sublayer, training):
        """``sublayer`` returns its output first; whatever else it returns is passed on."""
        if self.normalization == "pre":
            output, *rest = sublayer(norm(vectors))
            return vectors + self.dropout(output, training=training), *rest
        output, *rest = sublayer(vectors)
        return norm(vectors + self.dropout(output, training=training)), *rest

    def _feed_forward(self, vectors):
        return (self.shrink(self.hidden(vectors)),)


@keras.saving.register_keras_serializable(package="zoo")
class EncoderBlock(Block):
    """Every position looks at all positions."""

    attentions = ("self_attention",)

    def call(self, vectors, mask, training=False):
        """[B, S, dim] and a mask [B, S], false at padding → [B, S, dim]."""

        def look(vectors):
            keys_values = self.self_attention.keys_values(vectors)
            return self.self_attention(vectors, *keys_values, mask[:, None, None])

        vectors, _ = self._residual(self.norms[0], vectors, look, training)
        return self._residual(self.norms[1], vectors, self._feed_forward, training)[0]


@keras.saving.register_keras_serializable(package="zoo")
class DecoderBlock(Block):
    """Every position looks at the written positions up to itself, and at the whole source."""

    attentions = ("self_attention", "cross_attention")

    def call(self, vectors, read, mask, written=None, position=None, places=None, training=False):
        """All positions at once, or the next one of several hypotheses.

        Args:
            vectors: [B, T, dim] of all positions; or [B, R, dim], those of one position of R
                hypotheses.
            read: keys and values of the source, of ``cross_attention``.
            mask: [B, S], false at the source's padding.
            written: none; or the keys and values [B, heads, R, length, dim / heads] of what stood
                in each of R places at the positions before.
            position: scalar, which position it is.
            places: [B, R, length], where each hypothesis stood at each position, this one included.
            training: as everywhere in Keras.

        Returns:
            Vectors of the same shape; ``written`` with this position's; the weights
            [B, heads, T or R, S] of the source.
        """

        def look_back(vectors):
            if written is not None:
                return self.self_attention.look_back(vectors, written, position, places)
            steps = ops.arange(ops.shape(vectors)[1])
            keys_values = self.self_attention.keys_values(vectors)
            return self.self_attention(vectors, *keys_values, steps <= steps[:, None])

        def look_at_source(vectors):
            return self.cross_attention(vectors, *read, mask[:, None, None])

        vectors, written = self._residual(self.norms[0], vectors, look_back, training)
        vectors, weights = self._residual(self.norms[1], vectors, look_at_source, training)
        vectors = self._residual(self.norms[2], vectors, self._feed_forward, training)[0]
        return vectors, written, weights


class TransformerDecoder(RemadeModel):
    """Writes a sequence by attention, whatever it is that has been read.

    A subclass calls ``add_embedding``, makes its encoder and calls ``add_decoder``; in ``build``
    likewise ``build_decoder``. Decoding uses ``encode``, ``start`` and ``step`` alone. There, R
    hypotheses of each of B sources are written at once, and all of them read the same keys and
    values of it.
    """

    def add_embedding(self, target_vocabulary_size: int, dim: int) -> None:
        """Makes the embedding of what is written, which is the last layer too."""
        self.dim = dim
        self.target_embedding = self._embedding(target_vocabulary_size, "target_embedding")

    def add_decoder(
        self,
        *,
        hidden_dim: int,
        layers: int,
        heads: int,
        dropout: float,
        normalization: Normalization,
    ) -> None:
        """Makes the decoder's other layers."""
        self.heads = heads
        options = (self.dim, hidden_dim, heads, dropout, normalization)
        self.decoder = [DecoderBlock(*options, name=f"decoder_{i}") for i in range(layers)]
        self.decoder_norm = last_norm(normalization, "decoder_norm")
        self.dropout = keras.layers.Dropout(dropout)

    def _embedding(self, size: int, name: str) -> keras.layers.Embedding:
        # Rows of length one on average: multiplied by √dim they are as large as positions.
        initializer = keras.initializers.RandomNormal(stddev=self.dim**-0.5)
        return keras.layers.Embedding(size, self.dim, initializer, name=name)

    def build_decoder(self) -> None:
        """Makes the weights of the embedding and of the decoder."""
        self.target_embedding.build((None, None))
        for layer in (*self.decoder, self.decoder_norm):
            layer.build((None, None, self.dim))

    def call(self, inputs, training=False):
        """What is read and [B, T] target ids → [B, T, V] logits of the target's next tokens."""
        memory = self.encode(inputs, training=training)
        target = inputs["target"]
        vectors = self._embed(self.target_embedding, target, ops.arange(ops.shape(target)[1]))
        vectors = self.dropout(vectors, training=training)
        for block in self.decoder:
            read = block.cross_attention.keys_values(memory["values"])
            vectors, _, _ = block(vectors, read, memory["mask"], training=training)
        return _product(*self._factors(vectors))

    def encode(self, features: dict, training=False) -> dict:
        """What is read → ``mask`` [B, S], false at padding, and ``values`` [B, S, dim]."""
        raise NotImplementedError

    def start(self, memory: dict, rows: int, length: int) -> dict:
        """The state before the first token.

        Args:
            memory: from ``encode``.
            rows: R, the hypotheses of each source.
            length: the largest number of tokens that will be decoded.

        Returns:
            A dict of tensors. ``memory`` is common to a source's hypotheses: what has been read,
            and what has been written in each of R places. ``places`` [B, R, length] says where
            each hypothesis stood at each position, -1 where it has not been yet: so hypotheses
            move, but not what they have written.
        """
        read = tuple(block.cross_attention.keys_values(memory["values"]) for block in self.decoder)
        batch = ops.shape(memory["mask"])[0]
        shape = (batch, self.heads, rows, length, self.dim // self.heads)
        written = tuple(
            tuple(ops.zeros(shape, self.compute_dtype) for _ in range(2)) for _ in self.decoder
        )
        return {
            "memory": {"mask": memory["mask"], "read": read, "written": written},
            "places": ops.full((batch, rows, length), -1, "int32"),
        }

    def step(self, tokens, position, state: dict):
        """Reads the previous tokens and predicts the next ones.

        Args:
            tokens: [B, R] int32, at first the begin token.
            position: scalar int32, the number of steps before this one.
            state: from ``start`` or the previous step.

        Returns:
            Logits [B, R, V], the new state, and attention weights [B, R, S]: the mean of the heads
            in the last layer but one, which aligns best (Garg et al. 2019,
            https://arxiv.org/abs/1909.02074, section 5).
        """
        memory = state["memory"]
        vectors = self._embed(self.target_embedding, tokens, position)
        rows, length = state["places"].shape[1:]
        now = ops.equal(ops.arange(length, dtype="int32"), position)
        places = ops.where(now, ops.arange(rows, dtype="int32")[:, None], state["places"])
        written, attention = [], []
        for block, read, past in zip(self.decoder, memory["read"], memory["written"], strict=True):
            vectors, past_and_present, weights = block(
                vectors, read, memory["mask"], written=past, position=position, places=places
            )
            written.append(past_and_present)
            attention.append(weights)
        aligned = ops.mean(attention[max(len(attention) - 2, 0)], axis=1)
        factors = self._factors(vectors)
        logits = ops.cond(
            ops.shape(tokens)[0] * rows <= FEW_ROWS,
            lambda: _product_of_few(*factors),
            lambda: _product(*factors),
        )
        return logits, {"memory": {**memory, "written": tuple(written)}, "places": places}, aligned

    def _embed(self, embedding, tokens, positions):
        """[B, T] ids and positions that broadcast to them → [B, T, dim]."""
        vectors = embedding(tokens) * self.dim**0.5
        return vectors + ops.cast(sinusoidal_positions(positions, self.dim), vectors.dtype)

    def _factors(self, vectors):
        """What the logits are a product of: [B, T, dim] and the table [V, dim], in float32."""
        table = self.target_embedding.embeddings
        return ops.cast(self.decoder_norm(vectors), floatx()), ops.cast(table, floatx())


def _product(vectors, table):
    """[B, T, dim] and [V, dim] → [B, T, V]."""
    return ops.matmul(vectors, ops.transpose(table))


def _product_of_few(vectors, table):
    """The same: vectors and logits are turned round instead of the table."""
    batch, length, dim = ops.shape(vectors)
    logits = ops.matmul(table, ops.transpose(ops.reshape(vectors, (-1, dim))))
    return ops.transpose(ops.reshape(logits, (table.shape[0], batch, length)), (1, 2, 0))


def last_norm(normalization: Normalization, name: str) -> keras.layers.Layer:
    """What follows the last block: where inputs are normalized, its output is not yet."""
    if normalization == "post":
        return keras.layers.Identity(name=name)
    return keras.layers.LayerNormalization(epsilon=EPSILON, name=name)


@keras.saving.register_keras_serializable(package="zoo")
class Transformer(TransformerDecoder):
    """Encoder and decoder; see ``transformer_base`` for its arguments."""

    def __init__(
        self,
        *,
        source_vocabulary_size: int,
        target_vocabulary_size: int,
        dim: int,
        hidden_dim: int,
        layers: int,
        heads: int,
        dropout: float,
        normalization: Normalization,
        shared_embeddings: bool,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if shared_embeddings and source_vocabulary_size != target_vocabulary_size:
            raise ValueError(
                f"vocabularies of {source_vocabulary_size} and {target_vocabulary_size} tokens "
                "cannot share embeddings; build with shared_embeddings=False"
            )
        self.add_embedding(target_vocabulary_size, dim)
        self.source_embedding = (
            self.target_embedding
            if shared_embeddings
            else self._embedding(source_vocabulary_size, "source_embedding")
        )
        options = (dim, hidden_dim, heads, dropout, normalization)
        self.encoder = [EncoderBlock(*options, name=f"encoder_{i}") for i in range(layers)]
        self.encoder_norm = last_norm(normalization, "encoder_norm")
        self.add_decoder(
            hidden_dim=hidden_dim,
            layers=layers,
            heads=heads,
            dropout=dropout,
            normalization=normalization,
        )

    def build(self, input_shape=None):
        self.build_decoder()
        if not self.source_embedding.built:
            self.source_embedding.build((None, None))
        for layer in (*self.encoder, self.encoder_norm):
            layer.build((None, None, self.dim))

    def encode(self, features: dict, training=False) -> dict:
        """``source`` [B, S] → see ``TransformerDecoder.encode``."""
        source = features["source"]
        mask = ops.not_equal(source, PADDING)
        vectors = self._embed(self.source_embedding, source, ops.arange(ops.shape(source)[1]))
        vectors = self.dropout(vectors, training=training)
        for block in self.encoder:
            vectors = block(vectors, mask, training=training)
        return {"mask": mask, "values": self.encoder_norm(vectors)}


def transformer_base(
    source_vocabulary_size: int = 37_000,
    target_vocabulary_size: int = 37_000,
    *,
    dim: int = 512,
    hidden_dim: int = 2048,
    layers: int = 6,
    heads: int = 8,
    dropout: float = 0.1,
    normalization: Normalization = "post",
    shared_embeddings: bool = True,
) -> keras.Model:
    """The base Transformer (Vaswani et al. 2017, table 3).

    Args:
        source_vocabulary_size: number of source token ids, the reserved ones included.
        target_vocabulary_size: number of target token ids, the reserved ones included.
        dim: size of the embeddings and of everything between the sublayers (d_model).
        hidden_dim: size of the hidden layer of the network at each position (d_ff).
        layers: blocks of the encoder, and as many of the decoder (N).
        heads: heads of every attention (h).
        dropout: share of sublayers' outputs and of embeddings that is dropped in training.
        normalization: of each sublayer's sum as published ("post"), or of its input ("pre"), which
            trains without warm-up.
        shared_embeddings: whether source and target have one vocabulary, and so one table.

    Returns:
        An uncompiled, built model.

    Raises:
        ValueError: where vocabularies of different sizes are to share embeddings.
    """
    return _built("transformer_base", **locals())


def transformer_small(
    source_vocabulary_size: int = 10_000,
    target_vocabulary_size: int = 10_000,
    *,
    dim: int = 512,
    hidden_dim: int = 1024,
    layers: int = 6,
    heads: int = 4,
    dropout: float = 0.3,
    normalization: Normalization = "post",
    shared_embeddings: bool = True,
) -> keras.Model:
    """The small Transformer (Wu et al. 2021); arguments as of ``transformer_base``."""
    return _built("transformer_small", **locals())


def transformer_tiny(
    source_vocabulary_size: int = 10_000,
    target_vocabulary_size: int = 10_000,
    *,
    dim: int = 128,
    hidden_dim: int = 256,
    layers: int = 4,
    heads: int = 4,
    dropout: float = 0.3,
    normalization: Normalization = "post",
    shared_embeddings: bool = True,
) -> keras.Model:
    """The tiny Transformer (Wu et al. 2021); arguments as of ``transformer_base``."""
    return _built("transformer_tiny", **locals())


def _built(name: str, **options) -> keras.Model:
    model = Transformer(name=name, **options)
    model.build()
    return model
