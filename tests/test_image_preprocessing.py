"""Pictures of all kinds: the same pixels eagerly, in tf.data and in an export, by stated rules."""

from __future__ import annotations

import io

import numpy as np
import pytest
import tensorflow as tf
from keras.applications import imagenet_utils
from PIL import Image, ImageOps

from pipelines.engine.application import UserError
from pipelines.preprocess.image import ImagePreprocessor
from pipelines.preprocess.labels import sort_labels

SIDES = (48, 64)


def patches(mode: str = "RGB") -> Image.Image:
    """48x64 pixels of 12 flat patches, which no resampling of colour in a JPEG blurs much."""
    colours = np.random.default_rng(0).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    return Image.fromarray(np.kron(colours, np.ones((16, 16, 1), np.uint8))).convert(mode)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def decoded(*pictures: bytes, **options) -> np.ndarray:
    preprocessor = ImagePreprocessor(**{"size": SIDES, **options})
    return preprocessor.features({"image": tf.constant(pictures, tf.string)})["image"].numpy()


def luma(image: Image.Image) -> np.ndarray:
    """ITU-R BT.601, rounded once: [height, width, 1]."""
    colour = np.asarray(image.convert("RGB")).astype(int)
    return ((colour @ [299, 587, 114] + 500) // 1000)[..., None]


def transparent() -> Image.Image:
    image = np.asarray(patches("RGBA")).copy()
    image[:16, :, 3], image[16:32, :, 3] = 0, 128
    return Image.fromarray(image)


def deep(grey: np.ndarray) -> bytes:
    return encoded(Image.fromarray(grey.astype(np.uint16)), "PNG")


KINDS = {
    "grey PNG": encoded(patches("L"), "PNG"),
    "colour PNG": encoded(patches(), "PNG"),
    "palette PNG": encoded(patches().quantize(16), "PNG"),
    "PNG with alpha": encoded(transparent(), "PNG"),
    "16-bit PNG": deep(np.asarray(patches("L")).astype(int) * 257),
    "1-bit PNG": encoded(patches("1"), "PNG"),
    "grey JPEG": encoded(patches("L"), "JPEG", quality=95),
    "colour JPEG": encoded(patches(), "JPEG", quality=95),
    "CMYK JPEG": encoded(patches("CMYK"), "JPEG", quality=95),
    "turned JPEG": encoded(
        patches(),
        "JPEG",
        exif=b"Exif\x00\x00MM\x00*\x00\x00\x00\x08"
        b"\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00",
    ),
    "GIF": encoded(patches(), "GIF"),
    "BMP": encoded(patches(), "BMP"),
}


@pytest.mark.parametrize(
    "name", ["grey PNG", "colour PNG", "palette PNG", "1-bit PNG", "BMP", "GIF"]
)
def test_lossless_pictures_keep_their_pixels(name: str) -> None:
    truth = Image.open(io.BytesIO(KINDS[name])).convert("RGB")
    np.testing.assert_array_equal(decoded(KINDS[name], channels=3)[0], np.asarray(truth))
    np.testing.assert_array_equal(decoded(KINDS[name], channels=1)[0], luma(truth))


@pytest.mark.parametrize("name", ["grey JPEG", "colour JPEG", "CMYK JPEG"])
def test_jpeg_is_read_as_pillow_reads_it(name: str) -> None:
    truth = Image.open(io.BytesIO(KINDS[name])).convert("RGB")
    colour = decoded(KINDS[name], channels=3)[0].astype(int)
    assert np.abs(colour - np.asarray(truth)).max() <= 4
    grey = decoded(KINDS[name], channels=1)[0].astype(int)
    assert np.abs(grey - luma(truth)).max() <= 4


def test_transparent_pixels_lie_over_the_background() -> None:
    pixels = decoded(KINDS["PNG with alpha"], channels=3, background=200)[0].astype(int)
    opaque = np.asarray(patches()).astype(int)
    np.testing.assert_array_equal(pixels[:16], np.full((16, 64, 3), 200))
    half = opaque[16:32] * 128 / 255 + 200 * 127 / 255
    assert np.abs(pixels[16:32] - half).max() <= 0.51
    np.testing.assert_array_equal(pixels[32:], opaque[32:])


def test_transparent_colour_of_a_palette_lies_over_the_background() -> None:
    palette = patches().quantize(16)
    picture = encoded(palette, "PNG", transparency=3)
    pixels = decoded(picture, channels=3, background=77)[0]
    truth = np.where((np.asarray(palette) == 3)[..., None], 77, np.asarray(palette.convert("RGB")))
    np.testing.assert_array_equal(pixels, truth)


def test_16_bits_are_rounded_not_cut() -> None:
    values = np.array([[0, 128, 129, 385, 386, 32_896, 65_406, 65_407, 65_535]])
    pixels = decoded(deep(values), size=(1, 9), channels=1)[0, 0, :, 0]
    np.testing.assert_array_equal(pixels, np.rint(values[0] / 257))


@pytest.mark.parametrize("byte_order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int, byte_order: str) -> None:
    exif = Image.Exif()
    exif.endian = byte_order
    exif[0x010F], exif[0x0112] = "maker", orientation
    picture = encoded(patches(), "JPEG", quality=95, exif=exif.tobytes())
    truth = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(picture)))).astype(int)
    pixels = decoded(picture, size=truth.shape[:2], channels=3)[0]
    assert np.abs(pixels - truth).max() <= 4


