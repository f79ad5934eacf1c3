"""Looking inside a network: receptive fields, patches, ideal pictures, class maps, filters."""

from __future__ import annotations

import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.efficientnet import efficientnet_b0
from models.inception import googlenet, inception_v3
from models.inception_resnet import inception_resnet_v2
from models.layers.shapes_alone import shapes_alone
from models.lenet import lenet5
from models.mobilenet import mobilenet, mobilenet_v2
from models.resnet import resnet18, resnet20
from models.vgg import vgg16
from pipelines import evaluate
from pipelines.looking_inside.ascent import ascend
from pipelines.looking_inside.class_maps import class_maps, map_to_show
from pipelines.looking_inside.excitation import choose_units, ideals, patch
from pipelines.looking_inside.figures import draw_inside
from pipelines.looking_inside.filters import DETECTORS, filtered, first_filters, matches, of_size
from pipelines.looking_inside.receptive_field import Window, last_of_each_scale, local_maps
from pipelines.preprocess.image import ImagePreprocessor
from pipelines.sources.digits import Digits
from pipelines.tasks.classification import Classification
from pipelines.tasks.task import Evaluation

PICTURES = ["filters", "edge_detectors", "units", "classes", "class_maps"]


def test_fields_of_lenet() -> None:
    fields = {one.name: one.field[0] for one in local_maps(lenet5())}
    assert fields == {"c1": Window(0, 5, 1), "c3": Window(0, 14, 2), "c5": Window(0, 32, 4)}


@pytest.mark.parametrize(
    ("builder", "size"),
    # A. Araujo et al., "Computing Receptive Fields of Convolutional Neural Networks", 2019. VGG16's
    # 212 pixels are those of its last pooling, which adds 16 to the last convolution.
    [(vgg16, 212 - 16), (mobilenet, 315), (inception_v3, 1311), (inception_resnet_v2, 3039)],
)
def test_fields_are_the_published_ones(builder, size: int) -> None:
    with shapes_alone():
        largest = max(one.field[0].size for one in local_maps(builder()))
    assert largest == size


def positive(model: keras.Model) -> keras.Model:
    """The same network with weights above zero and nothing that moves zero."""
    for variable in model.variables:
        value = np.abs(variable.numpy())
        if variable.name in {"bias", "beta", "moving_mean"}:
            value = np.zeros_like(value)
        if variable.name in {"gamma", "moving_variance"}:
            value = np.ones_like(value)
        variable.assign(value)
    return model


@pytest.mark.parametrize(("builder", "side"), [(lenet5, 36), (resnet18, 64), (mobilenet_v2, 64)])
def test_a_place_sees_its_window_and_nothing_else(builder, side: int) -> None:
    channels = 1 if builder is lenet5 else 3
    model = positive(builder((side, side, channels), 3))
    seen_edges = 0
    for one in last_of_each_scale(local_maps(model)):
        middle = one.tensor.shape[1] // 2
        watched = keras.Model(model.input, one.tensor)
        for axis in (0, 1):
            first = one.field[axis].at(middle)
            last = first + one.field[axis].size - 1
            pixels = [at for at in (first - 1, first, last, last + 1) if 0 <= at < side]
            pictures = np.zeros((len(pixels) + 1, side, side, channels), "float32")
            for picture, at in zip(pictures[1:], pixels, strict=True):
                # The other axis lights up as a whole: where a place sees nothing of it, nothing is.
                picture[(at, slice(None)) if axis == 0 else (slice(None), at)] = 50
            black, *values = watched.predict({"image": pictures}, verbose=0)[:, middle, middle]
            changed = [bool((value != black).any()) for value in values]
            assert changed == [first <= at <= last for at in pixels], (one.name, axis)
            seen_edges += len(pixels)
    assert seen_edges >= 8


def test_squeeze_and_excitation_leaves_a_map_its_place() -> None:
    with shapes_alone():
        sizes = [one.field[0].size for one in local_maps(efficientnet_b0())]
    assert sizes == sorted(sizes)
    assert sizes[0] == 3


