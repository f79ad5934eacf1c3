"""Beam search against hand-made tables, against a search that misses nothing, and against teacher
forcing of real models."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.encoder_decoder import bahdanau_attention, rnn_encoder_decoder, sequence_to_sequence
from models.layers.reserved_tokens import BEGIN, END, PADDING
from models.transformer import transformer_tiny
from pipelines.engine.application import UserError
from pipelines.tasks.decoding import Search, Wishes, decode
from tests.language_models import Table, all_answers, random_table

LENGTH = 9


def table(**rows):
    """Probabilities of the next token: six tokens, of which 4 and 5 are real."""
    probabilities = np.full((6, 6), 1 / 6)
    for name, row in rows.items():
        probabilities[{"begin": BEGIN, "four": 4, "five": 5}[name]] = row
    return Table(probabilities)


def ones(batch, width=2):
    return {"source": np.ones((batch, width), "int32")}


def kinds(count):
    """Sources that make a table use its tables one after the other."""
    return {"source": np.arange(4, 4 + count, dtype="int32")[:, None]}


def numbers(response):
    return {name: np.asarray(value) for name, value in response.items()}


def search(model, features, wishes=None, **options):
    return numbers(decode(model, features, Search(**options), wishes))


def written(tokens):
    """One answer's tokens without padding."""
    return [int(token) for token in tokens if token != PADDING]


def test_hand_computed_greedy_answer():
    model = table(
        begin=[0.1, 0.1, 0.1, 0.1, 0.4, 0.2],
        four=[0.1, 0.1, 0.1, 0.1, 0.1, 0.5],
        five=[0.1, 0.1, 0.6, 0.1, 0.05, 0.05],
    )
    response = search(model, ones(2, 4), maximum_length=6)
    assert response["tokens"].tolist() == [[[4, 5, END, 0, 0, 0]]] * 2
    assert response["lengths"].tolist() == [[2], [2]]
    np.testing.assert_allclose(response["scores"], np.log([[0.4 * 0.5 * 0.6]] * 2), rtol=1e-6)
    expected = np.zeros((6, 4))
    expected[[0, 1, 2], [0, 1, 2]] = 1
    np.testing.assert_array_equal(response["alignment"][0, 0], expected)
    assert model.steps == 3  # not 6: all rows have ended


GARDEN_PATH = {
    # Greedy begins with 4 (0.5) and then must spread out; the best answer begins with 5.
    "begin": [0, 0, 0.1, 0, 0.5, 0.4],
    "four": [0, 0, 0.3, 0.3, 0.2, 0.2],
    "five": [0, 0, 0.9, 0, 0.1, 0],
}


def test_hand_computed_beams():
    model = table(**GARDEN_PATH)
    greedy = search(model, ones(1), maximum_length=4)
    assert written(greedy["tokens"][0, 0]) == [4, END]
    two = search(model, ones(1), maximum_length=4, beam_width=2, answers=2)
    assert [written(row) for row in two["tokens"][0]] == [[5, END], [4, END]]
    np.testing.assert_allclose(two["scores"], np.log([[0.4 * 0.9, 0.5 * 0.3]]), rtol=1e-5)
    three = search(model, ones(1), maximum_length=4, beam_width=3, answers=3)
    assert [written(row) for row in three["tokens"][0]] == [[5, END], [4, END], [END]]
    np.testing.assert_allclose(three["scores"], np.log([[0.36, 0.15, 0.1]]), rtol=1e-5)


def test_length_penalty_favours_short_or_long_answers():
    """[END] has 0.3 and [4, 5, END] 0.6·0.7·0.6 = 0.252; by hand, the latter wins from α ≈ 0.12."""
    model = table(
        begin=[0, 0, 0.3, 0.1, 0.6, 0], four=[0, 0, 0.1, 0.2, 0, 0.7], five=[0, 0, 0.6, 0.4, 0, 0]
    )
    best = {
        alpha: search(model, ones(1), maximum_length=3, beam_width=4, length_penalty=alpha)
        for alpha in (-1.0, 0.0, 0.1, 0.2, 1.0)
    }
    answers = {alpha: written(response["tokens"][0, 0]) for alpha, response in best.items()}
    assert answers == {-1.0: [END], 0.0: [END], 0.1: [END], 0.2: [4, 5, END], 1.0: [4, 5, END]}
    np.testing.assert_allclose(best[1.0]["scores"], [[np.log(0.252)]], rtol=1e-5)
    np.testing.assert_allclose(best[1.0]["objectives"], [[np.log(0.252) / 3]], rtol=1e-5)


