"""Teaching experiments: their claims hold, their reports say no more, and the map of the curriculum
names what exists."""

from __future__ import annotations

import importlib.util
import pathlib
import re

import numpy as np
import pytest
from matplotlib.figure import Figure

from pipelines.engine.application import UserError, application_names, load_application
from pipelines.engine.configuration import parse
from pipelines.experiments import __main__ as experiments
from pipelines.experiments.laboratory.experiment import (
    Claim,
    Experiment,
    experiment_names,
    run_experiment,
    summary,
    write_experiment,
)
from pipelines.experiments.laboratory.network import Network, cross_entropy, squared_error

ROOT = pathlib.Path(__file__).parents[1]
CURRICULUM = (ROOT / "docs" / "curriculum.md").read_text()
OPTIONED = (
    "tabular_classification",
    "image_classification",
    "machine_translation",
)  # by options alone
LONG = {"end_to_end", "regularization"}  # as long as all others together
BY_LENGTH = [
    pytest.param(name, marks=pytest.mark.slow) if name in LONG else name
    for name in experiment_names()
]


@pytest.mark.parametrize("name", BY_LENGTH)
def test_an_experiment_shows_what_it_claims(name, tmp_path) -> None:
    experiment = run_experiment(name, seed=0)
    assert [claim.name for claim in experiment.claims if not claim.holds] == []
    write_experiment(name, experiment, tmp_path)
    assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    report = (tmp_path / "report.md").read_text()
    assert all(claim.sentence in report for claim in experiment.claims)


def test_a_report_does_not_say_what_was_not_seen(tmp_path) -> None:
    claims = [
        Claim("water is wet", True, "All 3 glasses were wet."),
        Claim("fire is cold", False, "All 2 fires were cold."),
    ]
    write_experiment("optimizers", Experiment("We looked.", claims, Figure()), tmp_path)
    report = (tmp_path / "report.md").read_text()
    assert "We looked. All 3 glasses were wet. Not seen this time: fire is cold." in report
    assert "2 fires" not in report


def test_the_command_lists_and_does_experiments(command, tmp_path) -> None:
    listed = command(experiments.main)
    assert [line.split()[0] for line in listed.out.splitlines()] == experiment_names()
    done = command(experiments.main, "circuit_depth", "--dir", tmp_path)
    assert done.status == 0
    assert summary("circuit_depth") in done.out
    assert {file.name for file in (tmp_path / "circuit_depth").iterdir()} == {
        "circuit_depth.png",
        "report.md",
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["parity"], "unknown experiment 'parity'"), (["optimizers", "--seed", "-1"], "--seed")],
)
def test_impossible_experiments_are_refused(arguments, words, command, tmp_path) -> None:
    refused = command(experiments.main, *arguments, "--dir", tmp_path)
    assert refused.status == 2
    assert refused.err.startswith("error: ")
    assert words in refused.err


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu", "leaky_relu"])
@pytest.mark.parametrize("batch_normalization", [False, True])
@pytest.mark.parametrize("loss", [cross_entropy, squared_error])
def test_gradients_by_hand_are_central_differences(activation, batch_normalization, loss) -> None:
    draw = np.random.default_rng(1)
    options = {"activation": activation, "l2": 0.1, "batch_normalization": batch_normalization}
    network = Network((3, 5, 4, 2), 1, **options)
    x = draw.standard_normal((6, 3))
    y = draw.integers(2, size=6) if loss is cross_entropy else draw.standard_normal((6, 2))
    _, gradients = network.gradients(x, y, loss)
    for parameter, gradient in zip(network.parameters, gradients, strict=True):
        for place in np.ndindex(parameter.shape):
            value, costs = parameter[place], []
            for step in (1e-6, -1e-6):
                parameter[place] = value + step
                costs.append(network.gradients(x, y, loss)[0])
            parameter[place] = value
            assert gradient[place] == pytest.approx((costs[0] - costs[1]) / 2e-6, abs=1e-7)


def quoted() -> set[str]:
    """What the map names in backquotes."""
    return set(re.findall(r"`([^`]+)`", CURRICULUM))


def test_the_curriculum_names_paths_that_exist() -> None:
    paths = {text for text in quoted() if re.fullmatch(r"[\w/]+\.(py|md)", text)}
    assert len(paths) > 40
    assert [path for path in paths if not (ROOT / path).is_file()] == []


def test_the_curriculum_names_modules_that_exist() -> None:
    modules = set(re.findall(r"python -m ([\w.]+)", CURRICULUM))
    assert len(modules) > 8
    assert [name for name in modules if importlib.util.find_spec(name) is None] == []


def test_every_experiment_is_in_the_curriculum() -> None:
    named = set(re.findall(r"python -m pipelines\.experiments ([a-z]\w+)", CURRICULUM))
    assert named == set(experiment_names())


def test_the_curriculum_names_options_that_exist() -> None:
    refused = []
    for text in quoted():
        name, _, options = text.removeprefix("python -m pipelines.").partition(" ")
        if text.startswith("--"):
            names, options = OPTIONED, text
        elif name in application_names() and not {"--help", "RUN"} & set(options.split()):
            names = [name]
        else:
            continue
        if not any(accepts(name, options.split()) for name in names):
            refused.append(text)
    assert refused == []


def accepts(name: str, options: list[str]) -> bool:
    """Whether an application has these options and values."""
    try:
        parse(load_application(name), options)
    except UserError:
        return False
    return True
