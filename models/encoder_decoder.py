"""Recurrent encoder–decoders: one network reads a sequence of tokens, another writes one.

- ``bahdanau_attention`` ("RNNsearch"): Bahdanau, Cho, Bengio: Neural Machine Translation by Jointly
  Learning to Align and Translate, 2015, https://arxiv.org/abs/1409.0473, section 3 and appendix A.

Inputs: ``source`` [B, S] and ``target`` [B, T], int32 token ids, padding 0; the target starts with
the begin token and is the previous tokens of what is predicted (teacher forcing).
Output: [B, T, target vocabulary] float32 logits.

Deviations from the paper: the decoder's cell applies its reset gate after the recurrent product
(one product a step instead of two); the readout sees the new state s_i, where appendix A.2.2 has
s_(i-1) and section 3.1 has s_i, and has as many maxima as units (500 in the paper); dropout on
embeddings and readout; LSTM cells on request. The paper's sizes are units=1000, embedding_dim=620
and 30,000 words in each language; the defaults here are those of small problems. The paper gives no
parameter count.
"""

from __future__ import annotations

from typing import Literal

import keras
from keras import ops

from models.layers.attention import AdditiveAttention
from models.layers.reserved_tokens import PADDING

CELLS = {
    "gru": (keras.layers.GRU, keras.layers.GRUCell),
    "lstm": (keras.layers.LSTM, keras.layers.LSTMCell),
}


