"""Rendered scenes: one to three shapes in a column or a row, each with five true captions.

A scene is what a caption tells: which shapes there are, each with its size and colour, and how they
follow one another from top to bottom or from left to right. Where exactly they lie, how they are
turned, their shades and the background are drawn by chance and told by no caption. "Above" is never
in doubt: neighbours are farther apart along the line than they are across it.

A composition is the set of a scene's shapes with their sizes and colours, whatever their order and
direction. Every composition belongs to one split, so that what is seen in test was never seen
together in training, nor alone where a shape stands alone.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from pipelines.engine.application import UserError, choose
from pipelines.engine.lazy import tensorflow as tf
from pipelines.sources.pixel_arrays import encode
from pipelines.sources.source import Source
from pipelines.sources.splits import SPLITS, cut

SIZES = ("small", "large")
COLOURS = {"red": (205, 45, 45), "green": (45, 150, 60), "blue": (55, 80, 205)}
COLOURS |= {"yellow": (235, 200, 40)}
SHAPES = ("circle", "square", "triangle")
MOST = 3  # shapes in a scene

SIDE = 64  # of a picture, in pixels
RADII = {"small": (4.5, 5.5), "large": (8.5, 9.8)}  # of the circle of the same area, in pixels
GAP = 1.5  # pixels between neighbours at least
STRAY = 3.0  # pixels by which a shape lies off the line at most

COMPOSITION_SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}
NUMBER_SHARES = (0.15, 0.35, 0.5)  # of scenes of one, two and three shapes

WORDS = {
    "column": {"before": "above", "after": "below", "first": "top", "last": "bottom"},
    "row": {
        "before": "to the left of",
        "after": "to the right of",
        "first": "left",
        "last": "right",
    },
}
"""How each direction speaks of what comes before (above, on the left) and after."""

CAPTIONS = 5  # of a picture

PHRASES = {
    1: (
        "{0}",
        "there is {0}",
        "the picture shows {0}",
        "{0} and nothing else",
        "only {0} can be seen",
        "{0} on its own",
    ),
    2: (
        "{0} {before} {1}",
        "{1} {after} {0}",
        "there is {0} with {1} {after} it",
        "there is {1} with {0} {before} it",
        "{0} is {before} {1}",
        "from {first} to {last}: {0} and {1}",
    ),
    3: (
        "{0} {before} {1} {before} {2}",
        "{2} {after} {1} {after} {0}",
        "{0}, {after} it {1} and {after} that {2}",
        "{1} between {0} {before} it and {2} {after} it",
        "from {first} to {last}: {0}, {1} and {2}",
        "from {last} to {first}: {2}, {1} and {0}",
    ),
}
"""By the number of shapes: the forms of a caption, with shapes numbered in the scene's order."""


class Thing(NamedTuple):
    """A shape with its size and its colour."""

    size: str
    colour: str
    shape: str

    def __str__(self) -> str:
        return " ".join(self)


class Scene(NamedTuple):
    """Shapes from top to bottom ("column") or from left to right ("row"); one alone has neither."""

    direction: str
    things: tuple[Thing, ...]

    def __str__(self) -> str:
        return ": ".join(filter(None, [self.direction, ", ".join(map(str, self.things))]))

    @property
    def composition(self) -> str:
        """The shapes by the alphabet."""
        return ", ".join(sorted(map(str, self.things)))

    def caption(self, phrase: str) -> str:
        """The scene in the words of one of the ``PHRASES`` of its number of shapes."""
        named = (f"a {thing}" for thing in self.things)
        return phrase.format(*named, **WORDS.get(self.direction, {}))

    @property
    def descriptions(self) -> list[str]:
        """Every caption that describes the scene, and no other one."""
        return [self.caption(phrase) for phrase in PHRASES[len(self.things)]]


THINGS = tuple(Thing(*words) for words in itertools.product(SIZES, COLOURS, SHAPES))


@functools.cache
def _readers() -> list[tuple[str, re.Pattern]]:
    """A direction and a regular expression of all its captions of one form, for every form."""
    thing = f"(?:{'|'.join(SIZES)}) (?:{'|'.join(COLOURS)}) (?:{'|'.join(SHAPES)})"
    readers = []
    for number, phrases in PHRASES.items():
        named = [f"a (?P<thing{place}>{thing})" for place in range(number)]
        for direction, phrase in itertools.product(WORDS if number > 1 else [""], phrases):
            pattern = phrase.format(*named, **WORDS.get(direction, {}))
            readers.append((direction, re.compile(pattern)))
    return readers


