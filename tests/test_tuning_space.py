"""Spaces: the laws of what is drawn, the boxes of refined searches, and what cannot be searched."""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import math

import numpy as np
import pytest
from scipy import stats

from pipelines.engine.application import UserError, application_names, load_application
from pipelines.engine.configuration import parse
from tuning import scales
from tuning.definition import Definition, measured_names
from tuning.oracles import oracle_of
from tuning.search import define
from tuning.space import (
    grid,
    objective_of,
    options_of,
    own_options,
    parse_dimension,
    proposal,
    refined,
    space_of,
)
from tuning.trials import Dimension, Trial

DRAWS = 600
UNLIKELY = 1e-3  # below which a sample is not of the law; the draws are the same in every run

LEARNING_RATE = scales.log("learning_rate", 1e-4, 1.0)
MOMENTUM = scales.one_minus("beta_1", 0.9, 0.999)
UNITS = scales.integer("model.units", 50, 100)
DROPOUT = scales.linear("model.dropout", 0.1, 0.4)
OPTIMIZER = scales.choice("optimizer", "adam", "sgd", None)
SPACE = (OPTIMIZER, LEARNING_RATE, MOMENTUM, UNITS, DROPOUT)


def definition(space=SPACE, **options) -> Definition:
    named = {"application": "house_prices", "objective": "val_loss", "space": space}
    return Definition(**named | options)


def oracle(ranked=lambda: [], epochs: int = 9, **options):
    return oracle_of(definition(**options), epochs, ranked)


@pytest.fixture(scope="module")
def drawn() -> dict[str, np.ndarray]:
    """What a random search proposes, by option."""
    proposing = oracle(trials=DRAWS)
    proposals = [options_of(SPACE, proposing._random_values()) for _ in range(DRAWS)]
    return {name: np.array([one[name] for one in proposals], object) for name in proposals[0]}


def against(law, sample: np.ndarray) -> float:
    return stats.kstest(sample.astype(float), law.cdf).pvalue


def test_learning_rates_are_log_uniform(drawn) -> None:
    assert against(stats.loguniform(1e-4, 1.0), drawn["learning_rate"]) > UNLIKELY
    assert against(stats.uniform(1e-4, 1.0), drawn["learning_rate"]) < UNLIKELY


def test_the_distance_of_momentum_to_one_is_log_uniform(drawn) -> None:
    assert against(stats.loguniform(1e-3, 1e-1), 1 - drawn["beta_1"]) > UNLIKELY
    # Half of all draws average over more than 100 steps; of uniform ones a tenth would.
    assert np.mean(drawn["beta_1"] > 0.99) == pytest.approx(0.5, abs=0.07)


def test_dropout_is_uniform(drawn) -> None:
    assert against(stats.uniform(0.1, 0.3), drawn["model.dropout"]) > UNLIKELY


def test_units_are_uniform_whole_numbers_bounds_included(drawn) -> None:
    values, counts = np.unique(drawn["model.units"].astype(int), return_counts=True)
    assert values.tolist() == list(range(50, 101))
    assert stats.chisquare(counts).pvalue > UNLIKELY


def test_choices_are_equally_likely_whatever_their_type(drawn) -> None:
    counts = [sum(value == chosen for value in drawn["optimizer"]) for chosen in OPTIMIZER.choices]
    assert sum(counts) == DRAWS
    assert stats.chisquare(counts).pvalue > UNLIKELY


def test_dimensions_are_drawn_independently(drawn) -> None:
    numbers = [name for name in drawn if name != "optimizer"]
    for one, other in itertools.combinations(numbers, 2):
        pair = (drawn[one].astype(float), drawn[other].astype(float))
        assert stats.spearmanr(*pair).pvalue > UNLIKELY


