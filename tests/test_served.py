"""Every application from its run over export and server to a client: the same answers."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest
import tensorflow as tf

from pipelines.engine.answers import open_run
from pipelines.engine.application import application_names
from serving.client import Client, InvalidRequestError
from serving.export import export_run
from tests.conftest import run_python
from tests.served_models import running_server, write_configuration

NAMES = application_names()
NUMBERS = {"house_prices"}  # applications whose answer is no text


@pytest.fixture(scope="module")
def served(smoke_run, tmp_path_factory):
    """A client of a server of every application's smoke run, and the server's address."""
    folder = tmp_path_factory.mktemp("exports")
    for name in NAMES:
        version = export_run(smoke_run(name), model_base_path=folder / name)
        assert version == folder / name / "1"
    configuration = write_configuration(tmp_path_factory.mktemp("config") / "m.config", folder)
    with running_server(f"--model_config_file={configuration}") as (_, port):
        address = f"localhost:{port}"
        with Client(address) as client:
            yield client, address


def as_text(values: np.ndarray) -> np.ndarray:
    if values.dtype != object:
        return values
    decoded = [v.decode() if isinstance(v, bytes) else v for v in values.ravel()]
    return np.array(decoded, object).reshape(values.shape)


def assert_same(answers: dict[str, np.ndarray], expected: dict[str, tf.Tensor]) -> None:
    assert set(answers) == set(expected)
    for key, value in expected.items():
        if value.dtype == tf.string:
            assert answers[key].tolist() == as_text(value.numpy()).tolist()
        else:
            np.testing.assert_allclose(answers[key], value.numpy(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_served_answer_is_the_answer_in_process(name: str, served, smoke_run) -> None:
    client, _ = served
    opened = open_run(smoke_run(name))
    samples = opened.sample_inputs(count=3)
    for signature, function in opened.functions().items():
        inputs = samples[signature]
        expected = function(**{key: tf.constant(value) for key, value in inputs.items()})
        assert_same(client.predict(name, inputs, signature=signature), expected)


@pytest.mark.parametrize("name", NAMES)
def test_names_on_the_wire_are_those_of_the_endpoint(name: str, served, smoke_run) -> None:
    client, _ = served
    signatures = client.signatures(name)
    opened = open_run(smoke_run(name))
    assert set(signatures) == set(opened.application.endpoints)
    for signature, known in signatures.items():
        assert set(known.inputs) == set(opened.inputs(signature))
    answer = signatures["serving_default"].outputs.values()
    assert [field.dtype for field in answer].count("string") == (name not in NUMBERS)


@pytest.mark.parametrize("name", NAMES)
def test_empty_batch_has_an_empty_answer(name: str, served, smoke_run) -> None:
    client, _ = served
    for signature, inputs in open_run(smoke_run(name)).sample_inputs(count=1).items():
        nothing = {key: value[:0] for key, value in inputs.items()}
        for answer in client.predict(name, nothing, signature=signature).values():
            assert len(answer) == 0


@pytest.mark.parametrize("name", ["image_classification", "image_captioning", "multi_task_tagging"])
def test_bytes_that_are_no_picture_are_refused_and_the_server_goes_on(
    name: str, served, smoke_run
) -> None:
    client, _ = served
    picture = open_run(smoke_run(name)).sample_inputs()["serving_default"]
    good = picture["image"][0]
    with pytest.raises(InvalidRequestError, match=r"image\[1\] is no JPEG, PNG, GIF or BMP") as e:
        client.predict(name, image=[good, b"no picture", good])
    assert e.value.code == "INVALID_ARGUMENT"
    assert all(len(answer) == 1 for answer in client.predict(name, image=[good]).values())


ODD_TEXTS = {
    "empty": b"",
    "spaces": b" \t \n ",
    "zero byte": b"\0",
    "no UTF-8": b"4\xff\xc3 april",
    "replaced": "4\ufffd\ufffd april".encode(),
    "unknown script": "ქართული".encode(),
    "another": "ᎣᏏᏲᎣᏏᏲᎣ".encode(),
    "longest": b"1" * 63,  # and the end token
    "too long": b"1" * 64,
    "far too long": b"1" * 100_000,
}


@pytest.mark.parametrize("signature", ["serving_default", "translate", "score"])
def test_odd_texts_have_their_defined_answers(signature: str, served, smoke_run) -> None:
    client, _ = served
    opened = open_run(smoke_run("machine_translation"))
    sample = opened.sample_inputs(count=1)[signature]
    inputs = {key: np.repeat(value, len(ODD_TEXTS)) for key, value in sample.items()}
    inputs["source"] = np.array(list(ODD_TEXTS.values()), object)
    answers = client.predict("machine_translation", inputs, signature=signature)
    texts = {key: tf.constant(value) for key, value in inputs.items()}
    assert_same(answers, opened.functions()[signature](**texts))

    row = dict(zip(ODD_TEXTS, answers["scores"], strict=True))
    assert not np.isnan(answers["scores"]).any()
    for alike in (
        ("empty", "spaces", "zero byte"),
        ("no UTF-8", "replaced"),
        ("unknown script", "another"),
        ("too long", "far too long"),
    ):
        for name in alike[1:]:
            np.testing.assert_allclose(row[name], row[alike[0]], rtol=1e-4)
    truncated = dict(zip(ODD_TEXTS, answers["truncated"].tolist(), strict=True))
    assert [name for name in truncated if truncated[name]] == ["too long", "far too long"]


def test_command_asks_the_server(served, smoke_run, tmp_path: pathlib.Path) -> None:
    _, address = served
    samples = open_run(smoke_run("image_classification")).sample_inputs()
    picture = tmp_path / "digit.png"
    picture.write_bytes(samples["serving_default"]["image"][0])
    result = run_python(
        *("-m", "serving.client", "image_classification", "--image", f"@{picture}"),
        *("--host", address),
    )
    assert result.returncode == 0, result.stderr
    assert "labels" in result.stdout
    assert "probabilities" in result.stdout


def test_unfinished_run_is_not_exported(smoke_run, tmp_path: pathlib.Path) -> None:
    unfinished = tmp_path / "image_classification" / "half"
    unfinished.mkdir(parents=True)
    configuration = (smoke_run("image_classification") / "config.json").read_text()
    (unfinished / "config.json").write_text(configuration)
    result = run_python("-m", "serving.export", unfinished, "--model_base_path", tmp_path / "out")
    assert result.returncode == 2
    assert "is not finished" in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
