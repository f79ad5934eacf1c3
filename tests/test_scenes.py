"""Rendered scenes: true captions that can be read back, and splits that share no composition."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tensorflow as tf

from pipelines.engine.application import UserError
from pipelines.sources.scenes import (
    COLOURS,
    PHRASES,
    SHAPES,
    SIZES,
    THINGS,
    Scene,
    Scenes,
    lay_out,
    parse,
    render,
)


@pytest.fixture(scope="module")
def source():
    return Scenes(train_size=400, validation_size=60, test_size=60)


@pytest.fixture(scope="module")
def examples(source):
    """All examples of each split, as Python strings and bytes."""
    return {split: list(source.load(split).as_numpy_iterator()) for split in source.splits}


def test_every_caption_is_read_back_as_its_scene():
    for number, phrases in PHRASES.items():
        written = {}
        for things in itertools.permutations(THINGS[::5], number):
            for direction in ("row", "column") if number > 1 else ("",):
                scene = Scene(direction, things)
                for phrase in phrases:
                    caption = scene.caption(phrase)
                    assert parse(caption) == scene
                    assert written.setdefault(caption, scene) == scene
        assert len(written) >= len(phrases)


@pytest.mark.parametrize(
    "caption",
    [
        "",
        "a circle",
        "a large red circle above",
        "a large red circle above a large purple square",
        "from top to right: a large red circle and a small red circle",
        "a large red circle above a small red circle to the left of a small red square",
    ],
)
def test_what_describes_no_scene_is_not_read(caption):
    assert parse(caption) is None


def test_captions_by_hand():
    scene = parse("a small blue square below a large red circle")
    assert str(scene) == "column: large red circle, small blue square"
    assert scene == parse("from top to bottom: a large red circle and a small blue square")
    assert scene != parse("a small blue square above a large red circle")
    assert scene != parse("a small blue square to the right of a large red circle")
    assert scene.composition == "large red circle, small blue square"
    assert str(parse("only a small red circle can be seen")) == "small red circle"


def test_no_composition_is_in_two_splits(source):
    seen = {split: {scene.composition for scene in source.scenes(split)} for split in source.splits}
    for one, other in itertools.combinations(seen.values(), 2):
        assert not one & other
    for split in source.splits:
        assert {len(scene.things) for scene in source.scenes(split)} == {1, 2, 3}


def test_examples_are_what_they_say(source, examples):
    for split, rows in examples.items():
        scenes = source.scenes(split)
        assert len(rows) == len(scenes)
        assert len({row["id"] for row in rows}) == len(rows)
        for row, scene in zip(rows, scenes, strict=True):
            captions = row["captions"].decode().split("\n")
            assert len(set(captions)) == 5
            assert {parse(caption) for caption in captions} == {scene}
            described = row["descriptions"].decode().split("\n")
            assert set(captions) < set(described)
            assert {parse(caption) for caption in described} == {scene}
            assert row["scene"].decode() == str(scene)
            assert row["group"].decode() == scene.composition
            assert set(row) == set(source.fields)


def test_the_same_seed_draws_the_same(source, examples):
    again = Scenes(train_size=400, validation_size=60, test_size=60).load("test")
    assert list(again.as_numpy_iterator()) == examples["test"]
    other = next(Scenes(seed=1).load("test").as_numpy_iterator())
    assert other["image"] != examples["test"][0]["image"]


def test_pictures_show_the_scene(source, examples):
    scenes = source.scenes("train")
    layout = lay_out(scenes, np.random.default_rng(3))
    names, ideals = list(COLOURS), np.array(list(COLOURS.values()))
    for row, (scene, pixels) in enumerate(zip(scenes, render(layout), strict=True)):
        centres = layout["centre"][row, : len(scene.things)]
        assert (layout["radius"][row] > 0).sum() == len(scene.things)
        for place, thing in zip(centres, scene.things, strict=True):
            column, line = place.astype(int)
            distances = np.abs(ideals - pixels[line, column].astype(int)).sum(1)
            assert names[distances.argmin()] == thing.colour
        steps = np.diff(centres, axis=0)
        along, across = (1, 0) if scene.direction == "column" else (0, 1)
        assert (steps[:, along] > abs(steps[:, across])).all()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_have_the_area_of_their_circle_and_soft_edges(shape, size):
    scene = next(t for t in THINGS if (t.shape, t.size, t.colour) == (shape, size, "red"))
    layout = lay_out([Scene("", (scene,))] * 8, np.random.default_rng(0))
    layout["background"][:] = 0
    cover = render(layout)[..., 0] / layout["colour"][:, 0, :1, None]
    area = cover.sum((1, 2))
    np.testing.assert_allclose(area, np.pi * layout["radius"][:, 0] ** 2, rtol=0.06)
    assert ((cover > 0.1) & (cover < 0.9)).any((1, 2)).all()


def test_pictures_are_png_of_64_pixels(examples):
    picture = tf.io.decode_png(examples["test"][0]["image"])
    assert picture.shape == (64, 64, 3)


def test_impossible_sizes_are_refused():
    with pytest.raises(UserError, match="sizes of at least 1"):
        Scenes(test_size=0)