@pytest.mark.parametrize("dimension", [LEARNING_RATE, MOMENTUM, UNITS, DROPOUT])
def test_a_position_and_its_value_are_the_same(dimension) -> None:
    assert scales.value_at(dimension, 0.0) == pytest.approx(dimension.low)
    assert scales.value_at(dimension, 1.0) == pytest.approx(dimension.high)
    for place in np.linspace(0, 1, 9):
        value = scales.value_at(dimension, place)
        assert scales.value_at(dimension, scales.position(dimension, value)) == pytest.approx(value)


def test_a_condition_is_kept() -> None:
    beta = dataclasses.replace(MOMENTUM, when={"optimizer": ("adam",)})
    space = (beta, OPTIMIZER)
    proposing = oracle(space=space, trials=50)
    proposals = [options_of(space, proposing._random_values()) for _ in range(50)]
    assert {one["optimizer"] for one in proposals} == {"adam", "sgd", None}
    assert all(("beta_1" in one) == (one["optimizer"] == "adam") for one in proposals)


def test_seeds() -> None:
    def first(seed: int) -> list:
        proposing = oracle(seed=seed)
        return [proposing._random_values() for _ in range(20)]

    assert first(0) == first(0)  # of which keras-tuner would make a seed at random
    # keras-tuner counts up from the seed, so that seeds side by side would share their draws.
    rates = [{values["learning_rate"] for values in first(seed)} for seed in range(6)]
    assert len(set.union(*rates)) == 6 * 20


def trial(number: int, **hyperparameters) -> Trial:
    return Trial(number=number, hyperparameters=hyperparameters, score=float(number))


@pytest.mark.parametrize("seed", range(20))
def test_a_refined_box_halves_around_the_best_and_stays_within_the_bounds(seed) -> None:
    random = np.random.default_rng(seed)
    numbers = (LEARNING_RATE, MOMENTUM, UNITS, DROPOUT)
    ranked = [
        trial(n, **{one.name: scales.value_at(one, random.random()) for one in numbers})
        for n in range(1, 8)
    ]
    for times in (1, 2, 3):
        for before, after in zip(numbers, refined(numbers, ranked, times), strict=True):
            assert before.low <= after.low < after.high <= before.high
            width = scales.position(before, after.high) - scales.position(before, after.low)
            slack = 0.021 if before.scale == "integer" else 1e-9
            assert width == pytest.approx(0.5**times, abs=slack)
            best = ranked[0].hyperparameters[before.name]
            assert after.low * (1 - 1e-9) <= best <= after.high * (1 + 1e-9)


def test_the_recipe_is_a_setting_where_it_lies_within_the_bounds() -> None:
    configuration, _ = parse(
        load_application("house_prices"), ["--optimizer=momentum", "--learning_rate=0.5"]
    )
    space = (
        scales.log("learning_rate", 1e-3, 1.0),
        scales.log("weight_decay", 1e-6, 1e-2),  # the recipe has none, which no log scale reaches
        scales.one_minus("beta_1", 0.9, 0.999, when={"optimizer": ("adam",)}),
        scales.one_minus("momentum", 0.9, 0.999, when={"optimizer": ("momentum",)}),
        scales.choice("optimizer", "adam", "momentum"),
        scales.choice("schedule", "steps", "nothing"),
    )
    own = own_options(space, configuration)
    assert own == {"learning_rate": 0.5, "momentum": 0.9, "optimizer": "momentum"}


def test_a_refined_choice_is_what_the_best_third_chose() -> None:
    chosen = ["sgd", "sgd", "adam", "adam", None, None]
    ranked = [trial(n, optimizer=name) for n, name in enumerate(chosen)]
    assert refined([OPTIMIZER], ranked, 1)[0].choices == ("sgd",)
    assert refined([OPTIMIZER], ranked[1:], 1)[0].choices == ("adam", "sgd")


def test_a_box_without_a_good_trial_stays_as_it_is() -> None:
    assert refined(SPACE, [], 2) == list(SPACE)


