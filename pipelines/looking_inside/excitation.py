"""What excites a unit: the patches of real pictures that do so most, and the picture that would.

M. D. Zeiler, R. Fergus, "Visualizing and Understanding Convolutional Networks", 2013,
https://arxiv.org/abs/1311.2901, and R. Girshick et al., 2013, https://arxiv.org/abs/1311.2524,
section 3.1, lay a unit's strongest patches side by side. A patch is what the unit sees of a
picture.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import keras
import numpy as np

from pipelines.engine.lazy import tensorflow as tf
from pipelines.looking_inside.ascent import ascend
from pipelines.looking_inside.receptive_field import Field, LocalMap

UNITS = 4  # of each map
PATCHES = 8  # of each unit
BATCH = 64


@dataclasses.dataclass(frozen=True)
class Unit:
    """A unit of a map, and where it is excited most.

    Attributes:
        maps: the map.
        number: the unit's, in the map.
        pictures: [patches] the pictures that excite it most, the most exciting first.
        places: [patches, 2] where in the map (row, column).
    """

    maps: LocalMap
    number: int
    pictures: np.ndarray
    places: np.ndarray


def choose_units(
    model: keras.Model, maps: list[LocalMap], inputs: Callable, pixels: np.ndarray
) -> list[Unit]:
    """The units of each map that tell pictures apart best, with their most exciting patches.

    That is, whose largest values stand out most from what they are in an average picture.

    Args:
        model: reads pictures.
        maps: some of its maps.
        inputs: pixels from 0 to 255 → the model's inputs.
        pixels: [n, height, width, channels], n at least ``PATCHES`` for that many patches.
    """
    watched = keras.Model(model.input, [one.tensor for one in maps])

    @tf.function(autograph=False, reduce_retracing=True)
    def strongest(batch: tf.Tensor) -> list[tuple[tf.Tensor, tf.Tensor]]:
        flat = [
            tf.reshape(values, [-1, values.shape[1] * values.shape[2], values.shape[3]])
            for values in tf.nest.flatten(watched(inputs(batch), training=False))
        ]
        return [(tf.reduce_max(values, 1), tf.argmax(values, 1)) for values in flat]

    starts = range(0, len(pixels), BATCH)
    found = [strongest(tf.constant(pixels[start : start + BATCH])) for start in starts]
    units = []
    for one, batches in zip(maps, zip(*found, strict=True), strict=True):
        values, places = (np.concatenate(parts) for parts in zip(*batches, strict=True))
        values = values.astype("float32")
        order = np.argsort(-values, axis=0, kind="stable")[:PATCHES]
        top = np.take_along_axis(values, order, axis=0).mean(axis=0)
        spread = values.std(axis=0)
        standing_out = (top - values.mean(axis=0)) / np.where(spread > 0, spread, np.inf)
        for number in np.argsort(-standing_out, kind="stable")[:UNITS]:
            if spread[number] > 0:
                flat = places[order[:, number], number]
                where = np.stack(np.unravel_index(flat, one.tensor.shape[1:3]), axis=-1)
                units.append(Unit(one, int(number), order[:, number], where))
    return units


def patch(picture: np.ndarray, field: Field, place: np.ndarray) -> np.ndarray:
    """What a place of a map sees: float [rows, columns, channels], nan beyond the picture's edges.

    Of a field larger than the picture, the side of the picture is left.
    """
    parts = []
    for window, at, side in zip(field, place, picture.shape[:2], strict=True):
        first = window.at(int(at))
        seen = range(side) if window.size >= side else range(first, first + window.size)
        parts.append(np.array(seen))
    inside = [(part >= 0) & (part < side) for part, side in zip(parts, picture.shape, strict=False)]
    seen = np.full((len(parts[0]), len(parts[1]), picture.shape[2]), np.nan)
    seen[np.ix_(*inside)] = picture[np.ix_(*(p[i] for p, i in zip(parts, inside, strict=True)))]
    return seen


@dataclasses.dataclass(frozen=True)
class Ideals:
    """Pictures that were made to be liked.

    Attributes:
        of_units: for each unit what it sees of its picture, [rows, columns, channels].
        of_classes: [classes, height, width, channels].
        probabilities: [classes] what the model gives to the class of each of these.
    """

    of_units: list[np.ndarray]
    of_classes: np.ndarray
    probabilities: np.ndarray


def ideals(
    model: keras.Model, units: list[Unit], classes: int, inputs: Callable, pixels: np.ndarray
) -> Ideals:
    """Makes pictures that excite each unit, and each of the first classes, as much as possible.

    All begin with the mean picture and look at the middle of a map; only for a unit that is silent
    there, so that nothing points upwards, with the picture and the place that excite it most.

    Args:
        model: pictures → logits.
        units: those to excite.
        classes: how many.
        inputs: pixels from 0 to 255 → the model's inputs.
        pixels: [n, height, width, channels] as ``choose_units`` had them.
    """
    maps = list({unit.maps.name: unit.maps for unit in units}.values())
    watched = keras.Model(model.input, [model.outputs[0], *(one.tensor for one in maps)])
    places = [np.array([side // 2 for side in unit.maps.tensor.shape[1:3]]) for unit in units]

    def excitement(pictures: tf.Tensor) -> tf.Tensor:
        logits, *values = tf.nest.flatten(watched(inputs(pictures), training=False))
        own = [
            values[maps.index(unit.maps)][row, place[0], place[1], unit.number]
            for row, (unit, place) in enumerate(zip(units, places, strict=True))
        ]
        speaking = tf.unstack(tf.linalg.diag_part(logits[len(units) :, :classes]))
        return tf.stack([tf.cast(value, tf.float32) for value in (*own, *speaking)])

    start = np.tile(pixels.mean(axis=0), [len(units) + classes, 1, 1, 1])
    silent = excitement(tf.constant(start, tf.float32)).numpy()[: len(units)] == 0
    for row in np.flatnonzero(silent):
        start[row], places[row] = pixels[units[row].pictures[0]], units[row].places[0]
    made = ascend(excitement, start)

    of_classes = made[len(units) :]
    logits = tf.cast(model(inputs(tf.constant(of_classes)), training=False), tf.float32)
    return Ideals(
        of_units=[
            patch(picture, unit.maps.field, place)
            for picture, unit, place in zip(made, units, places, strict=False)
        ],
        of_classes=of_classes,
        probabilities=np.diagonal(tf.nn.softmax(logits).numpy()),
    )
