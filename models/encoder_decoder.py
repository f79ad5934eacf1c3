"""Recurrent encoder–decoders: one network reads a sequence of tokens, another writes one.

- ``sequence_to_sequence``: Sutskever, Vinyals, Le: Sequence to Sequence Learning with Neural
  Networks, 2014, https://arxiv.org/abs/1409.3215, section 2. The decoder starts from the encoder's
  last states and knows nothing else of the source.
- ``rnn_encoder_decoder``: Cho et al.: Learning Phrase Representations using RNN Encoder–Decoder for
  Statistical Machine Translation, 2014, https://arxiv.org/abs/1406.1078, section 2 and appendix A.
  The encoder's summary is also seen at every step.
- ``bahdanau_attention`` ("RNNsearch"): Bahdanau, Cho, Bengio: Neural Machine Translation by Jointly
  Learning to Align and Translate, 2015, https://arxiv.org/abs/1409.0473, section 3 and appendix A.
  The decoder looks at the whole source before each token.

Inputs: ``source`` [B, S] and ``target`` [B, T], int32 token ids, padding 0; the target starts with
the begin token and is the previous tokens of what is predicted (teacher forcing).
Output: [B, T, target vocabulary] float32 logits.

Deviations from the papers: cells apply their reset gate after the recurrent product (one product a
step instead of two); any cell on request; dropout on embeddings and readout. Of Sutskever et al.:
the source is not reversed. Of Cho et al.: the decoder starts from the encoder's last states, the
summary is the last state itself, without a projection of its own, and the output embedding has full
rank. Of Bahdanau et al.: the readout sees the new state s_i, where appendix A.2.2 has s_(i-1) and
section 3.1 has s_i. A maxout readout has as many maxima as units (500 in both papers).

The papers' sizes are units=1000, embedding_dim=1000, depth=4, 160,000 and 80,000 words (Sutskever
et al.); units=1000, embedding_dim=100, 15,000 words (Cho et al.); units=1000, embedding_dim=620,
30,000 words (Bahdanau et al.). The defaults here are those of small problems. Sutskever et al.
state 384 million parameters; with their sizes there are 384,112,000 here. The others state none.
"""

from __future__ import annotations

from typing import Any, Literal

import keras
from keras import ops
from keras.config import floatx

from models.layers.attention import AdditiveAttention
from models.layers.recurrent import RecurrentStack, cell_stack
from models.layers.remade import RemadeModel
from models.layers.reserved_tokens import PADDING

Cell = Literal["gru", "lstm", "peephole_lstm", "simple"]


