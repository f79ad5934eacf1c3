"""One optimizing metric and limits for the others: the textbook's birds, and what is no limit."""

from __future__ import annotations

import math

import pytest

from pipelines.diagnosis.selection import Limit, Selection, select
from pipelines.engine.application import UserError

BIRDS = {
    "careful": {"accuracy": 0.98, "seconds": 9, "megabytes": 9},
    "slow": {"accuracy": 0.99, "seconds": 13, "megabytes": 9},
    "quick": {"accuracy": 0.97, "seconds": 1, "megabytes": 3},
    "small": {"accuracy": 0.97, "seconds": 3, "megabytes": 2},
}
NEEDS = [Limit.parse(text) for text in ("accuracy>=0.98", "seconds<=10", "megabytes<=10")]


def test_the_birds_need_98_percent_in_10_seconds_and_10_megabytes() -> None:
    chosen = select(BIRDS, "accuracy", NEEDS)
    assert chosen.best == "careful"
    assert chosen.ranking == ["careful"]
    broken = {name: [str(limit) for limit in limits] for name, limits in chosen.broken.items()}
    assert broken == {
        "slow": ["seconds<=10"],
        "quick": ["accuracy>=0.98"],
        "small": ["accuracy>=0.98"],
    }


def test_without_limits_the_best_is_the_best() -> None:
    assert select(BIRDS, "accuracy").ranking == ["slow", "careful", "quick", "small"]
    assert select(BIRDS, "megabytes").ranking == ["small", "quick", "careful", "slow"]


def test_none_may_be_good_enough() -> None:
    limit = Limit("seconds", "<", 1)
    broken = {name: [limit] for name in BIRDS}
    assert select(BIRDS, "accuracy", [limit]) == Selection(None, [], broken)


@pytest.mark.parametrize(
    ("text", "value", "holds"),
    [
        ("x<=1", 1, True),
        ("x<1", 1, False),
        (" x >= 1e-3 ", 0.001, True),
        ("x > -2", -2, False),
        ("x<=1", math.nan, False),
        ("x>=1", math.nan, False),
    ],
)
def test_limits(text, value, holds) -> None:
    assert Limit.parse(text).holds({"x": value}) is holds


@pytest.mark.parametrize("text", ["", "x", "x=1", "x<=", "<=1", "x<=fast", "x<=nan", "x<=1<=2"])
def test_what_is_no_limit_is_refused(text) -> None:
    with pytest.raises(UserError, match="is no limit; write one like milliseconds<=10"):
        Limit.parse(text)


def test_an_unknown_figure_is_refused() -> None:
    with pytest.raises(UserError, match="unknown figure 'second'; there is: seconds, "):
        select(BIRDS, "accuracy", [Limit.parse("second<=10")])
