"""LeNet-5: the convolutional network that reads handwritten characters.

Paper: Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-Based Learning Applied to Document
Recognition", Proceedings of the IEEE 86(11), 1998, section II.B and appendix A,
http://yann.lecun.com/exdb/publis/pdf/lecun-98.pdf

Input [batch, height, width, channels], 32 pixels or more a side (a 28x28 digit lies in the middle
of the paper's 32x32); output [batch, classes] float32 logits.

``lenet5`` is the network of the paper, 60,000 trainable parameters. Deviations:

- The loss on its logits is softmax cross-entropy. That is the paper's equation 9 without the
  constant "rubbish" class (j → infinity).
- The output codes are drawn anew in the manner of the paper's figure 3, for the ten digits alone;
  any other number of classes gets random codes, which the paper permits.
- Weights start uniform within ±√(3 / inputs of a unit), which keeps the spread of the signals; with
  the paper's ±2.4 / inputs it falls sevenfold a layer, and training starts slowly. The coefficients
  of subsampling start at 0.3, the middle of the paper's range above zero.
- In pictures larger than 32x32 the maps of C5 have more than one pixel and F6 reads them all.

``lenet5_dense`` is what is commonly taught under the name: C3 reads all maps, subsampling is an
average without parameters, the output is a softmax layer; 61,706 parameters.
"""

from __future__ import annotations

import math

import keras
import numpy as np
from keras import layers, ops
from keras.config import floatx

SMALLEST_SIDE = 32

# Table I of the paper: the maps of S2 that each map of C3 reads.
C3_CONNECTIONS = (
    (0, 1, 2),
    (1, 2, 3),
    (2, 3, 4),
    (3, 4, 5),
    (0, 4, 5),
    (0, 1, 5),
    (0, 1, 2, 3),
    (1, 2, 3, 4),
    (2, 3, 4, 5),
    (0, 3, 4, 5),
    (0, 1, 4, 5),
    (0, 1, 2, 5),
    (0, 1, 3, 4),
    (1, 2, 4, 5),
    (0, 2, 3, 5),
    (0, 1, 2, 3, 4, 5),
)

# The ten digits on 7x12 pixels, side by side: the targets of the 84 units of F6.
DIGIT_BITMAPS = """
.#####.   ...##..   .#####.   .#####.   ....##.   #######   ..####.   #######   .#####.   .#####.
##...##   ..###..   ##...##   ##...##   ...###.   ##.....   .##....   .....##   ##...##   ##...##
##...##   .####..   .....##   .....##   ..####.   ##.....   ##.....   .....##   ##...##   ##...##
##...##   ...##..   .....##   .....##   .##.##.   ##.....   ##.....   ....##.   ##...##   ##...##
##...##   ...##..   ....##.   ....##.   ##..##.   ######.   ######.   ....##.   .#####.   ##...##
##...##   ...##..   ...##..   ..####.   ##..##.   ##...##   ##...##   ...##..   .#####.   .######
##...##   ...##..   ..##...   .....##   #######   .....##   ##...##   ...##..   ##...##   .....##
##...##   ...##..   .##....   .....##   ....##.   .....##   ##...##   ..##...   ##...##   .....##
##...##   ...##..   ##.....   .....##   ....##.   .....##   ##...##   ..##...   ##...##   .....##
##...##   ...##..   ##.....   ##...##   ....##.   ##...##   ##...##   .##....   ##...##   ....##.
.#####.   .######   #######   .#####.   ....##.   .#####.   .#####.   .##....   .#####.   .####..
.......   .......   .......   .......   .......   .......   .......   .......   .......   .......
"""


def output_codes(num_classes: int) -> np.ndarray:
    """The ±1 codes [num_classes, 84] that the output units compare F6 with.

    Stylised digits for ten classes; for any other number random codes, always the same ones.
    """
    if num_classes != 10:
        signs = np.random.default_rng(num_classes).integers(0, 2, (num_classes, 84))
        return (2 * signs - 1).astype("float32")
    rows = [line.split() for line in DIGIT_BITMAPS.split("\n") if line]
    digits = ["".join(column) for column in zip(*rows, strict=True)]
    return np.array([[1.0 if dot == "#" else -1.0 for dot in digit] for digit in digits], "float32")


@keras.saving.register_keras_serializable(package="zoo")
def scaled_tanh(x):
    """The squashing function 1.7159 tanh(2x/3), which takes ±1 to ±1 (appendix A)."""
    return 1.7159 * ops.tanh(2 / 3 * x)


