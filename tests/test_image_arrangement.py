"""Augmentation by name: what a recipe does to batches, and that draws depend on their key alone."""

from __future__ import annotations

import typing

import numpy as np
import pytest
import tensorflow as tf

from pipelines.arrange.image import Augment, arrange, recipes
from pipelines.engine.application import UserError
from pipelines.preprocess.image import ImagePreprocessor

COUNT = 12
# Never dark, so that what is black has moved in from outside.
PICTURES = np.random.default_rng(0).integers(50, 200, (COUNT, 16, 24, 3), dtype=np.uint8)
NAMES = sorted(recipes())
MIXES = {"mixup", "cutmix"}


def preprocessor(pictures: np.ndarray, counts: tuple[int, ...]) -> ImagePreprocessor:
    """As fitted on these pictures, with so many examples of each class."""
    made = ImagePreprocessor(size=pictures.shape[1:3], channels=pictures.shape[3], background=0)
    made.labels, made.counts = [f"{label:02}" for label in range(len(counts))], list(counts)
    colours = pictures.reshape(-1, pictures.shape[3])
    made.mean = colours.mean(axis=0)
    made.covariance = np.atleast_2d(np.cov(colours, rowvar=False, bias=True))
    return made


def arranged(
    augment: str,
    *batches: tuple,
    pictures: np.ndarray = PICTURES,
    targets: np.ndarray | None = None,
    counts: tuple[int, ...] = (1,) * COUNT,
    seed: int = 3,
    training: bool = True,
    **options,
) -> list[dict[str, np.ndarray]]:
    """``image``, ``target`` and ``weight`` of each batch, which is (numbers of pictures, epoch)."""
    targets = np.arange(len(pictures)) if targets is None else targets
    batches = batches or ((np.arange(len(pictures)), 0),)

    def plain():
        for index, epoch in batches:
            yield {
                "features": {"image": pictures[index]},
                "target": targets[index].astype("int32"),
                "epoch": np.full(len(index), epoch, "int64"),
                "index": np.asarray(index, "int64"),
            }

    row = tf.TensorSpec([None], tf.int64)
    signature = {
        "features": {"image": tf.TensorSpec([None, *pictures.shape[1:]], tf.uint8)},
        "target": tf.TensorSpec([None], tf.int32),
        "epoch": row,
        "index": row,
    }
    dataset = arrange(
        tf.data.Dataset.from_generator(plain, output_signature=signature),
        preprocessor(pictures, counts),
        training=training,
        seed=seed,
        batch_size=COUNT,
        augment=augment,
        **options,
    )
    return [batch.pop("features") | batch for batch in dataset.as_numpy_iterator()]


def images(augment: str, *batches: tuple, **options) -> list[np.ndarray]:
    return [batch["image"] for batch in arranged(augment, *batches, **options)]


def changed(one: np.ndarray, other: np.ndarray) -> int:
    """How many pictures differ."""
    return (one != other).any(axis=(1, 2, 3)).sum()


ALL = np.arange(COUNT)


def test_every_name_has_its_recipe() -> None:
    assert set(typing.get_args(Augment)) == {"none", *recipes()}


@pytest.mark.parametrize("augment", sorted(set(NAMES) - MIXES))
def test_draws_depend_on_seed_epoch_and_index_alone(augment: str) -> None:
    shuffled = np.random.default_rng(1).permutation(COUNT)
    parts = [(shuffled[:5], 0), (shuffled[5:], 0), *(([number], 0) for number in ALL)]
    first, later, again, *others = arranged(augment, (ALL, 0), (ALL, 1), (shuffled, 0), *parts)
    np.testing.assert_array_equal(again["image"], first["image"][shuffled])
    np.testing.assert_array_equal(again["target"], shuffled)
    for (numbers, _), batch in zip(parts, others, strict=True):
        np.testing.assert_array_equal(batch["image"], first["image"][numbers])
    assert changed(later["image"], first["image"]) >= 9
    assert changed(images(augment, seed=4)[0], first["image"]) >= 9


@pytest.mark.parametrize("augment", sorted(MIXES))
def test_mixes_depend_on_seed_epoch_index_and_the_batch_alone(augment: str) -> None:
    first, again, later, part = arranged(augment, (ALL, 0), (ALL, 0), (ALL, 1), (ALL[:7], 0))
    np.testing.assert_array_equal(first["image"], again["image"])
    np.testing.assert_array_equal(first["target"], again["target"])
    assert changed(later["image"], first["image"]) >= 9
    assert changed(part["image"], first["image"][:7]) >= 5
    assert changed(images(augment, seed=4)[0], first["image"]) >= 9


