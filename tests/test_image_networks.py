"""What is particular to each image architecture, and the numbers that are published about it."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import math
import warnings
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from models.alexnet import alexnet
from models.convolutional import convolutional_network
from models.efficientnet import SCALES, compound_scaling, efficientnet_b0
from models.inception import googlenet
from models.layers.features import features
from models.layers.normalization import LocalResponseNormalization
from models.layers.picture import halving_padding
from models.layers.shapes_alone import shapes_alone
from models.mobilenet import mobilenet_v3_small
from models.resnet import resnet18, resnet20, resnet50
from serving.export import export_run
from tests.conftest import train

PICTURE = (40, 48, 3)


@dataclasses.dataclass(frozen=True)
class Published:
    """What is counted in the literature and in keras.applications, with a top for 1000 classes.

    Args:
        builder: ``module.function`` in ``models/``.
        total: parameters, trained or not.
        headless: parameters without the top.
        layers: layers that own weights, with the top and without.
        options: keywords of the builder.
    """

    builder: str
    total: int
    headless: int
    layers: tuple[int, int] | None = None
    options: dict[str, Any] = dataclasses.field(default_factory=dict)


PUBLISHED = [
    Published("vgg.vgg16", 138_357_544, 14_714_688, (16, 13)),
    Published("vgg.vgg19", 143_667_240, 20_024_384, (19, 16)),
    Published("resnet.resnet18", 11_699_112, 11_699_112 - 513_000),
    Published("resnet.resnet34", 21_814_696, 21_814_696 - 513_000),
    Published("resnet.resnet50", 25_636_712, 23_587_712, (107, 106)),
    Published("resnet.resnet101", 44_707_176, 42_658_176, (209, 208)),
    Published("resnet.resnet152", 60_419_944, 58_370_944, (311, 310)),
    Published("resnet.resnet50", 25_610_152, 23_561_152, options={"bias": False}),
    Published("resnet.resnet101", 44_654_504, 42_605_504, options={"bias": False}),
    Published("resnet.resnet152", 60_344_232, 58_295_232, options={"bias": False}),
    Published("mobilenet.mobilenet", 4_253_864, 3_228_864, (55, 54)),
    Published("mobilenet.mobilenet_v2", 3_538_984, 2_257_984, (105, 104)),
    Published("mobilenet.mobilenet_v3_small", 2_554_968, 939_120, (88, 86)),
    Published("mobilenet.mobilenet_v3_large", 5_507_432, 2_996_352, (110, 108)),
    Published("inception.inception_v3", 23_851_784, 21_802_784, (189, 188)),
    Published("inception_resnet.inception_resnet_v2", 55_873_736, 54_336_736, (449, 448)),
    Published("efficientnet.efficientnet_b0", 5_330_571, 4_049_571, (132, 131)),
    Published("efficientnet.efficientnet_b1", 7_856_239, 6_575_239),
    Published("efficientnet.efficientnet_b2", 9_177_569, 7_768_569),
    Published("efficientnet.efficientnet_b3", 12_320_535, 10_783_535),
    Published("efficientnet.efficientnet_b4", 19_466_823, 17_673_823),
    Published("efficientnet.efficientnet_b5", 30_562_527, 28_513_527),
    Published("efficientnet.efficientnet_b6", 43_265_143, 40_960_143),
    Published("efficientnet.efficientnet_b7", 66_658_687, 64_097_687),
]


def builder(name: str):
    module, function = name.split(".")
    return getattr(importlib.import_module(f"models.{module}"), function)


def count(layers: list[keras.Layer]) -> int:
    return sum(math.prod(weight.shape) for layer in layers for weight in layer.weights)


@pytest.mark.parametrize("published", PUBLISHED, ids=lambda p: f"{p.builder}-{p.options}")
def test_parameters_and_layers_are_as_published(published: Published) -> None:
    with shapes_alone():
        model = builder(published.builder)(**published.options)
        layers = [layer for layer in model.layers if layer.weights]
        top = 1
        if published.layers:
            assert len(layers) == published.layers[0]
            top = published.layers[0] - published.layers[1]
        assert count(layers) == published.total
        assert count(layers[:-top]) == published.headless


# The strides of the maps, and the maps of each, for pictures of 96x96 pixels.
BACKBONES = {
    "vgg.vgg16": {1: 64, 2: 128, 4: 256, 8: 512, 16: 512},
    "alexnet.alexnet": {4: 96, 8: 256, 16: 256},
    "network_in_network.network_in_network": {1: 96, 2: 192, 4: 192},
    "inception.googlenet": {2: 64, 4: 192, 8: 480, 16: 832, 32: 1024},
    "inception.inception_v3": {2: 64, 4: 192, 8: 288, 16: 768, 32: 2048},
    "inception_resnet.inception_resnet_v2": {2: 64, 4: 192, 8: 320, 16: 1088, 32: 1536},
    "resnet.resnet20": {1: 16, 2: 32, 4: 64},
    "resnet.resnet18": {2: 64, 4: 64, 8: 128, 16: 256, 32: 512},
    "resnet.resnet50": {2: 64, 4: 256, 8: 512, 16: 1024, 32: 2048},
    "mobilenet.mobilenet": {2: 64, 4: 128, 8: 256, 16: 512, 32: 1024},
    "mobilenet.mobilenet_v2": {2: 16, 4: 24, 8: 32, 16: 96, 32: 320},
    "mobilenet.mobilenet_v3_small": {2: 16, 4: 16, 8: 24, 16: 48, 32: 96},
    "efficientnet.efficientnet_b0": {2: 16, 4: 24, 8: 40, 16: 112, 32: 320},
    "convolutional.convolutional_network": {1: 32, 2: 64, 4: 128},
}


@pytest.mark.parametrize("name", BACKBONES)
def test_backbone_names_its_maps_by_stride(name: str) -> None:
    with shapes_alone():
        maps = features(builder(name)((96, 96, 3))).output
    assert {key: tensor.shape[-1] for key, tensor in maps.items()} == {
        f"stride_{stride}": channels for stride, channels in BACKBONES[name].items()
    }
    valid = name.startswith(("inception.inception_v3", "inception_resnet", "alexnet"))
    for stride, tensor in zip(BACKBONES[name], maps.values(), strict=True):
        side = tensor.shape[1]
        assert side <= 96 // stride if valid else side == 96 // stride


SMALLEST = {
    "alexnet.alexnet": 67,
    "alexnet.alexnet_one_tower": 67,
    "vgg.vgg16": 32,
    "network_in_network.network_in_network": 8,
    "inception.googlenet": 32,
    "inception.inception_v3": 75,
    "inception_resnet.inception_resnet_v2": 75,
    "resnet.resnet18": 32,
    "resnet.resnet50": 32,
    "mobilenet.mobilenet": 32,
    "mobilenet.mobilenet_v2": 32,
    "mobilenet.mobilenet_v3_large": 32,
    "efficientnet.efficientnet_b0": 32,
}


@pytest.mark.parametrize("name", SMALLEST)
def test_pictures_below_the_smallest_size_are_refused(name: str) -> None:
    side = SMALLEST[name]
    with pytest.raises(ValueError, match=f"needs pictures of {side}x{side} pixels or more") as e:
        builder(name)((side, side - 1, 3))
    assert f"received input_shape=({side}, {side - 1}, 3)" in str(e.value)
    assert "\n" not in str(e.value)
    for shape in ((side, side), (side, side, 0)):
        with pytest.raises(ValueError, match=r"reads pictures of \(height, width, channels\)"):
            builder(name)(shape)


def test_local_response_normalization_is_the_paper_s_formula() -> None:
    x = np.random.default_rng(0).normal(0, 50, (2, 3, 4, 7)).astype("float32")
    expected = np.empty_like(x)
    for i in range(7):
        near = x[..., max(0, i - 2) : min(6, i + 2) + 1]
        expected[..., i] = x[..., i] / (2 + 1e-4 * (near**2).sum(axis=-1)) ** 0.75
    np.testing.assert_allclose(LocalResponseNormalization()(x), expected, rtol=1e-5)


def test_each_tower_of_alexnet_reads_its_own_half_of_the_maps() -> None:
    model = alexnet((67, 67, 3), 2)
    before = model.get_layer("norm1").output.shape[-1]
    second = model.get_layer("conv2")
    assert [layer.kernel.shape[2] for layer in model.layers if "conv2_tower" in layer.name] == [
        before // 2,
        before // 2,
    ]
    first_half = keras.Model(model.input, [model.get_layer("pool1").output, second.output])
    pooled, maps = first_half({"image": np.ones((1, 67, 67, 3), "float32")})
    rest = keras.Model(model.get_layer("pool1").output, second.output)
    changed = np.array(pooled)
    changed[..., before // 2 :] += 1
    differs = np.any(np.array(rest(changed)) != np.array(maps), axis=(0, 1, 2))
    assert not differs[:128].any()
    assert differs[128:].any()


def trained(model: keras.Model, x, y) -> dict[str, float]:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, metrics=["accuracy"])
    return model.train_on_batch({"image": x}, y, return_dict=True)


@pytest.fixture
def batch() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return random.normal(size=(4, 32, 36, 1)).astype("float32"), np.array([0, 1, 2, 0])


def test_auxiliary_classifiers_train_and_answer_nothing(batch) -> None:
    x, y = batch
    keras.utils.set_random_seed(0)
    model = googlenet((32, 36, 1), 3, dropout=0.0)
    for layer in model.in_training.layers:
        if "auxiliary" in layer.name and isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    logits = model.in_training({"image": x}, training=True)
    losses = {
        name: float(
            ops.mean(keras.losses.sparse_categorical_crossentropy(y, value, from_logits=True))
        )
        for name, value in logits.items()
    }
    expected = losses["main"] + 0.3 * (losses["auxiliary_1"] + losses["auxiliary_2"])
    metrics = trained(model, x, y)
    assert metrics["loss"] == pytest.approx(expected, rel=1e-5)
    answer = model({"image": x})
    assert answer.shape == (4, 3)
    assert not any("auxiliary" in layer.name for layer in model.layers)
    evaluated = model.evaluate({"image": x}, y, verbose=0, return_dict=True)
    main = ops.mean(keras.losses.sparse_categorical_crossentropy(y, answer, from_logits=True))
    assert evaluated["loss"] == pytest.approx(float(main), rel=1e-5)
    assert set(evaluated) == {"loss", "accuracy"}


def test_without_auxiliary_classifiers_the_network_is_the_same(batch) -> None:
    x, _ = batch
    with_heads = googlenet((32, 36, 1), 3)
    without = googlenet((32, 36, 1), 3, auxiliary_weight=0.0)
    names = [layer.name for layer in without.layers]
    assert names == [layer.name for layer in with_heads.layers]
    for layer in without.layers:
        layer.set_weights(with_heads.get_layer(layer.name).get_weights())
    np.testing.assert_array_equal(without({"image": x}), with_heads({"image": x}))


def test_saved_googlenet_goes_on_training_with_its_auxiliary_classifiers(batch, tmp_path) -> None:
    x, y = batch
    keras.utils.set_random_seed(0)
    model = googlenet((32, 36, 1), 3, auxiliary_weight=0.2)
    model.save(tmp_path / "googlenet.keras")
    again = keras.saving.load_model(tmp_path / "googlenet.keras")
    assert again.count_params() == model.count_params()
    assert again.auxiliary_weight == 0.2
    before = [weight.numpy() for weight in again.trainable_weights]
    trained(again, x, y)
    for weight, start in zip(again.trainable_weights, before, strict=True):
        assert np.any(weight.numpy() != start), weight.path


@pytest.mark.parametrize("build", [resnet20, resnet18, resnet50])
def test_plain_counterpart_lacks_the_shortcuts_alone(build) -> None:
    with shapes_alone():
        whole, plain = build(PICTURE, 3), build(PICTURE, 3, shortcuts="none")

    def named(model: keras.Model) -> set[str]:
        own = {layer.name for layer in model.layers if layer.weights}
        return {name for name in own if not name.endswith(("_0_conv", "_0_bn"))}

    assert named(whole) == named(plain)
    assert any(isinstance(layer, keras.layers.Add) for layer in whole.layers)
    assert not any(isinstance(layer, keras.layers.Add) for layer in plain.layers)


@pytest.mark.parametrize(("version", "halving"), [("1", "1"), ("1.5", "2")])
def test_version_says_which_convolution_halves_the_maps(version: str, halving: str) -> None:
    with shapes_alone():
        model = resnet50(PICTURE, 3, version=version)
    strides = {n: model.get_layer(f"conv3_block1_{n}_conv").strides for n in "0123"}
    expected = {n: (2, 2) if n in ("0", halving) else (1, 1) for n in "0123"}
    assert strides == expected


def test_padding_before_a_halving_depends_on_the_side() -> None:
    pad = functools.partial(halving_padding, size=3)
    assert pad(keras.Input((8, 9, 1))) == ((0, 1), (1, 1))
    assert pad(keras.Input((None, 9, 1))) == ((0, 1), (1, 1))
    assert halving_padding(keras.Input((8, 9, 1)), 5) == ((1, 2), (2, 2))


@pytest.mark.parametrize("build", [mobilenet_v3_small, efficientnet_b0])
def test_pixels_between_0_and_1_are_warned_of_where_bytes_are_expected(build) -> None:
    model = build((32, 32, 3), 2)
    bytes_ = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3)).astype("float32")
    with pytest.warns(UserWarning, match=r"expects pixels from 0 to 255, none .* above 1"):
        model({"image": bytes_ / bytes_.max()})
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model({"image": bytes_})
        model({"image": 0 * bytes_})  # as black as bytes can be


def test_compound_scaling_gives_the_published_networks_rounded() -> None:
    assert compound_scaling(0) == (1, 1, 1)
    depth, width, side = compound_scaling(1)
    assert depth * width**2 * side**2 == pytest.approx(2, rel=0.05)  # equation 3: twice the work
    for number, phi in enumerate((0, 0.5, 1, 2, 3, 4, 5, 6)):
        depth, width, _ = compound_scaling(phi)
        published_width, published_depth, _ = SCALES[f"b{number}"]
        assert published_depth == pytest.approx(depth, rel=0.07)
        assert published_width == pytest.approx(width, rel=0.14)


def test_one_builder_convolves_time_pictures_and_films() -> None:
    for sides in ((16,), (16, 12), (4, 8, 8)):
        model = convolutional_network((*sides, 2), 3)
        assert model({"image": np.zeros((2, *sides, 2), "float32")}).shape == (2, 3)
    with pytest.raises(ValueError, match="1, 2 or 3 spatial dimensions"):
        convolutional_network((4,), 3)
    with pytest.raises(ValueError, match="3 blocks need 4 or more places along each dimension"):
        convolutional_network((3, 8, 1), 3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "alexnet",
        "convolutional_network",
        "efficientnet_b0",
        "googlenet",
        "inception_resnet_v2",
        "mobilenet",
        "mobilenet_v2",
        "mobilenet_v3_small",
        "network_in_network",
        "resnet50",
        "vgg16",
    ],
)
def test_each_family_trains_and_exports_with_one_command(name: str, command, tmp_path) -> None:
    options = ("--architecture", name, "--smoke", "--batch_size", "4", "--run", "smoke")
    finished = command(train("image_classification"), *options, "--runs_dir", tmp_path)
    assert finished.status == 0, finished.err
    run = tmp_path / "image_classification" / "smoke"
    # The export compares the reloaded version with the model in process.
    version = export_run(run, model_base_path=tmp_path / "exports")
    assert (version / "saved_model.pb").exists()
