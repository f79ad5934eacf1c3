"""The contract that every builder keeps: one row of the table for each public function."""

from __future__ import annotations

import dataclasses
import importlib
import math
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from models.cards.catalogue import families
from models.layers.shapes_alone import shapes_alone
from tests.conftest import run_python


@dataclasses.dataclass(frozen=True)
class Row:
    """A builder with keywords that make it tiny, and what is published about it.

    Args:
        builder: ``module.function`` in ``models/``.
        tiny: keywords of a small model.
        parameters: trainable parameters with the ``published`` keywords.
        published: keywords of the paper's model where they are not the defaults.
        inputs: shape and number of values of each input of the tiny model, where the model does
            not tell them itself: whole numbers below that, or floats where it is none.
        slow: whether even the tiny model takes long; another of its family does not.
    """

    builder: str
    tiny: dict[str, Any]
    parameters: int
    published: dict[str, Any] = dataclasses.field(default_factory=dict)
    inputs: dict[str, tuple[tuple[int, ...], int | None]] | None = None
    slow: bool = False

    def build(self, **keywords):
        module, name = self.builder.split(".")
        return getattr(importlib.import_module(f"models.{module}"), name)(**keywords)


SMALL_PICTURE = {"input_shape": (9, 12, 1), "num_classes": 3}
LENET_PICTURE = {"input_shape": (32, 36, 2), "num_classes": 3}
ALEXNET_PICTURE = {"input_shape": (67, 70, 2), "num_classes": 3}
INCEPTION_PICTURE = {"input_shape": (75, 77, 2), "num_classes": 3}
# A bias in front of a normalisation has no gradient.
BOTTLENECKS = LENET_PICTURE | {"bias": False}

