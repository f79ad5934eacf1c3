"""The median rule on made-up curves."""

from __future__ import annotations

import pytest

from tuning.stopping import hopeless
from tuning.trials import Search, Trial

CURVES = [(0.9, 0.7, 0.5), (0.8, 0.6, 0.4), (0.7, 0.5, 0.3)]  # means of two epochs .8, .7, .6


def search(curves, direction="min") -> Search:
    trials = [
        Trial(number=number, hyperparameters={}, score=0.0, curve=curve)
        for number, curve in enumerate(curves, start=1)
    ]
    return Search(
        application="house_prices",
        tuner="random",
        objective="val_loss",
        direction=direction,
        space=(),
        trials=[*trials, Trial(number=9, hyperparameters={}, status="running", curve=(0.0,) * 9)],
    )


@pytest.mark.parametrize(
    ("curve", "ends"),
    [([0.71, 0.72], True), ([0.71, 0.69], False), ([0.69, 0.9], False), ([9.0] * 4, False)],
)
def test_a_trial_ends_whose_best_is_worse_than_the_median_of_the_means(curve, ends) -> None:
    assert hopeless(search(CURVES), curve) == ends
    negative = [tuple(-value for value in one) for one in CURVES]
    assert hopeless(search(negative, "max"), [-value for value in curve]) == ends


def test_two_trials_have_no_median_that_is_worth_anything() -> None:
    assert not hopeless(search(CURVES[:2]), [9.0, 9.0])