@keras.saving.register_keras_serializable(package="zoo")
class AttentionEncoderDecoder(keras.Model):
    """A bidirectional encoder, and a decoder that attends to it before each token.

    Decoding uses ``encode``, ``start`` and ``step`` alone. There, N rows are written at once, and
    each of them reads one of the B sources.

    Args: those of ``bahdanau_attention``.
    """

    def __init__(
        self,
        *,
        source_vocabulary_size: int,
        target_vocabulary_size: int,
        units: int,
        embedding_dim: int,
        dropout: float,
        cell: str,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.options = {
            "source_vocabulary_size": source_vocabulary_size,
            "target_vocabulary_size": target_vocabulary_size,
            "units": units,
            "embedding_dim": embedding_dim,
            "dropout": dropout,
            "cell": cell,
        }
        self.units = units
        recurrent_layer, recurrent_cell = CELLS[cell]
        self.source_embedding = keras.layers.Embedding(
            source_vocabulary_size, embedding_dim, name="source_embedding"
        )
        self.encoder = keras.layers.Bidirectional(
            recurrent_layer(units, return_sequences=True), name="encoder"
        )
        self.target_embedding = keras.layers.Embedding(
            target_vocabulary_size, embedding_dim, name="target_embedding"
        )
        self.attention = AdditiveAttention(units, name="attention")
        self.cell = recurrent_cell(units, name="cell")
        self.states = len(keras.tree.flatten(self.cell.state_size))
        self.initial_state = keras.layers.Dense(
            self.states * units, activation="tanh", name="initial_state"
        )
        self.readout = keras.layers.Dense(2 * units, name="readout")
        self.dropout = keras.layers.Dropout(dropout)
        self.logits = keras.layers.Dense(target_vocabulary_size, dtype="float32", name="logits")

    def build(self, input_shape=None):
        embedding_dim, units = self.options["embedding_dim"], self.units
        self.source_embedding.build((None, None))
        self.encoder.build((None, None, embedding_dim))
        self.target_embedding.build((None, None))
        self.attention.build((None, units), (None, None, 2 * units))
        self.cell.build((None, embedding_dim + 2 * units))
        self.initial_state.build((None, units))
        self.readout.build((None, None, embedding_dim + 3 * units))
        self.logits.build((None, None, units))

    def call(self, inputs, training=False):
        """[B, S] source and [B, T] target ids → [B, T, V] logits of the target's next tokens."""
        memory = self.encode(inputs, training=training)
        embedded = self.dropout(self.target_embedding(inputs["target"]), training=training)

        def advance(carry, embedded_token):
            hidden, context, _ = self._advance(carry[1:], embedded_token, memory)
            return (context, *hidden), (context, *hidden)

        no_context = ops.zeros_like(memory["values"][:, 0])
        _, (contexts, *hidden) = ops.scan(
            advance, (no_context, *memory["initial"]), ops.transpose(embedded, (1, 0, 2))
        )
        return self._read_out(
            ops.transpose(hidden[0], (1, 0, 2)),
            embedded,
            ops.transpose(contexts, (1, 0, 2)),
            training,
        )

    def encode(self, features: dict, training=False) -> dict:
        """``source`` [B, S] → what decoding needs of it: a dict of tensors, batch first.

        The entries are ``values`` [B, S, 2·units] (the paper's annotations), ``keys``
        [B, S, units], ``mask`` [B, S], and the decoder's ``initial`` states [B, units].
        """
        mask = ops.not_equal(features["source"], PADDING)
        embedded = self.dropout(self.source_embedding(features["source"]), training=training)
        values = self.encoder(embedded, mask=mask, training=training)
        # The backward network ends at the first token, with the whole source behind it.
        initial = self.initial_state(values[:, 0, self.units :])
        return {
            "values": values,
            "keys": self.attention.keys(values),
            "mask": mask,
            "initial": tuple(ops.split(initial, self.states, axis=-1)),
        }

    def start(self, memory: dict, rows, length: int) -> dict:
        """The state before the first token.

        Args:
            memory: from ``encode``.
            rows: [N] int32, the source that each decoded row reads.
            length: the largest number of tokens that will be decoded (not needed here).

        Returns:
            A nested dict of tensors. All under ``memory`` stays as it is from step to step; all
            else is [N, ...], one row for each decoded row.
        """
        hidden = tuple(ops.take(initial, rows, axis=0) for initial in memory["initial"])
        return {"memory": memory, "rows": rows, "hidden": hidden}

    def step(self, tokens, position, state: dict):
        """Reads the previous tokens and predicts the next ones.

        Args:
            tokens: [N] int32, at first the begin token.
            position: scalar int32, the number of steps before this one (not needed here).
            state: from ``start`` or the previous step.

        Returns:
            Logits [N, V], the new state, and the attention weights [N, S].
        """
        memory = state["memory"]
        read = {
            name: ops.take(memory[name], state["rows"], axis=0)
            for name in ("values", "keys", "mask")
        }
        embedded = self.target_embedding(tokens)
        hidden, context, attention = self._advance(state["hidden"], embedded, read)
        logits = self._read_out(hidden[0], embedded, context, training=False)
        return logits, {**state, "hidden": hidden}, attention

    def _advance(self, hidden: tuple, embedded, memory: dict):
        """Attends with the last state, then makes the new one: (states, context, weights)."""
        context, weights = self.attention(
            hidden[0], memory["values"], memory["keys"], memory["mask"]
        )
        _, hidden = self.cell(ops.concatenate([embedded, context], -1), list(hidden))
        return tuple(hidden), context, weights

    def _read_out(self, hidden, embedded, context, training):
        """The paper's t_i, pairwise maxima of a sum of three projections, and the logits."""
        pairs = self.readout(ops.concatenate([hidden, embedded, context], -1))
        pairs = ops.reshape(pairs, (*ops.shape(pairs)[:-1], self.units, 2))
        return self.logits(self.dropout(ops.max(pairs, -1), training=training))

    def get_config(self):
        return {**super().get_config(), **self.options}


def bahdanau_attention(
    source_vocabulary_size: int = 30_000,
    target_vocabulary_size: int = 30_000,
    *,
    units: int = 64,
    embedding_dim: int = 64,
    dropout: float = 0.0,
    cell: Literal["gru", "lstm"] = "gru",
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
    model = AttentionEncoderDecoder(
        source_vocabulary_size=source_vocabulary_size,
        target_vocabulary_size=target_vocabulary_size,
        units=units,
        embedding_dim=embedding_dim,
        dropout=dropout,
        cell=cell,
        name="bahdanau_attention",
    )
    model.build()
    return model