@pytest.mark.parametrize("augment", NAMES)
def test_one_picture_is_augmented_in_many_ways(augment: str) -> None:
    same = np.repeat(PICTURES[:1], 40, axis=0)
    # Not frozen when the graph was traced: neither within a batch, nor in the next, nor later.
    parts = [(np.arange(start, start + 20), epoch) for epoch in (0, 1) for start in (0, 20)]
    many = np.concatenate(images(augment, *parts, pictures=same, counts=(1,) * 40))
    kinds = {image.tobytes() for image in many}
    # MixUp of a picture with itself crops alone; there are 35 crops, and 70 with mirror images.
    assert len(kinds) >= (25 if augment in {"crop", "crop_flip", "mixup", "cutmix"} else 45)


@pytest.mark.parametrize("augment", NAMES)
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_stay_bytes_of_their_shape(augment: str, channels: int) -> None:
    pictures = PICTURES[..., :channels]
    found = images(augment, pictures=pictures)[0]
    assert found.shape == pictures.shape
    assert found.dtype == np.uint8
    assert changed(found, pictures) >= 9


@pytest.mark.parametrize("options", [{"augment": "none"}, {"augment": "mixup", "training": False}])
def test_without_augmentation_and_in_validation_all_stays_as_it_is(options: dict) -> None:
    [plain] = arranged(**options)
    np.testing.assert_array_equal(plain["image"], PICTURES)
    np.testing.assert_array_equal(plain["target"], ALL)
    assert "weight" not in plain


def shifted(picture: np.ndarray, x: int, y: int) -> np.ndarray:
    around = np.pad(picture, ((2, 2), (3, 3), (0, 0)))
    return around[2 + y : 18 + y, 3 + x : 27 + x]


@pytest.mark.parametrize(("augment", "mirrors"), [("crop", (1,)), ("crop_flip", (1, -1))])
def test_crops_are_whole_shifts_of_the_picture_or_its_mirror_image(augment, mirrors) -> None:
    seen = set()
    for batch in images(augment, *((ALL, epoch) for epoch in range(12))):
        for image, picture in zip(batch, PICTURES, strict=True):
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
    image = images("affine", pictures=blob)[0][..., 0].astype(float)
    total = image.sum(axis=(1, 2))
    y = (image.sum(axis=2) * np.arange(16)).sum(axis=1) / total - 7.5
    x = (image.sum(axis=1) * np.arange(24)).sum(axis=1) / total - 11.5
    assert (np.abs(y) <= 1.2).all()
    assert (np.abs(x) <= 1.6).all()
    assert np.std(x) > 0.2
    assert np.std(y) > 0.1


def test_light_changes_brightness_not_place() -> None:
    plain, lit = (images(augment)[0] for augment in ("crop_flip", "crop_flip_light"))
    ratio = [
        np.corrcoef(one[one > 0].ravel(), other[one > 0].ravel())[0, 1]
        for one, other in zip(plain, lit, strict=True)
    ]
    assert min(ratio) > 0.9
    assert (np.abs(plain.mean(axis=(1, 2, 3)) - lit.mean(axis=(1, 2, 3))) > 1).sum() >= 9


def test_randaugment_of_no_operation_is_crop_flip_and_of_more_strength_is_stronger() -> None:
    [plain] = images("crop_flip")
    np.testing.assert_array_equal(images("randaugment", operations=0)[0], plain)
    weak, strong = (images("randaugment", magnitude=m)[0].astype(int) for m in (1, 10))
    assert np.abs(weak - plain).mean() < np.abs(strong - plain).mean()


@pytest.mark.parametrize("options", [{"operations": -1}, {"magnitude": -0.5}])
def test_randaugment_refuses_negative_numbers(options: dict) -> None:
    with pytest.raises(UserError, match="at least 0, not"):
        arranged("randaugment", **options)


def test_balanced_weights_give_every_class_the_same_sum() -> None:
    options = {
        "targets": np.array([0] * 6 + [1] * 4 + [2] * 2),
        "counts": (6, 4, 2),
        "class_weights": "balanced",
    }
    [batch] = arranged("none", **options)
    sums = [batch["weight"][batch["target"] == label].sum() for label in range(3)]
    np.testing.assert_allclose(sums, 4, rtol=1e-6)
    [mixed] = arranged("mixup", **options)
    expected = mixed["target"] @ [12 / 18, 12 / 12, 12 / 6]
    np.testing.assert_allclose(mixed["weight"], expected, rtol=1e-6)
    [validation] = arranged("none", training=False, **options)
    assert "weight" not in validation
