"""Pictures, masks, boxes and points that move together, against the definition, pixel by pixel."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
import tensorflow as tf

from pipelines.arrange.draws import Draws
from pipelines.arrange.geometry import (
    Motion,
    about,
    bilinear,
    matrices,
    move_boxes,
    move_image,
    move_mask,
    moved,
    rotation,
)
from pipelines.arrange.moves import affine, crop, mirror, warp, zoomed_crop
from pipelines.preprocess.image import ImagePreprocessor

HEIGHT, WIDTH = 15, 21
PREPROCESSOR = ImagePreprocessor(size=(HEIGHT, WIDTH), channels=3, background=40)
RANDOM = np.random.default_rng(0)
PICTURES = RANDOM.integers(0, 256, (6, HEIGHT, WIDTH, 3), dtype=np.uint8)

MOVES = {
    "crop": crop,
    "mirror": mirror,
    "affine": functools.partial(affine, turn=0.4, slant=0.2, zoom=0.2, shift=0.1),
    "tilt": functools.partial(affine, tilt=0.3),
    "zoomed_crop": zoomed_crop,
    "warp": warp,
}


def drawn(count: int, seed: int = 0) -> Draws:
    return Draws(seed, tf.zeros([count], tf.int64), tf.range(count, dtype=tf.int64))


def by_definition(picture, matrix, background, field=None) -> np.ndarray:
    """One picture [height, width, channels], each new pixel for itself."""
    height, width, _ = picture.shape
    result = np.zeros(picture.shape)
    for row in range(height):
        for column in range(width):
            place = np.array([column + 0.5, row + 0.5, 1])
            place[:2] += 0 if field is None else field[row, column]
            x, y, factor = matrix @ place
            x, y = x / factor - 0.5, y / factor - 0.5
            for i in (math.floor(y), math.floor(y) + 1):
                for j in (math.floor(x), math.floor(x) + 1):
                    inside = 0 <= i < height and 0 <= j < width
                    value = picture[i, j] if inside else background
                    result[row, column] += (1 - abs(y - i)) * (1 - abs(x - j)) * value
    return result


def some_matrices(count: int) -> np.ndarray:
    """Strong moves of every kind, perspective among them."""
    noise = RANDOM.uniform(-1, 1, (count, 3, 3))
    reach = [[0.3, 0.3, 5], [0.3, 0.3, 5], [0.01, 0.01, 0]]
    return np.eye(3) + noise * reach


def test_pixels_are_interpolated_between_four() -> None:
    motion = some_matrices(6)
    found = move_image(tf.constant(PICTURES), Motion(tf.constant(motion)), background=40)
    expected = [by_definition(p, m, 40) for p, m in zip(PICTURES, motion, strict=True)]
    # float32 places: 1e-5 of a pixel may round another way.
    np.testing.assert_allclose(found, expected, atol=0.51)


def test_displaced_pixels_are_interpolated_between_four() -> None:
    motion, field = some_matrices(6), RANDOM.uniform(-2, 2, (6, HEIGHT, WIDTH, 2))
    moves = Motion(tf.constant(motion), tf.constant(field, tf.float32))
    found = move_image(tf.constant(PICTURES), moves, background=40)
    expected = [by_definition(p, m, 40, f) for p, m, f in zip(PICTURES, motion, field, strict=True)]
    np.testing.assert_allclose(found, expected, atol=0.51)


def test_masks_take_the_nearest_class_and_nothing_in_between() -> None:
    masks = RANDOM.choice([0, 3, 200], (6, HEIGHT, WIDTH, 1)).astype("int32")
    motion = some_matrices(6)
    found = move_mask(tf.constant(masks), Motion(tf.constant(motion))).numpy()
    assert found.dtype == np.int32
    for example in range(6):
        for row in range(HEIGHT):
            for column in range(WIDTH):
                x, y, factor = motion[example] @ [column + 0.5, row + 0.5, 1]
                x, y = math.floor(x / factor), math.floor(y / factor)
                inside = 0 <= y < HEIGHT and 0 <= x < WIDTH
                expected = masks[example, y, x, 0] if inside else 0
                assert found[example, row, column, 0] == expected


def test_a_quarter_turn_is_numpy_s() -> None:
    squares = RANDOM.integers(0, 256, (2, 9, 9, 3), dtype=np.uint8)
    angle = tf.constant([math.pi / 2, -math.pi / 2], tf.float64)
    motion = Motion(about(rotation(angle), 4.5, 4.5))
    found = move_image(tf.constant(squares), motion, background=0).numpy()
    np.testing.assert_array_equal(found[0], np.rot90(squares[0]))
    np.testing.assert_array_equal(found[1], np.rot90(squares[1], -1))


def spots(points: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pictures [n, height, width, 1] with a round spot at each point [n, 2]."""
    columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    squares = [(columns - x) ** 2 + (rows - y) ** 2 for x, y in points]
    return np.round(255 * np.exp(-np.stack(squares) / 6)).astype(np.uint8)[..., None]


