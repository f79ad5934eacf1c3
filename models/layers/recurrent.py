"""Recurrent layers: the cells that there are, and stacks of them over a sequence.

- ``PeepholeLSTMCell``: Gers, Schraudolph, Schmidhuber: Learning Precise Timing with LSTM Recurrent
  Networks, JMLR 3, 2002, https://www.jmlr.org/papers/v3/gers02a.html, section 3.
- Two directions: Schuster, Paliwal: Bidirectional Recurrent Neural Networks, 1997.
"""

from __future__ import annotations

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="zoo")
class PeepholeLSTMCell(keras.layers.Layer):
    """An LSTM cell whose gates also see the cell: the input and forget gates the last one, the
    output gate the new one, each unit its own (a diagonal matrix).

    Args:
        units: size of the cell.
    """

    def __init__(self, units: int, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.state_size = [units, units]
        self.output_size = units

    def build(self, input_shape):
        def weight(name, shape, initializer):
            return self.add_weight(name=name, shape=shape, initializer=initializer)

        size = 4 * self.units
        self.kernel = weight("kernel", (input_shape[-1], size), "glorot_uniform")
        self.recurrent_kernel = weight("recurrent_kernel", (self.units, size), "orthogonal")
        # An open forget gate at first: Jozefowicz, Zaremba, Sutskever 2015, section 2.2.
        self.input_bias = weight("input_bias", (self.units,), "zeros")
        self.forget_bias = weight("forget_bias", (self.units,), "ones")
        self.cell_bias = weight("cell_bias", (self.units,), "zeros")
        self.output_bias = weight("output_bias", (self.units,), "zeros")
        self.peepholes = weight("peepholes", (3, self.units), "glorot_uniform")

    def call(self, inputs, states, training=False):
        """[N, D] inputs and the states (output, cell) [N, units] → output and new states."""
        hidden, cell = states
        projected = ops.matmul(inputs, self.kernel) + ops.matmul(hidden, self.recurrent_kernel)
        to_input, to_forget, to_cell, to_output = ops.split(projected, 4, axis=-1)
        input_peephole, forget_peephole, output_peephole = ops.unstack(self.peepholes)
        input_gate = ops.sigmoid(to_input + input_peephole * cell + self.input_bias)
        forget_gate = ops.sigmoid(to_forget + forget_peephole * cell + self.forget_bias)
        cell = forget_gate * cell + input_gate * ops.tanh(to_cell + self.cell_bias)
        output_gate = ops.sigmoid(to_output + output_peephole * cell + self.output_bias)
        hidden = output_gate * ops.tanh(cell)
        return hidden, [hidden, cell]

    def get_initial_state(self, batch_size=None):
        return [ops.zeros((batch_size, self.units), self.compute_dtype) for _ in range(2)]


def _peephole_lstm(units: int, **kwargs) -> keras.layers.RNN:
    return keras.layers.RNN(PeepholeLSTMCell(units), **kwargs)


# By name: a layer over a sequence (for the first and third with kernels of its own on a GPU), and
# the cell of one step.
CELLS = {
    "gru": (keras.layers.GRU, keras.layers.GRUCell),
    "lstm": (keras.layers.LSTM, keras.layers.LSTMCell),
    "peephole_lstm": (_peephole_lstm, PeepholeLSTMCell),
    "simple": (keras.layers.SimpleRNN, keras.layers.SimpleRNNCell),
}


def cell_stack(cell: str, units: int, depth: int) -> keras.layers.Layer:
    """``depth`` cells on top of each other as one cell."""
    cells = [CELLS[cell][1](units) for _ in range(depth)]
    return cells[0] if depth == 1 else keras.layers.StackedRNNCells(cells)


@keras.saving.register_keras_serializable(package="zoo")
class RecurrentStack(keras.layers.Layer):
    """Recurrent layers on top of each other, in one direction or in both.

    Args:
        cell: a name in ``CELLS``.
        units: size of each cell.
        depth: number of layers.
        bidirectional: whether each layer also reads backwards, with cells of their own; what both
            say is concatenated.
    """

    def __init__(
        self, cell: str, units: int, depth: int = 1, bidirectional: bool = False, **kwargs
    ):
        super().__init__(**kwargs)
        self.width = 2 * units if bidirectional else units
        layers = [
            CELLS[cell][0](units, return_sequences=True, return_state=True) for _ in range(depth)
        ]
        self.layers = [keras.layers.Bidirectional(x) for x in layers] if bidirectional else layers

    def build(self, input_shape):
        for layer in self.layers:
            layer.build(input_shape)
            input_shape = (*input_shape[:-1], self.width)

    def call(self, sequence, mask=None, training=False):
        """Reads the whole sequence.

        Args:
            sequence: [B, T, D].
            mask: [B, T] bool, false at padding, over which every state stays as it was.
            training: as everywhere in Keras.

        Returns:
            The top layer's outputs [B, T, H], and a tuple of all final states [B, units], from the
            lowest layer to the highest (of each: forwards, then backwards).
        """
        states = []
        for layer in self.layers:
            sequence, *final = layer(sequence, mask=mask, training=training)
            states += final
        return sequence, tuple(states)

    def compute_mask(self, sequence, mask=None):
        """None: whoever reads the outputs passes the mask on by name."""
