"""One optimizing metric and limits for the others: the textbook's birds, and what is no limit."""

from __future__ import annotations

import math
import re
import shutil

import pytest

from pipelines import compare, evaluate
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
    with pytest.raises(UserError, match="is no limit; write one like 'latency_ms<=10'"):
        Limit.parse(text)


def test_an_unknown_figure_is_refused() -> None:
    with pytest.raises(UserError, match="unknown figure 'second'; there is: seconds, "):
        select(BIRDS, "accuracy", [Limit.parse("second<=10")])


def test_compare_names_the_run_to_take(smoke_run, command, tmp_path) -> None:
    shutil.copytree(smoke_run("tabular_classification"), tmp_path / "run")
    run = tmp_path / "run"
    unknown = command(compare.main, run, "--optimize=accuracy")
    assert f"python -m pipelines.evaluate {run} --split validation" in unknown.err
    assert command(evaluate.main, run, "--split=validation").status == 0
    limits = ["--limit=megabytes<=100", "--limit=latency_ms<=1e9", "--limit=training_seconds>0"]
    result = command(compare.main, run, "--optimize=accuracy", *limits)
    assert result.status == 0, result.err
    taken = f"Take {run}: accuracy [0-9.]+ .validation., the best of 1 that keep megabytes<=100, "
    assert re.search(taken, result.out)
    result = command(compare.main, run, "--optimize=error", "--limit=megabytes<0.001")
    assert "No run keeps megabytes<0.001." in result.out
    assert re.search(f"{run} breaks megabytes<0.001 .it is [0-9.]+.", result.out)
    for wrong, message in (
        (["--optimize=speed"], "unknown figure 'speed'; there is: "),
        (["--limit=error<1"], "--limit needs --optimize FIGURE"),
    ):
        result = command(compare.main, run, *wrong)
        assert result.status == 2
        assert message in result.err
