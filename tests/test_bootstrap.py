"""Intervals of figures: BLEU is sacreBLEU's, and resampling sums is resampling examples."""

import numpy as np
import pytest
from sacrebleu.metrics import BLEU

from pipelines.engine.bootstrap import digits, interval, mean, ratio
from pipelines.tasks.text_metrics import corpus_bleu

WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "was", "3.5", "well-known", "!", "Zoë's"]


def sentences(seed, count, longest):
    draw = np.random.default_rng(seed)
    return [" ".join(draw.choice(WORDS, draw.integers(0, longest + 1))) for _ in range(count)]


def garbled(seed, texts):
    """Some words of each text replaced, some left out, now and then one more."""
    draw = np.random.default_rng(seed)
    kept = [[w if draw.random() < 0.8 else draw.choice(WORDS) for w in t.split()] for t in texts]
    return [" ".join(row[: draw.integers(len(row), len(row) + 2)]) for row in kept]


@pytest.mark.parametrize("longest", [2, 4, 12, 40])
@pytest.mark.parametrize("seed", range(6))
def test_bleu_is_sacrebleu_s(seed, longest):
    """Of short texts too, where orders are missing or nothing of an order is found."""
    references = sentences(seed, 1 + 20 * (seed % 2), longest)
    for written in (garbled(seed, references), sentences(seed + 100, len(references), longest)):
        expected = BLEU().corpus_score(written, [references]).score
        assert corpus_bleu(written, references).value == pytest.approx(expected, abs=1e-9)


def test_bleu_of_nothing_and_of_the_same():
    assert corpus_bleu(["", ""], ["a cat", "the mat"]).value == 0
    assert corpus_bleu(["a cat sat on the mat"], ["a cat sat on the mat"]).value == pytest.approx(
        100
    )


def test_a_resample_s_bleu_is_that_of_the_texts_drawn():
    references = sentences(1, 30, 12)
    written = garbled(2, references)
    draw = np.random.default_rng(0)
    resampled = corpus_bleu(written, references).resampled(seed=0)
    for value in resampled[:20]:
        chosen = draw.integers(30, size=30)
        expected = BLEU().corpus_score(
            [written[i] for i in chosen], [[references[i] for i in chosen]]
        )
        assert value == pytest.approx(expected.score, abs=1e-9)


def test_interval_of_a_mean_is_that_of_the_central_limit():
    values = np.random.default_rng(0).normal(3, 2, 1000)
    low, high = mean(values).interval()
    error = 1.96 * values.std() / np.sqrt(1000)
    assert low == pytest.approx(values.mean() - error, abs=0.02)
    assert high == pytest.approx(values.mean() + error, abs=0.02)


def test_a_paired_difference_is_surer_than_its_parts():
    draw = np.random.default_rng(0)
    easy = draw.random(400)
    one, other = (mean(easy + draw.normal(shift, 0.01, 400)) for shift in (0.02, 0.0))
    low, high = interval(one.gains_over(other))
    assert 0 < low < 0.02 < high
    assert one.interval()[0] < other.interval()[1]


def test_a_ratio_is_of_sums_and_not_a_mean_of_ratios():
    figure = ratio(np.array([1.0, 30.0]), np.array([1.0, 10.0]))
    assert figure.value == pytest.approx(31 / 11)
    assert set(np.round(figure.resampled(), 6)) == {1.0, round(31 / 11, 6), 3.0}


@pytest.mark.parametrize(
    ("value", "told"),
    [(0.123456, "0.1235"), (49686.7, "49,687"), (0.99995452, "0.999955"), (1.0, "1")],
)
def test_figures_are_short_but_nearly_all_is_not_all(value, told):
    assert digits(value) == told
