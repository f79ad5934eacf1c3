"""Augmentation: what it may do to a picture, and that it depends on nothing but its key."""

from __future__ import annotations

import typing

import numpy as np
import pytest
import tensorflow as tf

from pipelines.arrange.image import AUGMENTATIONS, Augment, arrange
from pipelines.preprocess.image import ImagePreprocessor

PREPROCESSOR = ImagePreprocessor(size=(16, 24), channels=3, background=0)
# Never dark, so that what is black has moved in from outside.
PICTURES = np.random.default_rng(0).integers(50, 200, (12, 16, 24, 3), dtype=np.uint8)
NAMES = sorted(AUGMENTATIONS)


def augmented(augment: str, order=None, *, epoch=0, seed=3, batch_size=5, training=True):
    """The pictures ``order``, augmented in batches, and put back in their own order."""
    order = np.arange(12) if order is None else order
    columns = {
        "features": {"image": PICTURES[order]},
        "target": order.astype("int32"),
        "epoch": np.full(len(order), epoch, "int64"),
        "index": order.astype("int64"),
    }
    dataset = tf.data.Dataset.from_tensor_slices(columns).batch(batch_size)
    options = {"training": training, "seed": seed, "batch_size": batch_size, "augment": augment}
    batches = list(arrange(dataset, PREPROCESSOR, **options).as_numpy_iterator())
    targets = np.concatenate([batch["target"] for batch in batches])
    np.testing.assert_array_equal(targets, order)
    images = np.concatenate([batch["features"]["image"] for batch in batches])
    return images[np.argsort(order)]


def test_every_name_has_its_augmentation() -> None:
    assert set(typing.get_args(Augment)) == {"none", *AUGMENTATIONS}


@pytest.mark.parametrize("augment", NAMES)
def test_draws_depend_on_seed_epoch_and_index_alone(augment: str) -> None:
    images = augmented(augment)
    shuffled = np.random.default_rng(1).permutation(12)
    np.testing.assert_array_equal(augmented(augment, shuffled, batch_size=12), images)
    np.testing.assert_array_equal(augmented(augment, shuffled, batch_size=1), images)
    assert (augmented(augment, epoch=1) != images).any(axis=(1, 2, 3)).sum() >= 9
    assert (augmented(augment, seed=4) != images).any(axis=(1, 2, 3)).sum() >= 9


@pytest.mark.parametrize("augment", NAMES)
def test_only_training_is_augmented(augment: str) -> None:
    np.testing.assert_array_equal(augmented(augment, training=False), PICTURES)
    np.testing.assert_array_equal(augmented("none"), PICTURES)
    images = augmented(augment)
    assert images.shape == PICTURES.shape
    assert images.min() >= 0
    assert images.max() <= 255


def shifted(picture: np.ndarray, x: int, y: int) -> np.ndarray:
    around = np.pad(picture, ((2, 2), (3, 3), (0, 0)))
    return around[2 + y : 18 + y, 3 + x : 27 + x]


@pytest.mark.parametrize(("augment", "mirrors"), [("crop", (1,)), ("crop_flip", (1, -1))])
def test_crops_are_whole_shifts_of_the_picture_or_its_mirror_image(augment, mirrors) -> None:
    seen = set()
    for epoch in range(12):
        for image, picture in zip(augmented(augment, epoch=epoch), PICTURES, strict=True):
            matches = [
                (x, y, mirror)
                for x in range(-3, 4)
                for y in range(-2, 3)
                for mirror in mirrors
                if np.array_equal(image, shifted(picture[:, ::mirror], x, y))
            ]
            assert len(matches) == 1
            seen.add(matches[0])
    assert {x for x, _, _ in seen} == set(range(-3, 4))
    assert {y for _, y, _ in seen} == set(range(-2, 3))
    assert {mirror for _, _, mirror in seen} == set(mirrors)


def test_affine_moves_the_picture_s_centre_of_mass_a_little() -> None:
    blob = np.zeros_like(PICTURES)
    blob[:, 7:9, 11:13] = 255
    columns = {
        "features": {"image": blob},
        "epoch": np.zeros(12, "int64"),
        "index": np.arange(12, dtype="int64"),
    }
    dataset = tf.data.Dataset.from_tensor_slices(columns).batch(12)
    arranged = arrange(
        dataset, PREPROCESSOR, training=True, seed=0, batch_size=12, augment="affine"
    )
    image = next(iter(arranged))["features"]["image"].numpy()[..., 0]
    total = image.sum(axis=(1, 2))
    y = (image.sum(axis=2) * np.arange(16)).sum(axis=1) / total - 7.5
    x = (image.sum(axis=1) * np.arange(24)).sum(axis=1) / total - 11.5
    assert (np.abs(y) <= 1.2).all()
    assert (np.abs(x) <= 1.6).all()
    assert np.std(x) > 0.2
    assert np.std(y) > 0.1


def test_light_changes_brightness_not_place() -> None:
    plain, lit = augmented("crop_flip"), augmented("crop_flip_light")
    ratio = [
        np.corrcoef(one[one > 0].ravel(), other[one > 0].ravel())[0, 1]
        for one, other in zip(plain, lit, strict=True)
    ]
    assert min(ratio) > 0.9
    assert (np.abs(plain.mean(axis=(1, 2, 3)) - lit.mean(axis=(1, 2, 3))) > 1).sum() >= 9
