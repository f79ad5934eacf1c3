"""What fitting a tagger does to pictures: augmentation that leaves what is in them in them."""

from __future__ import annotations

from pipelines.arrange import image
from pipelines.arrange.captioning import Augment


def arrange(
    dataset,
    preprocessor,
    *,
    training: bool,
    seed: int,
    batch_size: int,
    augment: Augment = "none",
):
    """As in image classification, without what hides things or mixes pictures.

    Args:
        dataset: batches of uint8 ``image`` as dicts with ``features``, ``target``, ``epoch`` and
            ``index``.
        preprocessor: what it learned of the training pictures, and its ``background``.
        training: whether to do anything at all.
        seed: of the draws, beside epoch and index.
        batch_size: examples a batch.
        augment: as in image classification.
    """
    return image.arrange(
        dataset,
        preprocessor,
        training=training,
        seed=seed,
        batch_size=batch_size,
        augment=augment,
    )