def parse(caption: str) -> Scene | None:
    """The scene that a caption describes; None where it is none of the ``PHRASES``."""
    for direction, pattern in _readers():
        if found := pattern.fullmatch(caption):
            named = sorted(found.groupdict().items())
            return Scene(direction, tuple(Thing(*words.split()) for _, words in named))
    return None


class Scenes(Source):
    """Pictures of 64 × 64 pixels, drawn from a seed.

    Args:
        train_size: number of training pictures.
        validation_size: number of validation pictures.
        test_size: number of test pictures.
        seed: of the split of the compositions and of what is drawn.
    """

    place = "built in"
    licence = "none: nothing in it is anybody's work"
    citation = "rendered from a seed by pipelines/sources/scenes.py"

    def __init__(
        self,
        *,
        train_size: int = 8_000,
        validation_size: int = 500,
        test_size: int = 1_000,
        seed: int = 0,
    ):
        if min(train_size, validation_size, test_size) < 1 or seed < 0:
            raise UserError("the scenes need sizes of at least 1 and a seed of at least 0")
        self.sizes = dict(zip(SPLITS, (train_size, validation_size, test_size), strict=True))
        self.seed = seed

    @property
    def fields(self) -> dict[str, tf.TensorSpec]:
        names = ("id", "image", "captions", "descriptions", "scene", "group")
        return {name: tf.TensorSpec((), tf.string) for name in names}

    def load(self, split: str) -> tf.data.Dataset:
        scenes = self.scenes(choose("split", split, self.splits))
        draw = np.random.default_rng([self.seed, SPLITS.index(split), 1])
        described = [scene.descriptions for scene in scenes]
        chosen = [draw.permutation(captions)[:CAPTIONS] for captions in described]
        columns = {
            "id": [f"scenes/{split}/{number:06d}" for number in range(len(scenes))],
            "captions": ["\n".join(captions) for captions in chosen],
            "descriptions": ["\n".join(captions) for captions in described],
            "scene": [str(scene) for scene in scenes],
            "group": [scene.composition for scene in scenes],
        }
        rows = tf.data.Dataset.from_tensor_slices(columns | {"image": lay_out(scenes, draw)})

        def painted(batch: dict) -> dict:
            names, values = zip(*batch["image"].items(), strict=True)
            pixels = tf.numpy_function(
                lambda *values: render(dict(zip(names, values, strict=True))),
                values,
                tf.uint8,
                stateful=False,
            )
            return encode(batch | {"image": tf.ensure_shape(pixels, [None, SIDE, SIDE, 3])})

        return rows.batch(64).map(painted, num_parallel_calls=tf.data.AUTOTUNE).unbatch()

    def scenes(self, split: str) -> list[Scene]:
        """What is to be seen in each picture of ``split``."""
        size, available = self.sizes[split], compositions(self.seed)[split]
        draw = np.random.default_rng([self.seed, SPLITS.index(split), 0])
        numbers = draw.choice(np.arange(1, MOST + 1), size, p=NUMBER_SHARES)
        scenes = []
        for number in numbers.tolist():
            chosen = available[number][draw.integers(len(available[number]))]
            things = tuple(chosen[place] for place in draw.permutation(number))
            scenes.append(Scene(str(draw.choice(list(WORDS))) if number > 1 else "", things))
        return scenes


def compositions(seed: int) -> Mapping[str, Mapping[int, Sequence[tuple[Thing, ...]]]]:
    """The sets of shapes that each split's scenes are made of, by the number of shapes."""
    splits = {split: {number: [] for number in PHRASES} for split in SPLITS}
    for number in PHRASES:
        sets = list(itertools.combinations(THINGS, number))
        parts = cut(
            [f"{seed}/{', '.join(map(str, things))}" for things in sets], COMPOSITION_SHARES
        )
        for things, split in zip(sets, parts, strict=True):
            splits[split][number].append(things)
    return splits


