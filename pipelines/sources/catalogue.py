"""Labelled pictures of the TensorFlow Datasets catalogue, https://www.tensorflow.org/datasets."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from pipelines.engine.application import UserError, choose
from pipelines.engine.lazy import tensorflow as tf
from pipelines.sources.labelled_pictures import LabelledPictures
from pipelines.sources.splits import HELD_OUT, NAMES, SPLITS

if TYPE_CHECKING:
    import tensorflow_datasets as tfds


class Catalogue(LabelledPictures):
    """A data set of the catalogue by name, as encoded pictures and names of classes.

    A validation or test split that the data set lacks is cut off its training split, whose order
    was mixed when it was prepared.

    Args:
        dataset_name: the data set's name, with its configuration if it has several, as in
            ``imagenette/160px-v2``.
        image: the feature that holds the picture.
        label: the feature that holds the class.
        data_dir: where prepared data sets are kept; by default where the catalogue keeps them.
        download: whether a data set that is not there may be downloaded and prepared.
        subset: options of ``LabelledPictures``.
    """

    place = "catalogue"
    licence = "each data set's own, see its page in the catalogue"
    citation = "TensorFlow Datasets, a collection of ready-to-use datasets; and the data set's own"

    def __init__(
        self,
        *,
        dataset_name: str = "mnist",
        image: str = "image",
        label: str = "label",
        data_dir: str | None = None,
        download: bool = False,
        **subset: Any,
    ):
        super().__init__(**subset)
        self.dataset_name = dataset_name
        self.image = image
        self.label = label
        self.data_dir = data_dir
        self.download = download

    def all_examples(self, split: str) -> tf.data.Dataset:
        builder = prepared(self.dataset_name, self.data_dir, self.download)
        features = builder.info.features
        choose(f"feature of {self.dataset_name}", self.label, features)
        to_name = _namer(features[self.label])

        def example(row: dict) -> dict:
            label = to_name(row[self.label])
            return {"id": row["tfds_id"], "image": row[self.image], "label": label}

        rows = read_rows(builder, split, self.image)
        return rows.map(example, num_parallel_calls=tf.data.AUTOTUNE)


def prepared(name: str, data_dir: str | None, download: bool) -> tfds.core.DatasetBuilder:
    """The data set ``name`` of the catalogue, on this machine.

    Args:
        name: with its configuration if it has several.
        data_dir: where prepared data sets are kept; none: where the catalogue keeps them.
        download: whether one that is not there may be downloaded and prepared.

    Raises:
        UserError: where there is no such data set, or it is not there.
    """
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:
        known = tfds.list_builders(with_community_datasets=False)
        near = difflib.get_close_matches(name, known, n=5, cutoff=0.0)
        raise UserError(
            f"the catalogue has no data set {name!r}; nearest: {', '.join(near)}"
        ) from error
    if builder.is_prepared():
        return builder
    if not download:
        raise UserError(
            f"{name} is not in {builder.data_path}; --download fetches it, or "
            "--data_dir says where it is"
        )
    try:
        builder.download_and_prepare()
    except OSError as error:
        raise UserError(f"{name} could not be downloaded: {error}") from error
    return builder


def read_rows(builder: tfds.core.DatasetBuilder, split: str, image: str) -> tf.data.Dataset:
    """All features of the examples of ``split``, the picture as the bytes of a file, and
    ``tfds_id``, a stable name.

    Raises:
        UserError: where there is no feature ``image``, or no training split.
    """
    import tensorflow_datasets as tfds

    choose(f"feature of {builder.name}", image, builder.info.features)
    encoded = isinstance(builder.info.features[image], tfds.features.Image)
    rows = builder.as_dataset(
        split=_slices(builder.name, builder.info.splits)[split],
        decoders={image: tfds.decode.SkipDecoding()} if encoded else None,
        read_config=tfds.ReadConfig(add_tfds_id=True, try_autocache=False),
        shuffle_files=False,
    )
    if encoded:
        return rows
    return rows.map(
        lambda row: row | {image: tf.io.encode_png(row[image])},
        num_parallel_calls=tf.data.AUTOTUNE,
    )


def _namer(feature: tfds.features.FeatureConnector):
    """The function from a stored label to its name."""
    if names := getattr(feature, "names", None):
        return lambda label: tf.gather(tf.constant(names), label)
    return lambda label: label if label.dtype == tf.string else tf.strings.as_string(label)


def _slices(dataset_name: str, available: tfds.core.splits.SplitDict) -> dict[str, str]:
    """The catalogue's expression for each split."""
    official = {NAMES[name]: name for name in available if name in NAMES}
    if "train" not in official:
        raise UserError(f"{dataset_name} has no training split, only {', '.join(available)}")
    missing = [split for split in SPLITS if split not in official]
    train, share = official["train"], round(100 * HELD_OUT)
    end = 100 - share * len(missing)
    slices = {**official, "train": f"{train}[:{end}%]"}
    for split in missing:
        slices[split] = f"{train}[{end}%:{end + share}%]"
        end += share
    return slices
