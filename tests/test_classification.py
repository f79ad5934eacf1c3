"""The classification task: loss, response, scores and pictures, against values worked by hand."""

from __future__ import annotations

import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from pipelines.engine.application import load_application
from pipelines.engine.assembly import Assembly, assemble
from pipelines.engine.configuration import parse
from pipelines.engine.data import Examples, raw_batches, shuffled, training_views
from pipelines.preprocess.image import ImagePreprocessor
from pipelines.sources.digits import Digits
from pipelines.tasks.classification import Accuracy, Classification, SmoothedCrossentropy
from pipelines.tasks.contact_sheet import EPOCHS, draw_contact_sheet
from pipelines.tasks.task import Evaluation
from tests.conftest import run_python

ANSWERS = {
    "labels": [[b"a", b"b"], [b"a", b"c"], [b"c", b"b"], [b"b", b"a"]],
    "probabilities": [[0.9, 0.1], [0.8, 0.1], [0.6, 0.4], [0.5, 0.4]],
}
EXAMPLES = {"id": [b"1", b"2", b"3", b"4"], "label": [b"a", b"b", b"c", b"a"]}


def logits_model() -> keras.Model:
    """A model that answers with its input."""
    inputs = keras.Input((3,), name="x")
    return keras.Model({"x": inputs}, keras.layers.Activation("linear")(inputs))


def test_loss_is_the_cross_entropy_of_logits() -> None:
    logits, target = np.array([[0.0, math.log(2), 0.0], [5.0, 5.0, 5.0]]), np.array([1, 0])
    loss = SmoothedCrossentropy()(target, logits)
    assert float(loss) == pytest.approx((math.log(2) + math.log(3)) / 2, rel=1e-6)


def test_smoothed_loss_is_keras_s_on_one_hot_targets() -> None:
    random = np.random.default_rng(0)
    logits, target = random.normal(size=(6, 4)).astype("float32"), random.integers(0, 4, 6)
    reference = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)
    expected = float(reference(np.eye(4)[target], logits))
    loss = SmoothedCrossentropy(0.1)
    assert float(loss(target, logits)) == pytest.approx(expected, rel=1e-6)
    again = SmoothedCrossentropy.from_config(loss.get_config())
    assert float(again(target, logits)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_loss_of_mixed_targets_is_keras_s(label_smoothing: float) -> None:
    random = np.random.default_rng(1)
    logits = random.normal(size=(6, 4)).astype("float32")
    target = random.dirichlet(np.ones(4), 6).astype("float32")
    reference = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=label_smoothing
    )
    loss = SmoothedCrossentropy(label_smoothing)
    assert float(loss(target, logits)) == pytest.approx(float(reference(target, logits)), rel=1e-6)
    whole = np.eye(4, dtype="float32")[[3, 0, 1, 1, 2, 0]]
    indices = np.array([3, 0, 1, 1, 2, 0])
    assert float(loss(whole, logits)) == pytest.approx(float(loss(indices, logits)), rel=1e-6)


def test_accuracy_counts_the_class_or_the_largest_share() -> None:
    logits = np.array([[0.0, 2, 1], [3, 1, 0], [0, 0, 9], [1, 0, 0]], "float32")
    accuracy = Accuracy()
    accuracy.update_state(np.array([1, 1, 2, 2]), logits)
    assert float(accuracy.result()) == 0.5
    accuracy.reset_state()
    accuracy.update_state(
        np.array([[0.1, 0.5, 0.4], [0.4, 0.6, 0], [0, 0, 1], [0.8, 0.2, 0]]), logits
    )
    assert float(accuracy.result()) == 0.75


def test_response_is_the_most_probable_first() -> None:
    logits = tf.math.log([[0.2, 0.5, 0.3], [0.7, 0.1, 0.2]])
    response = Classification(top_k=2).respond(logits_model(), {"x": logits})
    np.testing.assert_array_equal(response["indices"], [[1, 2], [0, 2]])
    assert response["indices"].dtype == tf.int32
    np.testing.assert_allclose(response["probabilities"], [[0.5, 0.3], [0.7, 0.2]], rtol=1e-6)


def test_response_has_no_more_labels_than_classes_and_none_for_no_rows() -> None:
    response = Classification(top_k=5).respond(logits_model(), {"x": tf.zeros((0, 3))})
    assert response["indices"].shape == (0, 3)
    assert response["probabilities"].shape == (0, 3)


def test_scores_of_four_answers() -> None:
    scores = Classification().scores(ANSWERS, EXAMPLES)
    np.testing.assert_array_equal(scores.errors, [0, 1, 0, 1])
    # Of a 1 of 2 is found and 1 of 2 right, of b none, of c all.
    assert scores.values == pytest.approx(
        {"accuracy": 0.5, "error": 0.5, "top_2_accuracy": 0.75}
        | dict.fromkeys(("macro_precision", "macro_recall", "macro_f1"), (0.5 + 0 + 1) / 3)
    )
    text = {
        "labels": [[label.decode() for label in row] for row in ANSWERS["labels"]],
        "probabilities": ANSWERS["probabilities"],
    }
    examples = {"label": [label.decode() for label in EXAMPLES["label"]]}
    assert Classification().scores(text, examples).values == scores.values


