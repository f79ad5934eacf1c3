"""Tagged pictures of the TensorFlow Datasets catalogue, https://www.tensorflow.org/datasets."""

from __future__ import annotations

from pipelines.engine.application import UserError, choose
from pipelines.engine.lazy import tensorflow as tf
from pipelines.sources.catalogue import prepared, read_rows
from pipelines.sources.source import Source


class CatalogueTags(Source):
    """One example a picture, with the tags that are and that are not on it.

    CelebA's are 40 attributes of the faces of celebrities (Z. Liu, P. Luo, X. Wang, X. Tang, 2015,
    Deep Learning Face Attributes in the Wild, https://arxiv.org/abs/1411.7766). None is missing.

    Args:
        dataset_name: the data set's name, with its configuration if it has several.
        image: the feature that holds the picture.
        tags: the feature that holds a truth value for each tag, by its name.
        data_dir: where prepared data sets are kept; by default where the catalogue keeps them.
        download: whether a data set that is not there may be downloaded and prepared.
    """

    place = "catalogue"
    licence = "each data set's own, see its page in the catalogue"
    citation = "TensorFlow Datasets, a collection of ready-to-use datasets; and the data set's own"

    def __init__(
        self,
        *,
        dataset_name: str = "celeb_a",
        image: str = "image",
        tags: str = "attributes",
        data_dir: str | None = None,
        download: bool = False,
    ):
        self.dataset_name = dataset_name
        self.image = image
        self.tags = tags
        self.data_dir = data_dir
        self.download = download

    @property
    def fields(self) -> dict[str, tf.TensorSpec]:
        return {n: tf.TensorSpec((), tf.string) for n in ("id", "image", "present", "absent")}

    def load(self, split: str) -> tf.data.Dataset:
        choose("split", split, self.splits)
        builder = prepared(self.dataset_name, self.data_dir, self.download)
        features = builder.info.features
        choose(f"feature of {self.dataset_name}", self.tags, features)
        try:
            names = list(features[self.tags].keys())
        except AttributeError:
            raise UserError(
                f"{self.tags} of {self.dataset_name} holds no truth value for each of several tags"
            ) from None

        def example(row: dict) -> dict:
            there = tf.cast(tf.stack([row[self.tags][name] for name in names]), tf.bool)

            def listed(chosen):
                return tf.strings.reduce_join(tf.boolean_mask(names, chosen), separator="\n")

            return {
                "id": row["tfds_id"],
                "image": row[self.image],
                "present": listed(there),
                "absent": listed(~there),
            }

        rows = read_rows(builder, split, self.image)
        return rows.map(example, num_parallel_calls=tf.data.AUTOTUNE)
