"""Pictures a second through RandAugment inside ``tf.data``: ours against Keras's own layer.

Both apply two operations at the same share of their ranges and interpolate between four pixels.
Ours draws for every example. Keras draws once a call: a call for a batch is the cheapest, and gives
all its pictures the same operations; a call for a picture draws for each. Decoding, cropping,
mirroring and scaling are left out.
"""

from __future__ import annotations

import functools
import time

import keras
import numpy as np
import skimage.data
import tensorflow as tf

from pipelines.arrange.draws import Draws
from pipelines.arrange.image import augmented
from pipelines.arrange.rand_augment import STRONGEST, rand_augment
from pipelines.engine.application import Recipe
from pipelines.engine.train import prepare_backend
from pipelines.preprocess.image import ImagePreprocessor
from tests.benchmarks.comparison import Comparison

BATCH = 64
MAGNITUDE = 5  # the layer's default: half of its ranges
BATCHES = {32: 40, 224: 4}  # of a pass, by size
WARM_UP = 1  # passes


def measure(quick: bool) -> list[Comparison]:
    prepare_backend(Recipe())
    return [comparison for size in BATCHES for comparison in compare(size, 2 if quick else 8)]


def compare(size: int, passes: int) -> list[Comparison]:
    pictures = crops(size)
    ways = {
        "ours": ours(pictures),
        "a call for a batch": keras_layer(pictures, per_example=False),
        "a call for a picture": keras_layer(pictures, per_example=True),
    }
    rates = {name: [] for name in ways}
    for _ in range(WARM_UP + passes):
        for name, dataset in ways.items():
            rates[name].append(rate(dataset, BATCH * BATCHES[size]))
    return [
        Comparison(
            name=f"RandAugment of {size}x{size}, against Keras's, {peer}",
            unit="pictures/s",
            ours=tuple(rates["ours"][WARM_UP:]),
            peer=tuple(rates[peer][WARM_UP:]),
            better="higher",
            target=2.0,
        )
        for peer in list(ways)[1:]
    ]


def crops(size: int) -> np.ndarray:
    """uint8 [BATCH, size, size, 3]: random parts of a photograph."""
    photo, random = skimage.data.astronaut(), np.random.default_rng(0)
    corners = random.integers(512 - size, size=(BATCH, 2))
    return np.stack([photo[y : y + size, x : x + size] for y, x in corners])


def ours(pictures: np.ndarray) -> tf.data.Dataset:
    """The arrangement's own step, for other epochs of the same pictures."""
    size = pictures.shape[1]
    steps = (functools.partial(rand_augment, operations=2, magnitude=MAGNITUDE),)
    preprocessor = ImagePreprocessor(size=size)
    index = tf.range(BATCH, dtype=tf.int64)

    @tf.autograph.experimental.do_not_convert
    def batch(epoch: tf.Tensor) -> tf.Tensor:
        draw = Draws(0, tf.fill([BATCH], epoch), index)
        return augmented({"image": tf.constant(pictures)}, steps, draw, preprocessor)["image"]

    numbers = tf.data.Dataset.range(BATCHES[size])
    return numbers.map(batch, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def keras_layer(pictures: np.ndarray, per_example: bool) -> tf.data.Dataset:
    layer = keras.layers.RandAugment(num_ops=2, factor=MAGNITUDE / STRONGEST, seed=0)
    whole = tf.data.Dataset.from_tensors(pictures).repeat(BATCHES[pictures.shape[1]])
    dataset = (whole.unbatch() if per_example else whole).map(
        functools.partial(layer, training=True), num_parallel_calls=tf.data.AUTOTUNE
    )
    dataset = dataset.batch(BATCH) if per_example else dataset
    return dataset.prefetch(tf.data.AUTOTUNE)


def rate(dataset: tf.data.Dataset, count: int) -> float:
    """Pictures a second of a pass over ``count`` pictures."""
    started = time.perf_counter()
    seen = sum(len(batch) for batch in dataset)
    assert seen == count
    return count / (time.perf_counter() - started)