def centres(spotted: np.ndarray) -> np.ndarray:
    """The centre of mass [n, 2] of each picture."""
    values = spotted[..., 0].astype(float)
    height, width = values.shape[1:]
    total = values.sum(axis=(1, 2))
    x = (values.sum(axis=1) * (np.arange(width) + 0.5)).sum(axis=1) / total
    y = (values.sum(axis=2) * (np.arange(height) + 0.5)).sum(axis=1) / total
    return np.stack([x, y], axis=1)


@pytest.mark.parametrize("name", MOVES)
def test_points_go_where_what_they_mark_goes(name: str) -> None:
    points = RANDOM.uniform([40, 30], [60, 50], (30, 2))
    preprocessor = ImagePreprocessor(size=(80, 100), channels=1)
    things = {"image": tf.constant(spots(points, 80, 100)), "points": tf.constant(points[:, None])}
    result = MOVES[name](things, drawn(30), preprocessor)
    found, kept = result["points"][:, 0].numpy(), result["points_kept"][:, 0].numpy()
    # Only of spots that are wholly in the picture is the centre of mass known.
    whole = ((found > 9) & (found < [91, 71])).all(axis=1)
    assert whole.sum() >= 8
    assert kept[whole].all()
    distance = np.linalg.norm(found[whole] - centres(result["image"].numpy()[whole]), axis=1)
    assert distance.max() < (1.0 if name in {"zoomed_crop", "tilt"} else 0.35)


@pytest.mark.parametrize("name", MOVES)
def test_boxes_are_around_the_masks_of_their_objects(name: str) -> None:
    count = 24
    corners = RANDOM.integers([5, 5], [60, 45], (count, 2))
    boxes = np.concatenate([corners, corners + RANDOM.integers(8, 25, (count, 2))], axis=1)
    masks = np.zeros((count, 80, 100, 1), "uint8")
    for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = 1
    things = {
        "image": tf.zeros([count, 80, 100, 1], tf.uint8),
        "mask": tf.constant(masks),
        "boxes": tf.constant(boxes[:, None], tf.float32),
    }
    result = MOVES[name](things, drawn(count), ImagePreprocessor(size=(80, 100), channels=1))
    whole = 0
    for mask, box, kept in zip(
        result["mask"].numpy()[..., 0],
        result["boxes"].numpy()[:, 0],
        result["boxes_kept"].numpy()[:, 0],
        strict=True,
    ):
        if kept:
            rows, columns = np.nonzero(mask)
            seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            wider = (seen - box) * [1, 1, -1, -1]
            assert wider.min() >= -1
            # Where a corner is outside, the rest may not reach as far as the box.
            inside = (box > 0).all() and (box < [100, 80, 100, 80]).all()
            assert wider.max() <= 1.6 or not inside
            whole += inside
    assert whole >= 4


def test_boxes_that_leave_are_dropped_and_padding_stays_padding() -> None:
    boxes = [[0, 0, 10, 10], [12, 0, 20, 10], [5, 5, 15, 15], [0, 0, 0, 0]]
    motion = Motion(matrices(tf.ones([1], tf.float64), 0, 8, 0, 1, 0))  # 8 to the left
    found, kept = move_boxes(tf.constant([boxes], tf.float32), motion, 15, 21)
    np.testing.assert_array_equal(kept, [[False, True, True, False]])
    np.testing.assert_allclose(found[0, :3], [[0, 0, 2, 10], [4, 0, 12, 10], [0, 5, 7, 15]])


