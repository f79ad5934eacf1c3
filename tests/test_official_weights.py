"""The published weights: every layer gets its own, and a file that does not fit says why."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import h5py
import keras
import numpy as np
import pytest
from keras import applications
from keras.src.legacy.saving import legacy_h5_format

from models.cards.catalogue import families
from models.efficientnet import DEVIATIONS
from models.layers.features import features
from models.layers.official_weights import load_official
from models.mobilenet import mobilenet, mobilenet_v3_small
from models.resnet import resnet50
from models.vgg import vgg16
from pipelines.image_classification import application
from tests.conftest import run_python, train
from tests.keras_applications import Peer


def narrow(builder: str, reference: Callable, width: float) -> Peer:
    return Peer(builder, reference, own={"width": width}, theirs={"alpha": width})


PEERS = [
    Peer("mobilenet.mobilenet", applications.MobileNet),
    Peer("mobilenet.mobilenet_v2", applications.MobileNetV2),
    Peer("mobilenet.mobilenet_v3_small", applications.MobileNetV3Small),
    Peer("efficientnet.efficientnet_b0", applications.EfficientNetB0),
    Peer("resnet.resnet50", applications.ResNet50),
    Peer("vgg.vgg16", applications.VGG16, (32, 32, 3)),
    Peer("inception.inception_v3", applications.InceptionV3, (75, 75, 3)),
]
SLOW_PEERS = [
    Peer("inception_resnet.inception_resnet_v2", applications.InceptionResNetV2, (75, 80, 3)),
    Peer("resnet.resnet101", applications.ResNet101),
    Peer("resnet.resnet152", applications.ResNet152),
    Peer("vgg.vgg19", applications.VGG19, (32, 32, 3)),
    narrow("mobilenet.mobilenet", applications.MobileNet, 0.25),
    narrow("mobilenet.mobilenet_v2", applications.MobileNetV2, 0.35),
    narrow("mobilenet.mobilenet_v2", applications.MobileNetV2, 1.4),
    narrow("mobilenet.mobilenet_v3_small", applications.MobileNetV3Small, 0.75),
    narrow("mobilenet.mobilenet_v3_large", applications.MobileNetV3Large, 1.5),
    Peer("mobilenet.mobilenet_v3_large", applications.MobileNetV3Large),
    Peer(
        "mobilenet.mobilenet_v3_large",
        applications.MobileNetV3Large,
        own={"minimalistic": True},
        theirs={"minimalistic": True},
    ),
    *(
        Peer(f"efficientnet.efficientnet_b{n}", getattr(applications, f"EfficientNetB{n}"))
        for n in range(1, 8)
    ),
]
each_peer = pytest.mark.parametrize(
    "peer", [*PEERS, *(pytest.param(peer, marks=pytest.mark.slow) for peer in SLOW_PEERS)], ids=str
)


def randomise(model: keras.Model) -> None:
    """Values that keep signals alive: as built, the logits of two deep networks are equal zeros."""
    random = np.random.default_rng(0)
    for weight in model.weights:
        if weight.name == "kernel":
            fan_in = np.prod(weight.shape[:-1])
            value = random.normal(0, np.sqrt(2 / fan_in), weight.shape)
            if "depthwise" in weight.path or "dw" in weight.path:
                value = random.normal(0, 0.5, weight.shape)
        elif weight.name in ("gamma", "moving_variance", "variance"):
            value = random.uniform(0.5, 1.5, weight.shape)
        elif weight.name == "count":
            continue
        else:
            value = random.normal(0, 0.2, weight.shape)
        weight.assign(value)


def write_legacy(model: keras.Model, file) -> None:
    """The layout of the published files."""
    with h5py.File(file, "w") as opened:
        legacy_h5_format.save_weights_to_hdf5_group(opened, model)


def weighted_layers(model: keras.Model) -> list[keras.Layer]:
    """The layers that own weights, in the order of the file."""
    return [layer for layer in model.layers if layer.weights]


def outputs(model: keras.Model, pictures: np.ndarray) -> list[np.ndarray]:
    """What each layer that owns weights answers."""
    taps = [layer.output for layer in weighted_layers(model)]
    return [np.array(output) for output in keras.Model(model.inputs, taps)([pictures])]


@pytest.fixture
def double_precision():
    """float32 would let a deep network of random weights blow roundings up."""
    keras.config.set_floatx("float64")  # of inputs
    keras.config.set_dtype_policy("float64")  # of layers
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")


@each_peer
def test_every_layer_answers_as_in_keras_applications(
    peer: Peer, double_precision, tmp_path
) -> None:
    reference = peer.build_reference()
    randomise(reference)
    file = tmp_path / "official.h5"
    write_legacy(reference, file)
    for layer in reference.layers:
        if isinstance(layer, keras.layers.Normalization):
            # The published weights go with a second division, by the root of the deviations, which
            # keras.applications has under weights="imagenet" alone.
            scale = (1 / np.sqrt(DEVIATIONS)).astype("float32")
            layer.adapt_variance.assign(layer.adapt_variance / scale.astype("float64") ** 2)
            layer.finalize_state()
    model = peer.build(weights=str(file))
    pictures = np.random.default_rng(1).uniform(0, 255, (2, *peer.shape))
    for layer, output, other, expected in zip(
        weighted_layers(model),
        outputs(model, pictures),
        weighted_layers(reference),
        outputs(reference, pictures),
        strict=True,
    ):
        if isinstance(other, keras.layers.Normalization):
            continue  # before the second division
        if getattr(other, "activation", None) is keras.activations.linear:
            expected = np.array(layer.activation(expected))  # noqa: PLW2901, a layer of its own
        assert np.ptp(expected) > 1e-2, other.name
        error = np.abs(output - expected).max() / np.abs(expected).max()
        assert error < 1e-5, (layer.name, other.name)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Files as published, of a narrow MobileNet: with top, without, and the network itself."""
    folder = tmp_path_factory.mktemp("published")
    options = {"weights": None, "input_shape": (32, 32, 3), "alpha": 0.25}
    whole = applications.MobileNet(**options)
    headless = applications.MobileNet(**options, include_top=False)
    randomise(whole)
    headless.set_weights(whole.get_weights()[: len(headless.weights)])
    write_legacy(whole, folder / "whole.h5")
    write_legacy(headless, folder / "headless.h5")
    return folder


