"""Multi-task tagging: which of several things is in a picture, each a task of its own.

R. Caruana, "Multitask Learning", 1997, https://doi.org/10.1023/A:1007379606734: tasks that share
their hidden layers teach one another what to look for (figure 2), each alone does not (figure 1).

Input ``image`` [batch, height, width, channels]; output [batch, tags] float32 logits, each of the
probability that its tag is there, whatever the others are.

Deviations: the paper's networks have one hidden layer; here the shared layers, or those of each
separate network, are any image classifier of the zoo but for its last layer. It states no number of
parameters.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers
from keras.config import floatx

from models.layers.classifiers import classifier_builder


def shared_trunk(
    input_shape: tuple[int, int, int] = (64, 64, 3),
    num_tags: int = 4,
    *,
    backbone: str = "convolutional_network",
    backbone_options: dict[str, Any] | None = None,
    weights: str | None = None,
) -> keras.Model:
    """One network for all tags, which differ in the last layer alone.

    Args:
        input_shape: height, width and channels of a picture.
        num_tags: the number of tags.
        backbone: the image classifier of the zoo whose classes are the tags.
        backbone_options: further arguments of its builder.
        weights: of the backbone: path of an official file, or imagenet to download it.
    """
    options = {**(backbone_options or {}), **({} if weights is None else {"weights": weights})}
    return classifier_builder(backbone)(
        input_shape=tuple(input_shape), num_classes=num_tags, **options
    )


def separate_networks(
    input_shape: tuple[int, int, int] = (64, 64, 3),
    num_tags: int = 4,
    *,
    backbone: str = "convolutional_network",
    backbone_options: dict[str, Any] | None = None,
) -> keras.Model:
    """A network for each tag that knows nothing of the others: what sharing is measured against.

    Args:
        input_shape: height, width and channels of a picture.
        num_tags: the number of tags.
        backbone: the image classifier of the zoo, with one output, that each of them is.
        backbone_options: further arguments of its builder.
    """
    image = keras.Input(tuple(input_shape), name="image")
    logits = []
    for number in range(num_tags):
        network = shared_trunk(input_shape, 1, backbone=backbone, backbone_options=backbone_options)
        network.name = f"network_{number}"
        logits.append(network({"image": image}))
    outputs = layers.Concatenate(dtype=floatx(), name="logits")(logits)
    return keras.Model({"image": image}, outputs, name="separate_networks")