def test_a_refined_search_waits_for_the_whole_round() -> None:
    ranked = [trial(1, learning_rate=1e-3, optimizer="sgd")]
    searching = oracle(trials=4, refine=1, ranked=lambda: ranked)
    trials = [searching.populate_space(str(number)) for number in range(2)]
    searching.trials = dict.fromkeys("01")
    searching.ongoing_trials = {"worker": None}
    assert searching.populate_space("2")["status"] == "IDLE"
    searching.ongoing_trials = {}
    values = [options_of(SPACE, searching.populate_space("2")["values"]) for _ in range(30)]
    assert all(one["optimizer"] == "sgd" and 1e-4 <= one["learning_rate"] <= 1e-2 for one in values)
    assert {one["status"] for one in trials} == {"RUNNING"}


def test_a_grid_is_as_fine_as_the_trials_allow() -> None:
    space = (LEARNING_RATE, UNITS)
    cells = grid(space, 2, at_most=4)
    assert [round(math.log10(cell["learning_rate"]), 6) for cell in cells] == [-3, -3, -1, -1]
    assert len(oracle(space=space, tuner="grid", trials=11).cells) == 9
    assert grid(space, 4, at_most=11) is None
    with pytest.raises(UserError, match="grid of more than 3 cells"):
        oracle(space=space, tuner="grid", trials=3)


def test_a_grid_has_no_cells_that_differ_in_what_does_not_matter() -> None:
    beta = dataclasses.replace(MOMENTUM, when={"optimizer": ("adam",)})
    cells = grid((OPTIMIZER, beta), 2, at_most=9)
    assert [cell["optimizer"] for cell in cells] == ["adam", "adam", "sgd", None]
    assert all(
        options_of((OPTIMIZER, beta), proposal((OPTIMIZER, beta), cell)) == pytest.approx(cell)
        for cell in cells
        if cell["optimizer"] == "sgd"
    )


@pytest.mark.parametrize("name", application_names())
def test_every_application_has_a_space(name) -> None:
    application = load_application(name)
    configuration = parse(application, [])[0]
    dimensions = {
        one.name: scales.check(one)
        for one in importlib.import_module(f"tuning.spaces.{name}").space(configuration)
    }
    assert [one.priority for one in dimensions.values()].count(1) == 1  # the learning rate
    assert dimensions["learning_rate"].priority == 1
    assert objective_of(name) in measured_names(configuration)
    unknown = set(dimensions)
    choices = [f"--architecture={name}" for name in application.architectures]
    for option in ("--optimizer=momentum", *choices):
        space = space_of(parse(application, [option])[0])
        unknown -= {one.name for one in space}
        if not unknown:
            break
    assert not unknown
    searched = define({"application": name})
    for end in (0, -1):  # what is proposed is what the command line takes
        values = {
            one.name: one.choices[end] if one.choices else (one.low, one.high)[end]
            for one in searched.space
        }
        assert searched.configuration(values).recipe.learning_rate == values["learning_rate"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rate=log(1e-1,1e-3)", "reversed"),
        ("learning_rate=log(0,1)", "log scale, which never reaches 0"),
        ("beta_1=one_minus(0.5,1)", "never reaches 1"),
        ("model.units=integer(1.5,4)", "whole"),
        ("learning_rate=log(1e-3)", "two numbers"),
        ("learning_rate=log(a,b)", "two numbers"),
        ("learning_rate=logarithmic(1,2)", "unknown scale .*; there is: log"),
        ("learning_rate=0.1", "is no dimension; write"),
        ("optimizer=choice()", "nothing to choose from"),
        ("learning_rat=log(1e-3,1)", "unknown option to vary .*; there is: learning_rate"),
    ],
)
def test_what_is_no_dimension(text, message) -> None:
    with pytest.raises(UserError, match=message):
        define({"application": "house_prices", "vary": [text]})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"options": ["--learning_rate=0.1"], "priority": 1}, "the space is empty"),
        (
            {"options": ["--epochs", "3"], "vary": ["epochs=integer(1,3)"]},
            "both fixed and varied",
        ),
        ({"limits": ["latency<=10"]}, "unknown measure in --limit .*there is: latency_ms"),
        ({"limits": ["latency_ms=10"]}, "is no limit; write"),
        ({"objective": "val_accuracy"}, "unknown --objective .*there is: val_"),
        ({"trials": 0}, "--trials must be at least 1"),
        ({"trials": 2, "refine": 2}, "makes 3 rounds"),
        ({"tuner": "bayesian", "refine": 1}, "goes with --tuner random"),
        ({"tuner": "hyperband", "vary": ["epochs=integer(1,3)"]}, "itself varies the epochs"),
        ({"tuner": "grid"}, "give more --trials"),
        ({"options": ["--smoke"]}, "--smoke makes no search"),
        ({"options": ["--monitor=val_loss"]}, "--objective, not --monitor"),
        ({"options": ["--epoch=3"]}, "unknown option --epoch; there is: --epochs"),
        ({"options": ["--trails", "5"]}, "unknown option --trails; there is: --trials, --"),
        ({"folds": 1}, "--folds must be at least 2, not 1"),
        ({"folds": 2, "options": ["--fold=1/2"]}, "--folds and --fold exclude each other"),
        ({"folds": 2, "options": ["--dev_source=town"]}, "--folds and --dev_source exclude"),
        ({"tuner": "hyperband", "stop_hopeless": True}, "itself ends what falls behind"),
    ],
)
def test_what_is_no_search(given, message) -> None:
    with pytest.raises(UserError, match=message):
        define({"application": "house_prices", **given})


