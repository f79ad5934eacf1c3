"""The error ladder: the textbook's cases, chance, and what a real run's diagnosis says."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest

from pipelines import diagnose
from pipelines.diagnosis.bias_variance import advice, default_tolerance
from pipelines.diagnosis.error_ladder import RUNGS, Gap, Rung, focus, gaps

BIAS, VARIANCE = "avoidable bias", "variance"
MISMATCH, OVERFITTING = "data mismatch", "overfitting to the dev set"


def ladder(**percent: float) -> list[Rung]:
    """Errors in per cent, by rung."""
    by_name = {name.replace("_", "-"): error for name, error in percent.items()}
    return [Rung.known(name, by_name[name] / 100) for name in RUNGS if name in by_name]


def named(found: list[Gap]) -> list[str]:
    return [gap.name for gap in focus(found)]


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ({"human": 0, "training": 1, "dev": 11}, [VARIANCE]),
        ({"human": 0, "training": 1, "dev": 12}, [VARIANCE]),
        ({"human": 0, "training": 15, "dev": 16}, [BIAS]),
        ({"human": 0, "training": 15, "dev": 30}, [BIAS, VARIANCE]),
        ({"human": 0, "training": 0.5, "dev": 1}, []),
        ({"human": 15, "training": 15.5, "dev": 16}, []),
        # The same errors, another human.
        ({"human": 1, "training": 8, "dev": 10}, [BIAS, VARIANCE]),
        ({"human": 7.5, "training": 8, "dev": 10}, [VARIANCE]),
        # Training and dev examples from different distributions.
        ({"human": 0, "training": 1, "training_dev": 9, "dev": 10}, [VARIANCE]),
        ({"human": 0, "training": 1, "training_dev": 1.5, "dev": 10}, [MISMATCH]),
        ({"human": 0, "training": 10, "training_dev": 11, "dev": 12}, [BIAS]),
        ({"human": 0, "training": 10, "training_dev": 11, "dev": 20}, [BIAS, MISMATCH]),
        (
            {"human": 4, "training": 7, "training_dev": 10, "dev": 12, "test": 12},
            [BIAS, VARIANCE, MISMATCH],
        ),
        (
            {"human": 4, "training": 7, "training_dev": 10, "dev": 6, "test": 6},
            [BIAS, VARIANCE],
        ),
        # The birds.
        ({"human": 0.1, "training": 2.0, "dev": 2.1}, [BIAS]),
        ({"human": 0.1, "training": 2.0, "dev": 2.1, "test": 7.0}, [OVERFITTING, BIAS]),
        ({"human": 0.1, "training": 0.05, "dev": 0.05}, []),
        ({"training": 3.5, "dev": 4.0}, []),
    ],
    ids=str,
)
def test_textbook_cases(errors, expected) -> None:
    assert named(gaps(ladder(**errors), tolerance=0.01)) == expected


def test_an_easier_dev_set_is_a_negative_gap() -> None:
    found = gaps(ladder(human=4, training=7, training_dev=10, dev=6, test=6), tolerance=0.01)
    assert [gap.verdict for gap in found] == ["large", "large", "negative", "small"]
    assert found[2].size == pytest.approx(-0.04)


def test_without_training_dev_set_a_mismatch_cannot_be_told_from_variance() -> None:
    errors = ladder(human=0, training=1, dev=10)
    assert named(gaps(errors, 0.01, one_distribution=False)) == ["variance or data mismatch"]
    assert named(gaps(errors, 0.01)) == [VARIANCE]


def wrong(share: float, count: int) -> np.ndarray:
    return (np.arange(count) < round(share * count)).astype(float)


@pytest.mark.parametrize(
    ("count", "verdict"), [(100, "inconclusive"), (400, "inconclusive"), (20_000, "large")]
)
def test_a_gap_within_chance_is_inconclusive(count: int, verdict: str) -> None:
    """5 against 8 % wrong: three points may be chance among few examples."""
    rungs = [Rung.measured(n, wrong(s, count)) for n, s in (("training", 0.05), ("dev", 0.08))]
    (gap,) = gaps(rungs, tolerance=0.01)
    assert gap.size == pytest.approx(0.03)
    assert gap.verdict == verdict


@pytest.mark.parametrize("noise", [0.0, 1e-9], ids=["few values", "many values"])
def test_the_interval_of_a_gap_is_that_of_independent_means(noise: float) -> None:
    """The normal approximation: ± 1.96 √(p (1 - p) / n + q (1 - q) / m)."""
    rungs = [
        Rung.measured("training", wrong(0.1, 4000) + noise * np.arange(4000)),
        Rung.measured("training-dev", wrong(0.2, 2000) + noise * np.arange(2000)),
    ]
    (gap,) = gaps(rungs, tolerance=0.01)
    reach = 1.96 * np.sqrt(0.1 * 0.9 / 4000 + 0.2 * 0.8 / 2000)
    np.testing.assert_allclose(gap.bounds, [0.1 - reach, 0.1 + reach], rtol=0.05)


def sentences(existing: set[str] = frozenset(), **errors: float) -> list[str]:
    rungs = ladder(**errors)
    return advice(rungs, gaps(rungs, tolerance=0.01), set(existing))


def test_advice_names_what_acts_on_the_gap_and_what_the_run_has() -> None:
    existing = {"--epochs", "--model.dropout", "--model.*", "--arrange.augment"}
    (bias,) = sentences(existing, human=0, training=15, dev=15.5)
    assert bias.startswith("Avoidable bias adds 0.15")
    assert "longer training (--epochs)" in bias
    assert "less regularization (--model.dropout)" in bias
    (variance,) = sentences(existing, human=0, training=0.5, dev=11)
    assert variance.startswith("Variance adds 0.105")
    assert "more training examples; augmentation (--arrange.augment)" in variance
    assert "--weight_decay" not in variance
    assert "--transfer" not in variance


def test_advice_says_what_cannot_be_known() -> None:
    assert ["--human_error" in sentence for sentence in sentences(training=3.5, dev=4)] == [True]
    (surpassed,) = sentences(human=0.1, training=0.05, dev=0.05)
    assert "below the human's" in surpassed
    easier = sentences(human=4, training=4, training_dev=4, dev=1)
    assert any("easier ones" in sentence for sentence in easier)
    assert sentences(human=0, training=0.5, dev=1) == ["No gap is larger than what is tolerated."]


def test_default_tolerance_is_a_point_of_per_cent_or_a_part_of_the_dev_error() -> None:
    assert default_tolerance(ladder(training=3, dev=5)) == 0.01
    prices = [Rung.known("training", 40_000), Rung.known("dev", 50_000)]
    assert default_tolerance(prices) == pytest.approx(2500)


@pytest.mark.parametrize("human", [0.0, None])
def test_the_command_on_a_real_run(human, command, smoke_run, tmp_path) -> None:
    """After two steps a network is wrong about training and other digits alike."""
    folder = tmp_path / "run"
    shutil.copytree(smoke_run("image_classification"), folder)
    stated = [] if human is None else ["--human_error", human]
    result = command(diagnose.main, folder, "--ladder_examples", 300, *stated)
    assert result.status == 0, result.err
    text = (folder / "diagnosis.md").read_text()
    assert (folder / "error_ladder.png").read_bytes().startswith(b"\x89PNG")
    rungs = re.findall(r"^\| (human|training|dev|test) \|", text, re.MULTILINE)
    assert rungs == ["human"] * len(stated[:1]) + ["training", "dev", "test"]
    if stated:
        assert "Avoidable bias adds 0." in result.out
        assert re.search(r"^\| avoidable bias \| .* \| large \|", text, re.MULTILINE)
    else:
        assert "--human_error" in result.out
        assert "avoidable bias |" not in text
