"""Cutout, MixUp and CutMix: every pixel and every target accounted for."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from pipelines.arrange.draws import Draws
from pipelines.arrange.mixing import cutmix, cutout, mixup
from pipelines.preprocess.image import ImagePreprocessor

COUNT, CLASSES = 40, 4
HEIGHT, WIDTH = 12, 20
# Each picture has a value of its own, so that a pixel tells whose it is.
VALUES = np.arange(COUNT, dtype=np.uint8) * 5 + 20
PICTURES = np.tile(VALUES[:, None, None, None], (1, HEIGHT, WIDTH, 3))
TARGETS = np.arange(COUNT) % CLASSES
PREPROCESSOR = ImagePreprocessor(size=(HEIGHT, WIDTH), channels=3)
PREPROCESSOR.labels = list("abcd")
PREPROCESSOR.mean = np.array([1.0, 2.2, 2.7])


def drawn(count: int = COUNT, epoch: int = 0) -> Draws:
    return Draws(0, tf.fill([count], tf.constant(epoch, tf.int64)), tf.range(count, dtype=tf.int64))


def things(target=TARGETS) -> dict:
    return {"image": tf.constant(PICTURES), "target": tf.constant(target)}


def test_cutout_hides_one_rectangle_of_half_the_sides_behind_the_mean_colour() -> None:
    whole = 0
    found = cutout(things(), drawn(), PREPROCESSOR)["image"].numpy()
    for image, picture in zip(found, PICTURES, strict=True):
        hidden = (image != picture).any(axis=-1)
        rows, columns = np.flatnonzero(hidden.any(axis=1)), np.flatnonzero(hidden.any(axis=0))
        assert hidden.sum() == len(rows) * len(columns)
        assert (np.diff(rows) == 1).all()
        assert (np.diff(columns) == 1).all()
        assert (image[hidden] == [1, 2, 3]).all()
        assert len(rows) <= HEIGHT // 2 + 1
        assert len(columns) <= WIDTH // 2 + 1
        whole += len(rows) in {5, 6, 7} and len(columns) in {9, 10, 11}
    assert 5 <= whole < COUNT


def test_mixup_is_the_weighted_mean_of_two_pictures_and_of_their_targets() -> None:
    mixed = mixup(things(), drawn(), PREPROCESSOR)
    draw = drawn()
    shares, lenders = draw.beta(1.0).numpy(), draw.other_example().numpy()
    for n in range(COUNT):
        expected = shares[n] * VALUES[n] + (1 - shares[n]) * VALUES[lenders[n]]
        np.testing.assert_allclose(mixed["image"][n], expected, atol=0.51)
        one_hot = np.eye(CLASSES)[TARGETS]
        target = shares[n] * one_hot[n] + (1 - shares[n]) * one_hot[lenders[n]]
        np.testing.assert_allclose(mixed["target"][n], target, atol=1e-6)


def test_cutmix_shares_targets_as_it_shares_pixels() -> None:
    mixed = cutmix(things(), drawn(), PREPROCESSOR)
    sizes = []
    for n, (image, target) in enumerate(
        zip(mixed["image"].numpy(), mixed["target"].numpy(), strict=True)
    ):
        assert (image == image[..., :1]).all()
        foreign = image[..., 0] != VALUES[n]
        sizes.append(foreign.mean())
        expected = np.eye(CLASSES)[TARGETS[n]] * (1 - foreign.mean())
        if foreign.any():
            [lender] = np.flatnonzero(image[foreign][0, 0] == VALUES)
            assert len(np.unique(image[foreign])) == 1
            rows, columns = foreign.any(axis=1).sum(), foreign.any(axis=0).sum()
            assert foreign.sum() == rows * columns
            expected += np.eye(CLASSES)[TARGETS[lender]] * foreign.mean()
        np.testing.assert_allclose(target, expected, atol=1e-6)
    assert min(sizes) < 0.2
    assert max(sizes) > 0.6


@pytest.mark.parametrize("mix", [mixup, cutmix])
def test_mixed_targets_can_be_mixed_again(mix) -> None:
    once = mixup(things(), drawn(), PREPROCESSOR)
    twice = mix(once, drawn(epoch=1), PREPROCESSOR)
    assert twice["target"].shape == (COUNT, CLASSES)
    np.testing.assert_allclose(tf.reduce_sum(twice["target"], axis=1), 1, atol=1e-6)
    assert (np.count_nonzero(twice["target"], axis=1) > 2).any()


@pytest.mark.parametrize("mix", [mixup, cutmix])
def test_an_example_alone_in_its_batch_stays_what_it_is(mix) -> None:
    alone = {"image": tf.constant(PICTURES[:1]), "target": tf.constant(TARGETS[:1])}
    mixed = mix(alone, drawn(1), PREPROCESSOR)
    np.testing.assert_array_equal(mixed["image"], PICTURES[:1])
    np.testing.assert_allclose(mixed["target"], np.eye(CLASSES)[TARGETS[:1]], atol=1e-6)


def test_lenders_are_others_and_any_of_them() -> None:
    seen = np.zeros((5, 5))
    for epoch in range(200):
        seen[range(5), drawn(5, epoch).other_example()] += 1
    assert (np.diag(seen) == 0).all()
    assert (seen + 50 * np.eye(5) >= 25).all()


@pytest.mark.parametrize("concentration", [0.2, 1.0, 4.0])
def test_beta_and_normal_numbers_are_of_their_distributions(concentration: float) -> None:
    draw = drawn(4000)
    beta = draw.beta(concentration).numpy()
    assert stats.kstest(beta, stats.beta(concentration, concentration).cdf).pvalue > 1e-3
    normal = draw.normal(3.0, (2,)).numpy()
    assert normal.shape == (4000, 2)
    assert stats.kstest(normal.ravel(), stats.norm(0, 3).cdf).pvalue > 1e-3
    assert abs(np.corrcoef(normal.T)[0, 1]) < 0.08
