"""The contract that every application keeps, found by name."""

from __future__ import annotations

import dataclasses
import inspect
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from pipelines.engine.answers import open_run
from pipelines.engine.application import (
    DEFAULT_SIGNATURE,
    Endpoint,
    application_names,
    load_application,
)
from pipelines.engine.assembly import assemble
from pipelines.engine.cli import train_run
from pipelines.engine.configuration import Command, parse
from pipelines.engine.data import evaluation_batches, training_data
from tests.conftest import run_python, train
from tests.dataset_graphs import serializing_operations

NAMES = application_names()
# To search for sentences takes the greater part of a run of two steps.
WRITING = {"image_captioning", "machine_translation"}


def weights(run) -> list[np.ndarray]:
    return open_run(run.path).model.get_weights()


def short_run(name: str, folder, epochs: int, resume: bool = False, **options):
    """Two steps an epoch on a few examples."""
    arguments = [f"--{option}={value}" for option, value in options.items()]
    configuration, _ = parse(
        load_application(name), [f"--epochs={epochs}", "--schedule=constant", *arguments]
    )
    keras.utils.set_random_seed(configuration.recipe.seed)
    command = Command(run="short", runs_dir=str(folder), smoke=True, resume=resume)
    return train_run(assemble(configuration), command)


def test_the_three_applications_of_the_spine_are_found() -> None:
    assert {"image_classification", "machine_translation", "word_embeddings"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_application_is_complete(name: str) -> None:
    application = load_application(name)
    assert application.name == name
    assert application.summary
    assert "\n" not in application.summary
    assert DEFAULT_SIGNATURE in application.endpoints
    parameters = inspect.signature(application.arrange).parameters
    assert {"training", "seed", "batch_size"} <= set(parameters)
    for variant in application.architectures.values():
        accepted = inspect.signature(variant.builder).parameters
        assert set(application.preprocessor.supplies) <= set(accepted)


@pytest.mark.parametrize("name", NAMES)
def test_default_source_is_built_in_and_has_what_the_signature_asks_for(
    name: str, smoke_run
) -> None:
    opened = open_run(smoke_run(name))
    source = opened.assembly.source
    assert source.place == "built in"
    assert source.licence
    assert source.citation
    endpoint = opened.application.endpoints[DEFAULT_SIGNATURE]
    if endpoint.inputs == Endpoint().inputs and endpoint.samples == Endpoint().samples:
        for field, spec in opened.preprocessor.signature.items():
            assert source.fields[field].dtype == spec.dtype
            assert spec.shape[0] is None


@pytest.mark.parametrize("name", NAMES)
def test_two_steps_change_the_weights_and_the_run_reloads(name: str, smoke_run) -> None:
    opened = open_run(smoke_run(name))
    arguments = opened.preprocessor.model_arguments()
    keras.utils.set_random_seed(opened.assembly.configuration.recipe.seed)
    fresh = opened.assembly.builder(**arguments)
    moved = [
        variable.path
        for variable, start in zip(
            opened.model.trainable_variables, fresh.trainable_variables, strict=True
        )
        if not np.array_equal(variable.numpy(), start.numpy())
    ]
    assert len(moved) == len(fresh.trainable_variables)
    assert set(opened.run.scores["test"]) > {"examples"}
    rows = [
        json.loads(line)
        for line in (opened.run.path / "predictions" / "test.jsonl").read_text().splitlines()
    ]
    assert len(rows) == opened.run.scores["test"]["examples"]
    assert len({row["id"] for row in rows}) == len(rows)
    assert all(np.isfinite(row["error"]) for row in rows)


@pytest.mark.parametrize("name", NAMES)
def test_pipelines_run_in_parallel(name: str, smoke_run) -> None:
    opened = open_run(smoke_run(name))
    assembly = dataclasses.replace(opened.assembly, preprocessor=opened.preprocessor)
    data = training_data(assembly, limit=16)
    evaluated = evaluation_batches(
        assembly.source, assembly.preprocessor, assembly.arrange, "test", batch_size=4, seed=0
    )
    for dataset in (data.training(0), data.validation):
        assert not serializing_operations(dataset)
    # Words are looked up one batch after the other; the time of their evaluation is the model's.
    assert serializing_operations(evaluated) <= {"LookupTableFindV2"}


@pytest.mark.parametrize("name", NAMES)
def test_report_shows_every_picture_that_was_drawn(name: str, smoke_run) -> None:
    folder = smoke_run(name)
    report = (folder / "report.md").read_text()
    pictures = sorted(path.name for path in folder.glob("*.png"))
    assert "learning_curves.png" in pictures
    assert len(pictures) >= 3
    for picture in pictures:
        assert f"]({picture})" in report
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n in WRITING)) for n in NAMES]
)
def test_resumed_run_equals_an_uninterrupted_one(name: str, tmp_path) -> None:
    whole = short_run(name, tmp_path / "whole", epochs=2)
    short_run(name, tmp_path / "parts", epochs=1)
    parts = short_run(name, tmp_path / "parts", epochs=2, resume=True)
    for one, other in zip(weights(whole), weights(parts), strict=True):
        np.testing.assert_array_equal(one, other)

    def without_time(history: list[dict]) -> list[dict]:
        return [{k: v for k, v in epoch.items() if k != "seconds"} for epoch in history]

    assert without_time(whole.history) == without_time(parts.history)


