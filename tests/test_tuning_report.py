"""What is told of a search, on records of searches that never ran."""

from __future__ import annotations

import dataclasses
import io
import itertools
import math
import re
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from pipelines.engine.application import UserError
from tests.search_records import (
    DROPOUT,
    MOMENTUM,
    OPTIMIZER,
    RATE,
    SPACE,
    UNITS,
    grid_search,
    random_search,
)
from tuning import grid_lesson
from tuning.definition import Definition
from tuning.folder import Folder
from tuning.report import document
from tuning.report.axes import ABSENT, Axis, ScoreAxis
from tuning.report.importance import UntoldError, importance
from tuning.report.live_table import live_table
from tuning.report.progress import best_so_far, expected_best, finished, trials_to_reach
from tuning.report.tensorboard import write_hparams
from tuning.trials import Dimension, Search, Trial

CHOICES = (
    Dimension(name="arrange.augment", scale="choice", choices=("none", "affine", "rand_augment")),
    Dimension(name="schedule", scale="choice", choices=("constant", None)),
)


def changed(search: Search, **changes: Any) -> Search:
    """The search with all trials changed in the same way."""
    trials = [dataclasses.replace(trial, **changes) for trial in search.trials]
    return dataclasses.replace(search, trials=trials)


def scores(direction: str, *values: float | None) -> Search:
    """Trials with nothing but scores; none: failed."""
    trials = [
        Trial(
            number=number,
            status="completed" if value is not None else "failed",
            hyperparameters={},
            score=value,
            began=float(number),
        )
        for number, value in enumerate(values, 1)
    ]
    return random_search(0, space=(), direction=direction, trials=trials, default=None)


def categorical() -> Search:
    settings = itertools.product(*(dimension.choices for dimension in CHOICES))
    trials = [
        Trial(
            number=number,
            hyperparameters=dict(zip(("arrange.augment", "schedule"), values, strict=True)),
            score=0.9 + 0.05 * (values[0] == "affine"),
        )
        for number, values in enumerate([*settings] * 3, 1)
    ]
    return random_search(0, space=CHOICES, direction="max", trials=trials, default=0.9)


def conditional() -> Search:
    """A search in rounds, half of whose trials have no momentum; the last one still runs."""
    search = random_search(20, space=(RATE, MOMENTUM))
    trials = [
        dataclasses.replace(
            trial,
            hyperparameters={"learning_rate": trial.hyperparameters["learning_rate"]}
            if trial.number % 2
            else trial.hyperparameters,
            round=trial.number // 11,
        )
        for trial in search.trials
    ]
    trials[-1] = dataclasses.replace(
        trials[-1], status="running", score=None, curve=(2.0, 1.0), reason=""
    )
    return dataclasses.replace(search, trials=trials)


def stopped() -> Search:
    """A search whose trials with the best scores were ended after three epochs."""
    search = random_search(12)
    hopeless = {trial.number for trial in search.ranked()[:4]}
    trials = [
        dataclasses.replace(trial, status="stopped", curve=trial.curve[:3], spread=None)
        if trial.number in hopeless
        else trial
        for trial in search.trials
    ]
    return dataclasses.replace(search, trials=trials)


CASES = {
    "many": random_search(30),
    "one": random_search(1),
    "none": random_search(0),
    "failed": changed(random_search(5), status="failed", score=None, reason="out of memory"),
    "nan": changed(random_search(5), score=math.nan, curve=(1.0, math.nan, math.inf)),
    "the same": changed(random_search(10), score=0.5, status="completed", curve=(0.5,)),
    "all break a limit": changed(random_search(5), broken=("latency_ms<=1",)),
    "categorical": categorical(),
    "conditional": conditional(),
    "stopped": stopped(),
    "nothing to draw": changed(
        random_search(3, default=None), status="failed", score=None, curve=(math.nan,)
    ),
    "nothing varies": scores("max", 0.5, 0.25),
}


@pytest.mark.parametrize("search", CASES.values(), ids=CASES)
def test_report_shows_all_its_pictures_and_no_others(search: Search, tmp_path) -> None:
    document.write(search, tmp_path / "search")
    text = (tmp_path / "search" / "report.md").read_text()
    shown = re.findall(r"!\[[^]]*\]\(([^)]+)\)", text)
    files = {file.name for file in (tmp_path / "search").iterdir()}
    assert files == {"report.md", *shown}
    finite = [x for t in search.trials for x in (*t.curve, t.score or 0) if math.isfinite(x)]
    assert bool(shown) == any(finite)
    for name in shown:
        assert (tmp_path / "search" / name).read_bytes().startswith(b"\x89PNG")