def test_a_patch_is_cut_out_as_it_is_seen() -> None:
    picture = np.arange(16.0).reshape(4, 4, 1)
    field = (Window(-1, 3, 2), Window(-1, 3, 2))
    nan = np.nan
    np.testing.assert_array_equal(
        patch(picture, field, np.array([0, 0]))[..., 0], [[nan, nan, nan], [nan, 0, 1], [nan, 4, 5]]
    )
    np.testing.assert_array_equal(
        patch(picture, field, np.array([1, 1]))[..., 0], [[5, 6, 7], [9, 10, 11], [13, 14, 15]]
    )
    whole = (Window(-3, 9, 2), Window(-1, 3, 2))
    assert patch(picture, whole, np.array([1, 1])).shape == (4, 3, 1)


def edge_network() -> keras.Model:
    """One unit that answers to a dark pixel left of a bright one, and one that is always silent."""
    image = keras.Input((8, 8, 1), name="image")
    convolution = keras.layers.Conv2D(2, (1, 2), activation="relu", name="edges")
    x = keras.layers.GlobalMaxPooling2D()(convolution(image))
    model = keras.Model({"image": image}, keras.layers.Dense(2, name="logits")(x))
    convolution.set_weights([np.array([[[[-1, 0]], [[1, 0]]]], "float32"), np.array([0.0, -1.0])])
    return model


def as_named(pixels) -> dict:
    return {"image": tf.cast(pixels, tf.float32)}


def test_units_are_shown_where_they_are_excited_most() -> None:
    pixels = np.zeros((5, 8, 8, 1), "uint8")
    pixels[3, 2, 5], pixels[1, 6, 1] = 200, 100
    model = edge_network()
    units = choose_units(model, local_maps(model), as_named, pixels)
    assert [unit.number for unit in units] == [0]
    assert units[0].pictures[:2].tolist() == [3, 1]
    assert units[0].places[:2].tolist() == [[2, 4], [6, 0]]
    np.testing.assert_array_equal(patch(pixels[3], units[0].maps.field, [2, 4]).ravel(), [0, 200])
    made = ideals(model, units, 2, as_named, pixels)
    dark, bright = made.of_units[0].ravel()
    assert bright - dark > 100
    assert made.of_classes.shape == (2, 8, 8, 1)
    assert ((made.probabilities >= 0) & (made.probabilities <= 1)).all()


def test_ascent_climbs_within_the_range_and_alike_each_time() -> None:
    pattern = np.random.default_rng(0).normal(size=(6, 6, 3)).astype("float32")

    def excitement(pixels):
        return tf.reduce_sum(pixels * pattern, axis=[1, 2, 3])

    start = np.full((2, 6, 6, 3), 128.0)
    made = ascend(excitement, start)
    assert (excitement(made) > excitement(start.astype("float32"))).numpy().all()
    assert made.min() >= 0
    assert made.max() <= 255
    np.testing.assert_array_equal(made, ascend(excitement, start))


def test_grad_cam_is_cam_where_means_meet_a_dense_layer() -> None:
    image = keras.Input((8, 8, 3), name="image")
    maps = keras.layers.Conv2D(5, 3, activation="relu", padding="same", name="last")(image)
    dense = keras.layers.Dense(4, name="logits")
    model = keras.Model({"image": image}, dense(keras.layers.GlobalAveragePooling2D()(maps)))
    pixels = np.random.default_rng(1).uniform(0, 255, (3, 8, 8, 3)).astype("float32")
    classes = np.array([2, 0, 3])
    model.trainable = False
    (one,) = local_maps(model)
    found = class_maps(model, one, as_named, pixels, classes)
    activations = keras.Model(model.input, maps)(as_named(pixels)).numpy()
    weights = dense.kernel.numpy()[:, classes].T
    expected = np.maximum((activations * weights[:, None, None]).sum(axis=-1), 0)
    expected /= np.maximum(expected.max(axis=(1, 2), keepdims=True), 1e-12)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_map_to_show_is_the_last_that_shows_where() -> None:
    assert map_to_show(local_maps(lenet5())).name == "c3"
    assert map_to_show(local_maps(resnet20())).name == "conv4_block3_2_conv"


def test_larger_sobel_is_the_well_known_one() -> None:
    sobel = np.outer([1, 4, 6, 4, 1], [-1, -2, 0, 2, 1])
    found = of_size(DETECTORS["Sobel, vertical edge"], 5, 5)
    np.testing.assert_allclose(found, sobel / np.linalg.norm(sobel))


