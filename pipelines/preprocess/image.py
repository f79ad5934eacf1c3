"""Pictures: encoded bytes of any size in, scaled pixels of one size out, class indices and labels.

Everything runs in the TensorFlow graph on a batch of byte strings, so that training, evaluation
and the export share it. The rules:

- JPEG, PNG, GIF (first frame) and BMP are read, told apart by their first bytes.
- The EXIF orientation of a JPEG is applied: the picture stands as the camera was held.
- Colour becomes grey by ITU-R BT.601 (0.299 red, 0.587 green, 0.114 blue), as JPEG itself does it;
  grey becomes colour by repetition. CMYK JPEG becomes RGB as libjpeg does it.
- Transparent pixels of a PNG lie over the background; a BMP has none.
- 16-bit PNG is rounded to 8 bits.
- A JPEG of 64 KiB or more is decoded at 1/2, 1/4 or 1/8 of its size if that is still enough.
  What shrinks to less than half of a side is averaged over areas, whatever ``resize`` says, so
  that no thin stroke falls between two pixels.
"""

from __future__ import annotations

import collections
import json
import logging
import pathlib
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import numpy as np

from models.layers.official_weights import CONVENTIONS
from pipelines.engine.application import UserError
from pipelines.engine.lazy import tensorflow as tf
from pipelines.preprocess.checks import checked
from pipelines.preprocess.crops import crops
from pipelines.preprocess.labels import class_indices, named_classes, sort_labels
from pipelines.preprocess.preprocessor import Preprocessor

log = logging.getLogger(__name__)

EXIF_REACH = 65_536  # bytes: the orientation stands in one of the first segments of a JPEG
ORIENTATION_TAG = 0x0112
LARGE_JPEG = 65_536  # bytes: below, decoding at full size is quick enough

# RE2 reads UTF-8; \C is any byte. In a PNG the bit depth and the colour type follow 16 bytes after
# the signature: 16 bits; grey (0), grey with alpha (4), colour with alpha (6).
PNG_OF_MANY_BITS = rb"\CPNG\r\n\x1a\n(\C{16}(\x10\C|\C[\x04\x06])\C*|\C*tRNS\C*)"
GREY_PNG = rb"\CPNG\r\n\x1a\n\C{16}\C\x00\C*"
JPEG_WITH_EXIF = rb"\C*Exif\x00\x00(II|MM)\C*"
# The frame header: its length, 8 bits, height, width, four components. Elsewhere by chance it only
# sends a picture the longer way.
CMYK_JPEG = rb"\C*\x00\x14\x08\C{4}\x04\C*"


