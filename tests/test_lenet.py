"""LeNet-5 as published: connections, codes, output units."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from models.lenet import C3_CONNECTIONS, lenet5, output_codes, scaled_tanh


def test_each_layer_owns_what_the_paper_counts() -> None:
    model = lenet5()
    counts = {layer.name: layer.count_params() for layer in model.layers if layer.weights}
    assert counts == {"c1": 156, "s2": 12, "c3": 1_516, "s4": 32, "c5": 48_120, "f6": 10_164}


def test_c3_reads_only_the_maps_of_the_paper_s_table() -> None:
    c3 = lenet5().get_layer("c3")
    pixels = np.random.default_rng(0).normal(size=(1, 14, 14, 6)).astype("float32")
    before = c3(pixels).numpy()
    for changed in range(6):
        other = pixels.copy()
        other[..., changed] += 1
        differs = (c3(other).numpy() != before).any(axis=(0, 1, 2))
        readers = [changed in maps for maps in C3_CONNECTIONS]
        np.testing.assert_array_equal(differs, readers)


def test_squashing_function_takes_one_to_one() -> None:
    np.testing.assert_allclose(scaled_tanh(np.array([-1.0, 0.0, 1.0])), [-1, 0, 1], atol=1e-4)


def test_codes_are_distinct_signs_drawn_as_digits_or_at_random() -> None:
    for classes in (2, 10, 26):
        codes = output_codes(classes)
        assert codes.shape == (classes, 84)
        assert set(np.unique(codes)) == {-1, 1}
        assert len(np.unique(codes, axis=0)) == classes
        np.testing.assert_array_equal(codes, output_codes(classes))
    one = output_codes(10)[1].reshape(12, 7)
    np.testing.assert_array_equal(one[:11, 4], np.ones(11))  # the stroke of the figure one
    np.testing.assert_array_equal(one[:10, 6], -np.ones(10))


def test_logits_are_minus_squared_distances_to_the_codes() -> None:
    output = lenet5().get_layer("logits")
    f6 = np.random.default_rng(0).normal(size=(3, 84)).astype("float32")
    expected = [[-((row - code) ** 2).sum() for code in output_codes(10)] for row in f6]
    np.testing.assert_allclose(output(f6), expected, rtol=1e-5)


def test_too_small_pictures_are_refused() -> None:
    with pytest.raises(ValueError, match="32x32 pixels or more"):
        lenet5(input_shape=(28, 28, 1))


def test_features_of_a_backbone_come_by_stride() -> None:
    from models.layers.features import features
    from models.resnet import resnet20

    maps = features(resnet20((16, 24, 3)))({"image": np.zeros((2, 16, 24, 3), "float32")})
    assert {name: tuple(value.shape) for name, value in maps.items()} == {
        "stride_1": (2, 16, 24, 16),
        "stride_2": (2, 8, 12, 32),
        "stride_4": (2, 4, 6, 64),
    }
    with pytest.raises(ValueError, match="no backbone"):
        features(keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)], name="mlp"))