def narrow_mobilenet(classes: int = 1000, **options) -> keras.Model:
    return mobilenet((32, 32, 3), classes, width=0.25, **options)


def same_backbone(one: keras.Model, other: keras.Model) -> bool:
    pictures = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
    last = [features(model)({"image": pictures})["stride_32"] for model in (one, other)]
    return bool(np.any(last[0])) and np.array_equal(*last)


def test_whole_file_is_loaded_and_its_share_told_once(published, capsys, tmp_path) -> None:
    file = tmp_path / "official.h5"
    shutil.copy(published / "whole.h5", file)
    count = narrow_mobilenet().count_params()
    for _ in range(3):  # as often as a run builds its network
        narrow_mobilenet(weights=str(file))
    told = f"weights: {count:,} of {count:,} values (100.0%) from {file}\n"
    assert capsys.readouterr().out == told


@pytest.mark.parametrize("classes", [1000, 3])
def test_file_without_top_fills_the_backbone(published, classes: int) -> None:
    model = narrow_mobilenet(classes)
    start = model.get_layer("conv_preds").get_weights()
    loaded = load_official(model, str(published / "headless.h5"))
    assert same_backbone(model, narrow_mobilenet(weights=str(published / "whole.h5")))
    assert loaded.total - loaded.values == 256 * classes + classes
    assert "conv_preds" in loaded.fresh
    assert "no more than 54 layers with weights in the file" in loaded.fresh
    for before, after in zip(start, model.get_layer("conv_preds").get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_another_number_of_classes_keeps_the_backbone_only(published, capsys) -> None:
    model = narrow_mobilenet(3, weights=str(published / "whole.h5"))
    told = capsys.readouterr().out
    assert "conv_preds (1, 1, 256, 3), (3,) in the model" in told
    assert "conv_preds (1, 1, 256, 1000), (1000,) in the file" in told
    assert same_backbone(model, narrow_mobilenet(weights=str(published / "whole.h5")))


def test_first_layer_that_differs_is_named_on_both_sides(published) -> None:
    with pytest.raises(
        ValueError, match=r"whole.h5 is not of resnet50: layer 1 is conv1_conv"
    ) as e:
        resnet50((32, 32, 3), weights=str(published / "whole.h5"))
    assert "(7, 7, 3, 64), (64,) in the model, conv1 (3, 3, 3, 8) in the file" in str(e.value)
    with pytest.raises(ValueError, match=r"layer 1 is conv1 \(3, 3, 1, 8\) in the model"):
        mobilenet((32, 32, 1), width=0.25, weights=str(published / "whole.h5"))


def test_truncated_file_is_refused(published, tmp_path) -> None:
    whole = (published / "whole.h5").read_bytes()
    for share in (0.99, 0.5, 0.0001):
        part = tmp_path / "part.h5"
        part.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(ValueError, match=r"part.h5 is damaged or no HDF5 file"):
            narrow_mobilenet(weights=str(part))


def test_other_files_are_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"there is no weights file .*missing.h5"):
        narrow_mobilenet(weights=str(tmp_path / "missing.h5"))
    own = tmp_path / "own.weights.h5"
    narrow_mobilenet().save_weights(own)
    with pytest.raises(
        ValueError, match=r"own.weights.h5 is no weights file of keras.applications"
    ):
        narrow_mobilenet(weights=str(own))


