"""Inception: several sizes of convolution side by side, and the network learns which it needs.

Papers: C. Szegedy et al., "Going Deeper with Convolutions", 2014, https://arxiv.org/abs/1409.4842
(GoogLeNet, table 1 and section 5); S. Ioffe, C. Szegedy, "Batch Normalization", 2015,
https://arxiv.org/abs/1502.03167 (its variant with normalisation); C. Szegedy et al., "Rethinking
the Inception Architecture for Computer Vision", 2015, https://arxiv.org/abs/1512.00567 (Inception
v3, table 1 and figures 5 to 7).

Input [batch, height, width, channels], 32 pixels or more a side for GoogLeNet (the paper's
224x224x3) and 75 or more for Inception v3 (299x299x3); output [batch, classes] float32 logits.
``features``: the last map of each size, strides 2 to 32 (nominal in Inception v3, whose valid
convolutions lose some pixels).

Parameters: GoogLeNet 6,998,552, while it trains with its two auxiliary classifiers 13,378,280;
with batch normalisation 6,624,904 and 13,004,888 trainable ones. Inception v3 23,851,784
(23,817,352 trainable), 21,802,784 without its top.

Deviations: weights of GoogLeNet start as in He et al. 2015. On small pictures its auxiliary
classifiers pool what there is instead of 5x5 pixels. Inception v3 has no auxiliary classifier, like
the published weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import layers
from keras.config import floatx

from models.layers.features import stride_map
from models.layers.normalization import LocalResponseNormalization
from models.layers.official_weights import Published, initialised
from models.layers.picture import picture_input

SMALLEST_SIDE = {"GoogLeNet": 32, "Inception v3": 75}

# Table 1 of 2014, by module: maps of the 1x1 convolution; of the 3x3 and of the 1x1 before it;
# of the 5x5 and of the 1x1 before it; of the 1x1 after the pooling.
GOOGLENET = {
    "3a": (64, (96, 128), (16, 32), 32),
    "3b": (128, (128, 192), (32, 96), 64),
    "4a": (192, (96, 208), (16, 48), 64),
    "4b": (160, (112, 224), (24, 64), 64),
    "4c": (128, (128, 256), (24, 64), 64),
    "4d": (112, (144, 288), (32, 64), 64),
    "4e": (256, (160, 320), (32, 128), 128),
    "5a": (256, (160, 320), (32, 128), 128),
    "5b": (384, (192, 384), (48, 128), 128),
}
# The modules that are pooled, with the stride of their maps, and those that are classified.
POOLED_AT = {"3b": 8, "4e": 16}
CLASSIFIED = ("4a", "4d")

FOLDER = "https://storage.googleapis.com/tensorflow/keras-applications/inception_v3"
FILE = "inception_v3_weights_tf_dim_ordering_tf_kernels"
WEIGHTS = {
    "inception_v3": Published(
        f"{FOLDER}/{FILE}.h5",
        "9a0d58056eeedaa3f26cb7ebd46da564",
        f"{FOLDER}/{FILE}_notop.h5",
        "bcbd6486424b2319ff4ef7d526e38f63",
        convention="tf",
    )
}


@keras.saving.register_keras_serializable(package="zoo")
class GoogLeNet(keras.Model):
    """GoogLeNet with two auxiliary classifiers, which exist for training alone.

    Called for an answer it gives the main logits; called in training it gives the logits of all
    three, "main", "auxiliary_1" and "auxiliary_2", of which ``compute_loss`` adds up the losses.

    Args:
        input_shape: height, width and channels of a picture.
        num_classes: number of classes.
        auxiliary_weight: the weight of each auxiliary loss beside the main one.
        batch_normalization: the variant of 2015.
        dropout: share of the pooled values that a training step leaves out.
    """

    def __init__(
        self,
        input_shape,
        num_classes,
        auxiliary_weight,
        batch_normalization,
        dropout,
        name="googlenet",
        **kwargs,
    ):
        inputs, maps, main = _googlenet(input_shape, num_classes, batch_normalization, dropout)
        super().__init__({"image": inputs}, main, name=name, **kwargs)
        self.auxiliary_weight = auxiliary_weight
        self.arguments = {
            "input_shape": tuple(input_shape),
            "num_classes": num_classes,
            "auxiliary_weight": auxiliary_weight,
            "batch_normalization": batch_normalization,
            "dropout": dropout,
        }
        auxiliary = {
            f"auxiliary_{number}": _auxiliary(
                maps[module], num_classes, batch_normalization, f"auxiliary_{number}"
            )
            for number, module in enumerate(CLASSIFIED, 1)
        }
        self.in_training = keras.Model({"image": inputs}, {"main": main, **auxiliary})

    def call(self, inputs, training=None, mask=None):
        if training:
            return self.in_training(inputs, training=True)
        return super().call(inputs, training=False, mask=mask)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        if not isinstance(y_pred, dict):
            return super().compute_loss(x, y, y_pred, sample_weight, training)
        losses = {
            name: super(GoogLeNet, self).compute_loss(x, y, logits, sample_weight, training)
            for name, logits in y_pred.items()
        }
        return losses.pop("main") + self.auxiliary_weight * sum(losses.values())

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        main = y_pred["main"] if isinstance(y_pred, dict) else y_pred
        return super().compute_metrics(x, y, main, sample_weight)

    def get_config(self):
        return {**self.arguments, "name": self.name}


def googlenet(
    input_shape: tuple[int, int, int] = (224, 224, 3),
    num_classes: int = 1000,
    *,
    auxiliary_weight: float = 0.3,
    batch_normalization: bool = False,
    dropout: float = 0.4,
) -> keras.Model:
    """GoogLeNet, also known as Inception v1.

    Args:
        input_shape: height, width and channels of a picture.
        num_classes: number of classes.
        auxiliary_weight: weight of the loss of each of the two auxiliary classifiers, which help
            the lower layers to learn and take no part in answers; 0: without them.
        batch_normalization: normalise batches instead of neighbouring maps, and see 3x3 pixels
            instead of 5x5.
        dropout: share of the pooled values that a training step leaves out.
    """
    if auxiliary_weight:
        return GoogLeNet(input_shape, num_classes, auxiliary_weight, batch_normalization, dropout)
    inputs, _, main = _googlenet(input_shape, num_classes, batch_normalization, dropout)
    return keras.Model({"image": inputs}, main, name="googlenet")


def _googlenet(input_shape, num_classes: int, batch_normalization: bool, dropout: float):
    """The input, the maps of each module by its name, and the main logits (table 1 of 2014)."""

    def convolution(x, maps, size, name, stride=1):
        return _convolution(x, maps, size, name, batch_normalization, stride)

    def normalised(x, name):
        return x if batch_normalization else LocalResponseNormalization(name=name)(x)

    def pooled(x, stride, name):
        return layers.MaxPooling2D(3, 2, padding="same", name=name)(stride_map(x, stride))

    inputs = picture_input("GoogLeNet", input_shape, SMALLEST_SIDE["GoogLeNet"])
    x = pooled(convolution(inputs, 64, 7, "conv1", stride=2), 2, "pool1")
    x = convolution(normalised(x, "norm1"), 64, 1, "conv2_reduce")
    x = normalised(convolution(x, 192, 3, "conv2"), "norm2")
    x = pooled(x, 4, "pool2")
    maps = {}
    for module, (one, (before_three, three), (before_five, five), after_pool) in GOOGLENET.items():
        name = f"inception_{module}"
        pool = layers.MaxPooling2D(3, 1, padding="same", name=f"{name}_pool")(x)
        branches = [
            convolution(x, one, 1, f"{name}_1x1"),
            convolution(
                convolution(x, before_three, 1, f"{name}_3x3_reduce"), three, 3, f"{name}_3x3"
            ),
            convolution(
                convolution(x, before_five, 1, f"{name}_5x5_reduce"),
                five,
                3 if batch_normalization else 5,
                f"{name}_5x5",
            ),
            convolution(pool, after_pool, 1, f"{name}_pool_proj"),
        ]
        x = maps[module] = layers.Concatenate(name=name)(branches)
        if module in POOLED_AT:
            x = pooled(x, POOLED_AT[module], f"pool{module[0]}")
    x = layers.GlobalAveragePooling2D(name="pool5")(stride_map(x, 32))
    x = layers.Dropout(dropout, name="dropout")(x)
    return inputs, maps, layers.Dense(num_classes, dtype=floatx(), name="logits")(x)


def _auxiliary(x, num_classes: int, batch_normalization: bool, name: str):
    """The logits of an auxiliary classifier on the maps ``x`` (section 5 of 2014)."""
    size = tuple(min(5, side) for side in x.shape[1:3])
    x = layers.AveragePooling2D(size, 3, name=f"{name}_pool")(x)
    x = _convolution(x, 128, 1, f"{name}_conv", batch_normalization)
    x = layers.Flatten(name=f"{name}_flatten")(x)
    x = layers.Dense(1024, activation="relu", name=f"{name}_fc")(x)
    x = layers.Dropout(0.7, name=f"{name}_dropout")(x)
    return layers.Dense(num_classes, dtype=floatx(), name=f"{name}_logits")(x)


def _convolution(x, maps: int, size: int, name: str, batch_normalization: bool, stride: int = 1):
    """A convolution of GoogLeNet with its rectifier, in the variant of 2015 normalised before."""
    x = layers.Conv2D(
        maps,
        size,
        strides=stride,
        padding="same",
        use_bias=not batch_normalization,
        kernel_initializer="he_normal",
        name=name,
    )(x)
    if batch_normalization:
        x = layers.BatchNormalization(epsilon=1e-3, name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def normalised_convolution(
    x, maps: int, size: int | tuple[int, int], name: str, stride: int = 1, padding: str = "same"
):
    """A convolution of Inception v3 or later: normalised without a scale, then rectified."""
    x = layers.Conv2D(
        maps, size, strides=stride, padding=padding, use_bias=False, name=f"{name}_conv"
    )(x)
    x = layers.BatchNormalization(scale=False, name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def chain(x, name: str, *convolutions: tuple):
    """Convolutions one after another, (maps, size) each; with a "/2" behind, they halve the map."""
    for number, (maps, size, *halving) in enumerate(convolutions, 1):
        stride, padding = (2, "valid") if halving else (1, "same")
        x = normalised_convolution(x, maps, size, f"{name}_{number}", stride, padding)
    return x


def module(x, name: str, branches: Sequence[Sequence[tuple]], after_pool: int | None):
    """Chains side by side, and last a branch that pools; what they find is concatenated.

    The order of the branches is the order of the published weights.

    Args:
        x: maps.
        name: the module's name.
        branches: the convolutions of each chain, as for ``chain``.
        after_pool: the maps of the 1x1 convolution after an average; None: the largest value of
            every other 3x3 pixels instead, as in the modules that halve the map.
    """
    found = [chain(x, f"{name}_branch{n}", *branch) for n, branch in enumerate(branches, 1)]
    return layers.Concatenate(name=name)([*found, pool_branch(x, name, after_pool)])


def pool_branch(x, name: str, after_pool: int | None):
    """The branch of a module that pools; the arguments are those of ``module``."""
    if after_pool is None:
        return layers.MaxPooling2D(3, 2, name=f"{name}_pool")(x)
    x = layers.AveragePooling2D(3, 1, padding="same", name=f"{name}_average")(x)
    return normalised_convolution(x, after_pool, 1, f"{name}_pool")


def forked(x, name: str, before: Sequence[tuple], maps: int):
    """A chain that ends in a 1x3 and a 3x1 convolution side by side (figure 7 of 2015)."""
    x = chain(x, name, *before)
    ends = [
        normalised_convolution(x, maps, (1, 3), f"{name}_1x3"),
        normalised_convolution(x, maps, (3, 1), f"{name}_3x1"),
    ]
    return layers.Concatenate(name=name)(ends)


def stem(x):
    """From the picture to 192 maps an eighth of its size, in Inception v3 and Inception-ResNet."""
    x = normalised_convolution(x, 32, 3, "stem1", stride=2, padding="valid")
    x = normalised_convolution(x, 32, 3, "stem2", padding="valid")
    x = stride_map(normalised_convolution(x, 64, 3, "stem3"), 2)
    x = layers.MaxPooling2D(3, 2, name="stem3_pool")(x)
    x = normalised_convolution(x, 80, 1, "stem4", padding="valid")
    x = stride_map(normalised_convolution(x, 192, 3, "stem5", padding="valid"), 4)
    return layers.MaxPooling2D(3, 2, name="stem5_pool")(x)


def inception_v3(
    input_shape: tuple[int, int, int] = (299, 299, 3),
    num_classes: int = 1000,
    *,
    weights: str | None = None,
) -> keras.Model:
    """Inception v3.

    Args:
        input_shape: height, width and channels of a picture.
        num_classes: number of classes.
        weights: path of an official file, or imagenet to download it.
    """
    inputs = picture_input("Inception v3", input_shape, SMALLEST_SIDE["Inception v3"])
    x = stem(inputs)
    for number, after_pool in enumerate((32, 64, 64)):  # figure 5
        branches = [
            [(64, 1)],
            [(48, 1), (64, 5)],
            [(64, 1), (96, 3), (96, 3)],
        ]
        x = module(x, f"mixed{number}", branches, after_pool)
    x = stride_map(x, 8)
    x = module(x, "mixed3", [[(384, 3, "/2")], [(64, 1), (96, 3), (96, 3, "/2")]], None)
    for number, maps in enumerate((128, 160, 160, 192), 4):  # figure 6
        branches = [
            [(192, 1)],
            [(maps, 1), (maps, (1, 7)), (192, (7, 1))],
            [(maps, 1), (maps, (7, 1)), (maps, (1, 7)), (maps, (7, 1)), (192, (1, 7))],
        ]
        x = module(x, f"mixed{number}", branches, 192)
    x = stride_map(x, 16)
    branches = [
        [(192, 1), (320, 3, "/2")],
        [(192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3, "/2")],
    ]
    x = module(x, "mixed8", branches, None)
    for name in ("mixed9", "mixed10"):  # figure 7
        branches = [
            chain(x, f"{name}_branch1", (320, 1)),
            forked(x, f"{name}_branch2", [(384, 1)], 384),
            forked(x, f"{name}_branch3", [(448, 1), (384, 3)], 384),
            pool_branch(x, name, 192),
        ]
        x = layers.Concatenate(name=name)(branches)
    x = layers.GlobalAveragePooling2D(name="avg_pool")(stride_map(x, 32))
    outputs = layers.Dense(num_classes, dtype=floatx(), name="predictions")(x)
    model = keras.Model({"image": inputs}, outputs, name="inception_v3")
    return initialised(model, weights, WEIGHTS[model.name])
