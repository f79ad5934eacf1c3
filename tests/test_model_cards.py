"""Model cards: every architecture is listed, costs what its paper says, and can be drawn."""

from __future__ import annotations

from xml.etree import ElementTree

import keras
import pytest
from keras import layers

from models.cards.catalogue import card, families
from models.cards.cost import multiply_adds
from models.lenet import lenet5
from tests.conftest import run_python

# In millions, as the papers state them: ResNet, table 1; MobileNet, table 8; MobileNetV2, table 4;
# MobileNetV3, table 3; EfficientNet, table 2; GoogLeNet, section 5 (without auxiliary classifiers).
PUBLISHED = {
    "resnet18": 1_800,
    "resnet34": 3_600,
    "resnet50": 3_800,
    "resnet101": 7_600,
    "resnet152": 11_300,
    "mobilenet": 569,
    "mobilenet_v2": 300,
    "mobilenet_v3_small": 56,
    "mobilenet_v3_large": 219,
    "efficientnet_b0": 390,
    "efficientnet_b3": 1_800,
    "efficientnet_b7": 37_000,
    "googlenet": 1_500,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_cost_is_that_of_the_paper(name: str) -> None:
    family = next(family for family in families() if name in family.builders)
    millions = card(family, name).multiply_adds / 1e6
    assert millions == pytest.approx(PUBLISHED[name], rel=0.07)


def test_cost_of_lenet5_is_the_papers_connections() -> None:
    # Of C1, C3, C5 and F6 (section II.B), less one bias for each of their units.
    connections = 122_304 + 151_600 + 48_120 + 10_164 - (28**2 * 6 + 10**2 * 16 + 120 + 84)
    coefficients, codes = 14**2 * 6 + 5**2 * 16, 84 * 10
    assert multiply_adds(lenet5()) == connections + coefficients + codes


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (layers.Conv2D(5, 3, padding="same"), (8, 6, 2), 8 * 6 * 5 * 9 * 2),
        (layers.Conv2D(4, 3, strides=2), (9, 9, 2), 4 * 4 * 4 * 9 * 2),
        (layers.Conv2D(4, 3, padding="same", groups=2), (8, 8, 2), 8 * 8 * 4 * 9),
        (layers.Conv1D(4, 3, padding="same"), (7, 2), 7 * 4 * 3 * 2),
        (layers.DepthwiseConv2D(3, padding="same"), (8, 8, 2), 8 * 8 * 2 * 9),
        (layers.Conv2DTranspose(3, 2, strides=2), (4, 4, 5), 4 * 4 * 5 * 4 * 3),
        (layers.Dense(7), (5, 3), 5 * 3 * 7),
        (layers.BatchNormalization(), (4, 4, 2), 0),
        (layers.GRU(3), (4, 2), None),
        (layers.Conv2D(5, 3), (None, 6, 2), None),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_cost_of_a_layer(layer, shape, expected) -> None:
    x = keras.Input(shape)
    assert multiply_adds(keras.Model(x, layer(x))) == expected


def test_command_lists_every_architecture_with_its_numbers() -> None:
    result = run_python("-m", "models")
    assert result.returncode == 0, result.stderr
    assert not result.stderr
    rows = {line.split()[0]: line for line in result.stdout.splitlines() if line.startswith("  ")}
    for family in families():
        assert f"{family.name}: {family.title}" in result.stdout
        assert set(family.builders) <= set(rows)
    assert "25,636,712 parameters" in rows["resnet50"]
    assert "7.72 G FLOPs" in rows["resnet50"]
    assert "imagenet" in rows["resnet50"]
    assert "minus 103.939, 116.779, 123.68" in rows["resnet50"]
    assert "-1 to 1" in rows["mobilenet_v2"]
    assert "red, green, blue: 0 to 255" in rows["efficientnet_b0"]


def test_command_prints_one_with_its_layers_and_draws_them(tmp_path) -> None:
    drawing = tmp_path / "googlenet.svg"
    result = run_python("-m", "models", "googlenet", "--plot", drawing)
    assert result.returncode == 0, result.stderr
    assert "paper: https://arxiv.org/abs/1409.4842" in result.stdout
    assert "inception_3a_5x5" in result.stdout
    root = ElementTree.parse(drawing).getroot()
    space = "{http://www.w3.org/2000/svg}"
    texts = [element.text for element in root.iter(f"{space}text")]
    assert len(list(root.iter(f"{space}rect"))) == 1 + len(texts) // 2
    assert {"image", "inception_3a_5x5", "logits"} <= set(texts)
    # Four branches meet at each of nine modules; whatever else there is follows one other layer.
    assert len(list(root.iter(f"{space}line"))) == len(texts) // 2 - 1 + 9 * 3


def test_command_refuses_an_unknown_architecture() -> None:
    result = run_python("-m", "models", "resnet51")
    assert result.returncode == 2
    assert result.stderr.startswith("error: unknown architecture 'resnet51'; there is: resnet5")
    assert result.stderr.count("\n") == 1
