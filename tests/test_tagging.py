"""Multi-task tagging: labels that are missing count nowhere, and what the street scenes are."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import sklearn.metrics
import tensorflow as tf

from models.tagging import separate_networks
from pipelines.engine.application import UserError
from pipelines.engine.assembly import set_normalization_momentum
from pipelines.engine.data import raw_batches
from pipelines.preprocess.tags import MISSING, TagPreprocessor
from pipelines.sources.street_scenes import OTHERS, TAGS, StreetScenes, fill, paint_scene
from pipelines.tasks.tagging import KnownCrossentropy, KnownF1, Tagging

NAMES = list(TAGS)


def labelled(count: int = 40, tags: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and targets a third of which is missing; no tag occurs in all or no examples."""
    draw = np.random.default_rng(0)
    logits = draw.normal(0, 3, (count, tags)).astype("float32")
    return logits, draw.integers(MISSING, 2, (count, tags)).astype("int32")


# Loss and metrics --------------------------------------------------------------------------------


def test_the_loss_is_keras_s_mean_over_the_known_labels():
    logits, target = labelled()
    known = target != MISSING
    reference = keras.losses.BinaryCrossentropy(from_logits=True)
    expected = float(reference(target[known][:, None], logits[known][:, None]))
    assert float(KnownCrossentropy()(target, logits)) == pytest.approx(expected, rel=1e-5)
    extreme = np.array([[-500.0, 500.0]], "float32")
    assert float(KnownCrossentropy()(np.array([[0, 1]]), extreme)) == 0
    assert float(KnownCrossentropy()(np.array([[1, MISSING]]), extreme)) == pytest.approx(500)


def test_what_is_missing_teaches_nothing():
    logits, target = labelled()
    logits = tf.Variable(logits)
    with tf.GradientTape() as tape:
        loss = KnownCrossentropy()(target, logits)
    moved = tape.gradient(loss, logits).numpy() != 0
    np.testing.assert_array_equal(moved, target != MISSING)
    nothing = KnownCrossentropy()(np.full((2, 3), MISSING), logits[:2])
    assert float(nothing) == 0


def test_the_f1_of_fitting_is_scikit_learn_s_over_the_known_labels():
    logits, target = labelled()
    metric = KnownF1()
    for rows in (slice(0, 25), slice(25, 40)):
        metric.update_state(target[rows], logits[rows])
    expected = np.mean([_reference("f1_score", logits, target, tag) for tag in range(3)])
    assert float(metric.result()) == pytest.approx(expected, abs=1e-6)


def _reference(name: str, logits: np.ndarray, target: np.ndarray, tag: int) -> float:
    known = target[:, tag] != MISSING
    score = getattr(sklearn.metrics, name)
    return score(target[known, tag], logits[known, tag] > 0, zero_division=0)


def as_rows(logits: np.ndarray, target: np.ndarray) -> tuple[dict, dict]:
    """Answers, the most probable tag first, and examples, as evaluation collects them."""
    names = np.array([b"a", b"b", b"c"])
    order = np.argsort(-logits, axis=1)
    probabilities = 1 / (1 + np.exp(-np.take_along_axis(logits, order, axis=1)))
    answers = {"tags": list(names[order]), "probabilities": list(probabilities)}
    listed = {
        field: [b"\n".join(names[row == value]) for row in target]
        for field, value in (("present", 1), ("absent", 0))
    }
    return answers, listed