def lay_out(scenes: Sequence[Scene], draw: np.random.Generator) -> dict[str, np.ndarray]:
    """Where everything lies, by chance.

    Returns:
        Of each scene, float32 with a place for each of up to three shapes: ``centre`` [N, 3, 2],
        column and row in pixels; ``radius`` [N, 3], 0 where there is no shape; ``turn`` [N, 3] in
        radians; ``shape`` [N, 3], an index into ``SHAPES``; ``colour`` [N, 3, 3]; and
        ``background`` [N, 4, 3], its colours at the corners.
    """
    count = len(scenes)
    number = np.array([len(scene.things) for scene in scenes])[:, None]
    upright = np.array([scene.direction != "row" for scene in scenes])
    padded = [(*scene.things, *[scene.things[0]] * (MOST - len(scene.things))) for scene in scenes]
    there = np.arange(MOST) < number

    limits = np.array([[RADII[thing.size] for thing in things] for things in padded])
    radius = np.where(there, draw.uniform(limits[..., 0], limits[..., 1]), 0.0)
    # What is left of the side is dealt out to the gaps before, between and behind the shapes.
    left = SIDE - 2 * radius.sum(1, keepdims=True) - GAP * (number + 1)
    shares = np.where(np.arange(MOST + 1) <= number, draw.uniform(0.1, 1, (count, MOST + 1)), 0)
    gaps = GAP + left * shares / shares.sum(1, keepdims=True)
    along = np.cumsum(gaps[:, :MOST], axis=1) + np.cumsum(2 * radius, axis=1) - radius
    margin = radius.max(1, keepdims=True) + GAP + STRAY
    across = draw.uniform(margin, SIDE - margin) + draw.uniform(-STRAY, STRAY, (count, MOST))
    centre = np.where(
        upright[:, None, None], np.stack([across, along], -1), np.stack([along, across], -1)
    )

    shades = np.array([[COLOURS[thing.colour] for thing in things] for things in padded])
    pale = draw.random((count, 1, 1)) < 0.5
    grey = np.where(
        pale, draw.uniform(200, 245, (count, 4, 1)), draw.uniform(10, 55, (count, 4, 1))
    )
    layout = {
        "centre": centre,
        "radius": radius,
        "turn": draw.uniform(-0.25, 0.25, (count, MOST)),
        "shape": np.array([[SHAPES.index(thing.shape) for thing in things] for things in padded]),
        "colour": np.clip(shades + draw.uniform(-20, 20, shades.shape), 0, 255),
        "background": grey + draw.uniform(-8, 8, (count, 4, 3)),
    }
    return {name: values.astype("float32") for name, values in layout.items()}


def render(layout: Mapping[str, np.ndarray]) -> np.ndarray:
    """The pictures of a layout: uint8 [N, 64, 64, 3], with soft edges of one pixel."""
    place = np.arange(SIDE, dtype="float32") + 0.5
    down, right = np.meshgrid(place / SIDE, place / SIDE, indexing="ij")
    corners = [(1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right]
    pixels = np.einsum("ncd,cyx->nyxd", layout["background"], np.stack(corners))
    for slot in range(MOST):
        for kind, outside in enumerate(OUTSIDE):
            rows = (layout["radius"][:, slot] > 0) & (layout["shape"][:, slot] == kind)
            x, y, radius, turn, *colour = (
                values[rows, slot].reshape(-1, 1, 1)
                for values in (
                    *np.moveaxis(layout["centre"], -1, 0),
                    layout["radius"],
                    layout["turn"],
                    *np.moveaxis(layout["colour"], -1, 0),
                )
            )
            x, y = place - x, place[:, None] - y
            x, y = np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x
            cover = np.clip(0.5 - outside(x, y, radius), 0, 1)[..., None]
            pixels[rows] += cover * (np.stack(colour, -1) - pixels[rows])
    return np.rint(np.clip(pixels, 0, 255)).astype(np.uint8)


# By shape: how many pixels a place lies outside of one with the area of a circle of that radius.
OUTSIDE = (
    lambda x, y, radius: np.sqrt(x**2 + y**2) - radius,
    lambda x, y, radius: np.maximum(abs(x), abs(y)) - 0.5 * np.pi**0.5 * radius,
    lambda x, y, radius: (
        np.maximum(y, abs(x) * 0.75**0.5 - y / 2) - (np.pi / 3 / 3**0.5) ** 0.5 * radius
    ),
)
