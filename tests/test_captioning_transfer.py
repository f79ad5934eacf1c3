"""Captioners on backbones that have learned elsewhere: cached, frozen, fine-tuned, published."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from models.captioning import caption_transformer, show_and_tell, show_attend_tell
from models.layers.reserved_tokens import BEGIN, END
from pipelines.engine.answers import open_run
from pipelines.engine.application import Recipe, UserError, load_application
from pipelines.engine.assembly import assemble
from pipelines.engine.cli import train_run
from pipelines.engine.configuration import Command, parse
from pipelines.engine.transfer import Cached, FineTuned, Frozen
from pipelines.tasks.captioning import Captioning
from tests.test_official_weights import randomise, write_legacy

pytestmark = pytest.mark.usefixtures("module_cache")

NAME = "image_captioning"
SMALL = {"backbone": "convolutional_network", "backbone_options": {"maps": (4, 6)}, "dropout": 0.0}
MODELS = {
    "show_and_tell": lambda: show_and_tell((12, 8, 3), 9, **SMALL, units=6, embedding_dim=5),
    "show_attend_tell": lambda: show_attend_tell((12, 8, 3), 9, **SMALL, units=6, stride=2),
    "caption_transformer": lambda: caption_transformer(
        (12, 8, 3), 9, **SMALL, dim=8, hidden_dim=12, layers=1, heads=2
    ),
}


@pytest.fixture(scope="module")
def batch():
    """Pictures that are far from what a fresh batch normalization expects, and captions."""
    draw = np.random.default_rng(0)
    image = draw.normal(2, 3, (4, 12, 8, 3)).astype("float32")
    target = draw.integers(4, 9, (4, 5)).astype("int32")
    target[:, -1] = END
    return image, np.insert(target[:, :-1], 0, BEGIN, axis=1), target


def compiled(learner, recipe):
    """What the learner builds, to be fitted a step an epoch."""
    model = learner.build()
    rule = learner.optimizer(model, recipe, recipe.epochs)
    model.compile(rule, **Captioning().compile_arguments())
    rule.build(model.trainable_variables)
    return model


@pytest.mark.parametrize("name", ["show_and_tell", "caption_transformer"])
def test_cached_activations_teach_what_the_frozen_backbone_teaches(name, batch):
    image, given, target = batch
    recipe = Recipe(epochs=3, learning_rate=0.05)
    kept, losses = {}, {}
    for way in (Cached, Frozen):
        learner = way().learner(MODELS[name], recipe)
        inputs = {"image": image}
        if learner.network:
            inputs = {"activations": learner.network().predict_on_batch(inputs)}
        model = compiled(learner, recipe)
        history = model.fit(inputs | {"target": given}, target, epochs=recipe.epochs, verbose=0)
        losses[way], kept[way] = history.history["loss"], learner.keep(model)
    assert losses[Cached][-1] < losses[Cached][0]
    np.testing.assert_allclose(losses[Cached], losses[Frozen], rtol=1e-4)
    for one, other in zip(*(model.get_weights() for model in kept.values()), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)
    keras.utils.set_random_seed(recipe.seed)
    fresh = MODELS[name]()
    for weights, stay in ((lambda m: m.backbone.get_weights(), True), (all_but_backbone, False)):
        pairs = zip(weights(fresh), weights(kept[Cached]), strict=True)
        assert {np.array_equal(*pair) for pair in pairs} == {stay}
    answers = [
        Captioning(maximum_length=5).respond(model, {"image": image})["tokens"]
        for model in kept.values()
    ]
    np.testing.assert_array_equal(*answers)


def all_but_backbone(model) -> list[np.ndarray]:
    own = {id(variable) for variable in model.backbone.variables}
    return [variable.numpy() for variable in model.trainable_variables if id(variable) not in own]


def test_finetuning_teaches_the_backbone_last_and_keeps_its_statistics(batch):
    image, given, target = batch
    recipe = Recipe(epochs=3, learning_rate=0.05)
    way = FineTuned(head_epochs=2, groups=1)
    learner = way.learner(MODELS["show_attend_tell"], recipe)
    model = compiled(learner, recipe)

    def after_one_more_epoch() -> list[np.ndarray]:
        model.fit({"image": image, "target": given}, target, verbose=0)
        return model.backbone.get_weights()

    first, second, third = (after_one_more_epoch() for _ in range(3))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)
    kept = learner.keep(model).backbone
    for weight, before, after in zip(kept.weights, second, third, strict=True):
        assert weight.trainable == (not np.array_equal(before, after)), weight.path
        np.testing.assert_array_equal(weight, after)


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """A file of weights as keras.applications publishes them, and the model that they are of."""
    model = keras.applications.MobileNet(weights=None, input_shape=(32, 32, 3), alpha=0.25)
    randomise(model)
    file = tmp_path_factory.mktemp("official") / "mobilenet.h5"
    write_legacy(model, file)
    return model, file


MOBILENET = {"backbone": "mobilenet", "backbone_options": {"width": 0.25}}


def test_published_weights_are_read_once_and_then_the_model_s_own(official, tmp_path):
    published, file = official
    model = show_attend_tell((32, 32, 3), 9, **MOBILENET, weights=str(file), units=4, stride=8)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert "weights" not in again.get_config()
    for name in ("conv1", "conv_pw_3"):
        expected = published.get_layer(name).get_weights()
        np.testing.assert_array_equal(again.backbone.get_layer(name).get_weights(), expected)
    with pytest.raises(ValueError, match="there is no weights file"):
        show_attend_tell((32, 32, 3), 9, **MOBILENET, weights=str(tmp_path / "no.h5"), stride=8)


def test_pixels_must_be_as_the_published_weights_expect_them():
    options = ["--model.backbone=mobilenet", "--model.weights=x.h5", "--transfer=cached"]
    with pytest.raises(UserError, match=r"of mobilenet need --preprocess\.scaling tf, not data"):
        parse(load_application(NAME), options)
    parse(load_application(NAME), [*options, "--preprocess.scaling=tf"])


def test_a_run_reads_cached_activations_of_a_published_backbone(official, tmp_path, capsys):
    published, file = official
    options = [
        *("--model.backbone=mobilenet", '--model.backbone_options={"width": 0.25}'),
        *("--preprocess.size=32", "--preprocess.scaling=tf", f"--model.weights={file}"),
        *("--transfer=cached", "--epochs=1", "--batch_size=8", "--model.layers=1"),
        *("--source.train_size=64", "--source.validation_size=16"),
    ]
    configuration, _ = parse(load_application(NAME), options)
    command = Command(smoke=True, run="official", runs_dir=str(tmp_path))
    run = train_run(assemble(configuration), command)
    assert capsys.readouterr().out.count("examples computed once") == 2
    model = open_run(run.path).model
    expected = published.get_layer("conv1").get_weights()
    np.testing.assert_array_equal(model.backbone.get_layer("conv1").get_weights(), expected)