def test_gnmt_s_length_penalty():
    response = search(
        table(**GARDEN_PATH),
        ones(1),
        maximum_length=4,
        beam_width=2,
        length_penalty=0.6,
        length_normalization="gnmt",
    )
    np.testing.assert_allclose(response["objectives"], [[np.log(0.36) / (7 / 6) ** 0.6]], rtol=1e-5)


def test_coverage_penalty_prefers_what_was_read():
    """Both tokens are read after two steps only: 0.2·log(1e-6) is what the short answer pays."""
    model = table(begin=[0, 0, 0.6, 0, 0.4, 0], four=[0, 0, 1, 0, 0, 0])
    plain = search(model, ones(1), maximum_length=2, beam_width=2)
    assert written(plain["tokens"][0, 0]) == [END]
    read = search(model, ones(1), maximum_length=2, beam_width=2, answers=2, coverage_penalty=0.2)
    assert [written(row) for row in read["tokens"][0]] == [[4, END], [END]]
    expected = [[np.log(0.4), np.log(0.6) + 0.2 * np.log(1e-6)]]
    np.testing.assert_allclose(read["objectives"], expected, rtol=1e-5)
    np.testing.assert_allclose(read["scores"], np.log([[0.4, 0.6]]), rtol=1e-5)


def test_an_answer_that_does_not_end_is_cut():
    model = table(begin=[0, 0, 0.1, 0, 0.9, 0], four=[0, 0, 0.2, 0, 0.8, 0])
    response = search(model, ones(1), maximum_length=3)
    assert response["tokens"].tolist() == [[[4, 4, 4]]]
    assert response["lengths"].tolist() == [[3]]
    np.testing.assert_allclose(response["scores"], np.log([[0.9 * 0.8 * 0.8]]), rtol=1e-6)


def test_ended_answers_come_before_cut_ones():
    model = table(begin=[0, 0, 0.1, 0, 0.9, 0], four=[0, 0, 0.1, 0, 0.9, 0])
    response = search(model, ones(1), maximum_length=3, beam_width=2, answers=2)
    assert [written(row) for row in response["tokens"][0]] == [[END], [4, END]]
    wide = search(model, ones(1), maximum_length=3, beam_width=4, answers=4)
    answers = [written(row) for row in wide["tokens"][0]]
    assert answers == [[END], [4, END], [4, 4, END], [4, 4, 4]]


def test_padding_and_begin_are_never_written_but_count_in_the_probabilities():
    model = table(begin=[0.3, 0.4, 0.05, 0.05, 0.1, 0.1], four=[0.3, 0.4, 0.2, 0.1, 0, 0])
    response = search(model, ones(1), maximum_length=4)
    assert response["tokens"].tolist() == [[[4, END, 0, 0]]]
    np.testing.assert_allclose(response["scores"], np.log([[0.1 * 0.2]]), rtol=1e-6)


def test_a_beam_wider_than_all_there_is():
    model = table(begin=[0, 0, 0.4, 0, 0.6, 0], four=[0, 0, 1, 0, 0, 0])
    response = search(model, ones(1), maximum_length=4, beam_width=9, answers=9)
    assert [written(row) for row in response["tokens"][0][:2]] == [[4, END], [END]]
    assert not response["tokens"][0, 2:].any()
    assert np.isneginf(response["scores"][0, 2:]).all()
    assert not response["lengths"][0, 2:].any()
    assert not response["alignment"][0, 2:].any()


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("width", [2, 3, 4])
def test_improbable_ends_do_not_stop_the_probable_answer(width, alpha):
    """At each step the end has 0.02 at every hypothesis, until 4 has been written five times."""
    table = np.full((1, 7, 6, 6), 0.01)
    table[:, :5, :, 4], table[:, :5, :, END] = 0.94, 0.02
    table[:, 5:, :, END] = 0.95
    response = search(
        Table(table), ones(1), maximum_length=9, beam_width=width, length_penalty=alpha
    )
    assert written(response["tokens"][0, 0]) == [4, 4, 4, 4, 4, END]