@pytest.mark.parametrize(
    "damage", [b"", b"\x00\x08\xff\xff\xff\xff", b"\x00\x08\x00\x00\x00\x08\xff"]
)
def test_damaged_exif_is_no_orientation(damage: bytes) -> None:
    picture = encoded(patches(), "JPEG", quality=95)
    data = b"Exif\x00\x00MM\x00*"[: 10 - 2 * (not damage)] + damage
    segment = b"\xff\xe1" + (len(data) + 2).to_bytes(2, "big") + data
    turned = picture[:2] + segment + picture[2:]
    np.testing.assert_array_equal(decoded(turned), decoded(picture))


def test_large_jpeg_is_decoded_smaller_and_stays_the_same_picture() -> None:
    photo = patches().resize((3072, 2304), Image.Resampling.NEAREST)
    picture = encoded(photo, "JPEG", quality=100, subsampling=0)
    assert len(picture) > 65_536
    error = np.abs(decoded(picture)[0].astype(int) - np.asarray(patches()))
    assert np.median(error) <= 2


def test_thin_strokes_survive_strong_shrinking() -> None:
    page = np.zeros((1000, 1000), np.uint8)
    page[:, 511:515] = 255
    pixels = decoded(encoded(Image.fromarray(page), "PNG"), size=28, channels=1)[0, :, :, 0]
    assert (pixels.sum(axis=1) > 20).all()


def test_fit_stretches_crops_or_pads() -> None:
    page = np.zeros((20, 40), np.uint8)
    page[:, :10], page[:, 30:] = 100, 250
    picture = encoded(Image.fromarray(page), "PNG")
    options = {"size": 20, "channels": 1, "background": 7, "resize": "nearest"}
    stretch = decoded(picture, fit="stretch", **options)[0, :, :, 0]
    np.testing.assert_array_equal(stretch, np.repeat([[100, 0, 0, 250]], 20, 0).repeat(5, 1))
    crop = decoded(picture, fit="crop", **options)[0, :, :, 0]
    np.testing.assert_array_equal(crop, np.zeros((20, 20)))
    pad = decoded(picture, fit="pad", **options)[0, :, :, 0]
    np.testing.assert_array_equal(pad[[0, 4, 15, 19]], np.full((4, 20), 7))
    np.testing.assert_array_equal(pad[5:15], stretch[5:15])


def test_margin_lies_around_the_unchanged_picture() -> None:
    pixels = decoded(KINDS["grey PNG"], size=(52, 68), channels=1, margin=2, background=9)[0]
    np.testing.assert_array_equal(pixels[2:-2, 2:-2], np.asarray(patches("L"))[..., None])
    assert (pixels[:2] == 9).all()
    assert (pixels[:, -2:] == 9).all()


def test_impossible_options_are_refused() -> None:
    with pytest.raises(UserError, match="margin 5 leaves nothing of size 10x10"):
        ImagePreprocessor(size=10, margin=5)
    with pytest.raises(UserError, match="from 0 to 255, not 300"):
        ImagePreprocessor(background=300)


@pytest.mark.parametrize("channels", [1, 3])
def test_empty_batch_has_an_empty_answer(channels: int) -> None:
    assert decoded(channels=channels).shape == (0, *SIDES, channels)


@pytest.mark.parametrize("channels", [1, 3])
def test_rows_that_are_no_pictures_are_named(channels: int) -> None:
    rows = [KINDS["GIF"], b"", b"GARBAGE" * 9]
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"image\[1\] is no JPEG, PNG, GIF or BMP picture"
    ):
        decoded(*rows, channels=channels)


def test_truncated_picture_is_an_invalid_argument() -> None:
    with pytest.raises(tf.errors.InvalidArgumentError):
        decoded(KINDS["colour JPEG"][:-400])


def test_an_answer_does_not_depend_on_the_other_rows() -> None:
    for channels in (1, 3):
        together = decoded(*KINDS.values(), size=(20, 31), channels=channels)
        for row, picture in enumerate(KINDS.values()):
            alone = decoded(picture, size=(20, 31), channels=channels)
            np.testing.assert_array_equal(alone[0], together[row])


def fitted(**options) -> tuple[ImagePreprocessor, tf.data.Dataset]:
    rows = list(KINDS.values())
    labels = [str(number % 12) for number in range(len(rows))]
    dataset = tf.data.Dataset.from_tensor_slices({"image": rows, "label": labels}).batch(5)
    preprocessor = ImagePreprocessor(size=20, **options)
    preprocessor.fit(dataset)
    return preprocessor, dataset


