"""Random answers: how often they come against their probabilities, and that seeds decide them."""

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from keras import ops

from models.layers.reserved_tokens import BEGIN, PADDING
from pipelines.tasks.decoding import Search, Wishes, decode
from pipelines.tasks.sampling import draw, uniform
from tests.language_models import all_answers, random_table

DRAWS = 20_000
PROBABILITIES = np.array([0.02, 0.28, 0.05, 0.0, 0.4, 0.25])


def drawn(temperature=1.0, **options):
    """How often each token is drawn, by as many seeds as draws."""
    logits = np.full((DRAWS, 2, 6), np.log(np.maximum(PROBABILITIES, 1e-30)), "float32")
    logits[..., PROBABILITIES == 0] = -np.inf
    heat = np.full(DRAWS, temperature, "float32")
    tokens = np.asarray(draw(logits, heat, np.arange(DRAWS, dtype="int32"), 3, **options))
    return np.bincount(tokens.ravel(), minlength=6)


def assert_distributed(counts, probabilities):
    """A chi-square test whose false alarms, with these fixed seeds, have been ruled out."""
    expected = np.asarray(probabilities) / np.sum(probabilities) * counts.sum()
    assert not counts[expected == 0].any()
    possible = expected > 0
    assert scipy.stats.chisquare(counts[possible], expected[possible]).pvalue > 0.01


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, PROBABILITIES),
        ({"temperature": 0.5}, PROBABILITIES**2),
        ({"temperature": 2.0}, PROBABILITIES**0.5),
        ({"top_k": 2}, [0, 0.28, 0, 0, 0.4, 0]),
        ({"top_k": 99}, PROBABILITIES),
        ({"top_p": 0.6}, [0, 0.28, 0, 0, 0.4, 0]),
        ({"top_p": 0.69}, [0, 0.28, 0, 0, 0.4, 0.25]),
        ({"top_k": 3, "top_p": 0.7}, [0, 0.28, 0, 0, 0.4, 0]),
    ],
)
def test_frequencies_are_the_probabilities(options, expected):
    assert_distributed(drawn(**options), expected)


@pytest.mark.parametrize("options", [{"temperature": 1e-3}, {"top_k": 1}, {"top_p": 0.01}])
def test_where_only_the_most_probable_remains_it_is_drawn(options):
    assert drawn(**options)[4] == 2 * DRAWS


def test_random_numbers_are_uniform_and_independent():
    seeds = ops.arange(DRAWS, dtype="int32")
    first, second = (np.asarray(uniform(seeds, slot, 3)) for slot in (0, 1))
    assert first.min() >= 0
    assert first.max() < 1
    assert scipy.stats.kstest(first, "uniform").pvalue > 0.01
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.03
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < 0.03


@pytest.fixture(scope="module")
def model():
    return random_table(1, sources=1)


def sample(model, temperatures, seeds, **options):
    search = Search(maximum_length=3, **options)
    wishes = Wishes(temperature=np.array(temperatures, "float32"), seed=np.array(seeds, "int32"))
    features = {"source": np.full((len(seeds), 1), 4, "int32")}
    return {name: np.asarray(v) for name, v in decode(model, features, search, wishes).items()}


def test_whole_answers_come_as_often_as_they_are_probable(model):
    """Against every answer there is, with its probability where padding and begin are excluded."""
    table = np.exp(np.asarray(model.logits, "float64"))[0]
    table[..., [PADDING, BEGIN]] = 0
    table /= table.sum(-1, keepdims=True)
    answers = [tuple(tokens) for *_, tokens in all_answers(model, 0, 3, lambda length: 1)]
    expected = [
        np.prod([table[i, p, t] for i, (p, t) in enumerate(zip((BEGIN, *a), a, strict=False))])
        for a in answers
    ]
    response = sample(model, [1.0] * DRAWS, range(DRAWS))
    rows = [tuple(int(t) for t in row if t != PADDING) for row in response["tokens"][:, 0]]
    counts = np.array([rows.count(answer) for answer in answers])
    assert counts.sum() == DRAWS
    assert_distributed(counts, expected)
    for row, score in list(zip(rows, response["scores"][:, 0], strict=True))[:50]:
        assert score == pytest.approx(model.score(0, row), rel=1e-5)


def test_a_row_s_answers_depend_on_its_own_seed_alone(model):
    seeds = [5, 6, 7, 5]
    together = sample(model, [1.5] * 4, seeds, beam_width=3, answers=3)
    for row, seed in enumerate(seeds):
        alone = sample(model, [1.5], [seed], beam_width=3, answers=3)
        np.testing.assert_array_equal(together["tokens"][row], alone["tokens"][0])
    assert (together["tokens"][0] != together["tokens"][1]).any()
    assert (np.diff(together["objectives"]) <= 0).all() | (together["lengths"] == 3).any()


def test_rows_that_search_and_rows_that_draw_share_a_batch(model):
    mixed = sample(model, [0.0, 1.0], [3, 3], beam_width=3, answers=3)
    drawn_alone = sample(model, [1.0], [3], beam_width=3, answers=3)
    searched = sample(model, [0.0], [9], beam_width=3, answers=3)
    np.testing.assert_array_equal(mixed["tokens"][0], searched["tokens"][0])
    np.testing.assert_array_equal(mixed["tokens"][1], drawn_alone["tokens"][0])


def test_traced_and_compiled_draws_are_the_same(model):
    def traced(ids, temperature, seed):
        return decode(
            model,
            {"source": ids},
            Search(maximum_length=3, beam_width=2, answers=2, top_p=0.9),
            Wishes(temperature=temperature, seed=seed),
        )["tokens"]

    arguments = (
        tf.fill([50, 1], 4),
        tf.ones([50]),
        tf.range(50),
    )
    eager = traced(*arguments).numpy()
    np.testing.assert_array_equal(tf.function(traced, autograph=False)(*arguments), eager)
    compiled = tf.function(traced, autograph=False, jit_compile=True)
    np.testing.assert_array_equal(compiled(*arguments), eager)