FORMS = {
    "power": lambda alpha: lambda length: length**alpha,
    "gnmt": lambda alpha: lambda length: ((5 + length) / 6) ** alpha,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("alpha", [-0.5, 0.0, 0.6, 2.0])
def test_a_beam_as_wide_as_all_answers_finds_the_best(form, alpha):
    """Four tokens may be written, three steps long: no more than 4³ hypotheses."""
    for seed in range(5):
        model = random_table(seed)
        response = search(
            model,
            kinds(4),
            maximum_length=3,
            beam_width=64,
            answers=10,
            length_penalty=alpha,
            length_normalization=form,
        )
        for kind in range(4):
            expected = all_answers(model, kind, 3, FORMS[form](alpha))[:10]
            assert [written(r) for r in response["tokens"][kind]] == [t for *_, t in expected]
            objectives = [objective for _, objective, _ in expected]
            np.testing.assert_allclose(response["objectives"][kind], objectives, rtol=1e-5)


@pytest.mark.parametrize("width", [1, 2, 3, 5])
@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_every_score_is_the_forced_log_probability(width, alpha):
    for seed in range(8):
        model = random_table(seed, steps=6)
        options = {"beam_width": width, "answers": width, "length_penalty": alpha}
        response = search(model, kinds(4), maximum_length=6, **options)
        for kind in range(4):
            answers = [written(row) for row in response["tokens"][kind]]
            assert len({tuple(answer) for answer in answers}) == width
            for answer, score, objective, length in zip(
                answers,
                response["scores"][kind],
                response["objectives"][kind],
                response["lengths"][kind],
                strict=True,
            ):
                assert length == len([token for token in answer if token != END])
                assert score == pytest.approx(model.score(kind, answer), rel=1e-5)
                assert objective == pytest.approx(score / len(answer) ** alpha, rel=1e-5)


def test_beam_of_one_is_greedy():
    for seed in range(4):
        model = random_table(seed, steps=6)
        probabilities = np.exp(np.asarray(model.logits))
        probabilities[..., [PADDING, BEGIN]] = 0
        for alpha in (0.0, 1.0):
            response = search(model, kinds(4), maximum_length=6, length_penalty=alpha)
            for kind in range(4):
                tokens, previous = [], BEGIN
                while previous != END and len(tokens) < 6:
                    previous = int(probabilities[kind, len(tokens), previous].argmax())
                    tokens.append(previous)
                assert written(response["tokens"][kind, 0]) == tokens


def test_wishes_of_a_row_are_what_a_search_of_its_own_gives():
    model = random_table(3, steps=6)
    wishes = Wishes(
        length_penalty=np.array([0.0, 1.0, 0.5, 2.0], "float32"),
        beam_width=np.array([1, 3, 99, 0], "int32"),
        maximum_length=np.array([6, 2, 99, 0], "int32"),
    )
    options = {"maximum_length": 6, "beam_width": 4, "answers": 2}
    together = search(model, kinds(4), wishes, **options)
    for row, (alpha, width, length) in enumerate([(0, 1, 6), (1, 3, 2), (0.5, 4, 6), (2, 1, 1)]):
        alone = search(
            model,
            {"source": kinds(4)["source"][row : row + 1]},
            maximum_length=length,
            beam_width=width,
            answers=min(width, 2),
            length_penalty=float(alpha),
        )
        count = min(width, 2)
        np.testing.assert_array_equal(together["tokens"][row, :count, :length], alone["tokens"][0])
        assert not together["tokens"][row, :, length:].any()
        assert np.isneginf(together["scores"][row, count:]).all()
        for name in ("scores", "objectives", "lengths"):
            np.testing.assert_allclose(together[name][row, :count], alone[name][0], rtol=1e-5)
        np.testing.assert_array_equal(
            together["alignment"][row, :count, :length], alone["alignment"][0]
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam_width": 0}, "beam_width must be at least 1, not 0"),
        ({"beam_width": 2, "answers": 3}, "a beam of width 2 has no 3 answers"),
        ({"top_p": 0.0}, "top_p must be above 0"),
    ],
)
def test_impossible_searches_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        Search(**options)


MODELS = {
    "attention-gru": lambda: bahdanau_attention(12, 8, units=6, embedding_dim=5),
    "attention-lstm": lambda: bahdanau_attention(12, 8, units=6, embedding_dim=5, cell="lstm"),
    "plain-deep-lstm": lambda: sequence_to_sequence(12, 8, units=6, embedding_dim=5, depth=2),
    "context-peephole": lambda: rnn_encoder_decoder(
        12, 8, units=6, embedding_dim=5, cell="peephole_lstm"
    ),
    "transformer": lambda: transformer_tiny(
        12, 8, dim=8, hidden_dim=12, layers=2, heads=2, shared_embeddings=False
    ),
}


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    keras.utils.set_random_seed(1)
    model = MODELS[request.param]()
    # Untrained models are all but undecided; larger weights make rows differ in tokens and length.
    factor = 1.5 if request.param == "transformer" else 4
    model.set_weights([factor * weight for weight in model.get_weights()])
    return model