def test_a_filter_that_is_a_detector_is_named() -> None:
    filters = np.random.default_rng(2).normal(size=(3, 3, 3, 6))
    # Shared out to the channels unevenly: on grey pictures it is Scharr's, upside down.
    scharr = np.array(DETECTORS["Scharr, horizontal edge"], float)
    filters[..., 4] = -scharr[..., None] * [0.5, 0.2, 0.3]
    found = {match.detector: match for match in matches(filters)}
    assert list(found) == list(DETECTORS)
    assert found["Scharr, horizontal edge"].filter == 4
    assert found["Scharr, horizontal edge"].cosine == pytest.approx(-1)


def test_filtered_is_what_a_convolution_computes() -> None:
    random = np.random.default_rng(3)
    picture, kernel = random.uniform(size=(7, 9, 3)), random.normal(size=(3, 3, 3))
    expected = tf.nn.conv2d(picture[None], kernel[..., None], 1, "VALID")[0, ..., 0]
    np.testing.assert_allclose(filtered(picture, kernel)[1:-1, 1:-1], expected, atol=1e-6)


def evaluation(model: keras.Model, preprocessor: ImagePreprocessor, count: int) -> Evaluation:
    """Of the first digits, the last of which were answered wrongly."""
    rows = list(Digits().load("test").take(count).as_numpy_iterator())
    preprocessor.labels = list("0123456789")
    examples = {name: [row[name] for row in rows] for name in ("id", "label")}
    wrong = [b"1" if row["label"] != b"1" else b"2" for row in rows]
    labels = [[row["label"]] for row in rows[:-3]] + [[label] for label in wrong[-3:]]
    answers = {"labels": labels, "probabilities": [[0.5]] * count}
    return Evaluation(
        model=model,
        preprocessor=preprocessor,
        source=Digits(),
        split="test",
        answers=answers,
        examples=examples,
        scores=Classification().scores(answers, examples),
    )


def check_pictures(folder, figures) -> None:
    for figure in figures:
        pixels = tf.io.decode_png((folder / figure.file).read_bytes(), 3).numpy()
        assert min(pixels.shape[:2]) > 60
        assert len(np.unique(pixels)) > 10


@pytest.mark.parametrize(
    ("builder", "channels", "scaling", "count"),
    [(resnet20, 3, "caffe", 12), (lenet5, 1, "data", 3)],
    ids=["in colour", "all answers wrong"],
)
def test_all_is_drawn(builder, channels: int, scaling: str, count: int, tmp_path) -> None:
    preprocessor = ImagePreprocessor(size=32, channels=channels, scaling=scaling)
    model = builder((32, 32, channels), 10)
    figures = draw_inside(evaluation(model, preprocessor, count), tmp_path)
    assert [figure.file for figure in figures] == [f"{name}.png" for name in PICTURES]
    check_pictures(tmp_path, figures)


def test_what_a_network_lacks_is_left_out(tmp_path) -> None:
    image = keras.Input((16, 16, 1), name="image")
    x = keras.layers.Flatten()(image)
    dense = keras.Model({"image": image}, keras.layers.Dense(10)(x))
    assert first_filters(dense) is None
    figures = draw_inside(evaluation(dense, ImagePreprocessor(size=16, channels=1), 8), tmp_path)
    assert [figure.file for figure in figures] == ["classes.png"]
    check_pictures(tmp_path, figures)


def test_the_report_looks_inside_unless_told_otherwise(smoke_run, command, tmp_path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(smoke_run("image_classification"), folder)
    report = (folder / "report.md").read_text()
    assert all(f"({name}.png)" in report for name in PICTURES)
    for file in folder.glob("*.png"):
        file.unlink()
    assert command(evaluate.main, folder, "--no_inside").status == 0
    report = (folder / "report.md").read_text()
    assert not any(f"({name}.png)" in report for name in PICTURES)
    assert {file.stem for file in folder.glob("*.png")}.isdisjoint(PICTURES)
    assert "confusion.png" in report


@pytest.mark.slow
@pytest.mark.parametrize(
    ("builder", "side"),
    [(googlenet, 32), (inception_v3, 75), (mobilenet_v2, 32), (efficientnet_b0, 32), (vgg16, 32)],
)
def test_all_is_drawn_for_every_family(builder, side: int, tmp_path) -> None:
    model = builder((side, side, 3), 10)
    figures = draw_inside(evaluation(model, ImagePreprocessor(size=side, channels=3), 12), tmp_path)
    assert [figure.file for figure in figures] == [f"{name}.png" for name in PICTURES]
    check_pictures(tmp_path, figures)