class PicturePreprocessor(Preprocessor):
    """Decodes, fits and scales pictures, whatever is to be said of them.

    Args:
        size: height and width of the pixels that the model sees, or one number for both.
        channels: 1 for grey, 3 for red, green and blue.
        margin: background on each side within ``size``, in pixels.
        fit: how a picture of other proportions fills the place: stretched, cropped at the longer
            sides, or padded with background at the shorter ones.
        resize: how pixels between pixels are found.
        background: grey level, 0 to 255, of margins, padding and whatever is transparent.
        scaling: what the model sees of the bytes. data: zero mean and unit variance by channel, as
            learned from the training split; else what published weights expect, bytes: 0 to 255;
            tf: -1 to 1; caffe: blue, green, red minus ImageNet's means.
    """

    encoded: ClassVar[tuple[str, ...]] = ("image",)

    def __init__(
        self,
        *,
        size: int | tuple[int, int] = 32,
        channels: Literal[1, 3] = 3,
        margin: int = 0,
        fit: Literal["stretch", "crop", "pad"] = "stretch",
        resize: Literal["bilinear", "bicubic", "area", "nearest"] = "bilinear",
        background: int = 0,
        scaling: Literal["data", "bytes", "tf", "caffe"] = "data",
    ):
        self.size = (size, size) if isinstance(size, int) else tuple(size)
        self.inner = tuple(side - 2 * margin for side in self.size)
        if min(self.inner) < 1 or margin < 0:
            raise UserError(f"margin {margin} leaves nothing of size {self.size[0]}x{self.size[1]}")
        if not 0 <= background <= 255:
            raise UserError(f"background is a grey level from 0 to 255, not {background}")
        if scaling == "caffe" and channels == 1:
            raise UserError("scaling caffe is of colours; grey pictures need another")
        self.channels = channels
        self.margin = margin
        self.resize = resize
        self.fit_to = fit
        self.background = background
        self.scaling = scaling
        self.mean = np.zeros(channels)
        self.covariance = np.eye(channels)

    def learn_colours(self, dataset, also: Callable[[dict], tuple]) -> list[tuple]:
        """Learns the exact mean and covariance of colours from raw batches with ``image``.

        Returns:
            what ``also`` makes of each batch, as NumPy arrays.
        """
        count, total, products, others = 0, 0, 0, []
        sums = dataset.map(
            lambda batch: (*self._sums(batch), *also(batch)), num_parallel_calls=tf.data.AUTOTUNE
        )
        for pixels, batch_total, batch_products, *other in sums.as_numpy_iterator():
            count += int(pixels)
            total += batch_total
            products += batch_products
            others.append(tuple(other))
        self.mean = total / count
        self.covariance = products / count - np.outer(self.mean, self.mean)
        if np.array_equal(total, np.diagonal(products)):  # only 0 and 1 are their own squares
            log.warning(
                "no pixel of the training pictures is above 1, where they go from 0 to 255: "
                "multiply by 255 before writing pictures"
            )
        return others

    def _sums(self, batch: dict) -> tuple:
        # Sums of integers, which float64 holds exactly, and whose products have a fast operation.
        pixels = tf.cast(self.features(batch)["image"], tf.float64)
        pixels = tf.reshape(pixels, [-1, self.channels])
        products = tf.matmul(pixels, pixels, transpose_a=True)
        return tf.shape(pixels)[0], tf.reduce_sum(pixels, 0), products

    @property
    def variance(self) -> np.ndarray:
        """[channels]"""
        return np.diagonal(self.covariance)

    def features(self, batch: dict) -> dict:
        """``image``: [batch] encoded pictures → uint8 [batch, height, width, channels].

        Raises:
            tf.errors.InvalidArgumentError: names the first row that is no picture.
        """
        images = tf.convert_to_tensor(batch["image"])
        kind = require_pictures(self._kind(images))
        readers = [self._plain, self._jpeg, self._png_of_many_bits]
        readers += [self._as_grey] if self.channels == 1 else []

        def sorted_by_kind():
            # One loop a kind, without branches: a branch costs its time even where it isn't taken.
            rows = [tf.where(tf.equal(kind, k))[:, 0] for k in range(len(readers))]
            pixels = [
                self._read(read, tf.gather(images, own))
                for read, own in zip(readers, rows, strict=True)
            ]
            return tf.gather(tf.concat(pixels, 0), tf.argsort(tf.concat(rows, 0)))

        # Most batches hold pictures of the commonest kind alone: there is nothing to put in order.
        pixels = tf.cond(
            tf.reduce_all(tf.equal(kind, 0)),
            lambda: self._read(self._plain, images),
            sorted_by_kind,
        )
        return {"image": pixels}

    def views(self, batch: dict, count: int) -> dict:
        """``image``: 1, 5 or 10 views of each picture, as ``crops.py`` says.

        [batch] encoded pictures → uint8 [batch * count, height, width, channels].
        """
        return {"image": crops(self.features(batch)["image"], count, self.background)}

    def _read(self, read, images):
        """[batch] encoded pictures of one kind → uint8 [batch, height, width, channels]."""
        return tf.map_fn(
            lambda picture: self._fitted(read(picture)),
            images,
            fn_output_signature=tf.TensorSpec((*self.size, self.channels), tf.uint8),
        )

    def model_inputs(self, features: dict) -> dict:
        """Pixels [batch, height, width, channels] → float32 as ``scaling`` says."""
        reverse, mean, deviation = self._convention()
        # A product with constants: graphs rewrite a quotient, which changes the last bit.
        scale, mean = (1 / deviation).astype("float32"), mean.astype("float32")
        image = tf.reverse(features["image"], [-1]) if reverse else features["image"]
        # On long rows, because TensorFlow is four times slower at spreading three numbers.
        pixels = image.shape[1] * image.shape[2]
        rows = tf.reshape(image, [-1, pixels * self.channels])
        scaled = (tf.cast(rows, tf.float32) - tf.tile(mean, [pixels])) * tf.tile(scale, [pixels])
        return {"image": tf.reshape(scaled, [-1, *self.size, self.channels])}

    def _convention(self) -> tuple[bool, np.ndarray, np.ndarray]:
        """Whether channels change places, and the mean and the deviation by channel."""
        if self.scaling == "data":
            return False, self.mean, np.sqrt(np.where(self.variance > 0, self.variance, 1))
        reverse, mean, deviation = CONVENTIONS[self.scaling]
        return reverse, np.array(mean[: self.channels]), np.array(deviation[: self.channels])

    @property
    def signature(self) -> dict:
        return {"image": tf.TensorSpec([None], tf.string, name="image")}

    def save(self, folder: pathlib.Path) -> None:
        text = json.dumps(self.learned(), indent=1, ensure_ascii=False)
        (folder / "image.json").write_text(text, encoding="utf-8")

    def restore(self, folder: pathlib.Path) -> None:
        self.relearn(json.loads((folder / "image.json").read_text(encoding="utf-8")))

    def learned(self) -> dict:
        """What ``image.json`` holds."""
        return {"mean": self.mean.tolist(), "covariance": self.covariance.tolist()}

    def relearn(self, learned: dict) -> None:
        """Takes over what ``learned`` gave."""
        self.mean = np.array(learned["mean"])
        self.covariance = np.array(learned["covariance"])

    def _kind(self, images):
        """[batch] encoded pictures → int32 [batch]: which of the readers below; -1: none."""

        def starts(signature):
            return tf.equal(tf.strings.substr(images, 0, len(signature)), signature)

        def has(pattern):
            return tf.strings.regex_full_match(images, pattern)

        large = tf.strings.length(images) >= LARGE_JPEG
        turned = tf.strings.regex_full_match(
            tf.strings.substr(images, 0, EXIF_REACH), JPEG_WITH_EXIF
        )
        careful_jpeg, other = large | turned, 0
        plain_png = 0
        if self.channels == 1:
            careful_jpeg |= has(CMYK_JPEG)
            plain_png = tf.where(has(GREY_PNG), 0, 3)
            other = 3
        kind = tf.where(starts(b"GIF8") | starts(b"BM"), other, -1)
        png = tf.where(has(PNG_OF_MANY_BITS), 2, plain_png)
        kind = tf.where(starts(b"\x89PNG\r\n\x1a\n"), png, kind)
        return tf.where(starts(b"\xff\xd8\xff"), tf.cast(careful_jpeg, tf.int32), kind)

    def _plain(self, picture):
        """Whatever one operation decodes to uint8 [any height, any width, channels]."""
        return tf.io.decode_image(picture, self.channels, expand_animations=False)

    def _jpeg(self, picture):
        """A JPEG that is large, turned or CMYK."""
        height, width, components = tf.unstack(tf.io.extract_jpeg_shape(picture))
        spare = tf.minimum(height, width) // max(self.inner)  # either side may be the height
        halvings = tf.reduce_sum(tf.cast(spare >= tf.constant([2, 4, 8]), tf.int32))

        def decoded(channels):
            def at(ratio):
                return lambda: tf.io.decode_jpeg(picture, channels, ratio=ratio)

            return tf.switch_case(halvings, [at(ratio) for ratio in (1, 2, 4, 8)])

        if self.channels == 3:
            pixels = decoded(3)
        else:
            pixels = tf.cond(components < 4, lambda: decoded(1), lambda: grey(decoded(3)))
        return upright(pixels, exif_orientation(picture))

    def _png_of_many_bits(self, picture):
        """A PNG with alpha or of 16 bits."""
        pixels = tf.cast(tf.io.decode_png(picture, 4, dtype=tf.uint16), tf.float32) / 257
        colour, opacity = pixels[..., :3], pixels[..., 3:] / 255
        colour = to_bytes(colour * opacity + self.background * (1 - opacity))
        return colour if self.channels == 3 else grey(colour)

    def _as_grey(self, picture):
        """A picture without alpha, in colour."""
        return grey(tf.io.decode_image(picture, 3, expand_animations=False))

    def _fitted(self, pixels):
        """uint8 [any height, any width, channels] → uint8 [height, width, channels]."""
        pixels = tf.ensure_shape(pixels, [None, None, self.channels])
        shape = tf.shape(pixels)[:2]
        size = self._size_within(shape)
        pixels = tf.cond(
            tf.reduce_any(2 * size < shape),
            lambda: tf.image.resize(pixels, size, "area"),
            lambda: tf.cast(tf.image.resize(pixels, size, self.resize), tf.float32),
        )
        if self.resize == "bicubic":  # alone overshoots
            pixels = tf.clip_by_value(pixels, 0, 255)
        pixels = to_bytes(pixels)
        # Padding is by zeros, so the background becomes the zero of the bytes for a moment.
        background = tf.constant(self.background, tf.uint8)
        if self.fit_to != "stretch":
            pixels = tf.image.resize_with_crop_or_pad(pixels - background, *self.inner)
            pixels += background
        if self.margin:
            around = [[self.margin] * 2, [self.margin] * 2, [0, 0]]
            pixels = tf.pad(pixels, around, constant_values=background)
        return tf.ensure_shape(pixels, [*self.size, self.channels])

    def _size_within(self, shape):
        """Height and width that a picture of ``shape`` takes before it is cropped or padded."""
        inner = tf.constant(self.inner)
        if self.fit_to == "stretch":
            return inner
        scales = tf.cast(inner, tf.float32) / tf.cast(shape, tf.float32)
        scale = (tf.reduce_max if self.fit_to == "crop" else tf.reduce_min)(scales)
        return tf.maximum(tf.cast(tf.round(tf.cast(shape, tf.float32) * scale), tf.int32), 1)