ROWS = [
    Row("lenet.lenet5", LENET_PICTURE, 60_000),
    Row("lenet.lenet5_dense", LENET_PICTURE, 61_706),
    Row("alexnet.alexnet", ALEXNET_PICTURE, 60_965_224),
    Row("alexnet.alexnet", ALEXNET_PICTURE | {"towers": 1}, 62_378_344, {"towers": 1}, slow=True),
    Row("alexnet.alexnet_one_tower", ALEXNET_PICTURE, 61_100_840, slow=True),
    Row("vgg.vgg16", LENET_PICTURE, 138_357_544),
    Row("vgg.vgg19", LENET_PICTURE, 143_667_240, slow=True),
    Row("network_in_network.network_in_network", SMALL_PICTURE, 966_986),
    Row("inception.googlenet", LENET_PICTURE, 13_378_280),
    Row(
        "inception.googlenet",
        LENET_PICTURE | {"batch_normalization": True},
        13_004_888,
        {"batch_normalization": True},
    ),
    Row(
        "inception.googlenet",
        LENET_PICTURE | {"auxiliary_weight": 0.0},
        6_998_552,
        {"auxiliary_weight": 0.0},
        slow=True,
    ),
    Row(
        "inception.googlenet",
        LENET_PICTURE | {"auxiliary_weight": 0.0, "batch_normalization": True},
        6_624_904,
        {"auxiliary_weight": 0.0, "batch_normalization": True},
        slow=True,
    ),
    Row("inception.inception_v3", INCEPTION_PICTURE, 23_817_352, slow=True),
    Row("inception_resnet.inception_resnet_v2", INCEPTION_PICTURE, 55_813_192, slow=True),
    Row("resnet.resnet20", SMALL_PICTURE, 269_722),
    Row("resnet.resnet20", SMALL_PICTURE | {"shortcuts": "B"}, 272_474, {"shortcuts": "B"}),
    Row("resnet.resnet20", SMALL_PICTURE | {"shortcuts": "none"}, 269_722, {"shortcuts": "none"}),
    Row("resnet.resnet32", SMALL_PICTURE, 464_154, slow=True),
    Row("resnet.resnet44", SMALL_PICTURE, 658_586, slow=True),
    Row("resnet.resnet56", SMALL_PICTURE, 853_018, slow=True),
    Row("resnet.resnet110", SMALL_PICTURE, 1_727_962, slow=True),
    Row("resnet.resnet18", LENET_PICTURE, 11_689_512),
    Row("resnet.resnet34", LENET_PICTURE | {"shortcuts": "A"}, 21_797_672, slow=True),
    Row("resnet.resnet50", BOTTLENECKS, 25_583_592),
    Row("resnet.resnet50", BOTTLENECKS | {"version": "1.5"}, 25_557_032, {"bias": False}),
    Row("resnet.resnet101", BOTTLENECKS, 44_601_832, slow=True),
    Row("resnet.resnet101", BOTTLENECKS, 44_549_160, {"bias": False}, slow=True),
    Row("resnet.resnet152", BOTTLENECKS, 60_268_520, slow=True),
    Row("resnet.resnet152", BOTTLENECKS, 60_192_808, {"bias": False}, slow=True),
    Row("mobilenet.mobilenet", LENET_PICTURE | {"width": 0.25}, 4_231_976),
    Row("mobilenet.mobilenet_v2", LENET_PICTURE | {"width": 0.5}, 3_504_872),
    Row("mobilenet.mobilenet_v3_small", LENET_PICTURE, 2_542_856),
    Row("mobilenet.mobilenet_v3_large", LENET_PICTURE, 5_483_032, slow=True),
    # Three channels: only then the network divides by their deviations once more.
    Row("efficientnet.efficientnet_b0", LENET_PICTURE | {"input_shape": (32, 36, 3)}, 5_288_548),
    Row("efficientnet.efficientnet_b1", LENET_PICTURE, 7_794_184, slow=True),
    Row("efficientnet.efficientnet_b2", LENET_PICTURE, 9_109_994, slow=True),
    Row("efficientnet.efficientnet_b3", LENET_PICTURE, 12_233_232, slow=True),
    Row("efficientnet.efficientnet_b4", LENET_PICTURE, 19_341_616, slow=True),
    Row("efficientnet.efficientnet_b5", LENET_PICTURE, 30_389_784, slow=True),
    Row("efficientnet.efficientnet_b6", LENET_PICTURE, 43_040_704, slow=True),
    Row("efficientnet.efficientnet_b7", LENET_PICTURE, 66_347_960, slow=True),
    Row("convolutional.convolutional_network", SMALL_PICTURE, 94_186),
    Row(
        "convolutional.convolutional_network",
        {"input_shape": (12, 2), "num_classes": 3, "input_name": "sound"},
        32_554,
        {"input_shape": (8_000, 1)},
    ),
    Row(
        "convolutional.convolutional_network",
        {"input_shape": (4, 6, 5, 2), "num_classes": 3, "input_name": "film"},
        279_082,
        {"input_shape": (16, 32, 32, 1)},
    ),
    Row(
        "encoder_decoder.bahdanau_attention",
        {
            "source_vocabulary_size": 20,
            "target_vocabulary_size": 17,
            "units": 5,
            "embedding_dim": 6,
        },
        5_938_864,  # the paper states none: by its equations, 64 units, 30,000 words
        inputs={"source": ((6,), 17), "target": ((5,), 17)},
    ),
    Row(
        "word2vec.skip_gram",
        {"vocabulary_size": 20, "embedding_dim": 4},
        2 * 10_000 * 100,
        inputs={"center": ((), 20), "candidates": ((3,), 20)},
    ),
]
# What writes sequences: the papers state no counts of what is built here but where it is said.
SMALL_TEXT = {"source_vocabulary_size": 20, "target_vocabulary_size": 17}
TEXTS = {"source": ((6,), 17), "target": ((5,), 17)}
SMALL_RECURRENT = SMALL_TEXT | {"units": 5, "embedding_dim": 6}
SMALL_TRANSFORMER = SMALL_TEXT | {
    "dim": 8,
    "hidden_dim": 6,
    "layers": 2,
    "heads": 2,
    "shared_embeddings": False,
}
ROWS += [
    Row(
        "encoder_decoder.sequence_to_sequence",
        SMALL_RECURRENT | {"depth": 2},
        2 * 30_000 * 64 + 2 * 4 * 256 * (64 + 256 + 1) + 30_000 * (256 + 1),
        inputs=TEXTS,
    ),
    Row(
        "encoder_decoder.rnn_encoder_decoder",
        SMALL_RECURRENT | {"cell": "peephole_lstm"},
        2 * 15_000 * 64
        + 3 * 256 * (64 + 256 + 2)
        + 3 * 256 * (64 + 256 + 256 + 2)
        + 2 * 256 * (64 + 256 + 256 + 1)
        + 15_000 * (256 + 1),
        inputs=TEXTS,
    ),
    # The paper says 65 million, of about 37,000 tokens.
    Row("transformer.transformer_base", SMALL_TRANSFORMER, 63_045_632, inputs=TEXTS),
    Row("transformer.transformer_small", SMALL_TRANSFORMER, 36_626_432, inputs=TEXTS),
    Row("transformer.transformer_tiny", SMALL_TRANSFORMER, 2_598_912, inputs=TEXTS),
]
# What captions pictures: neither paper states a count.
SMALL_PICTURE_TEXT = {"input_shape": (9, 12, 1), "vocabulary_size": 17}
SMALL_BACKBONE = {"backbone": "convolutional_network", "backbone_options": {"maps": (4, 6)}}
PICTURE_AND_TEXT = {"image": ((9, 12, 1), None), "target": ((5,), 17)}
ROWS += [
    Row(
        "captioning.show_and_tell",
        SMALL_PICTURE_TEXT | SMALL_BACKBONE | {"units": 5, "embedding_dim": 6, "depth": 2},
        5_973_552  # GoogLeNet up to its last hidden layer
        + 1024 * 512
        + 512
        + 4 * 512 * (512 + 512 + 1)
        + 10_000 * (512 + 512 + 1),
        inputs=PICTURE_AND_TEXT,
    ),
    Row(
        "captioning.show_attend_tell",
        SMALL_PICTURE_TEXT | SMALL_BACKBONE | {"units": 5, "embedding_dim": 6, "stride": 2},
        20_024_384  # VGG19's convolutions
        + 4 * 512 * (3 * 512 + 1)
        + 2 * 512 * (3 * 512 + 1)
        + 512 * (2 * 512 + 1)
        + 512
        + 1
        + 2 * 512 * (512 + 1)
        + 10_000 * (512 + 512 + 1),
        inputs=PICTURE_AND_TEXT,
    ),
    Row(
        "captioning.caption_transformer",
        SMALL_PICTURE_TEXT | SMALL_BACKBONE | {"dim": 8, "hidden_dim": 6, "layers": 2, "heads": 2},
        23_534_592  # ResNet-50's convolutions
        + 512 * (2048 + 1)
        + 6 * (8 * 512 * 512 + 2 * 512 * 2048 + 2048 + 512 + 6 * 512)
        + 2 * 512
        + 10_000 * 512,
        inputs=PICTURE_AND_TEXT,
    ),
]
# Fundamentals: a weight for each connection, and a bias for each unit.
SMALL_TABLE = {"num_features": 5}
SMALL_CLASSES = {"num_features": 5, "num_classes": 3}
ROWS += [
    Row("fully_connected.linear_regression", SMALL_TABLE, 13 + 1),
    Row("fully_connected.mlp", SMALL_TABLE | {"units": 7}, 128 * 14 + 128 * 129 + 129),
    Row("fully_connected.logistic_regression", SMALL_TABLE, 30 + 1),
    Row("fully_connected.softmax_regression", SMALL_CLASSES, 3 * (4 + 1)),
    Row("fully_connected.shallow_network", SMALL_CLASSES, 16 * 31 + 2 * 17),
    Row("fully_connected.deep_network", SMALL_CLASSES, 16 * 31 + 3 * 16 * 17 + 2 * 17),
    Row(
        "fully_connected.deep_network",
        SMALL_CLASSES | {"batch_normalization": "before", "dropout": 0.2},
        16 * 30 + 3 * 16 * 16 + 4 * 32 + 2 * 17,
        {"batch_normalization": "before"},
    ),
    Row(
        "fully_connected.shallow_network",
        SMALL_CLASSES | {"batch_normalization": "after", "activation": "leaky_relu"},
        16 * 31 + 32 + 2 * 17,
        {"batch_normalization": "after"},
    ),
]
# Tags on pictures: four logits on one network, and four networks of one logit each.
SMALL_TAGS = {"input_shape": (9, 12, 1), "num_tags": 3, "backbone_options": {"maps": (4, 6)}}
TRUNK = 9 * (3 * 32 + 32 * 64 + 64 * 128) + 2 * (32 + 64 + 128)
ROWS += [
    Row("tagging.shared_trunk", SMALL_TAGS, TRUNK + 4 * 129),
    Row("tagging.separate_networks", SMALL_TAGS, 4 * (TRUNK + 129)),
]


