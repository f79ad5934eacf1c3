"""Greedy decoding against hand-made probabilities, and against teacher forcing of a real model."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.encoder_decoder import bahdanau_attention
from models.layers.reserved_tokens import BEGIN, END, PADDING
from pipelines.tasks.decoding import decode

LENGTH = 9


class Table:
    """A model whose next token depends on the previous one alone, by a table of probabilities.

    Its attention looks at the position of the step; its state counts the steps.
    """

    def __init__(self, table):
        self.log_table = keras.ops.log(keras.ops.convert_to_tensor(table, "float32"))
        self.steps = 0

    def encode(self, features):
        return features["source"]

    def start(self, memory, rows, length):
        return {"memory": memory, "count": keras.ops.zeros_like(rows)}

    def step(self, tokens, position, state):
        self.steps += 1
        attention = keras.ops.one_hot(state["count"], state["memory"].shape[1])
        state = {**state, "count": state["count"] + 1}
        return keras.ops.take(self.log_table, tokens, axis=0), state, attention


def table(**rows):
    """Probabilities of the next token: six tokens, of which 4 and 5 are real."""
    probabilities = np.full((6, 6), 1 / 6)
    for name, row in rows.items():
        probabilities[{"begin": BEGIN, "four": 4, "five": 5}[name]] = row
    return probabilities


def test_hand_computed_tokens_and_scores():
    model = Table(
        table(
            begin=[0.1, 0.1, 0.1, 0.1, 0.4, 0.2],
            four=[0.1, 0.1, 0.1, 0.1, 0.1, 0.5],
            five=[0.1, 0.1, 0.6, 0.1, 0.05, 0.05],
        )
    )
    response = decode(model, {"source": np.ones((2, 4), "int32")}, maximum_length=6)
    assert response["tokens"].numpy().tolist() == [[[4, 5, END, 0, 0, 0]]] * 2
    assert response["lengths"].numpy().tolist() == [[2], [2]]
    np.testing.assert_allclose(response["scores"], np.log([[0.4 * 0.5 * 0.6]] * 2), rtol=1e-6)
    expected = np.zeros((6, 4))
    expected[[0, 1, 2], [0, 1, 2]] = 1
    np.testing.assert_array_equal(response["alignment"][0, 0], expected)
    assert model.steps == 3  # not 6: all rows have ended


def test_a_row_that_does_not_end_is_cut():
    model = Table(table(begin=[0, 0, 0.1, 0, 0.9, 0], four=[0, 0, 0.2, 0, 0.8, 0]))
    response = decode(model, {"source": np.ones((1, 2), "int32")}, maximum_length=3)
    assert response["tokens"].numpy().tolist() == [[[4, 4, 4]]]
    assert response["lengths"].numpy().tolist() == [[3]]
    np.testing.assert_allclose(response["scores"], np.log([[0.9 * 0.8 * 0.8]]), rtol=1e-6)


def test_padding_and_begin_are_never_written_but_count_in_the_probabilities():
    model = Table(table(begin=[0.3, 0.4, 0.05, 0.05, 0.1, 0.1], four=[0.3, 0.4, 0.2, 0.1, 0, 0]))
    response = decode(model, {"source": np.ones((1, 2), "int32")}, maximum_length=4)
    assert response["tokens"].numpy().tolist() == [[[4, END, 0, 0]]]
    np.testing.assert_allclose(response["scores"], np.log([[0.1 * 0.2]]), rtol=1e-6)


@pytest.fixture(scope="module", params=["gru", "lstm"])
def model(request):
    keras.utils.set_random_seed(1)
    model = bahdanau_attention(12, 8, units=6, embedding_dim=5, cell=request.param)
    # Untrained models are all but undecided; larger weights make rows differ in tokens and length.
    model.set_weights([4 * weight for weight in model.get_weights()])
    return model


@pytest.fixture(scope="module")
def source():
    ids = np.random.default_rng(0).integers(4, 12, (6, 7)).astype("int32")
    for row, length in enumerate([7, 3, 1, 5, 7, 2]):
        ids[row, length - 1] = END
        ids[row, length:] = PADDING
    return ids


def numbers(response):
    return {name: np.asarray(value) for name, value in response.items()}


def test_score_is_what_teacher_forcing_gives(model, source):
    response = numbers(decode(model, {"source": source}, maximum_length=LENGTH))
    tokens = response["tokens"][:, 0]
    begin = np.full((len(tokens), 1), BEGIN, "int32")
    logits = model({"source": source, "target": np.concatenate([begin, tokens[:, :-1]], 1)})
    forced = np.take_along_axis(
        keras.ops.convert_to_numpy(keras.ops.log_softmax(logits)), tokens[..., None], -1
    )[..., 0]
    forced = np.where(tokens != PADDING, forced, 0).sum(1)
    np.testing.assert_allclose(response["scores"][:, 0], forced, rtol=1e-4, atol=1e-5)
    assert len(set(response["lengths"][:, 0])) > 1, "all rows of one length test little"


def test_a_batch_gives_what_single_rows_give(model, source):
    together = numbers(decode(model, {"source": source}, maximum_length=LENGTH))
    for row in range(len(source)):
        alone = numbers(decode(model, {"source": source[row : row + 1]}, maximum_length=LENGTH))
        for name, value in alone.items():
            np.testing.assert_allclose(together[name][row], value[0], rtol=1e-4, atol=1e-5)


def test_more_padding_changes_nothing(model, source):
    plain = numbers(decode(model, {"source": source}, maximum_length=LENGTH))
    padded = np.pad(source, [(0, 0), (0, 5)])
    wide = numbers(decode(model, {"source": padded}, maximum_length=LENGTH))
    np.testing.assert_array_equal(wide["tokens"], plain["tokens"])
    np.testing.assert_allclose(wide["scores"], plain["scores"], rtol=1e-4)
    np.testing.assert_allclose(wide["alignment"][..., :7], plain["alignment"], atol=1e-5)
    assert not wide["alignment"][..., 7:].any()


def test_alignment_is_a_distribution_over_real_tokens(model, source):
    response = numbers(decode(model, {"source": source}, maximum_length=LENGTH))
    written = response["tokens"] != PADDING
    np.testing.assert_allclose(response["alignment"].sum(-1), written, atol=1e-5)
    assert not (response["alignment"] * (source == PADDING)[:, None, None]).any()


def test_traced_with_an_open_batch(model, source):
    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32)], autograph=False)
    def traced(ids):
        return decode(model, {"source": ids}, maximum_length=LENGTH)

    eager = numbers(decode(model, {"source": source}, maximum_length=LENGTH))
    for name, value in numbers(traced(source)).items():
        np.testing.assert_allclose(value, eager[name], rtol=1e-4, atol=1e-5)
    nothing = numbers(traced(np.zeros((0, 1), "int32")))
    assert nothing["tokens"].shape == (0, 1, LENGTH)
    assert nothing["scores"].shape == (0, 1)


def test_rows_may_share_a_source(model, source):
    """Beam search decodes several rows of one source from one memory."""
    memory = model.encode({"source": source})
    rows = np.array([2, 2, 0], "int32")
    tokens = np.array([4, 5, 6], "int32")
    logits, _, attention = model.step(tokens, 0, model.start(memory, rows, LENGTH))
    for position, row in enumerate(rows):
        alone = model.start(memory, np.array([row], "int32"), LENGTH)
        expected, _, weights = model.step(tokens[position : position + 1], 0, alone)
        np.testing.assert_allclose(logits[position], expected[0], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(attention[position], weights[0], rtol=1e-4, atol=1e-6)
