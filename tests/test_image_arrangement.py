"""Augmentation by name: what a recipe does to batches, and that draws depend on their key alone."""

from __future__ import annotations

import typing

import numpy as np
import pytest
import tensorflow as tf

from pipelines.arrange.image import Augment, arrange, recipes
from pipelines.preprocess.image import ImagePreprocessor

COUNT = 12
# Never dark, so that what is black has moved in from outside.
PICTURES = np.random.default_rng(0).integers(50, 200, (COUNT, 16, 24, 3), dtype=np.uint8)
NAMES = sorted(recipes())
MIXES = {"mixup", "cutmix"}


def preprocessor(pictures: np.ndarray) -> ImagePreprocessor:
    """As fitted on these pictures, each of a class of its own."""
    made = ImagePreprocessor(size=pictures.shape[1:3], channels=pictures.shape[3], background=0)
    made.labels = [f"{number:02}" for number in range(len(pictures))]
    made.counts = [1] * len(pictures)
    colours = pictures.reshape(-1, pictures.shape[3])
    made.mean = colours.mean(axis=0)
    made.covariance = np.atleast_2d(np.cov(colours, rowvar=False, bias=True))
    return made


def arranged(
    augment: str,
    order=None,
    *,
    pictures=PICTURES,
    targets=None,
    epoch=0,
    seed=3,
    batch_size=5,
    training=True,
    **options,
) -> dict[str, np.ndarray]:
    """``image``, ``target`` and ``weight`` of the pictures ``order``, in their own order."""
    order = np.arange(len(pictures)) if order is None else order
    targets = np.arange(len(pictures)) if targets is None else np.asarray(targets)
    columns = {
        "features": {"image": pictures[order]},
        "target": targets[order].astype("int32"),
        "epoch": np.full(len(order), epoch, "int64"),
        "index": order.astype("int64"),
    }
    dataset = tf.data.Dataset.from_tensor_slices(columns).batch(batch_size)
    batches = arrange(
        dataset,
        preprocessor(pictures),
        training=training,
        seed=seed,
        batch_size=batch_size,
        augment=augment,
        **options,
    )
    columns = [{**batch, **batch.pop("features")} for batch in batches.as_numpy_iterator()]
    return {
        name: np.concatenate([column[name] for column in columns])[np.argsort(order)]
        for name in columns[0]
    }


def changed(one: np.ndarray, other: np.ndarray) -> int:
    """How many pictures differ."""
    return (one != other).any(axis=(1, 2, 3)).sum()


def test_every_name_has_its_recipe() -> None:
    assert set(typing.get_args(Augment)) == {"none", *recipes()}


@pytest.mark.parametrize("augment", sorted(set(NAMES) - MIXES))
def test_draws_depend_on_seed_epoch_and_index_alone(augment: str) -> None:
    images = arranged(augment)["image"]
    shuffled = np.random.default_rng(1).permutation(COUNT)
    for batch_size in (12, 1):
        again = arranged(augment, shuffled, batch_size=batch_size)
        np.testing.assert_array_equal(again["image"], images)
        np.testing.assert_array_equal(again["target"], np.arange(COUNT))
    assert changed(arranged(augment, epoch=1)["image"], images) >= 9
    assert changed(arranged(augment, seed=4)["image"], images) >= 9


@pytest.mark.parametrize("augment", sorted(MIXES))
def test_mixes_depend_on_seed_epoch_index_and_the_batch_alone(augment: str) -> None:
    first, again = arranged(augment), arranged(augment)
    np.testing.assert_array_equal(first["image"], again["image"])
    np.testing.assert_array_equal(first["target"], again["target"])
    for other in ({"epoch": 1}, {"seed": 4}, {"batch_size": 12}):
        assert changed(arranged(augment, **other)["image"], first["image"]) >= 9


@pytest.mark.parametrize("augment", NAMES)
def test_one_picture_is_augmented_in_many_ways(augment: str) -> None:
    same = np.repeat(PICTURES[:1], 40, axis=0)
    # Not frozen when the graph was traced: neither within a batch, nor in the next, nor later.
    images = np.concatenate(
        [arranged(augment, pictures=same, batch_size=8, epoch=epoch)["image"] for epoch in (0, 1)]
    )
    kinds = {image.tobytes() for image in images}
    assert len(kinds) >= (20 if augment in {"crop", "crop_flip"} else 30)


