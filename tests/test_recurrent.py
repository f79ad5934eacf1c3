"""Recurrent layers: the peephole cell by hand, stacks against layers of their own, and masks."""

import keras
import numpy as np
import pytest

from models.layers.recurrent import CELLS, PeepholeLSTMCell, RecurrentStack, cell_stack


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_peephole_lstm_by_hand():
    """Equations of Gers, Schraudolph, Schmidhuber 2002, section 3.2, two steps of two units."""
    draw = np.random.default_rng(0)
    cell = PeepholeLSTMCell(2)
    cell.build((None, 3))
    names = [weight.name for weight in cell.weights]
    values = {w.name: draw.normal(size=w.shape).astype("float32") for w in cell.weights}
    cell.set_weights([values[name] for name in names])
    inputs = draw.normal(size=(2, 1, 3)).astype("float32")
    state = cell.get_initial_state(batch_size=1)
    h, c = np.zeros(2), np.zeros(2)
    for x in inputs:
        output, state = cell(x, state)
        i, f, g, o = np.split(x[0] @ values["kernel"] + h @ values["recurrent_kernel"], 4)
        peep_i, peep_f, peep_o = values["peepholes"]
        i = sigmoid(i + peep_i * c + values["input_bias"])
        f = sigmoid(f + peep_f * c + values["forget_bias"])
        c = f * c + i * np.tanh(g + values["cell_bias"])
        o = sigmoid(o + peep_o * c + values["output_bias"])
        h = o * np.tanh(c)
        np.testing.assert_allclose(output[0], h, rtol=1e-5)
        np.testing.assert_allclose(state[1][0], c, rtol=1e-5)


def test_without_peepholes_it_is_keras_s_lstm():
    cell, plain = PeepholeLSTMCell(4), keras.layers.LSTMCell(4)
    for layer in (cell, plain):
        layer.build((None, 3))
    kernel, recurrent, bias = plain.get_weights()
    cell.set_weights([kernel, recurrent, *np.split(bias, 4), np.zeros((3, 4))])
    x, h, c = np.random.default_rng(1).normal(size=(3, 5, 4)).astype("float32")
    for one, other in zip(cell(x[:, :3], [h, c])[1], plain(x[:, :3], [h, c])[1], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_padding_changes_no_output_and_no_state(cell, bidirectional):
    stack = RecurrentStack(cell, 4, depth=2, bidirectional=bidirectional)
    sequence = np.random.default_rng(2).normal(size=(3, 7, 5)).astype("float32")
    lengths = np.array([7, 4, 1])
    mask = np.arange(7) < lengths[:, None]
    outputs, states = stack(sequence, mask=mask)
    sequence[~mask] = 9.0
    again, states_again = stack(sequence, mask=mask)
    for row, length in enumerate(lengths):
        alone, states_alone = stack(sequence[row : row + 1, :length], mask=mask[:1, :length])
        np.testing.assert_allclose(outputs[row, :length], alone[0], atol=1e-5)
        np.testing.assert_allclose(again[row, :length], alone[0], atol=1e-5)
        for one, two, three in zip(states, states_again, states_alone, strict=True):
            np.testing.assert_allclose(one[row], three[0], atol=1e-5)
            np.testing.assert_allclose(two[row], three[0], atol=1e-5)


@pytest.mark.parametrize("cell", CELLS)
def test_a_stack_of_cells_steps_as_a_stack_of_layers_reads(cell):
    """The decoder's cells, step by step, are the encoder's layers with the same weights."""
    stack, cells = RecurrentStack(cell, 4, depth=2), cell_stack(cell, 4, depth=2)
    sequence = np.random.default_rng(3).normal(size=(2, 6, 5)).astype("float32")
    outputs, states = stack(sequence, mask=np.ones((2, 6), bool))
    cells.build((None, 5))
    cells.set_weights(stack.get_weights())
    state = cells.get_initial_state(batch_size=2)
    for step in range(6):
        output, state = cells(sequence[:, step], state)
        np.testing.assert_allclose(output, outputs[:, step], atol=1e-5)
    for one, other in zip(keras.tree.flatten(state), states, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_a_stack_is_made_anew_from_its_configuration():
    stack = RecurrentStack("peephole_lstm", 4, depth=2, bidirectional=True)
    again = RecurrentStack.from_config(stack.get_config())
    for layer in (stack, again):
        layer.build((None, None, 3))
    assert again.count_params() == stack.count_params() > 0
