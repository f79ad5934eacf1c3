"""Activations on the disk: the network's own, computed once, and never another network's."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from models.convolutional import convolutional_network
from pipelines.engine.activations import activations


@pytest.fixture(autouse=True)
def folder(own_cache):
    """Where activations are kept."""
    return own_cache / "keras-application-zoo" / "activations"


def network() -> keras.Model:
    """A small network with weights of its own."""
    keras.utils.set_random_seed(0)
    return convolutional_network((8, 8, 1), 3)


def pictures(count: int = 10) -> np.ndarray:
    return np.random.default_rng(0).random((count, 8, 8, 1), np.float32)


def batches(images: np.ndarray, size: int = 4) -> list[dict[str, np.ndarray]]:
    return [{"image": images[at : at + size]} for at in range(0, len(images), size)]


def test_they_are_computed_once_and_then_read(folder, capsys) -> None:
    images = pictures()
    first = activations(network(), batches(images))
    assert "10 examples computed once" in capsys.readouterr().out
    np.testing.assert_allclose(first, network()({"image": images}, training=False), rtol=1e-5)
    # Neither the names of its layers nor the size of the batches make a network another one.
    again = activations(network(), batches(images, size=3))
    assert "10 examples read from" in capsys.readouterr().out
    np.testing.assert_array_equal(first, again)
    assert [file.suffix for file in folder.iterdir()] == [".npy"]


def test_other_weights_inputs_or_wiring_have_other_activations(folder) -> None:
    images = pictures()
    other_weights, other_images = network(), images.copy()
    other_weights.weights[-1].assign_add([1e-3, 0, 0])
    other_images[-1, 0, 0] += 1e-3
    whole = network()
    headless = keras.Model(whole.input, whole.layers[-2].output)
    for model, inputs in (
        (network(), images),
        (other_weights, images),
        (network(), other_images),
        (network(), images[:9]),
        (headless, images),
    ):
        kept = activations(model, batches(inputs))
        np.testing.assert_allclose(kept, model({"image": inputs}, training=False), rtol=1e-5)
    assert len(list(folder.iterdir())) == 5


def test_a_damaged_file_is_computed_again(folder, capsys) -> None:
    whole = np.array(activations(network(), batches(pictures())))
    (file,) = folder.iterdir()
    file.write_bytes(file.read_bytes()[:-5])
    capsys.readouterr()
    np.testing.assert_array_equal(activations(network(), batches(pictures())), whole)
    assert "computed once" in capsys.readouterr().out