def test_figures_are_drawn_from_the_source_s_pictures(tmp_path) -> None:
    source = Digits()
    rows = list(source.load("test").take(6).as_numpy_iterator())
    examples = {name: [row[name] for row in rows] for name in ("id", "label")}
    given = [[row["label"], b"x"] for row in rows]
    given[1], given[4] = [b"x", b"8"], [b"8", b"x"] if rows[4]["label"] != b"8" else [b"7", b"x"]
    answers = {"labels": given, "probabilities": [[0.9, 0.1]] * 6}
    preprocessor = ImagePreprocessor(size=16, channels=1)
    preprocessor.labels = [*"0123456789", "x"]
    task = Classification()
    evaluation = Evaluation(
        model=None,
        preprocessor=preprocessor,
        source=source,
        split="test",
        answers=answers,
        examples=examples,
        scores=task.scores(answers, examples),
    )
    figures = task.figures(evaluation, tmp_path)
    assert [figure.file for figure in figures] == ["confusion.png", "mistakes.png"]
    assert figures[1].caption.startswith("2 of 2 wrong answers in test")
    for figure in figures:
        pixels = tf.io.decode_png((tmp_path / figure.file).read_bytes(), 1).numpy()
        assert min(pixels.shape[:2]) > 150
        assert len(np.unique(pixels)) > 10


def test_no_mistakes_no_picture_of_them(tmp_path) -> None:
    rows = list(Digits().load("test").take(3).as_numpy_iterator())
    examples = {name: [row[name] for row in rows] for name in ("id", "label")}
    answers = {"labels": [[row["label"]] for row in rows], "probabilities": [[1.0]] * 3}
    preprocessor = ImagePreprocessor(size=16, channels=1)
    preprocessor.labels = list("0123456789")
    evaluation = Evaluation(
        model=None,
        preprocessor=preprocessor,
        source=Digits(),
        split="test",
        answers=answers,
        examples=examples,
        scores=Classification().scores(answers, examples),
    )
    figures = Classification().figures(evaluation, tmp_path)
    assert [figure.file for figure in figures] == ["confusion.png"]


def fitted(assembly: Assembly, epoch: int) -> np.ndarray:
    """All pictures as they are fitted in an epoch, in the source's order."""
    recipe, preprocessor = assembly.configuration.recipe, assembly.preprocessor
    options = {"batch_size": recipe.batch_size, "seed": recipe.seed}
    examples = Examples.read(assembly.source, preprocessor, "train")
    batches = assembly.arrange(
        shuffled(examples, epoch, **options),
        preprocessor,
        training=True,
        **options,
    )
    found = [(batch["index"], batch["features"]["image"]) for batch in batches]
    index, images = (np.concatenate(column) for column in zip(*found, strict=True))
    return images[np.argsort(index)]


@pytest.mark.parametrize("augment", ["none", "affine", "mixup"])
def test_contact_sheet_shows_what_fitting_saw(augment: str, tmp_path) -> None:
    configuration, _ = parse(load_application("image_classification"), ["--augment", augment])
    assembly = assemble(configuration)
    assembly.preprocessor.fit(raw_batches(assembly.source, "train"))
    plain, *views = training_views(assembly, 5, EPOCHS)
    if augment != "mixup":  # where the rest of the batch decides as well
        for epoch in (0, 2):
            np.testing.assert_array_equal(
                views[epoch]["features"]["image"], fitted(assembly, epoch)[:5]
            )
    evaluation = Evaluation(
        model=None,
        preprocessor=assembly.preprocessor,
        source=assembly.source,
        split="test",
        answers={},
        examples={},
        scores=None,
        training_views=lambda count, epochs: [plain, *views],
    )
    figure = draw_contact_sheet(evaluation, tmp_path)
    if augment == "none":
        assert figure is None
        return
    assert ("mixed" in figure.caption) == (augment == "mixup")
    pixels = tf.io.decode_png((tmp_path / figure.file).read_bytes(), 1).numpy()
    assert min(pixels.shape[:2]) > 300
    assert len(np.unique(pixels)) > 50


def test_image_classification_offers_the_networks_by_their_published_names() -> None:
    application = load_application("image_classification")
    assert list(application.architectures)[:2] == ["lenet5", "lenet5_dense"]
    for name, variant in application.architectures.items():
        assert variant.builder.__name__ == name


def train(folder, *options) -> dict:
    """The test scores of a full run of image_classification."""
    result = run_python(
        *("-m", "pipelines.image_classification", *options),
        *("--run", "full", "--runs_dir", folder),
    )
    assert result.returncode == 0, result.stderr
    return json.loads((folder / "image_classification" / "full" / "scores.json").read_text())[
        "test"
    ]


@pytest.mark.slow
def test_digits_reach_98_percent(tmp_path) -> None:
    assert train(tmp_path)["accuracy"] >= 0.98


@pytest.mark.data
def test_lenet5_errs_on_1_percent_of_mnist_at_most(data_dir, tmp_path) -> None:
    scores = train(tmp_path, "--dataset", "mnist", "--data_dir", data_dir / "mnist")
    assert scores["examples"] == 10_000
    assert scores["error"] <= 0.01
