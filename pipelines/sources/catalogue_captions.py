"""Captioned pictures of the TensorFlow Datasets catalogue, https://www.tensorflow.org/datasets."""

from __future__ import annotations

from pipelines.engine.application import choose
from pipelines.engine.lazy import tensorflow as tf
from pipelines.sources.catalogue import prepared, read_rows
from pipelines.sources.source import Source


class CatalogueCaptions(Source):
    """One example a picture, with all its captions.

    COCO's come in the splits of A. Karpathy and L. Fei-Fei, 2015, Deep Visual-Semantic Alignments
    for Generating Image Descriptions; their "restval" is left out.

    Args:
        dataset_name: the data set's name, with its configuration if it has several.
        image: the feature that holds the picture.
        captions: the feature that holds the captions, texts or records with a ``text``.
        data_dir: where prepared data sets are kept; by default where the catalogue keeps them.
        download: whether a data set that is not there may be downloaded and prepared.
    """

    place = "catalogue"
    licence = "each data set's own, see its page in the catalogue"
    citation = "TensorFlow Datasets, a collection of ready-to-use datasets; and the data set's own"

    def __init__(
        self,
        *,
        dataset_name: str = "coco_captions",
        image: str = "image",
        captions: str = "captions",
        data_dir: str | None = None,
        download: bool = False,
    ):
        self.dataset_name = dataset_name
        self.image = image
        self.captions = captions
        self.data_dir = data_dir
        self.download = download

    @property
    def fields(self) -> dict[str, tf.TensorSpec]:
        names = ("id", "image", "captions", "group")
        return {name: tf.TensorSpec((), tf.string) for name in names}

    def load(self, split: str) -> tf.data.Dataset:
        choose("split", split, self.splits)
        builder = prepared(self.dataset_name, self.data_dir, self.download)
        choose(f"feature of {self.dataset_name}", self.captions, builder.info.features)

        def example(row: dict) -> dict:
            texts = row[self.captions]
            texts = texts["text"] if isinstance(texts, dict) else texts
            # A caption is a line, so that none may hold one.
            texts = tf.strings.strip(tf.strings.regex_replace(texts, r"\s+", " "))
            return {
                "id": row["tfds_id"],
                "image": row[self.image],
                "captions": tf.strings.reduce_join(texts, separator="\n"),
                "group": row["tfds_id"],
            }

        rows = read_rows(builder, split, self.image)
        return rows.map(example, num_parallel_calls=tf.data.AUTOTUNE)