def test_what_is_fixed_does_not_vary_nor_what_depends_on_something_else() -> None:
    options = ["--optimizer=sgd", "--learning_rate", "0.1", "--architecture=linear_regression"]
    names = {one.name for one in define({"application": "house_prices", "options": options}).space}
    assert names.isdisjoint({"learning_rate", "beta_1", "beta_2", "model.units"})
    assert {"batch_size", "l2"} <= names
    only = define({"application": "house_prices", "priority": 1, "vary": ["optimizer=choice(sgd)"]})
    assert [one.name for one in only.space] == ["learning_rate", "optimizer"]


def test_a_dimension_as_it_is_typed() -> None:
    assert parse_dimension("learning_rate=log(1e-4, 1)") == LEARNING_RATE
    chosen = parse_dimension("--optimizer=choice(adam,sgd,null)")
    maps = parse_dimension("model.maps=choice([16,32],[8,8,8])")
    assert maps.choices == ([16, 32], [8, 8, 8])
    assert chosen == Dimension(name="optimizer", scale="choice", choices=("adam", "sgd", None))


def test_trainings_of_a_trial_are_every_execution_of_every_fold() -> None:
    configuration, _ = parse(load_application("house_prices"), ["--seed=7"])
    several = definition(executions=2, folds=3)
    trainings = [several.training(configuration, number) for number in range(several.trainings)]
    parts = [(one.recipe.seed, one.partition.fold) for one in trainings]
    assert parts == [(seed, f"{fold}/3") for seed in (7, 8) for fold in (1, 2, 3)]
    assert definition().trainings == 1
    assert definition().training(configuration, 0) == configuration


def test_a_definition_comes_back_and_tells_what_changed() -> None:
    beta = dataclasses.replace(MOMENTUM, when={"optimizer": ("adam",)})
    begun = definition(space=(*SPACE[:2], beta), limits=("parameters<=9",))
    assert Definition.from_json(begun.to_json()) == begun
    assert begun.changes(dataclasses.replace(begun, trials=50)) == []
    later = dataclasses.replace(
        begun, seed=1, folds=5, space=(scales.log("learning_rate", 1e-3, 1.0), beta, DROPOUT)
    )
    assert begun.changes(later) == [
        "seed: 0 → 1",
        "folds: nothing → 5",
        "optimizer no longer varies",
        "learning_rate: low 0.0001 → 0.001",
        "model.dropout now varies",
    ]
