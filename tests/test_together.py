"""Answers that are a mean: over crops of a picture, and over several runs."""

from __future__ import annotations

import json
import pathlib
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from pipelines import compare, evaluate
from pipelines.engine.answers import open_run
from pipelines.engine.application import UserError, load_application
from pipelines.engine.assembly import assemble
from pipelines.engine.cli import train_run
from pipelines.engine.configuration import Command, parse
from pipelines.engine.evaluate import LONGEST_NAME, evaluate_together, joint_name
from pipelines.preprocess.crops import crops
from pipelines.preprocess.image import ImagePreprocessor
from pipelines.sources.digits import Digits
from pipelines.tasks.classification import Classification

LIMIT = 60


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, pathlib.Path]:
    """Two short runs on the digits, one of which reads larger pictures; not evaluated yet."""
    application = load_application("image_classification")
    options = {
        "first": [],
        "large": ["--architecture", "lenet5_dense", "--preprocess.size=40"],
    }
    made = {}
    for name, given in options.items():
        configuration, _ = parse(application, ["--epochs", "1", *given])
        keras.utils.set_random_seed(0)
        command = Command(run=name, runs_dir=str(tmp_path_factory.mktemp(name)), smoke=True)
        made[name] = train_run(assemble(configuration), command).path
    return made


@pytest.fixture
def copies(runs, tmp_path) -> dict[str, pathlib.Path]:
    """The same runs, to write into."""
    for name, path in runs.items():
        shutil.copytree(path, tmp_path / name)
    return {name: tmp_path / name for name in runs}


def logits_model() -> keras.Model:
    inputs = keras.Input((3,), name="x")
    return keras.Model({"x": inputs}, keras.layers.Activation("linear")(inputs))