@pytest.mark.parametrize("channels", [1, 3])
def test_eager_tf_data_and_export_agree_bit_for_bit(channels: int, tmp_path) -> None:
    preprocessor, dataset = fitted(channels=channels)

    def inputs(image):
        return preprocessor.model_inputs(preprocessor.features({"image": image}))

    everything = tf.constant(list(KINDS.values()))
    eager = inputs(everything)["image"].numpy()
    piped = list(dataset.map(lambda batch: inputs(batch["image"])["image"]).as_numpy_iterator())
    np.testing.assert_array_equal(np.concatenate(piped), eager)

    module = tf.Module()
    module.inputs = tf.function(inputs, [preprocessor.signature["image"]])
    tf.saved_model.save(module, str(tmp_path / "export"))
    exported = tf.saved_model.load(str(tmp_path / "export")).inputs(everything)["image"]
    np.testing.assert_array_equal(exported, eager)


def test_fit_learns_labels_and_exact_moments() -> None:
    preprocessor, dataset = fitted(channels=3)
    assert preprocessor.labels == [str(number) for number in range(12)]
    assert preprocessor.model_arguments() == {"input_shape": (20, 20, 3), "num_classes": 12}
    pixels = np.concatenate([preprocessor.features(batch)["image"] for batch in dataset])
    np.testing.assert_allclose(preprocessor.mean, pixels.mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(preprocessor.variance, pixels.var(axis=(0, 1, 2)), rtol=1e-9)
    covariance = np.cov(pixels.reshape(-1, 3), rowvar=False, bias=True)
    np.testing.assert_allclose(preprocessor.covariance, covariance, rtol=1e-9)
    scaled = preprocessor.model_inputs({"image": tf.constant(pixels)})["image"].numpy()
    np.testing.assert_allclose(scaled.mean(axis=(0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(scaled.std(axis=(0, 1, 2)), 1, atol=1e-5)


@pytest.mark.parametrize(("scaling", "mode"), [("bytes", None), ("tf", "tf"), ("caffe", "caffe")])
def test_scaling_of_published_weights_is_that_of_keras_applications(scaling: str, mode) -> None:
    preprocessor = ImagePreprocessor(size=SIDES, scaling=scaling)
    pixels = np.random.default_rng(0).integers(0, 256, (2, *SIDES, 3), dtype=np.uint8)
    expected = pixels.astype("float32")
    if mode:
        expected = imagenet_utils.preprocess_input(expected, mode=mode)
    scaled = preprocessor.model_inputs({"image": tf.constant(pixels)})["image"]
    np.testing.assert_allclose(scaled, expected, rtol=1e-6, atol=1e-5)


def test_grey_pictures_have_no_caffe_scaling() -> None:
    with pytest.raises(UserError, match="scaling caffe is of colours"):
        ImagePreprocessor(channels=1, scaling="caffe")


def test_fit_counts_the_examples_of_each_label() -> None:
    preprocessor, dataset = fitted(channels=3)
    assert preprocessor.counts == [1] * 12
    preprocessor.fit(dataset.concatenate(dataset.take(1)))
    assert preprocessor.counts == [2] * 5 + [1] * 7


def test_what_was_learned_is_saved_and_restored(tmp_path) -> None:
    preprocessor, _ = fitted(channels=3)
    preprocessor.save(tmp_path)
    restored = ImagePreprocessor(size=20, channels=3)
    restored.restore(tmp_path)
    assert restored.labels == preprocessor.labels
    assert restored.counts == preprocessor.counts
    np.testing.assert_array_equal(restored.mean, preprocessor.mean)
    np.testing.assert_array_equal(restored.covariance, preprocessor.covariance)


def test_targets_are_indices_that_answer_turns_back_into_labels() -> None:
    preprocessor, _ = fitted(channels=1)
    target = preprocessor.target({"label": tf.constant(["10", "2"])})
    np.testing.assert_array_equal(target, [10, 2])
    response = {"indices": tf.constant([[10, 2]]), "probabilities": tf.constant([[0.9, 0.1]])}
    assert preprocessor.answer(response, {})["labels"].numpy().tolist() == [[b"10", b"2"]]
    with pytest.raises(tf.errors.InvalidArgumentError, match="label 'dog' occurs in no training"):
        preprocessor.target({"label": tf.constant(["2", "dog"])})


def test_labels_are_sorted_as_numbers_if_all_are_numbers() -> None:
    assert sort_labels(["10", "9", "1"]) == ["1", "9", "10"]
    assert sort_labels(["b", "10", "9"]) == ["10", "9", "b"]


@pytest.mark.parametrize(("largest", "warned"), [(1, True), (2, False)])
def test_pictures_written_from_0_to_1_are_warned_of(largest: int, warned: bool, caplog) -> None:
    pixels = np.random.default_rng(0).integers(0, largest + 1, (2, *SIDES, 3), dtype=np.uint8)
    rows = {
        "image": [encoded(Image.fromarray(picture), "PNG") for picture in pixels],
        "label": ["a", "b"],
    }
    ImagePreprocessor(size=SIDES).fit(tf.data.Dataset.from_tensor_slices(rows).batch(2))
    assert ("no pixel of the training pictures is above 1" in caplog.text) == warned