def test_scores_are_scikit_learn_s_over_the_known_labels():
    logits, target = labelled()
    scores = Tagging().scores(*as_rows(logits, target))
    for tag, name in enumerate("abc"):
        for figure in ("f1", "precision", "recall"):
            expected = _reference(f"{figure}_score", logits, target, tag)
            assert scores.values[f"{figure} of {name}"] == pytest.approx(expected)
    by_tag = [scores.values[f"f1 of {name}"] for name in "abc"]
    assert scores.values["macro_f1"] == pytest.approx(np.mean(by_tag))
    known = target != MISSING
    wrong = ((logits > 0) != (target == 1)) & known
    assert scores.values["error"] == pytest.approx(wrong.sum() / known.sum())
    np.testing.assert_allclose(scores.errors, wrong.sum(1) / np.maximum(known.sum(1), 1))
    assert next(iter(scores.values)) == "macro_f1"
    for figure in scores.summed.values():
        low, high = figure.interval()
        assert low <= figure.value <= high


def test_tags_that_occur_nowhere_do_not_lower_the_mean():
    logits, target = labelled()
    target[:, 2] = np.where(target[:, 2] == 1, MISSING, target[:, 2])
    scores = Tagging().scores(*as_rows(logits, target))
    both = (scores.values["f1 of a"] + scores.values["f1 of b"]) / 2
    assert scores.values["macro_f1"] == pytest.approx(both)
    nothing = Tagging().scores(*as_rows(logits[:2], np.full((2, 3), MISSING)))
    assert set(nothing.values.values()) == {0.0}
    assert not nothing.errors.any()


# Preprocessing -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted():
    preprocessor = TagPreprocessor(size=16)
    source = StreetScenes(train_size=64)
    preprocessor.fit(raw_batches(source, "train"))
    return preprocessor


def test_targets_are_there_not_there_or_missing(fitted):
    assert fitted.labels == NAMES
    batch = {
        "present": tf.constant(["car\nstop sign", "", "a tag that nobody knows"]),
        "absent": tf.constant(["pedestrian", "car\npedestrian\nstop sign\ntraffic light", ""]),
    }
    expected = [[1, 0, 1, MISSING], [0, 0, 0, 0], [MISSING] * 4]
    np.testing.assert_array_equal(fitted.target(batch), expected)


def test_tags_are_learned_from_both_lists(tmp_path, fitted):
    assert fitted.model_arguments() == {"input_shape": (16, 16, 3), "num_tags": 4}
    rows = list(StreetScenes(train_size=64).load("train").as_numpy_iterator())
    there = [row["present"].decode().splitlines() for row in rows]
    assert fitted.counts == [sum(tag in tags for tags in there) for tag in NAMES]
    fitted.save(tmp_path)
    again = TagPreprocessor(size=16)
    again.restore(tmp_path)
    assert (again.labels, again.counts) == (fitted.labels, fitted.counts)
    untagged = {"image": [rows[0]["image"]], "present": [""], "absent": [""]}
    with pytest.raises(UserError, match="no training picture is told"):
        TagPreprocessor(size=16).fit(tf.data.Dataset.from_tensors(untagged))


# The networks ------------------------------------------------------------------------------------


def test_separate_networks_share_nothing():
    keras.utils.set_random_seed(0)
    model = separate_networks((8, 8, 3), 3, backbone_options={"maps": (4, 6)})
    image = tf.random.stateless_normal((4, 8, 8, 3), (0, 1))
    with tf.GradientTape() as tape:
        logit = tf.reduce_sum(model({"image": image}, training=True)[:, 1] ** 2)
    gradients = tape.gradient(logit, model.trainable_weights)
    moved = {
        id(weight)
        for weight, gradient in zip(model.trainable_weights, gradients, strict=True)
        if gradient is not None and np.any(gradient)
    }
    networks = [layer for layer in model.layers if layer.weights]
    assert [moved >= {id(w) for w in n.trainable_weights} for n in networks] == [False, True, False]
    assert len(moved) == len(networks[1].trainable_weights)
    assert len({network.count_params() for network in networks}) == 1


def test_the_statistics_of_networks_within_a_network_are_set_too():
    model = separate_networks((8, 8, 3), 2, backbone_options={"maps": (4, 6)})
    set_normalization_momentum(model, 0.75)
    layers = [layer for network in model.layers[1:3] for layer in network.layers]
    momenta = [layer.momentum for layer in layers if hasattr(layer, "momentum")]
    assert momenta == [0.75] * 4


