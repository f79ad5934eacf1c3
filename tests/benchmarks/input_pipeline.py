"""Pictures a second from JPEG files to augmented float32 batches.

Ours is what evaluation and fitting run: the source's reading, the preprocessor's decoding of whole
batches, the arrangement's stateless augmentation, the scaling. The first peer is the same work
written by hand, a picture at a time, in ``tf.data``; the second is Pillow in as many processes as
there are processors. (In training, ours decodes once and then reads from memory; not counted here.)
A pass goes over the files several times, because it begins with what an iterator costs once: 0.15 s
for ours, whose graph knows every kind of picture.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import pathlib
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator

import numpy as np
import skimage.data
import tensorflow as tf

from pipelines.arrange.image import arrange
from pipelines.engine.application import Recipe, UserError
from pipelines.engine.data import evaluation_batches, for_model, raw_batches
from pipelines.engine.train import prepare_backend
from pipelines.preprocess.image import ImagePreprocessor
from pipelines.sources.class_folders import ClassFolders
from tests.benchmarks.comparison import Comparison
from tests.benchmarks.machine import processors

ROOT = pathlib.Path(__file__).parents[2]
PEER_PYTHON = ROOT / ".venv-bench" / "bin" / "python"
PILLOW_POOL = pathlib.Path(__file__).parent / "peers" / "pillow_pool.py"

PHOTOS = ("astronaut", "chelsea", "coffee", "rocket")  # come with scikit-image; the classes
CROP = 256
SIZE = 224
BATCH = 64
WARM_UP = 1  # passes

Pass = Callable[[int], float]  # number of a pass → its pictures a second


def measure(quick: bool) -> list[Comparison]:
    count, rounds, passes = (256, 1, 2) if quick else (1000, 4, 20)
    prepare_backend(Recipe())
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")  # the source's notes on the pictures
        files = write_photos(folder / "photos", count)
        source = ClassFolders(data_dir=str(folder / "photos"))
        preprocessor = ImagePreprocessor(size=SIZE)
        preprocessor.fit(raw_batches(source, "train"))
        pipelines = {
            "ours": timed(ours(source, preprocessor).repeat(rounds), count * rounds),
            "tf.data by hand": timed(by_hand(files, preprocessor).repeat(rounds), count * rounds),
            "Pillow": stack.enter_context(pillow_pool(files * rounds, preprocessor)),
        }
        rates = {name: [] for name in pipelines}
        for number in range(WARM_UP + passes):
            for name, run in pipelines.items():
                rates[name].append(run(number))
    return [
        Comparison(
            name=f"JPEG {CROP}x{CROP} to batches of {BATCH} at {SIZE}x{SIZE}, against {peer}",
            unit="pictures/s",
            ours=tuple(rates["ours"][WARM_UP:]),
            peer=tuple(rates[peer][WARM_UP:]),
            better="higher",
            target=1.0,
        )
        for peer in ("tf.data by hand", "Pillow")
    ]


def write_photos(folder: pathlib.Path, count: int) -> list[str]:
    """Random crops of photographs as ``train/<class>/<number>.jpg``; returns their files.

    One more stands in each of the other splits, so that none is cut off from these.
    """
    random = np.random.default_rng(0)
    photos = {name: getattr(skimage.data, name)() for name in PHOTOS}
    splits = ["train"] * count + ["validation", "test"]
    files = []
    for number, split in enumerate(splits):
        name = PHOTOS[number % len(PHOTOS)]
        y, x = (random.integers(side - CROP, endpoint=True) for side in photos[name].shape[:2])
        file = folder / split / name / f"{number:04}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        crop = photos[name][y : y + CROP, x : x + CROP]
        file.write_bytes(tf.io.encode_jpeg(crop, quality=90).numpy())
        files.append(str(file))
    return files[:count]


def ours(source: ClassFolders, preprocessor: ImagePreprocessor) -> tf.data.Dataset:
    """The engine's own chain of an uncached split, with the augmentation of training."""

    def augmented(batches, preprocessor, *, training, **options):
        return arrange(batches, preprocessor, training=True, augment="crop_flip", **options)

    batches = evaluation_batches(source, preprocessor, augmented, "train", batch_size=BATCH, seed=0)
    return for_model(batches, preprocessor.model_inputs)


def by_hand(files: list[str], preprocessor: ImagePreprocessor) -> tf.data.Dataset:
    """The same work as tutorials write it: one picture at a time, then a batch."""
    mean = preprocessor.mean.astype("float32")
    scale = (1 / np.sqrt(preprocessor.variance)).astype("float32")
    labels = [PHOTOS.index(pathlib.Path(file).parent.name) for file in files]
    reach = SIZE // 8

    def example(number: tf.Tensor, row: tuple[tf.Tensor, tf.Tensor]):
        file, label = row
        image = tf.io.decode_jpeg(tf.io.read_file(file), channels=3)
        image = tf.image.resize(image, [SIZE, SIZE])
        seed = tf.stack([tf.constant(0, tf.int64), number])
        image = tf.pad(image, [[reach, reach], [reach, reach], [0, 0]])
        image = tf.image.stateless_random_crop(image, [SIZE, SIZE, 3], seed)
        image = tf.image.stateless_random_flip_left_right(image, seed + 1)
        return (image - mean) * scale, label

    return (
        tf.data.Dataset.from_tensor_slices((files, labels))
        .enumerate()
        .map(example, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(BATCH)
        .prefetch(tf.data.AUTOTUNE)
    )


def timed(dataset: tf.data.Dataset, count: int) -> Pass:
    """A pass over a dataset that must yield ``count`` pictures."""

    def run(_: int) -> float:
        started = time.perf_counter()
        seen = sum(len(label) for _, label in dataset)
        assert seen == count
        return count / (time.perf_counter() - started)

    return run


@contextlib.contextmanager
def pillow_pool(files: list[str], preprocessor: ImagePreprocessor) -> Iterator[Pass]:
    """A pool of processes with Pillow that waits for the number of the next pass."""
    if not PEER_PYTHON.exists():
        raise UserError(f"no {PEER_PYTHON} to run Pillow; make bench sets it up")
    words = [PEER_PYTHON, PILLOW_POOL, processors(), BATCH, SIZE]
    pool = subprocess.Popen(
        [str(word) for word in words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    tell = functools.partial(print, file=pool.stdin, flush=True)
    scale = 1 / np.sqrt(preprocessor.variance)
    tell(json.dumps({"files": files, "mean": preprocessor.mean.tolist(), "scale": scale.tolist()}))

    def run(number: int) -> float:
        tell(number)
        return len(files) / float(pool.stdout.readline())

    try:
        yield run
    finally:
        pool.stdin.close()
        pool.wait()
