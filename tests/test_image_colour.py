"""Colour operations against Pillow's, by which RandAugment is defined, and against numpy."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from pipelines.arrange.colour import (
    autocontrast,
    equalize,
    jitter,
    posterize,
    principal_colours,
    recoloured,
    sharpen,
    solarize,
)
from pipelines.arrange.draws import Draws
from pipelines.preprocess.image import ImagePreprocessor

RANDOM = np.random.default_rng(0)


def smooth_pictures(count: int, channels: int) -> np.ndarray:
    """Pictures with a few broad patches, of different light and contrast."""
    patches = RANDOM.integers(0, 256, (count, 4, 5, channels))
    values = np.kron(patches, np.ones((1, 4, 4, 1))) + RANDOM.normal(
        0, 9, (count, 16, 20, channels)
    )
    factor, offset = RANDOM.uniform(0.3, 1, (2, count, 1, 1, 1))
    return np.clip(values * factor + 60 * offset, 0, 255).astype(np.uint8)


COLOUR, GREY = smooth_pictures(6, 3), smooth_pictures(6, 1)
FACTORS = np.array([0.1, 0.5, 0.9, 1.0, 1.3, 1.9])

PILLOW = {
    "brightness": (ImageEnhance.Brightness, lambda p, f: recoloured(p, brightness=f)),
    "contrast": (ImageEnhance.Contrast, lambda p, f: recoloured(p, contrast=f)),
    "color": (ImageEnhance.Color, lambda p, f: recoloured(p, saturation=f)),
    "sharpness": (ImageEnhance.Sharpness, sharpen),
}


def pillow(picture: np.ndarray) -> Image.Image:
    return Image.fromarray(picture.squeeze())


@pytest.mark.parametrize("pictures", [COLOUR, GREY], ids=["colour", "grey"])
@pytest.mark.parametrize("name", PILLOW)
def test_enhancements_are_pillow_s(name: str, pictures: np.ndarray) -> None:
    enhancer, ours = PILLOW[name]
    found = ours(tf.constant(pictures), tf.constant(FACTORS)).numpy()
    for picture, image, factor in zip(pictures, found, FACTORS, strict=True):
        expected = np.asarray(enhancer(pillow(picture)).enhance(factor)).astype(int)
        # Pillow rounds grey and means on the way, and cuts off in the end.
        assert np.abs(image.squeeze() - expected).max() <= 2


@pytest.mark.parametrize("pictures", [COLOUR, GREY], ids=["colour", "grey"])
def test_equalize_is_exactly_pillow_s(pictures: np.ndarray) -> None:
    flat = np.full_like(pictures[:1], 77)
    pictures = np.concatenate([pictures, flat])
    expected = [np.asarray(ImageOps.equalize(pillow(picture))) for picture in pictures]
    found = equalize(tf.constant(pictures)).numpy()
    np.testing.assert_array_equal(found.reshape(np.shape(expected)), expected)


@pytest.mark.parametrize("pictures", [COLOUR, GREY], ids=["colour", "grey"])
def test_autocontrast_is_pillow_s_but_for_rounding(pictures: np.ndarray) -> None:
    flat = np.full_like(pictures[:1], 77)
    pictures = np.concatenate([pictures, flat])
    expected = [np.asarray(ImageOps.autocontrast(pillow(picture))) for picture in pictures]
    found = autocontrast(tf.constant(pictures)).numpy().reshape(np.shape(expected))
    assert np.abs(found.astype(int) - np.array(expected)).max() <= 1
    assert (found[:-1].min(axis=(1, 2)) == 0).all()
    assert (found[:-1].max(axis=(1, 2)) == 255).all()


def test_posterize_and_solarize_are_exactly_pillow_s() -> None:
    bits, thresholds = [1, 2, 4, 6, 7, 8], [0, 1, 100, 128, 255, 256]
    posterized = posterize(tf.constant(COLOUR), tf.constant(bits)).numpy()
    solarized = solarize(tf.constant(COLOUR), tf.constant(thresholds)).numpy()
    for n, picture in enumerate(COLOUR):
        np.testing.assert_array_equal(posterized[n], ImageOps.posterize(pillow(picture), bits[n]))
        np.testing.assert_array_equal(
            solarized[n], ImageOps.solarize(pillow(picture), thresholds[n])
        )


def test_changes_are_applied_one_after_another_in_the_stated_order() -> None:
    luma = np.array([0.299, 0.587, 0.114])
    picture = COLOUR[:1].astype(float)
    mean = (picture @ luma).mean()
    expected = 0.9 * (mean + 0.8 * (picture - mean))
    grey = (expected @ luma)[..., None]
    expected = grey + 0.7 * (expected - grey)
    one = tf.ones([1], tf.float64)
    found = recoloured(
        tf.constant(COLOUR[:1]), contrast=0.8 * one, brightness=0.9 * one, saturation=0.7 * one
    )
    np.testing.assert_allclose(found, expected, atol=0.501)


def test_hue_turns_colours_and_leaves_luma_and_grey() -> None:
    colours = np.array([[[[150, 90, 90], [90, 150, 90], [90, 90, 150], [120, 120, 120]]]])
    third = recoloured(tf.constant(colours, tf.uint8), hue=tf.constant([1 / 3], tf.float64))
    third = third.numpy()[0, 0].astype(int)
    luma = [0.299, 0.587, 0.114]
    np.testing.assert_allclose(third @ luma, colours[0, 0] @ luma, atol=1)
    np.testing.assert_array_equal(third[3], [120, 120, 120])
    before = np.array([colorsys.rgb_to_hsv(*colour)[0] for colour in colours[0, 0, :3]])
    after = np.array([colorsys.rgb_to_hsv(*colour)[0] for colour in third[:3]])
    turns = (after - before) % 1
    # A third of the way around, forth or back as the axes go, the same for all.
    assert (np.abs(turns - turns.mean()) < 0.08).all()
    assert min(abs(turns.mean() - 1 / 3), abs(turns.mean() - 2 / 3)) < 0.08
    whole = recoloured(tf.constant(COLOUR), hue=tf.ones([6], tf.float64))
    np.testing.assert_allclose(whole, COLOUR, atol=1)


def drawn(count: int) -> Draws:
    return Draws(0, tf.zeros([count], tf.int64), tf.range(count, dtype=tf.int64))


def test_principal_colours_move_along_what_training_pictures_differ_by() -> None:
    axis = np.array([2, 2, 1]) / 3
    preprocessor = ImagePreprocessor(size=4, channels=3)
    preprocessor.covariance = 900 * np.outer(axis, axis)
    count = 400
    images = tf.fill([count, 4, 4, 3], tf.constant(128, tf.uint8))
    found = principal_colours({"image": images}, drawn(count), preprocessor)["image"].numpy()
    shifts = found[:, 0, 0].astype(float) - 128
    assert (found == found[:, :1, :1]).all()
    along = shifts @ axis
    np.testing.assert_allclose(shifts, along[:, None] * axis, atol=1)
    # Normal, with a tenth of 30 as its deviation: five standard errors.
    assert abs(along.mean()) < 0.75
    assert abs(along.std() - 3) < 0.55


def test_jitter_stays_within_its_bounds_and_reaches_them() -> None:
    count = 200
    images = tf.fill([count, 4, 4, 3], tf.constant(100, tf.uint8))
    preprocessor = ImagePreprocessor(size=4, channels=3)
    found = jitter({"image": images}, drawn(count), preprocessor, brightness=0.2)["image"].numpy()
    assert 80 <= found.min() < 83
    assert 117 < found.max() <= 120
    unchanged = jitter({"image": images}, drawn(count), preprocessor)["image"]
    np.testing.assert_array_equal(unchanged, images)