class RecurrentDecoder(RemadeModel):
    """Writes a sequence with recurrent cells, whatever it is that has been read.

    A subclass makes its encoder, then calls ``add_decoder``; in ``build`` likewise
    ``build_decoder``. It encodes, and says what its decoder sees of the memory (``look``).
    Decoding uses ``encode``, ``start`` and ``step`` alone. There, R hypotheses of each of B sources
    are written at once, and all of them read the same memory.
    """

    def add_decoder(
        self,
        *,
        target_vocabulary_size: int,
        units: int,
        embedding_dim: int,
        depth: int,
        context_size: int,
        dropout: float,
        cell: str,
    ) -> None:
        """Makes the decoder's layers; ``context_size`` is that of what ``look`` sees."""
        self.units, self.embedding_dim, self.context_size = units, embedding_dim, context_size
        self.target_embedding = keras.layers.Embedding(
            target_vocabulary_size, embedding_dim, name="target_embedding"
        )
        self.cell = cell_stack(cell, units, depth)
        self.states = len(keras.tree.flatten(self.cell.state_size))
        # Of each layer's states the first is its output.
        self.top = self.states - self.states // depth
        if context_size:
            self.readout = keras.layers.Dense(2 * units, name="readout")
        self.dropout = keras.layers.Dropout(dropout)
        self.logits = keras.layers.Dense(target_vocabulary_size, dtype=floatx(), name="logits")

    def build_decoder(self) -> None:
        """Makes the weights of the decoder's layers."""
        embedding_dim, units, context_size = self.embedding_dim, self.units, self.context_size
        self.target_embedding.build((None, None))
        self.cell.build((None, embedding_dim + context_size))
        if context_size:
            self.readout.build((None, None, units + embedding_dim + context_size))
        self.logits.build((None, None, units))

    def call(self, inputs, training=False):
        """What is read and [B, T] target ids → [B, T, V] logits of the target's next tokens."""
        memory = self.encode(inputs, training=training)
        embedded = self.dropout(self.target_embedding(inputs["target"]), training=training)

        def advance(carry, embedded_token):
            _, _, *hidden = carry
            hidden, context, weights = self._advance(hidden, embedded_token[:, None], memory)
            carry = (weights, context, *hidden)
            return carry, carry  # what is given out has the structure of what is carried on

        hidden = self._first_states(memory, 1)
        no_weights = ops.zeros_like(ops.cast(memory["mask"], floatx()))[:, None]
        no_context = ops.zeros((*ops.shape(hidden[0])[:2], self.context_size), hidden[0].dtype)
        _, (weights, contexts, *hidden) = ops.scan(
            advance, (no_weights, no_context, *hidden), ops.transpose(embedded, (1, 0, 2))
        )
        if training:
            self.looked(weights[:, :, 0], inputs["target"])
        hidden, contexts = (
            ops.transpose(values[:, :, 0], (1, 0, 2)) for values in (hidden[self.top], contexts)
        )
        return self._read_out(hidden, embedded, contexts, training)

    def encode(self, features: dict, training=False) -> dict:
        """What is read → what decoding needs of it: a dict of tensors, batch first.

        The entries are ``mask`` [B, S], the decoder's ``initial`` states [B, units], and what the
        context is made of.
        """
        raise NotImplementedError

    def start(self, memory: dict, rows: int, length: int) -> dict:
        """The state before the first token.

        Args:
            memory: from ``encode``.
            rows: R, the hypotheses of each source.
            length: the largest number of tokens that will be decoded (not needed here).

        Returns:
            A dict of tensors. All under ``memory`` stays as it is from step to step; all else is
            [B, R, ...] and belongs to the hypotheses.
        """
        return {"memory": memory, "hidden": self._first_states(memory, rows)}

    def step(self, tokens, position, state: dict):
        """Reads the previous tokens and predicts the next ones.

        Args:
            tokens: [B, R] int32, at first the begin token.
            position: scalar int32, the number of steps before this one (not needed here).
            state: from ``start`` or the previous step.

        Returns:
            Logits [B, R, V], the new state, and the attention weights [B, R, S].
        """
        embedded = self.target_embedding(tokens)
        hidden, context, attention = self._advance(state["hidden"], embedded, state["memory"])
        logits = self._read_out(hidden[self.top], embedded, context, training=False)
        return logits, {**state, "hidden": hidden}, attention

    def look(self, query, memory: dict):
        """[B, R, units] states → what they see of the source [B, R, C], and weights [B, R, S]."""
        raise NotImplementedError

    def looked(self, weights, target) -> None:
        """Hears in training where it looked: [T, B, S] weights, as it read [B, T] target ids."""

    def _first_states(self, memory: dict, rows: int) -> tuple:
        return tuple(ops.repeat(state[:, None], rows, axis=1) for state in memory["initial"])

    def _advance(self, hidden: tuple, embedded, memory: dict):
        """Looks at the source with the last state, then makes the new one: all are [B, R, ...]."""
        context, weights = self.look(hidden[self.top], memory)
        hidden = self.fed(hidden, ops.concatenate([embedded, context], -1))
        return hidden, context, weights

    def fed(self, hidden: tuple, inputs) -> tuple:
        """The states [B, R, units] once the cell has read inputs [B, R, D]."""

        def flat(values):
            return ops.reshape(values, (-1, values.shape[-1]))

        states = keras.tree.pack_sequence_as(self.cell.state_size, [flat(h) for h in hidden])
        _, states = self.cell(flat(inputs), states if self.states > 1 else [states])
        grid = ops.shape(inputs)[:2]
        return tuple(ops.reshape(h, (*grid, self.units)) for h in keras.tree.flatten(states))

    def _read_out(self, hidden, embedded, context, training):
        """The logits: of the state alone, or of pairwise maxima of a sum of three projections."""
        if self.context_size:
            pairs = self.readout(ops.concatenate([hidden, embedded, context], -1))
            hidden = ops.max(ops.reshape(pairs, (*ops.shape(pairs)[:-1], self.units, 2)), -1)
        return self.logits(self.dropout(hidden, training=training))