@pytest.fixture(scope="module")
def source():
    ids = np.random.default_rng(0).integers(4, 12, (6, 7)).astype("int32")
    for row, length in enumerate([7, 3, 1, 5, 7, 2]):
        ids[row, length - 1] = END
        ids[row, length:] = PADDING
    return ids


BEAM = {"maximum_length": LENGTH, "beam_width": 3, "answers": 3, "length_penalty": 0.7}


def test_score_is_what_teacher_forcing_gives(model, source):
    response = search(model, {"source": source}, **BEAM)
    tokens = response["tokens"].reshape(-1, LENGTH)
    begin = np.full((len(tokens), 1), BEGIN, "int32")
    repeated = np.repeat(source, 3, axis=0)
    logits = model({"source": repeated, "target": np.concatenate([begin, tokens[:, :-1]], 1)})
    forced = np.take_along_axis(
        keras.ops.convert_to_numpy(keras.ops.log_softmax(logits)), tokens[..., None], -1
    )[..., 0]
    forced = np.where(tokens != PADDING, forced, 0).sum(1)
    np.testing.assert_allclose(response["scores"].reshape(-1), forced, rtol=1e-4, atol=1e-5)
    assert len(set(response["lengths"][:, 0])) > 1, "all rows of one length test little"


def test_a_batch_gives_what_single_rows_give(model, source):
    together = search(model, {"source": source}, **BEAM)
    for row in range(len(source)):
        alone = search(model, {"source": source[row : row + 1]}, **BEAM)
        for name, value in alone.items():
            np.testing.assert_allclose(together[name][row], value[0], rtol=1e-4, atol=1e-5)


def test_more_padding_changes_nothing(model, source):
    plain = search(model, {"source": source}, **BEAM)
    padded = np.pad(source, [(0, 0), (0, 5)])
    wide = search(model, {"source": padded}, **BEAM)
    np.testing.assert_array_equal(wide["tokens"], plain["tokens"])
    np.testing.assert_allclose(wide["scores"], plain["scores"], rtol=1e-4)
    np.testing.assert_allclose(wide["alignment"][..., :7], plain["alignment"], atol=1e-5)
    assert not wide["alignment"][..., 7:].any()


def test_alignment_is_a_distribution_over_real_tokens(source):
    keras.utils.set_random_seed(1)
    response = search(MODELS["attention-gru"](), {"source": source}, **BEAM)
    np.testing.assert_allclose(
        response["alignment"].sum(-1), response["tokens"] != PADDING, atol=1e-5
    )
    assert not (response["alignment"] * (source == PADDING)[:, None, None]).any()


def test_traced_with_an_open_batch(model, source):
    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32)], autograph=False)
    def traced(ids):
        return decode(model, {"source": ids}, Search(**BEAM))

    eager = search(model, {"source": source}, **BEAM)
    for name, value in numbers(traced(source)).items():
        np.testing.assert_allclose(value, eager[name], rtol=1e-4, atol=1e-5)
    nothing = numbers(traced(np.zeros((0, 1), "int32")))
    assert nothing["tokens"].shape == (0, 3, LENGTH)
    assert nothing["scores"].shape == (0, 3)


def test_hypotheses_share_their_source(model, source):
    """What is remembered of a source is not repeated for each of its hypotheses."""
    memory = model.encode({"source": source})
    tokens = np.array([[4, 5]] * len(source), "int32")
    state = model.start(memory, 2, LENGTH)
    assert all(value.shape[0] == len(source) for value in keras.tree.flatten(state["memory"]))
    assert len(keras.tree.flatten(state["memory"])) > 1
    logits, _, attention = model.step(tokens, 0, state)
    for place in range(2):
        alone = model.start(memory, 1, LENGTH)
        expected, _, weights = model.step(tokens[:, place : place + 1], 0, alone)
        np.testing.assert_allclose(logits[:, place], expected[:, 0], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(attention[:, place], weights[:, 0], rtol=1e-4, atol=1e-6)