@pytest.mark.parametrize("augment", NAMES)
@pytest.mark.parametrize("channels", [1, 3])
def test_only_training_is_augmented_and_pictures_stay_bytes(augment: str, channels: int) -> None:
    pictures = PICTURES[..., :channels]
    plain = arranged(augment, pictures=pictures, training=False)
    np.testing.assert_array_equal(plain["image"], pictures)
    np.testing.assert_array_equal(plain["target"], np.arange(COUNT))
    images = arranged(augment, pictures=pictures)["image"]
    assert images.shape == pictures.shape
    assert images.dtype == np.uint8
    assert changed(images, pictures) >= 9


def test_none_leaves_everything_as_it_is() -> None:
    plain = arranged("none")
    np.testing.assert_array_equal(plain["image"], PICTURES)
    np.testing.assert_array_equal(plain["target"], np.arange(COUNT))
    assert "weight" not in plain


def shifted(picture: np.ndarray, x: int, y: int) -> np.ndarray:
    around = np.pad(picture, ((2, 2), (3, 3), (0, 0)))
    return around[2 + y : 18 + y, 3 + x : 27 + x]


@pytest.mark.parametrize(("augment", "mirrors"), [("crop", (1,)), ("crop_flip", (1, -1))])
def test_crops_are_whole_shifts_of_the_picture_or_its_mirror_image(augment, mirrors) -> None:
    seen = set()
    for epoch in range(12):
        for image, picture in zip(arranged(augment, epoch=epoch)["image"], PICTURES, strict=True):
            matches = [
                (x, y, mirror)
                for x in range(-3, 4)
                for y in range(-2, 3)
                for mirror in mirrors
                if np.array_equal(image[:, ::mirror], shifted(picture, x, y))
            ]
            assert len(matches) == 1
            seen.add(matches[0])
    assert {x for x, _, _ in seen} == set(range(-3, 4))
    assert {y for _, y, _ in seen} == set(range(-2, 3))
    assert {mirror for _, _, mirror in seen} == set(mirrors)


def test_affine_moves_the_picture_s_centre_of_mass_a_little() -> None:
    blob = np.zeros_like(PICTURES)
    blob[:, 7:9, 11:13] = 255
    image = arranged("affine", pictures=blob)["image"][..., 0].astype(float)
    total = image.sum(axis=(1, 2))
    y = (image.sum(axis=2) * np.arange(16)).sum(axis=1) / total - 7.5
    x = (image.sum(axis=1) * np.arange(24)).sum(axis=1) / total - 11.5
    assert (np.abs(y) <= 1.2).all()
    assert (np.abs(x) <= 1.6).all()
    assert np.std(x) > 0.2
    assert np.std(y) > 0.1


def test_light_changes_brightness_not_place() -> None:
    plain, lit = (arranged(augment)["image"] for augment in ("crop_flip", "crop_flip_light"))
    ratio = [
        np.corrcoef(one[one > 0].ravel(), other[one > 0].ravel())[0, 1]
        for one, other in zip(plain, lit, strict=True)
    ]
    assert min(ratio) > 0.9
    assert (np.abs(plain.mean(axis=(1, 2, 3)) - lit.mean(axis=(1, 2, 3))) > 1).sum() >= 9


def test_randaugment_of_no_operation_is_crop_flip_and_of_more_strength_is_stronger() -> None:
    plain = arranged("crop_flip")["image"]
    np.testing.assert_array_equal(arranged("randaugment", operations=0)["image"], plain)
    weak, strong = (arranged("randaugment", magnitude=m)["image"].astype(int) for m in (1, 10))
    assert np.abs(weak - plain).mean() < np.abs(strong - plain).mean()


def test_balanced_weights_give_every_class_the_same_sum() -> None:
    targets = np.array([0] * 6 + [1] * 4 + [2] * 2)
    pictures = PICTURES
    made = preprocessor(pictures)
    made.labels, made.counts = ["a", "b", "c"], [6, 4, 2]
    columns = {
        "features": {"image": pictures},
        "target": targets.astype("int32"),
        "epoch": np.zeros(COUNT, "int64"),
        "index": np.arange(COUNT),
    }
    dataset = tf.data.Dataset.from_tensor_slices(columns).batch(COUNT)
    options = {"seed": 0, "batch_size": COUNT, "class_weights": "balanced"}
    batch = next(iter(arrange(dataset, made, training=True, **options)))
    weight = batch["weight"].numpy()
    sums = [weight[targets == label].sum() for label in range(3)]
    np.testing.assert_allclose(sums, 4, rtol=1e-6)
    assert "weight" not in next(iter(arrange(dataset, made, training=False, **options)))
    mixed = next(iter(arrange(dataset, made, training=True, augment="mixup", **options)))
    expected = mixed["target"].numpy() @ [12 / 18, 12 / 12, 12 / 6]
    np.testing.assert_allclose(mixed["weight"], expected, rtol=1e-6)