def identify(row: Row) -> str:
    return f"{row.builder}-{row.published}"


each_row = pytest.mark.parametrize("row", ROWS, ids=identify)
each_tiny_model = pytest.mark.parametrize(
    "row",
    [pytest.param(row, marks=[pytest.mark.slow] if row.slow else []) for row in ROWS],
    ids=identify,
)


def sample(row: Row, model: keras.Model, batch: int = 4) -> dict[str, np.ndarray]:
    """Random inputs of a tiny model, always the same."""
    random = np.random.default_rng(0)
    inputs = row.inputs or {tensor.name: (tensor.shape[1:], None) for tensor in model.inputs}
    return {
        name: random.normal(size=(batch, *shape)).astype("float32")
        if values is None
        else random.integers(1, values, (batch, *shape)).astype("int32")
        for name, (shape, values) in inputs.items()
    }


def test_every_builder_has_a_row() -> None:
    builders = {f"{family.name}.{name}" for family in families() for name in family.builders}
    assert builders == {row.builder for row in ROWS}


@each_row
def test_published_parameter_count(row: Row) -> None:
    with shapes_alone():
        weights = row.build(**row.published).trainable_weights
        assert sum(math.prod(weight.shape) for weight in weights) == row.parameters


@each_tiny_model
def test_outputs_are_finite_float32_of_the_batch(row: Row) -> None:
    model = row.build(**row.tiny)
    for output in keras.tree.flatten(model(sample(row, model))):
        assert keras.backend.standardize_dtype(output.dtype) == "float32"
        assert output.shape[0] == 4
        assert np.isfinite(output).all()


