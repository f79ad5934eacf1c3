"""Generated street scenes: is there a car, a pedestrian, a stop sign, a traffic light?

A picture is a street by day, dusk or night. Each of the four things is there or not, by chance and
whatever the others are, once or twice, far or near, some hidden behind others. All else that stands
there is no answer: trees, lamps, bollards, trailers, round and triangular signs, letter boxes. Of
some labels nobody said what they are: that a label is missing has nothing to do with the picture.

Things are painted with convex polygons, from what is far to what is near. Their corners are in a
unit of their own: a thing stands on the ground at (0, 0), is 1 high, and y points up.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from pipelines.engine.application import UserError, choose
from pipelines.engine.lazy import tensorflow as tf
from pipelines.sources.pixel_arrays import encode
from pipelines.sources.source import Source
from pipelines.sources.splits import SPLITS

SIDE = 64  # of a picture, in pixels
HORIZON = 30  # rows of sky and houses above the pavement
KERB = 40  # where the road begins
NOISE = 7.0  # standard deviation of what a pixel is off, of 255

PLACES = np.arange(SIDE) + 0.5  # of the middles of pixels

Colour = Sequence[float]
Polygon = tuple[np.ndarray, Colour]  # corners [n, 2], convex, and red, green, blue
Thing = Iterator[Polygon]


class StreetScenes(Source):
    """Pictures of 64 × 64 pixels with four tags, drawn from a seed.

    Args:
        train_size: number of training pictures.
        validation_size: number of validation pictures.
        test_size: number of test pictures.
        missing: the share of the labels that are missing, in every split.
        seed: of all that is drawn.
    """

    place = "built in"
    licence = "none: nothing in it is anybody's work"
    citation = "drawn from a seed by pipelines/sources/street_scenes.py"

    def __init__(
        self,
        *,
        train_size: int = 1_500,
        validation_size: int = 500,
        test_size: int = 1_000,
        missing: float = 0.3,
        seed: int = 0,
    ):
        if min(train_size, validation_size, test_size) < 1 or seed < 0:
            raise UserError("street scenes need sizes of at least 1 and a seed of at least 0")
        if not 0 <= missing < 1:
            raise UserError(f"--source.missing must be at least 0 and below 1, not {missing}")
        self.sizes = dict(zip(SPLITS, (train_size, validation_size, test_size), strict=True))
        self.missing = missing
        self.seed = seed

    @property
    def fields(self) -> dict[str, tf.TensorSpec]:
        return {n: tf.TensorSpec((), tf.string) for n in ("id", "image", "present", "absent")}

    def load(self, split: str) -> tf.data.Dataset:
        there, told = self.labels(choose("split", split, self.splits))
        columns = {
            "id": [f"street/{split}/{number:06d}" for number in range(len(there))],
            "present": _lines(there & told),
            "absent": _lines(~there & told),
            "image": (np.arange(len(there)), there),  # what to paint
        }
        key = [self.seed, SPLITS.index(split), 1]

        def paint(numbers: np.ndarray, there: np.ndarray) -> np.ndarray:
            pairs = zip(numbers.tolist(), there, strict=True)
            return np.stack([paint_scene(tags, [*key, number]) for number, tags in pairs])

        def painted(batch: dict) -> dict:
            pixels = tf.numpy_function(paint, batch["image"], tf.uint8, stateful=False)
            return encode(batch | {"image": tf.ensure_shape(pixels, [None, SIDE, SIDE, 3])})

        rows = tf.data.Dataset.from_tensor_slices(columns).batch(64)
        return rows.map(painted, num_parallel_calls=tf.data.AUTOTUNE).unbatch()

    def labels(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """bool [pictures, tags], both: which ``TAGS`` are there, and of which that is told."""
        draw = np.random.default_rng([self.seed, SPLITS.index(split), 0])
        # A row of numbers for each picture, so that the first ones are the same of any number.
        chances = draw.random((self.sizes[split], 2, len(TAGS)))
        return chances[:, 0] < [share for share, _ in TAGS.values()], chances[:, 1] >= self.missing


def _lines(chosen: np.ndarray) -> list[str]:
    """bool [pictures, tags] → the names of the chosen tags of each picture, one a line."""
    names = np.array(list(TAGS))
    return ["\n".join(names[row]) for row in chosen]


def paint_scene(there: Sequence[bool], key: Sequence[int]) -> np.ndarray:
    """A street in which there are these of the ``TAGS``: uint8 [64, 64, 3].

    Args:
        there: whether each of the tags is.
        key: of all that is drawn by chance.
    """
    draw = np.random.default_rng(key)
    pixels = np.zeros((SIDE, SIDE, 3), np.float32)
    paint_street(pixels, draw)
    wanted = [kind for (_, kind), is_there in zip(TAGS.values(), there, strict=True) if is_there]
    kinds = [kind for kind in wanted for _ in range(draw.integers(1, 3))]
    kinds += [OTHERS[place] for place in draw.integers(len(OTHERS), size=draw.integers(2, 6))]
    grounds = np.array([draw.uniform(*rows) for _, _, rows in kinds])
    for place in np.argsort(grounds):  # what stands nearer is painted later, and larger
        (thing, height, _), ground = kinds[place], grounds[place]
        scale = height * draw.uniform(0.85, 1.15) * (0.45 + 0.75 * (ground - HORIZON) / SIDE)
        axis, side = draw.uniform(5, SIDE - 5), draw.choice([-1, 1])
        for corners, colour in thing(draw):
            fill(pixels, corners * (side * scale, -scale) + (axis, ground), colour)
    light = draw.uniform(0.3, 1.1) * draw.uniform(0.92, 1.08, 3)
    pixels = pixels * light + draw.normal(0, NOISE, pixels.shape)
    return np.rint(np.clip(pixels, 0, 255)).astype(np.uint8)


def fill(pixels: np.ndarray, corners: np.ndarray, colour: Colour) -> None:
    """Paints a convex polygon [n, 2] of columns and rows, with a soft edge of one pixel."""
    x, y = corners.T
    left, right = max(int(x.min()) - 1, 0), min(int(x.max()) + 2, SIDE)
    top, bottom = max(int(y.min()) - 1, 0), min(int(y.max()) + 2, SIDE)
    if left >= right or top >= bottom:
        return
    following_x, following_y = np.append(x[1:], x[0]), np.append(y[1:], y[0])
    across, down = following_x - x, following_y - y
    length = np.hypot(across, down) * np.sign(x @ following_y - y @ following_x)
    a, b = down / length, -across / length  # of each edge's normal, which points outside
    distance = (a * x + b * y)[:, None, None]
    columns, rows = PLACES[left:right], PLACES[top:bottom, None]
    outside = (a[:, None, None] * columns + b[:, None, None] * rows - distance).max(0)
    cover = np.minimum(np.maximum(0.5 - outside, 0), 1)[..., None]
    part = pixels[top:bottom, left:right]
    part += cover * (np.asarray(colour, np.float32) - part)


# Corners of plain polygons ------------------------------------------------------------------------


def box(left: float, bottom: float, right: float, top: float) -> np.ndarray:
    return np.array([(left, bottom), (right, bottom), (right, top), (left, top)])


def regular(corners: int, x: float, y: float, radius: float) -> np.ndarray:
    """The corners of a regular polygon, one of whose sides lies at its bottom."""
    angles = 2 * np.pi * (np.arange(corners) + 0.5) / corners - np.pi / 2
    return np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], axis=1)


def disc(x: float, y: float, radius: float) -> np.ndarray:
    return regular(14, x, y, radius)


def limb(start: tuple[float, float], end: tuple[float, float], width: float) -> np.ndarray:
    """A bar from one point to another."""
    (x, y), (u, v) = start, end
    across = np.array([y - v, u - x]) / np.hypot(u - x, v - y) * width / 2
    return np.array([start + across, start - across, end - across, end + across])


def shade(draw: np.random.Generator, *colour: float, spread: float = 18) -> np.ndarray:
    return np.clip(np.array(colour) + draw.uniform(-spread, spread, 3), 0, 255)


def anything(draw: np.random.Generator, dark: float = 20, light: float = 235) -> np.ndarray:
    return draw.uniform(dark, light, 3)


GREY, BLACK, WHITE = (120, 122, 126), (25, 25, 28), (240, 240, 238)
RED, AMBER, GREEN, GLASS = (205, 30, 35), (250, 180, 30), (40, 215, 100), (150, 190, 215)


# What there is ------------------------------------------------------------------------------------


def paint_street(pixels: np.ndarray, draw: np.random.Generator) -> None:
    """The background: sky, houses with windows, pavement, road and its middle line."""
    pixels[:] = shade(draw, 165, 195, 230, spread=30)
    left = -int(draw.integers(9))
    while left < SIDE:
        right, top = left + int(draw.integers(9, 23)), int(draw.integers(2, 22))
        wall, window = anything(draw, 70, 215), shade(draw, *GLASS, spread=60)
        pixels[top:HORIZON, max(left, 0) : right] = wall
        for row, column in itertools.product(
            range(top + 3, HORIZON - 4, 6), range(left + 2, right - 3, 5)
        ):
            pixels[row : row + 3, max(column, 0) : max(column + 2, 0)] = window
        left = right + int(draw.choice([0, 0, draw.integers(2, 9)]))
    pixels[HORIZON:KERB] = shade(draw, 168, 162, 154)
    pixels[KERB:] = shade(draw, 88, 88, 94)
    line = shade(draw, 225, 225, 215)
    for column in range(-int(draw.integers(8)), SIDE, 13):
        pixels[51, max(column, 0) : column + 7] = line


def car(draw: np.random.Generator) -> Thing:
    paint = anything(draw)
    roof = draw.uniform(0.92, 1.08)
    yield np.array([(-0.75, 0.55), (0.85, 0.55), (0.45, roof), (-0.5, roof)]), paint * 0.9
    yield np.array([(-0.62, 0.58), (-0.08, 0.58), (-0.08, 0.9), (-0.42, 0.9)]), shade(draw, *GLASS)
    yield np.array([(0.02, 0.58), (0.68, 0.58), (0.4, 0.9), (0.02, 0.9)]), shade(draw, *GLASS)
    yield box(-1.2, 0.18, 1.2, 0.58), paint
    yield box(1.06, 0.38, 1.2, 0.5), (255, 245, 190)
    yield box(-1.2, 0.38, -1.1, 0.5), RED
    for axle in (-0.7, 0.7):
        yield disc(axle, 0.2, 0.24), BLACK
        yield disc(axle, 0.2, 0.11), GREY


def pedestrian(draw: np.random.Generator) -> Thing:
    stride, swing = draw.uniform(0.04, 0.16), draw.uniform(0.05, 0.18)
    coat, trousers = anything(draw), anything(draw, 20, 150)
    skin = np.array([225, 180, 150]) * draw.uniform(0.4, 1.05)
    yield limb((-0.03, 0.46), (-stride, 0.0), 0.1), trousers
    yield limb((0.03, 0.46), (stride, 0.0), 0.1), trousers * 0.85
    yield np.array([(-0.1, 0.42), (0.1, 0.42), (0.13, 0.8), (-0.13, 0.8)]), coat
    yield limb((-0.11, 0.78), (-0.11 - swing, 0.46), 0.075), coat * 0.85
    yield limb((0.11, 0.78), (0.11 + swing, 0.46), 0.075), coat * 0.85
    yield disc(0, 0.9, 0.1), skin
    yield box(-0.09, 0.92, 0.09, 1.0), anything(draw, 20, 120)


def pole(top: float, width: float = 0.05) -> Polygon:
    return box(-width / 2, 0, width / 2, top), GREY


def stop_sign(draw: np.random.Generator) -> Thing:
    yield pole(0.8)
    yield regular(8, 0, 0.8, 0.22), WHITE
    yield regular(8, 0, 0.8, 0.19), shade(draw, *RED)
    for letter in (-0.13, -0.065, 0.0, 0.065):  # S, T, O and P are four strokes at this size
        yield box(letter + 0.01, 0.76, letter + 0.055, 0.85), WHITE


def traffic_light(draw: np.random.Generator) -> Thing:
    yield pole(0.6, 0.06)
    yield box(-0.13, 0.5, 0.13, 1.0), shade(draw, 40, 42, 45, spread=12)
    lit = draw.integers(3)
    for place, colour in enumerate((GREEN, AMBER, RED)):
        glow = 1.0 if place == lit else 0.22
        yield disc(0, 0.585 + 0.165 * place, 0.07), np.array(colour) * glow


def tree(draw: np.random.Generator) -> Thing:
    yield box(-0.05, 0, 0.05, 0.5), shade(draw, 95, 70, 50)
    leaves = shade(draw, 60, 120, 55, spread=35)
    for x, y, radius in ((-0.17, 0.58, 0.2), (0.17, 0.58, 0.2), (0, 0.77, 0.23)):
        yield disc(x, y, radius), leaves * draw.uniform(0.85, 1.1)


def lamp(draw: np.random.Generator) -> Thing:
    yield pole(1.0, 0.04)
    yield box(0, 0.95, 0.22, 0.99), GREY
    yield box(0.12, 0.9, 0.26, 0.96), (255, 240, 190)


def bollard(draw: np.random.Generator) -> Thing:
    yield box(-0.17, 0, 0.17, 0.72), anything(draw, 20, 140)
    yield disc(0, 0.82, 0.18), shade(draw, 150, 150, 150, spread=70)


def trailer(draw: np.random.Generator) -> Thing:
    yield box(-1.1, 0.25, 1.1, draw.uniform(0.9, 1.05)), anything(draw)
    yield limb((1.1, 0.3), (1.5, 0.2), 0.08), GREY
    for axle in (-0.16, 0.34):
        yield disc(axle, 0.2, 0.22), BLACK


def round_sign(draw: np.random.Generator) -> Thing:
    yield pole(0.8)
    rim, face = [(RED, WHITE), (WHITE, (35, 80, 180)), (WHITE, RED)][draw.integers(3)]
    yield disc(0, 0.8, 0.21), rim
    yield disc(0, 0.8, 0.155), face
    if face is RED:  # no entry
        yield box(-0.12, 0.77, 0.12, 0.83), WHITE


def triangular_sign(draw: np.random.Generator) -> Thing:
    yield pole(0.8)
    yield regular(3, 0, 0.78, 0.26), shade(draw, *RED)
    yield regular(3, 0, 0.78, 0.15), WHITE


def letter_box(draw: np.random.Generator) -> Thing:
    paint = [shade(draw, *RED), shade(draw, 245, 200, 40), shade(draw, 35, 70, 160)]
    paint = paint[draw.integers(3)]
    yield box(-0.22, 0, 0.22, 0.85), paint
    yield disc(0, 0.82, 0.22), paint
    yield box(-0.14, 0.68, 0.14, 0.74), BLACK


ON_THE_ROAD, BESIDE_IT = (KERB + 2, SIDE - 3), (HORIZON + 3, SIDE - 6)

Kind = tuple[Callable[[np.random.Generator], Thing], float, tuple[float, float]]
"""How a thing is drawn, its height in pixels at the lower border, and the rows it stands on."""

TAGS: dict[str, tuple[float, Kind]] = {
    "car": (0.5, (car, 15, ON_THE_ROAD)),
    "pedestrian": (0.4, (pedestrian, 24, BESIDE_IT)),
    "stop sign": (0.25, (stop_sign, 27, BESIDE_IT)),
    "traffic light": (0.3, (traffic_light, 28, BESIDE_IT)),
}
"""Each tag with its share of the pictures."""

OTHERS: tuple[Kind, ...] = (
    (tree, 34, BESIDE_IT),
    (lamp, 36, BESIDE_IT),
    (bollard, 13, BESIDE_IT),
    (trailer, 14, ON_THE_ROAD),
    (round_sign, 26, BESIDE_IT),
    (triangular_sign, 25, BESIDE_IT),
    (letter_box, 15, BESIDE_IT),
)