@pytest.mark.parametrize("name", NAMES)
def test_functions_answer_one_row_and_many_rows_alike(name: str, smoke_run) -> None:
    opened = open_run(smoke_run(name))
    samples = opened.sample_inputs(count=3)
    for signature, function in opened.functions().items():
        inputs = samples[signature]
        together = function(**{k: tf.constant(v) for k, v in inputs.items()})
        for row in range(3):
            alone = function(**{k: tf.constant(v[row : row + 1]) for k, v in inputs.items()})
            for key, value in alone.items():
                # Beside longer rows there is more padding.
                expected = together[key][row][tuple(slice(0, size) for size in value[0].shape)]
                if value.dtype == tf.string:
                    assert value[0].numpy().tolist() == expected.numpy().tolist()
                else:
                    np.testing.assert_allclose(value[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_saved_configuration_replays(name: str, smoke_run) -> None:
    folder = smoke_run(name)
    again, _ = parse(load_application(name), ["--config", str(folder / "config.json")])
    assert again == open_run(folder).run.configuration
    changed, _ = parse(
        load_application(name), ["--seed", "7", "--config", str(folder / "config.json")]
    )
    assert changed.recipe == dataclasses.replace(again.recipe, seed=7)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_prepared_arrays_train_on_jax_without_tensorflow(name: str, command, tmp_path) -> None:
    prepared, runs = tmp_path / "arrays", tmp_path / "runs"
    module = f"pipelines.{name}"
    assert command(train(name), "--smoke", "--prepare", prepared).status == 0
    # None in sys.modules makes every import of the name fail, as where it is not installed.
    program = (
        "import runpy, sys\n"
        "sys.modules['tensorflow'] = sys.modules['tensorflow_text'] = None\n"
        f"sys.argv[1:] = ['--prepared', {str(prepared)!r}, '--epochs', '1', '--run', 'jax',"
        f" '--runs_dir', {str(runs)!r}]\n"
        f"runpy.run_module({module!r}, run_name='__main__')\n"
    )
    result = run_python("-c", program, environment={"KERAS_BACKEND": "jax"})
    assert result.returncode == 0, result.stderr
    opened = open_run(runs / name / "jax")
    environment = json.loads((opened.run.path / "environment.json").read_text())
    assert environment["backend"] == "jax"
    inputs = opened.sample_inputs()[DEFAULT_SIGNATURE]
    answers = opened.functions()[DEFAULT_SIGNATURE](
        **{k: tf.constant(v) for k, v in inputs.items()}
    )
    for value in answers.values():
        assert len(value) == 4
        if value.dtype.is_floating:
            assert np.isfinite(value.numpy()).all()