@each_tiny_model
def test_saved_model_reloads_and_answers_the_same(row: Row, tmp_path) -> None:
    model = row.build(**row.tiny)
    inputs = sample(row, model)
    answers = keras.tree.flatten(model(inputs))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")(inputs)
    for answer, expected in zip(keras.tree.flatten(again), answers, strict=True):
        np.testing.assert_array_equal(answer, expected)


@each_tiny_model
def test_every_weight_gets_a_gradient(row: Row) -> None:
    import tensorflow as tf

    keras.utils.set_random_seed(0)
    model = row.build(**row.tiny)
    inputs = sample(row, model)
    for weight in model.trainable_weights:  # a table of zeros hides the gradients of others
        weight.assign_add(0.01 * noise_like(weight))
    with tf.GradientTape() as tape:
        outputs = keras.tree.flatten(model(inputs, training=True))
        # Weighted by chance: the plain sum of a normalised map has no gradient.
        loss = sum(ops.sum(output * noise_like(output)) for output in outputs)
    gradients = tape.gradient(loss, [weight.value for weight in model.trainable_weights])
    for weight, gradient in zip(model.trainable_weights, gradients, strict=True):
        assert gradient is not None, weight.path
        values = tf.convert_to_tensor(gradient).numpy()
        assert np.isfinite(values).all(), weight.path
        assert values.any(), weight.path


def noise_like(output) -> np.ndarray:
    return np.random.default_rng(1).normal(size=output.shape).astype("float32")


JAX_PROGRAM = """
import sys
sys.modules["tensorflow"] = None
import jax, keras, numpy as np
from tests import test_builders
from keras import ops

row = next(row for row in test_builders.ROWS if row.builder == sys.argv[1])
model = row.build(**row.tiny)
inputs = test_builders.sample(row, model)

model(inputs)
for weight in model.trainable_weights:
    weight.assign(weight + 0.01 * test_builders.noise_like(weight))

def loss(trainable):
    outputs, _ = model.stateless_call(
        trainable, [v.value for v in model.non_trainable_variables], inputs, training=True
    )
    outputs = keras.tree.flatten(outputs)
    return sum(ops.sum(output * test_builders.noise_like(output)) for output in outputs)

gradients = jax.jit(jax.grad(loss))([v.value for v in model.trainable_variables])
for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
    assert np.isfinite(gradient).all() and np.any(gradient), variable.path
print("done")
"""


# The first row of each family is its smallest model.
FAMILIES = {row.builder.split(".")[0]: row.builder for row in reversed(ROWS)}


@pytest.mark.slow
@pytest.mark.parametrize("name", [*sorted(FAMILIES.values()), "mobilenet.mobilenet_v3_small"])
def test_a_builder_of_each_family_learns_on_jax_without_tensorflow(name: str) -> None:
    result = run_python("-c", JAX_PROGRAM, name, environment={"KERAS_BACKEND": "jax"})
    assert result.stdout == "done\n", result.stderr