def test_what_was_dropped_once_stays_dropped() -> None:
    left, right = (Motion(matrices(tf.ones([1], tf.float64), 0, x, 0, 1, 0)) for x in (18.0, -18.0))
    things = {
        "image": tf.constant(PICTURES[:1]),
        "boxes": tf.constant([[[0.0, 0, 10, 10]]]),
        "points": tf.constant([[[2.0, 3], [20, 3]]]),
    }
    back = moved(moved(things, left, 0), right, 0)
    assert not back["boxes_kept"].numpy().any()
    np.testing.assert_array_equal(back["points_kept"], [[False, True]])
    np.testing.assert_allclose(back["points"], things["points"], atol=1e-5)


@pytest.mark.parametrize("name", ["affine", "tilt", "warp"])
def test_destinations_undo_origins(name: str) -> None:
    field = None
    matrix = tf.constant(some_matrices(4))
    if name == "warp":
        nodes = tf.constant(RANDOM.uniform(-0.6, 0.6, (4, 6, 6, 2)), tf.float32)
        field = tf.image.resize(nodes, [HEIGHT, WIDTH], "bicubic")
    motion = Motion(matrix, field)
    origins = motion.origins(HEIGHT, WIDTH)[:, 2:-2, 2:-2]
    back = motion.destinations(tf.reshape(origins, [4, -1, 2]))
    columns, rows = np.meshgrid(np.arange(2, WIDTH - 2) + 0.5, np.arange(2, HEIGHT - 2) + 0.5)
    expected = np.broadcast_to(np.stack([columns, rows], -1).reshape(1, -1, 2), back.shape)
    np.testing.assert_allclose(back, expected, atol=0.01)


def test_only_chosen_pictures_are_touched() -> None:
    chosen = tf.constant([True, False, True, False, False, True])
    things = {"image": tf.constant(PICTURES), "mask": tf.constant(PICTURES[..., :1])}
    strong = Motion(tf.constant(some_matrices(6)))
    all_moved, some_moved = moved(things, strong, 0), moved(things, strong, 0, chosen)
    for name in things:
        for example, was_chosen in enumerate(chosen.numpy()):
            expected = all_moved if was_chosen else things
            np.testing.assert_array_equal(some_moved[name][example], expected[name][example])


def test_nobody_or_everybody_may_be_chosen() -> None:
    things = {"image": tf.constant(PICTURES)}
    strong = Motion(tf.constant(some_matrices(6)))
    for chosen in (tf.zeros([6], tf.bool), tf.ones([6], tf.bool)):
        found = moved(things, strong, 0, chosen)["image"]
        expected = moved(things, strong, 0)["image"] if chosen[0] else things["image"]
        np.testing.assert_array_equal(found, expected)


def test_interpolation_goes_on_beyond_the_outermost_centres() -> None:
    values = tf.constant(RANDOM.normal(size=(1, 3, 4, 2)), tf.float32)
    places = tf.constant([[[0.0, 0], [0.5, 0.5], [4, 3], [9, -9], [1.0, 0.5], [3.5, 2.5]]])
    found = bilinear(values, places)[0].numpy()
    grid = values[0].numpy()
    expected = [grid[0, 0], grid[0, 0], grid[2, 3], grid[0, 3], grid[0, :2].mean(0), grid[2, 3]]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_warp_keeps_the_frame_and_moves_what_is_inside() -> None:
    rows = np.linspace(0, 255, 60).astype(np.uint8)
    image = tf.constant(np.broadcast_to(rows[:, None, None], (4, 60, 60, 1)).copy())
    preprocessor = ImagePreprocessor(size=60, channels=1, background=0)
    found = warp({"image": image}, drawn(4), preprocessor)["image"].numpy().astype(int)
    change = np.abs(found - image.numpy())
    assert change[:, [0, -1]].max() <= 1
    assert change[:, 20:40, 20:40].max(axis=(1, 2, 3)).min() >= 3
    # Not folded: down a column of a picture that grows brighter, it still does.
    assert (np.diff(found, axis=1) >= 0).all()