class RecurrentEncoderDecoder(RecurrentDecoder):
    """What all that read a text share: an embedding and an encoder."""

    def __init__(
        self,
        *,
        source_vocabulary_size: int,
        target_vocabulary_size: int,
        units: int,
        embedding_dim: int,
        depth: int,
        bidirectional: bool,
        context_size: int,
        dropout: float,
        cell: str,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.source_embedding = keras.layers.Embedding(
            source_vocabulary_size, embedding_dim, name="source_embedding"
        )
        self.encoder = RecurrentStack(cell, units, depth, bidirectional, name="encoder")
        self.add_decoder(
            target_vocabulary_size=target_vocabulary_size,
            units=units,
            embedding_dim=embedding_dim,
            depth=depth,
            context_size=context_size,
            dropout=dropout,
            cell=cell,
        )

    def build(self, input_shape=None):
        self.source_embedding.build((None, None))
        self.encoder.build((None, None, self.embedding_dim))
        self.build_decoder()

    def encode(self, features: dict, training=False) -> dict:
        """``source`` [B, S] → see ``RecurrentDecoder.encode``."""
        mask = ops.not_equal(features["source"], PADDING)
        embedded = self.dropout(self.source_embedding(features["source"]), training=training)
        outputs, states = self.encoder(embedded, mask=mask, training=training)
        return {"mask": mask, **self._remember(outputs, states)}

    def _remember(self, outputs, states: tuple) -> dict:
        """[B, S, H] outputs and final states of the encoder → what of them decoding needs."""
        raise NotImplementedError


@keras.saving.register_keras_serializable(package="zoo")
class PlainEncoderDecoder(RecurrentEncoderDecoder):
    """The decoder starts where the encoder ended; it sees the encoder's last state at every step,
    or never again.

    Args:
        context: whether it is seen at every step.
        options: of ``sequence_to_sequence``.
    """

    def __init__(self, *, context: bool, units: int, name=None, **options):
        super().__init__(
            units=units,
            context_size=units if context else 0,
            bidirectional=False,
            name=name,
            **options,
        )

    def _remember(self, outputs, states: tuple) -> dict:
        return {"initial": states, "summary": states[self.top]}

    def look(self, query, memory: dict):
        summary = (memory["summary"][:, None] + ops.zeros_like(query))[..., : self.context_size]
        nowhere = ops.zeros_like(ops.cast(memory["mask"], floatx()))
        rows = ops.zeros_like(ops.cast(query[..., :1], floatx()))
        return summary, nowhere[:, None] + rows


@keras.saving.register_keras_serializable(package="zoo")
class AttentionEncoderDecoder(RecurrentEncoderDecoder):
    """A bidirectional encoder, and a decoder that attends to it before each token.

    Args: those of ``bahdanau_attention``.
    """

    def __init__(self, *, units: int, name=None, **options):
        super().__init__(
            units=units, depth=1, context_size=2 * units, bidirectional=True, name=name, **options
        )
        self.attention = AdditiveAttention(units, name="attention")
        self.initial_state = keras.layers.Dense(
            self.states * units, activation="tanh", name="initial_state"
        )

    def build(self, input_shape=None):
        super().build(input_shape)
        self.attention.build((None, None, self.units), (None, None, 2 * self.units))
        self.initial_state.build((None, self.units))

    def _remember(self, outputs, states: tuple) -> dict:
        # The backward network ends at the first token, with the whole source behind it.
        initial = self.initial_state(outputs[:, 0, self.units :])
        return {
            "values": outputs,
            "keys": self.attention.keys(outputs),
            "initial": tuple(ops.split(initial, self.states, axis=-1)),
        }

    def look(self, query, memory: dict):
        return self.attention(query, memory["values"], memory["keys"], memory["mask"])


def plain_encoder_decoder(
    name: str,
    context: bool,
    source_vocabulary_size: int,
    target_vocabulary_size: int,
    *,
    units: int = 256,
    embedding_dim: int = 64,
    depth: int = 1,
    dropout: float = 0.0,
    cell: Cell,
) -> keras.Model:
    """Encoder–decoder without attention.

    Args:
        name: of the model.
        context: whether the decoder sees the encoder's last state at every step.
        source_vocabulary_size: number of source token ids, the reserved ones included.
        target_vocabulary_size: number of target token ids, the reserved ones included.
        units: size of each cell of encoder and decoder.
        embedding_dim: size of the token embeddings of both languages.
        depth: layers of the encoder, and as many of the decoder.
        dropout: share of embeddings and readout that is dropped in training.
        cell: the recurrent cell of encoder and decoder.

    Returns:
        An uncompiled, built model.
    """
    return _built(PlainEncoderDecoder(**locals()))


def sequence_to_sequence(
    source_vocabulary_size: int = 30_000,
    target_vocabulary_size: int = 30_000,
    *,
    cell: Cell = "lstm",
    **options: Any,
) -> keras.Model:
    """Encoder–decoder that hands over its states once (Sutskever, Vinyals, Le 2014, section 2).

    Args:
        source_vocabulary_size: number of source token ids, the reserved ones included.
        target_vocabulary_size: number of target token ids, the reserved ones included.
        cell: the recurrent cell of encoder and decoder.
        options: of ``plain_encoder_decoder``.
    """
    sizes = (source_vocabulary_size, target_vocabulary_size)
    return plain_encoder_decoder("sequence_to_sequence", False, *sizes, cell=cell, **options)


def rnn_encoder_decoder(
    source_vocabulary_size: int = 15_000,
    target_vocabulary_size: int = 15_000,
    *,
    cell: Cell = "gru",
    **options: Any,
) -> keras.Model:
    """Encoder–decoder that sees a summary at every step (Cho et al. 2014, section 2.2).

    Args:
        source_vocabulary_size: number of source token ids, the reserved ones included.
        target_vocabulary_size: number of target token ids, the reserved ones included.
        cell: the recurrent cell of encoder and decoder.
        options: of ``plain_encoder_decoder``.
    """
    sizes = (source_vocabulary_size, target_vocabulary_size)
    return plain_encoder_decoder("rnn_encoder_decoder", True, *sizes, cell=cell, **options)


def bahdanau_attention(
    source_vocabulary_size: int = 30_000,
    target_vocabulary_size: int = 30_000,
    *,
    units: int = 64,
    embedding_dim: int = 64,
    dropout: float = 0.0,
    cell: Cell = "gru",
) -> keras.Model:
    """Encoder–decoder with additive attention (Bahdanau, Cho, Bengio 2015, section 3).

    Args:
        source_vocabulary_size: number of source token ids, the reserved ones included.
        target_vocabulary_size: number of target token ids, the reserved ones included.
        units: size of each direction of the encoder, of the decoder and of the attention.
        embedding_dim: size of the token embeddings of both languages.
        dropout: share of embeddings and readout that is dropped in training.
        cell: the recurrent cell of encoder and decoder.

    Returns:
        An uncompiled, built model.
    """
    return _built(
        AttentionEncoderDecoder(
            source_vocabulary_size=source_vocabulary_size,
            target_vocabulary_size=target_vocabulary_size,
            units=units,
            embedding_dim=embedding_dim,
            dropout=dropout,
            cell=cell,
            name="bahdanau_attention",
        )
    )


def _built(model: keras.Model) -> keras.Model:
    model.build()
    return model