class ImagePreprocessor(PicturePreprocessor):
    """Turns class indices into labels and back.

    Args:
        pictures: options of ``PicturePreprocessor``.
    """

    supplies: ClassVar[tuple[str, ...]] = ("input_shape", "num_classes")

    def __init__(self, **pictures: Any):
        super().__init__(**pictures)
        self.labels: list[str] = []
        self.counts: list[int] = []

    def fit(self, dataset) -> None:
        """Learns the labels with their counts, and the colours.

        Args:
            dataset: raw batches with ``image`` and ``label``.
        """
        labels = collections.Counter()
        for found, _, counts in self.learn_colours(
            dataset, lambda batch: tf.unique_with_counts(batch["label"])
        ):
            labels.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))
        self.labels = sort_labels(label.decode() for label in labels)
        self.counts = [labels[label.encode()] for label in self.labels]

    def target(self, batch: dict):
        """``label``: [batch] strings → int32 [batch] class indices.

        Raises:
            tf.errors.InvalidArgumentError: names a label that the training split lacks.
        """
        return class_indices(batch["label"], self.labels)

    def answer(self, response: dict, inputs: dict) -> dict:
        """``indices`` and ``probabilities`` [batch, k] → ``labels`` and ``probabilities``."""
        return named_classes(response, self.labels)

    def model_arguments(self) -> dict:
        return {"input_shape": (*self.size, self.channels), "num_classes": len(self.labels)}

    def learned(self) -> dict:
        return {"labels": self.labels, "counts": self.counts, **super().learned()}

    def relearn(self, learned: dict) -> None:
        super().relearn(learned)
        self.labels, self.counts = learned["labels"], learned["counts"]

    def adopt(self, folder: pathlib.Path) -> None:
        labels, counts = self.labels, self.counts
        self.restore(folder)
        self.labels, self.counts = labels, counts