def probabilities(path: pathlib.Path, name: str = "test") -> dict[str, dict[str, float]]:
    """By example, the probability of each named label."""
    lines = (path / "predictions" / f"{name}.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return {row["id"]: dict(zip(row["labels"], row["probabilities"], strict=True)) for row in rows}


def test_the_mean_is_over_views_and_models_worked_by_hand() -> None:
    first = np.log([[0.6, 0.3, 0.1], [0.2, 0.4, 0.4], [0.1, 0.1, 0.8], [0.3, 0.3, 0.4]])
    second = np.log([[0.1, 0.8, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.2, 0.2, 0.6]])
    members = [(logits_model(), {"x": tf.constant(rows, tf.float32)}) for rows in (first, second)]
    response = Classification(top_k=2).respond_together(members, views=2)
    np.testing.assert_array_equal(response["indices"], [[1, 0], [2, 0]])
    np.testing.assert_allclose(
        response["probabilities"], [[2.3 / 4, 1 / 4], [2.4 / 4, 0.8 / 4]], rtol=1e-5
    )


def test_one_view_of_one_model_is_the_plain_response() -> None:
    rows = {"x": tf.constant(np.random.default_rng(0).normal(size=(5, 3)), tf.float32)}
    plain = Classification().respond(logits_model(), rows)
    together = Classification().respond_together([(logits_model(), rows)])
    for name, value in plain.items():
        np.testing.assert_array_equal(value, together[name])


def test_crops_are_the_corners_the_centre_and_their_mirror_images() -> None:
    pixels = np.arange(1, 28 * 30 + 1).reshape(1, 28, 30, 1).repeat(2, axis=0) % 251
    pixels = pixels.astype("uint8")
    pixels[1] += 1
    views = crops(tf.constant(pixels), 10, background=7).numpy().reshape(2, 10, 28, 30, 1)
    for picture, own in zip(pixels, views, strict=True):
        np.testing.assert_array_equal(own[4], picture)
        np.testing.assert_array_equal(own[5:], own[:5, :, ::-1])
        # Two pixels each way: where the frame's top left corner is seen, the picture moved down.
        np.testing.assert_array_equal(own[0][2:, 2:], picture[:-2, :-2])
        np.testing.assert_array_equal(own[1][2:, :-2], picture[:-2, 2:])
        np.testing.assert_array_equal(own[2][:-2, 2:], picture[2:, :-2])
        np.testing.assert_array_equal(own[3][:-2, :-2], picture[2:, 2:])
        assert (own[0][:2] == 7).all()
        assert (own[3][:, -2:] == 7).all()
    np.testing.assert_array_equal(
        crops(tf.constant(pixels), 5, 7), views[:, :5].reshape(-1, 28, 30, 1)
    )
    np.testing.assert_array_equal(crops(tf.constant(pixels), 1, 7), pixels)
    with pytest.raises(UserError, match="--crops is one of 1, 5, 10, not 7"):
        crops(tf.constant(pixels), 7, 7)


def test_views_of_a_batch_of_encoded_pictures_follow_one_another() -> None:
    raw = next(iter(Digits().load("test").batch(3)))
    preprocessor = ImagePreprocessor(size=32, margin=2, channels=1)
    plain = preprocessor.features(raw)["image"].numpy()
    np.testing.assert_array_equal(preprocessor.views(raw, 1)["image"], plain)
    views = preprocessor.views(raw, 5)["image"].numpy()
    np.testing.assert_array_equal(views[4::5], plain)


def test_one_crop_of_one_run_and_an_ensemble_of_the_same_are_that_run(copies) -> None:
    opened = open_run(copies["first"])
    expected = evaluate.evaluate(opened, limit=LIMIT, look_inside=False).answers
    _, alone = evaluate_together([opened], limit=LIMIT)
    name, twice = evaluate_together([opened, opened], limit=LIMIT)
    assert name == "test-with-first"
    for found in (alone.answers, twice.answers):
        np.testing.assert_array_equal(found["labels"], expected["labels"])
        np.testing.assert_allclose(found["probabilities"], expected["probabilities"], rtol=1e-6)


def test_an_ensemble_is_the_mean_and_leaves_the_plain_results(copies, command) -> None:
    first, other = copies["first"], copies["large"]
    for path in (first, other):
        assert command(evaluate.main, path, "--no_inside").status == 0
    kept = {
        path.relative_to(first): path.read_bytes()
        for path in [*first.glob("*.png"), first / "report.md", first / "predictions/test.jsonl"]
    }
    plain = json.loads((first / "scores.json").read_text())["test"]
    done = command(evaluate.main, first, other)
    assert done.status == 0
    assert done.out.splitlines()[-1] == f"report: {first}/test-with-large/report.md"
    assert all((first / path).read_bytes() == content for path, content in kept.items())
    scores = json.loads((first / "scores.json").read_text())
    assert scores["test"] == plain
    assert scores["test-with-large"]["examples"] == plain["examples"]
    one, two = probabilities(first), probabilities(other)
    for example, found in probabilities(first, "test-with-large").items():
        for label, probability in found.items():
            if label in one[example] and label in two[example]:
                mean = (one[example][label] + two[example][label]) / 2
                assert probability == pytest.approx(mean, rel=1e-4)
    report = (first / "test-with-large" / "report.md").read_text()
    assert "first (lenet5, " in report
    assert "large (lenet5_dense, " in report
    assert (first / "test-with-large" / "confusion.png").exists()


def test_crops_and_runs_go_together_and_are_compared(copies, command) -> None:
    done = command(evaluate.main, copies["first"], copies["large"], "--crops", "5")
    assert done.status == 0
    assert done.out.startswith("test-5-crops-with-large: accuracy ")
    name = "test-5-crops-with-large"
    assert len(probabilities(copies["first"], name)) == 359
    shown = command(compare.main, copies["first"], copies["first"], "--split", name)
    assert shown.status == 0
    assert "359 examples" in shown.out


def test_runs_that_answer_other_questions_are_refused(copies, command, smoke_run) -> None:
    learned = copies["large"] / "preprocessor" / "image.json"
    state = json.loads(learned.read_text())
    state["labels"][3] = "three"
    learned.write_text(json.dumps(state))
    done = command(evaluate.main, copies["first"], copies["large"])
    assert done.status == 2
    (line,) = done.err.splitlines()[-1:]
    assert line == (
        f"error: {copies['first']} and {copies['large']} answer different questions: "
        "only one of them knows 3, three"
    )
    words = smoke_run("word_embeddings")
    done = command(evaluate.main, copies["first"], words)
    assert done.status == 2
    assert done.err.splitlines()[-1].endswith(
        "answer different questions: image_classification and word_embeddings"
    )
    assert not list(copies["first"].glob("test-*"))


def test_what_has_no_mean_and_no_crops_says_so(smoke_run, command) -> None:
    words = smoke_run("word_embeddings")
    done = command(evaluate.main, words, words)
    assert done.status == 2
    assert "answers of WordEmbeddings have no mean" in done.err.splitlines()[-1]
    done = command(evaluate.main, words, "--crops", "5")
    assert done.status == 2
    assert done.err.splitlines()[-1] == "error: --crops is for pictures"


def test_names_of_joint_evaluations() -> None:
    assert joint_name("test", 1, []) == "test"
    assert joint_name("validation", 10, []) == "validation-10-crops"
    assert joint_name("test", 5, ["b", "c"]) == "test-5-crops-with-b-c"
    many = [f"lenet5-digits-20260101-0000{n:02d}" for n in range(20)]
    names = {joint_name("test", 1, many), joint_name("test", 1, many[::-1])}
    assert len(names) == 2
    assert all(name.startswith("test-with-20-others-") for name in names)
    assert max(map(len, names)) < LONGEST_NAME