def test_command_says_in_a_line_what_is_wrong_with_a_file(published, command, tmp_path) -> None:
    part = tmp_path / "part.h5"
    part.write_bytes((published / "whole.h5").read_bytes()[:100_000])
    options = ("--architecture", "mobilenet", "--preprocess.size=32", "--runs_dir", tmp_path)
    for file, width, words in (
        (published / "whole.h5", 0.5, "is not of mobilenet: layer 1 is conv1 (3, 3, 3, 16)"),
        (part, 0.25, "is damaged or no HDF5 file"),
    ):
        given = (f"--model.width={width}", "--model.weights", file)
        refused = command(train("image_classification"), *options, *given)
        assert refused.status == 2
        assert refused.err.startswith("error: the architecture cannot be built so: ")
        assert words in refused.err
        assert refused.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == [part]


def test_variant_without_published_weights_says_so(published) -> None:
    with pytest.raises(ValueError, match="no official weights are published for this variant"):
        mobilenet((32, 32, 3), width=0.3, weights="imagenet")


def test_application_shows_each_architecture_pixels_as_its_weights_expect() -> None:
    published = {n: weights for family in families() for n, weights in family.weights.items()}
    assert len(published) == 19
    for name, weights in published.items():
        variant = application.architectures[name]
        assert variant.preprocess["scaling"] == weights.convention, name


def test_download_that_fails_is_one_clear_line(tmp_path) -> None:
    program = """
from models.mobilenet import mobilenet_v3_small
try:
    mobilenet_v3_small(weights="imagenet")
except ValueError as error:
    print(error)
"""
    nowhere = "http://127.0.0.1:9"  # no proxy listens there
    result = run_python(
        *("-c", program),
        environment={
            "KERAS_BACKEND": "numpy",
            "KERAS_HOME": str(tmp_path),
            "http_proxy": nowhere,
            "https_proxy": nowhere,
        },
    )
    told = result.stdout.splitlines()[-1]
    assert told.startswith("cannot download https://storage.googleapis.com/tensorflow/keras-")
    assert "weights_mobilenet_v3_small_224_1.0_float.h5; fetch it elsewhere" in told


def test_vgg_of_another_picture_size_keeps_the_backbone_only(tmp_path, capsys) -> None:
    reference = applications.VGG16(weights=None, input_shape=(32, 32, 3))
    write_legacy(reference, tmp_path / "vgg.h5")
    model = vgg16((64, 32, 3), weights=str(tmp_path / "vgg.h5"))
    assert "fc1 (1024, 4096), (4096,) in the model, fc1 (512, 4096)" in capsys.readouterr().out
    kernel, _ = model.get_layer("block5_conv3").get_weights()
    np.testing.assert_array_equal(kernel, reference.get_layer("block5_conv3").get_weights()[0])


def test_scaling_of_pixels_is_the_same_however_the_weights_came(tmp_path) -> None:
    reference = applications.MobileNetV3Small(weights=None, input_shape=(32, 32, 3))
    write_legacy(reference, tmp_path / "v3.h5")
    loaded = mobilenet_v3_small((32, 32, 3), weights=str(tmp_path / "v3.h5"))
    copied = mobilenet_v3_small((32, 32, 3))
    copied.set_weights(loaded.get_weights())
    pictures = np.random.default_rng(0).uniform(0, 255, (1, 32, 32, 3)).astype("float32")
    inputs = {"image": pictures}
    np.testing.assert_array_equal(loaded(inputs), copied(inputs))