def test_report_tells_what_was_best_and_what_was_not(tmp_path) -> None:
    search = random_search(30)
    document.write(search, tmp_path)
    text = (tmp_path / "report.md").read_text()
    best = search.ranked()[0]
    assert f"**Best: trial {best.number}, val_loss {best.score:.4g} ± 0.01**" in text
    assert f"--learning_rate {best.hyperparameters['learning_rate']:.4g} " in text
    better = sum(trial.score < 0.31 for trial in search.ranked())
    assert f"{better} of {len(search.ranked())} trials are better" in text
    broken = sum(bool(trial.broken) for trial in search.trials)
    assert f"parameters<=2.2e5 ({broken})" in text
    lost = [trial for trial in search.trials if trial.status == "failed"]
    numbers = ", ".join(str(trial.number) for trial in lost)
    assert f"| {len(lost)} | the loss became nan in epoch 4 | {numbers} | learning_rate 0.3" in text


def test_what_was_stopped_early_is_told_and_never_best(tmp_path) -> None:
    search, whole = stopped(), random_search(12)
    assert search.ranked() == whole.ranked()[4:]
    best = search.ranked()[0]
    assert np.nanmin(best_so_far(search)) == best.score
    document.write(search, tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert ", 4 stopped early;" in text
    assert f"**Best: trial {best.number}, " in text
    assert "never best. Epochs (trials): 3 (4)." in text
    assert "a triangle where one was stopped" in text
    table = text.split("## Stopped early")[1].split("\n## ")[0]
    assert f"\n| {whole.ranked()[0].number} | " in table


def test_a_best_trial_at_the_edge_is_named() -> None:
    trial = Trial(number=1, hyperparameters={"learning_rate": 1.1e-4, "beta_1": 0.99}, score=1.0)
    search = random_search(0, space=(RATE, MOMENTUM), trials=[trial])
    assert "Its learning_rate (0.00011) lies at the edge" in "".join(document.result(search))
    assert "no trial is better" in "".join(document.result(search))


def test_scores_that_are_no_numbers_are_never_best() -> None:
    assert [t.number for t in scores("min", math.nan, 3.0, math.nan, 1.0, -math.inf).ranked()] == [
        4,
        2,
    ]


def test_best_so_far_ignores_failures_and_broken_limits() -> None:
    search = scores("max", None, 0.5, 0.25, math.nan, 0.75)
    np.testing.assert_equal(best_so_far(search), [math.nan, 0.5, 0.5, 0.5, 0.75])
    assert trials_to_reach(search, 0.6) == 5
    assert trials_to_reach(search, 0.8) is None
    broken = dataclasses.replace(search.trials[4], broken=("parameters<=1",))
    search = dataclasses.replace(search, trials=[*search.trials[:4], broken])
    assert trials_to_reach(search, 0.6) is None


def test_trials_count_in_the_order_in_which_they_end() -> None:
    long = Trial(number=1, hyperparameters={}, score=1.0, began=0, seconds=100)
    short = Trial(number=2, hyperparameters={}, score=2.0, began=1, seconds=5)
    search = random_search(0, space=(), trials=[long, short])
    assert [trial.number for trial in finished(search)] == [2, 1]
    np.testing.assert_equal(best_so_far(search), [2.0, 1.0])


@pytest.mark.parametrize("direction", ["min", "max"])
def test_expected_best_is_the_mean_over_all_choices(direction: str) -> None:
    values = [3.0, 1.0, 4.0, 1.5, 9.0]
    best = min if direction == "min" else max
    by_hand = [
        np.mean([best(chosen) for chosen in itertools.combinations(values, count)])
        for count in range(1, 6)
    ]
    np.testing.assert_allclose(expected_best(scores(direction, *values)), by_hand)
    worst = max(values) if direction == "min" else min(values)
    np.testing.assert_allclose(
        expected_best(scores(direction, *values, None)),
        expected_best(scores(direction, *values, worst)),
    )


@pytest.mark.parametrize(
    ("dimension", "labels"),
    [
        (RATE, ["0.0001", "0.001", "0.01", "0.1", "1"]),
        (MOMENTUM, ["0.9", "0.97", "0.99", "0.997", "0.999"]),
        (UNITS, ["50", "100", "150", "200", "250"]),
        (DROPOUT, ["0", "0.1", "0.2", "0.3", "0.4", "0.5"]),
        (OPTIMIZER, ["sgd", "momentum", "adam"]),
        (Dimension(name="narrow", scale="log", low=0.011, high=0.014), ["0.011", "0.014"]),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_axes_have_round_labels_where_they_belong(dimension: Dimension, labels: list[str]) -> None:
    positions, found = Axis(dimension).ticks()
    assert sorted(found, key=found.index) == labels or found[::-1] == labels
    assert all(-1e-9 <= position <= 1 + 1e-9 for position in positions)
    if dimension.scale != "choice":
        values = [float(label) for label in found]
        np.testing.assert_allclose(
            [Axis(dimension).position(v) for v in values], positions, atol=0.01
        )


def test_what_a_trial_has_not_lies_beside_the_axis() -> None:
    assert Axis(MOMENTUM).position(None) == ABSENT
    assert Axis(CHOICES[1]).position(None) == 1.0


def test_scores_far_worse_than_the_others_are_put_at_the_edge() -> None:
    search = scores("max", 0.9, *[0.8] * 3, *[0.85] * 3, 0.01)
    axis = ScoreAxis.of(search, [trial.score for trial in search.trials])
    assert axis.position(0.9) == 1.0
    assert axis.position(0.01) == 0.0
    assert axis.worst > 0.5
    few = scores("max", 0.9, 0.8, 0.01)
    assert ScoreAxis.of(few, [trial.score for trial in few.trials]).worst == 0.01
    losses = ScoreAxis.of(scores("min"), [1.0, 2.0, 1e3])
    assert losses.logarithmic
    assert losses.position(1.0) == 1.0


def test_importance_finds_what_decides() -> None:
    found = importance(random_search(40))
    assert found.names[0] == "learning_rate"
    assert found.alone[0] > 0.8
    assert found.explained > 0.5
    assert set(found.names) == {dimension.name for dimension in SPACE}
    assert found.alone.sum() <= 1.1


def test_importance_of_choices_and_of_what_is_not_always_used() -> None:
    assert importance(categorical()).names[0] == "arrange.augment"
    assert importance(conditional()).names[0] == "learning_rate"


def noise() -> Search:
    search = random_search(20)
    drawn = np.random.default_rng(1).uniform(size=20)
    trials = [
        dataclasses.replace(trial, status="completed", score=float(score))
        for trial, score in zip(search.trials, drawn, strict=True)
    ]
    return dataclasses.replace(search, trials=trials)


@pytest.mark.parametrize(
    ("search", "words"),
    [
        (random_search(5), "it takes 8 to tell"),
        (scores("min", *range(10)), "no hyperparameter was varied"),
        (noise(), "chance decides more"),
    ],
    ids=["few", "one setting", "noise"],
)
def test_importance_is_not_told_where_it_cannot_be(search: Search, words: str) -> None:
    with pytest.raises(UntoldError, match=words):
        importance(search)


def printed(search: Search) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(live_table(search))
    return console.export_text()


@pytest.mark.parametrize("search", CASES.values(), ids=CASES)
def test_live_table_shows_the_best_and_the_latest(search: Search) -> None:
    text = printed(search)
    numbers = {int(number) for number in re.findall(r"^│ +(\d+) │", text, re.MULTILINE)}
    shown = [*search.ranked()[:5], *search.trials[-5:]]
    assert {trial.number for trial in shown} <= numbers
    assert len(numbers) <= 13
    assert text.count("best") == bool(search.ranked())


def test_live_table_says_how_each_trial_stands() -> None:
    text = printed(conditional())
    assert "1 …" in text  # the last score of the one that runs
    assert "1 running; default recipe 0.31" in text
    assert "failed: out of memory" in printed(CASES["failed"])
    assert "failed: val_loss is nan" in printed(CASES["nan"])
    assert "breaks latency_ms<=1" in printed(CASES["all break a limit"])
    assert "stopped: hopeless" in printed(stopped())
    assert "8 completed, 4 stopped early; " in printed(stopped())
    reason = "no [/path] and no shape [1, 2]"
    assert f"failed: {reason}" in printed(changed(CASES["failed"], reason=reason))


def test_lesson_counts_values_and_trials(tmp_path) -> None:
    grid, random = grid_search(2), random_search(32, seed=1)
    grid_lesson.write(grid, random, tmp_path)
    text = (tmp_path / "grid_lesson.md").read_text()
    assert "| learning_rate | 2 | 32 |" in text
    assert "| trials | 32 | 32 |" in text
    reached = trials_to_reach(random, grid.ranked()[0].score)
    assert f"as good as the whole grid after {reached} trial" in text
    for name in ("grid_values.png", "grid_progress.png"):
        assert f"({name})" in text
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_lesson_says_so_where_the_grid_was_better() -> None:
    random = changed(random_search(10), score=5.0)
    assert "did not reach the grid's best in its 10 trials" in grid_lesson.verdict(
        grid_search(2), random
    )


def test_lesson_refuses_searches_that_cannot_be_compared(tmp_path) -> None:
    with pytest.raises(UserError, match="same space and objective"):
        grid_lesson.write(grid_search(2), random_search(5, space=(RATE,)), tmp_path)
    with pytest.raises(UserError, match="without a score"):
        grid_lesson.write(grid_search(2), random_search(0), tmp_path)


def test_lesson_reads_the_folders_of_two_searches(tmp_path, command) -> None:
    for search in (grid_search(2), random_search(32)):
        folder = Folder(tmp_path / search.tuner)
        definition = Definition(
            application=search.application,
            space=SPACE,
            tuner=search.tuner,
            trials=32,
            objective=search.objective,
        )
        folder.create(definition)
        for trial in search.trials:
            folder.write(trial)
    told = command(grid_lesson.main, tmp_path / "grid", tmp_path / "random")
    assert told.status == 0, told.err
    assert grid_lesson.verdict(grid_search(2), random_search(32)) in told.out
    assert (tmp_path / "grid" / "grid_lesson.md").exists()
    refused = command(grid_lesson.main, tmp_path / "grid", tmp_path)
    assert refused.status == 2
    assert "is no folder of a search" in refused.err


def test_tensorboard_reads_settings_scores_and_ends(tmp_path) -> None:
    from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import api_pb2, metadata
    from tensorboard.util import tensor_util

    mixed = Dimension(name="clip_norm", scale="choice", choices=(None, 1.0))
    search = random_search(12, space=(RATE, UNITS, OPTIMIZER, mixed))
    write_hparams(search, tmp_path / "hparams", began=1e9)

    def read(folder) -> EventAccumulator:
        events = EventAccumulator(str(folder))
        events.Reload()
        return events

    def content(events: EventAccumulator, tag: str) -> bytes:
        return events.SummaryMetadata(tag).plugin_data.content

    events = read(tmp_path / "hparams")
    experiment = metadata.parse_experiment_plugin_data(content(events, metadata.EXPERIMENT_TAG))
    assert [info.name for info in experiment.hparam_infos] == [d.name for d in search.space]
    assert [info.name.tag for info in experiment.metric_infos] == [
        "val_loss",
        "parameters",
        "latency_ms",
    ]
    assert {trial.status for trial in search.trials} == {"completed", "failed"}
    for trial in search.trials:
        events = read(tmp_path / "hparams" / f"{trial.number:04d}")
        start = metadata.parse_session_start_info_plugin_data(
            content(events, metadata.SESSION_START_INFO_TAG)
        )
        rate = trial.hyperparameters["learning_rate"]
        assert start.hparams["learning_rate"].number_value == rate
        assert start.hparams["clip_norm"].string_value == str(trial.hyperparameters["clip_norm"])
        end = metadata.parse_session_end_info_plugin_data(
            content(events, metadata.SESSION_END_INFO_TAG)
        )
        assert end.end_time_secs == pytest.approx(1e9 + trial.began + trial.seconds)
        if trial.score is None:
            assert end.status == api_pb2.STATUS_FAILURE
        else:
            assert end.status == api_pb2.STATUS_SUCCESS
            (value,) = events.Tensors("val_loss")
            assert tensor_util.make_ndarray(value.tensor_proto) == np.float32(trial.score)