@keras.saving.register_keras_serializable(package="zoo")
class TableConvolution(layers.Layer):
    """A valid 5x5 convolution in which each output map reads some of the input maps only.

    [batch, height, width, maps] → [batch, height - 4, width - 4, len(table)]. Only connections
    that exist have weights; they are gathered into a dense kernel, with zeros elsewhere.

    Args:
        table: for each output map the indices of the input maps that it reads.
        activation: the function applied to the output.
    """

    # What Keras's convolutions call it; so a place of the map knows which pixels it sees.
    kernel_size, strides, padding = (5, 5), (1, 1), "valid"

    def __init__(self, table, activation=None, **kwargs):
        super().__init__(**kwargs)
        self.table = tuple(tuple(maps) for maps in table)
        self.activation = keras.activations.get(activation)

    def build(self, input_shape):
        connections = [(i, o) for o, maps in enumerate(self.table) for i in maps]
        self.connection_of = np.full((input_shape[-1], len(self.table)), len(connections))
        self.connection_of[tuple(zip(*connections, strict=True))] = np.arange(len(connections))
        readers = np.repeat([len(maps) for maps in self.table], [len(maps) for maps in self.table])
        limits = np.sqrt(3 / (25 * readers)).astype("float32")

        def initial(shape, dtype=None):
            return keras.random.uniform(shape, -1, 1, dtype=dtype) * limits

        self.weight = self.add_weight(shape=(5, 5, len(connections)), initializer=initial)
        self.bias = self.add_weight(shape=(len(self.table),), initializer="zeros")

    def call(self, x):
        weight = ops.pad(self.weight, ((0, 0), (0, 0), (0, 1)))
        kernel = ops.take(weight, self.connection_of, axis=-1)
        return self.activation(ops.conv(x, kernel, padding="valid") + self.bias)

    def compute_output_shape(self, input_shape):
        batch, height, width, _ = input_shape
        return batch, height - 4, width - 4, len(self.table)

    @property
    def multiply_adds(self) -> int:
        height, width = self.output.shape[1:3]
        return height * width * math.prod(self.weight.shape)

    def get_config(self):
        activation = keras.activations.serialize(self.activation)
        return {**super().get_config(), "table": self.table, "activation": activation}


@keras.saving.register_keras_serializable(package="zoo")
class Subsampling(layers.Layer):
    """Halves the sides: the sum of 2x2 pixels times a trained coefficient plus a bias, by map."""

    pool_size, strides, padding = (2, 2), (2, 2), "valid"

    def __init__(self, activation=None, **kwargs):
        super().__init__(**kwargs)
        self.activation = keras.activations.get(activation)

    def build(self, input_shape):
        shape = (input_shape[-1],)
        self.coefficient = self.add_weight(
            shape=shape, initializer=keras.initializers.Constant(0.3)
        )
        self.bias = self.add_weight(shape=shape, initializer="zeros")

    def call(self, x):
        total = 4 * ops.average_pool(x, 2, strides=2)
        return self.activation(total * self.coefficient + self.bias)

    def compute_output_shape(self, input_shape):
        batch, height, width, maps = input_shape
        return batch, height // 2, width // 2, maps

    @property
    def multiply_adds(self) -> int:
        return math.prod(self.output.shape[1:])

    def get_config(self):
        activation = keras.activations.serialize(self.activation)
        return {**super().get_config(), "activation": activation}


@keras.saving.register_keras_serializable(package="zoo")
class RadialBasis(layers.Layer):
    """[batch, 84] → [batch, num_classes]: minus the squared distance to each class's fixed code."""

    def __init__(self, num_classes, **kwargs):
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.codes = output_codes(num_classes)

    def call(self, x):
        return -ops.sum(ops.square(x[:, None, :] - self.codes), axis=-1)

    def compute_output_shape(self, input_shape):
        return input_shape[0], self.num_classes

    @property
    def multiply_adds(self) -> int:
        return self.codes.size

    def get_config(self):
        return {**super().get_config(), "num_classes": self.num_classes}


def lenet5(input_shape: tuple[int, int, int] = (32, 32, 1), num_classes: int = 10) -> keras.Model:
    """LeNet-5 as published: trained subsampling, sparse C3, radial basis output.

    Args:
        input_shape: height, width and channels of a picture.
        num_classes: number of classes.
    """
    _check_size(input_shape)
    options = {"activation": scaled_tanh, "kernel_initializer": "lecun_uniform"}
    x = inputs = keras.Input(input_shape, name="image")
    x = layers.Conv2D(6, 5, name="c1", **options)(x)
    x = Subsampling(scaled_tanh, name="s2")(x)
    x = TableConvolution(C3_CONNECTIONS, scaled_tanh, name="c3")(x)
    x = Subsampling(scaled_tanh, name="s4")(x)
    x = layers.Conv2D(120, 5, name="c5", **options)(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(84, name="f6", **options)(x)
    outputs = RadialBasis(num_classes, dtype=floatx(), name="logits")(x)
    return keras.Model({"image": inputs}, outputs, name="lenet5")


def lenet5_dense(
    input_shape: tuple[int, int, int] = (32, 32, 1),
    num_classes: int = 10,
    *,
    activation: str = "tanh",
) -> keras.Model:
    """LeNet-5 as commonly taught: dense C3, average pooling, softmax output.

    Args:
        input_shape: height, width and channels of a picture.
        num_classes: number of classes.
        activation: the squashing function of every hidden layer.
    """
    _check_size(input_shape)
    x = inputs = keras.Input(input_shape, name="image")
    x = layers.Conv2D(6, 5, activation=activation, name="c1")(x)
    x = layers.AveragePooling2D(2, name="s2")(x)
    x = layers.Conv2D(16, 5, activation=activation, name="c3")(x)
    x = layers.AveragePooling2D(2, name="s4")(x)
    x = layers.Conv2D(120, 5, activation=activation, name="c5")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(84, activation=activation, name="f6")(x)
    outputs = layers.Dense(num_classes, dtype=floatx(), name="logits")(x)
    return keras.Model({"image": inputs}, outputs, name="lenet5_dense")


def _check_size(input_shape: tuple[int, int, int]) -> None:
    if min(input_shape[:2]) < SMALLEST_SIDE:
        raise ValueError(
            f"LeNet-5 needs pictures of {SMALLEST_SIDE}x{SMALLEST_SIDE} pixels or more, "
            f"received input_shape={tuple(input_shape)}"
        )