def require_pictures(kind):
    """``kind`` [batch] once more; fails naming the first row that is no picture."""
    rows = tf.range(tf.size(kind))
    first = tf.reduce_min(tf.where(kind < 0, rows, tf.int32.max))
    row = tf.strings.as_string(first)
    message = tf.strings.join(["image[", row, "] is no JPEG, PNG, GIF or BMP picture"])
    return checked(kind, tf.reduce_all(kind >= 0), message)


def exif_orientation(picture):
    """The orientation 1 to 8 that the EXIF data of one JPEG states; 1 where it states none.

    EXIF 2.3, section 4.6: a TIFF header (byte order, offset of the first directory), then in the
    directory a count and entries of 12 bytes: tag, type, number of values, value.
    """
    head = tf.strings.substr(picture, 0, EXIF_REACH)
    tiff = tf.strings.regex_replace(head, rb"\C*?Exif\x00\x00", b"", replace_global=False)
    # A zero at the end, which damaged offsets beyond the data read.
    data = tf.pad(tf.cast(tf.io.decode_raw(tiff, tf.uint8), tf.int64), [[0, 1]])
    last = tf.size(data, tf.int64) - 1
    powers = tf.range(4, dtype=tf.int64)
    little_endian = tf.equal(data[0], ord("I"))

    def number(position, size):
        order = powers[:size]
        places = tf.where(little_endian, order, size - 1 - order)
        indices = tf.minimum(position[..., tf.newaxis] + places, last)
        return tf.reduce_sum(tf.gather(data, indices) * 256**order, axis=-1)

    directory = number(tf.constant(4, tf.int64), 4)
    entries = directory + 2 + 12 * tf.range(number(directory, 2))
    is_orientation = tf.equal(number(entries, 2), ORIENTATION_TAG)
    values = tf.boolean_mask(number(entries + 8, 2), is_orientation)
    orientation = tf.reduce_max(tf.concat([values[:1], [1]], 0))
    return tf.where(orientation <= 8, orientation, 1)


def upright(pixels, orientation):
    """Pixels [height, width, channels] as the camera was held; ``orientation`` as in EXIF."""

    def stated(*orientations):
        return tf.reduce_any(tf.equal(orientation, orientations))

    turned = tf.cond(stated(5, 6, 7, 8), lambda: tf.transpose(pixels, [1, 0, 2]), lambda: pixels)
    mirrored = tf.cond(stated(2, 3, 6, 7), lambda: tf.reverse(turned, [1]), lambda: turned)
    return tf.cond(stated(3, 4, 7, 8), lambda: tf.reverse(mirrored, [0]), lambda: mirrored)


def grey(colour):
    """uint8 [..., 3] → uint8 [..., 1] by ITU-R BT.601; equal parts stay exactly what they are."""
    weights = tf.constant([299, 587, 114])
    luma = tf.reduce_sum(tf.cast(colour, tf.int32) * weights, axis=-1, keepdims=True)
    return tf.cast((luma + 500) // 1000, tf.uint8)


def to_bytes(pixels):
    """float32 pixels from 0 to 255 → the nearest uint8."""
    return tf.cast(pixels + 0.5, tf.uint8)