# Street scenes -----------------------------------------------------------------------------------


def test_thirty_percent_of_the_labels_are_missing_and_tags_have_their_shares():
    there, told = StreetScenes(train_size=5_000).labels("train")
    assert 1 - told.mean() == pytest.approx(0.3, abs=0.01)
    np.testing.assert_allclose(there.mean(0), [share for share, _ in TAGS.values()], atol=0.02)
    np.testing.assert_allclose(there[told].mean(), there.mean(), atol=0.01)
    again, all_told = StreetScenes(train_size=50, missing=0.0).labels("train")
    np.testing.assert_array_equal(again, there[:50])
    assert all_told.all()


def test_rows_say_what_is_told_and_nothing_else():
    source = StreetScenes(test_size=20)
    there, told = source.labels("test")
    names = np.array(NAMES)
    for row, is_there, is_told in zip(
        source.load("test").as_numpy_iterator(), there, told, strict=True
    ):
        assert row["present"].decode().splitlines() == names[is_there & is_told].tolist()
        assert row["absent"].decode().splitlines() == names[~is_there & is_told].tolist()
        assert tf.io.decode_png(row["image"]).shape == (64, 64, 3)


THINGS = [kind for _, kind in TAGS.values()] + list(OTHERS)


@pytest.mark.parametrize("kind", THINGS, ids=lambda kind: kind[0].__name__)
def test_things_stand_on_the_ground_and_are_one_high(kind):
    thing = kind[0]
    polygons = [corners for corners, _ in thing(np.random.default_rng(0))]
    corners = np.concatenate(polygons)
    assert corners[:, 1].min() == pytest.approx(0, abs=0.06)
    assert corners[:, 1].max() == pytest.approx(1, abs=0.1)
    assert np.abs(corners[:, 0]).max() < 2
    for polygon in polygons:
        (x, y), (u, v) = ((np.roll(polygon, -step, axis=0) - polygon).T for step in (1, 2))
        turns = np.sign(x * v - y * u)
        assert set(turns) in ({1.0}, {-1.0}), "not convex"


@pytest.mark.parametrize("turn", [1, -1])
def test_polygons_are_filled_with_their_area(turn):
    pixels = np.zeros((64, 64, 3), np.float32)
    corners = np.array([(10.25, 20.5), (40.0, 12.0), (50.5, 30.0), (20.0, 45.25)])[::turn]
    fill(pixels, corners, (1.0, 0.5, 0.0))
    x, y = corners.T
    area = abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2
    np.testing.assert_allclose(pixels.sum((0, 1)), [area, area / 2, 0], rtol=0.01)
    fill(pixels, corners + 100, (9.0, 9.0, 9.0))  # beyond the border
    assert pixels.max() == 1


def test_a_scene_holds_its_tags_and_nothing_depends_on_what_was_drawn_before():
    nothing, everything = [False] * len(TAGS), [True] * len(TAGS)
    first = paint_scene(everything, [3])
    assert first.shape == (64, 64, 3)
    assert first.dtype == np.uint8
    assert not np.array_equal(paint_scene(nothing, [3]), first)
    np.testing.assert_array_equal(paint_scene(everything, [3]), first)


def test_scenes_of_a_seed_are_the_same_however_many_there_are():
    few, many = (StreetScenes(test_size=size).load("test") for size in (3, 70))
    first = [row["image"] for row in many.take(3).as_numpy_iterator()]
    assert [row["image"] for row in few.as_numpy_iterator()] == first
    other = next(StreetScenes(seed=1).load("test").as_numpy_iterator())
    assert other["image"] != first[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [({"test_size": 0}, "sizes of at least 1"), ({"missing": 1.0}, "below 1, not 1.0")],
)
def test_impossible_scenes_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        StreetScenes(**options)
