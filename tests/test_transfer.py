"""Transfer: the parts of a classifier, the three ways to fit a head, and what the run keeps."""

from __future__ import annotations

import pathlib
import shutil
import signal

import keras
import numpy as np
import pytest

from models.efficientnet import efficientnet_b0
from models.inception import googlenet
from models.layers.backbone import InferenceMode, backbone_and_head
from models.lenet import lenet5
from models.mobilenet import mobilenet, mobilenet_v3_small
from models.network_in_network import network_in_network
from models.resnet import resnet20
from pipelines.engine.answers import open_run
from pipelines.engine.application import Recipe, UserError, load_application
from pipelines.engine.assembly import assemble
from pipelines.engine.cli import train_run
from pipelines.engine.configuration import Command, parse
from pipelines.engine.optimizer import GroupedOptimizer, optimizer
from pipelines.engine.run import Run
from tests.conftest import run_python, train
from tests.test_official_weights import randomise, write_legacy
from tests.test_training import start, wait_for_epochs

pytestmark = pytest.mark.usefixtures("module_cache")

IMAGES = "image_classification"
LOW, HIGH = "--source.classes=0,1,2,3,4", "--source.classes=5,6,7,8,9"
SMALL = ("--architecture=convolutional_network", "--model.maps=[8,16]", "--model.dropout=0")


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> pathlib.Path:
    """The folder of the runs, among them ``low``, which tells the digits 0 to 4 apart."""
    folder = tmp_path_factory.mktemp("runs")
    arguments = [*SMALL, LOW, "--epochs=4", "--augment=none"]
    configuration, _ = parse(load_application(IMAGES), arguments)
    train_run(assemble(configuration), Command(run="low", runs_dir=str(folder)))
    return folder


@pytest.fixture(scope="module")
def ways(runs) -> dict[str, Run]:
    """A run of each way, trained alike."""
    alike = ("--augment=none", "--epochs=5", "--monitor=loss")  # so that the last epoch is kept
    options = {"cached": (), "frozen": (), "finetune": ("--backbone.head_epochs=1",)}
    return {
        way: transferred(runs, way, f"--transfer={way}", *alike, *own)
        for way, own in options.items()
    }


def low(runs: pathlib.Path) -> str:
    return str(runs / IMAGES / "low")


def transferred(runs: pathlib.Path, name: str, *options: str, resume: bool = False) -> Run:
    """A run that tells the digits 5 to 9 apart, ten of each for training."""
    arguments = [f"--backbone={low(runs)}", HIGH, "--source.examples_per_class=10", *options]
    configuration, _ = parse(load_application(IMAGES), arguments)
    command = Command(run=name, runs_dir=str(runs), resume=resume)
    return train_run(assemble(configuration), command)


@pytest.mark.parametrize(
    ("model", "own"),
    [
        (lenet5, ["f6", "logits"]),
        (resnet20, ["predictions"]),
        (lambda: googlenet((32, 32, 3), 5), ["dropout", "logits"]),
        (lambda: network_in_network((32, 32, 3), 5), ["class_maps", "logits"]),
        (lambda: mobilenet_v3_small((32, 32, 3), 5), ["dropout", "logits", "predictions"]),
        (lambda: efficientnet_b0((32, 32, 3), 5), ["top_dropout", "predictions"]),
    ],
    ids=["lenet5", "resnet20", "googlenet", "network_in_network", "mobilenet_v3", "efficientnet"],
)
def test_head_on_backbone_is_the_classifier(model, own, tmp_path) -> None:
    whole = model()
    randomise(whole)
    shape = whole.input["image"].shape
    pictures = {"image": np.random.default_rng(0).random((2, *shape[1:]), np.float32)}
    expected = np.array(whole(pictures, training=False))
    backbone, head = backbone_and_head(whole)
    assert [layer.name for layer in head.layers] == ["activations", *own]
    answers = np.array(head({"activations": backbone(pictures, training=False)}))
    np.testing.assert_allclose(answers, expected, rtol=1e-4, atol=1e-4)
    whole.save(tmp_path / "whole.keras")
    again = keras.saving.load_model(tmp_path / "whole.keras", compile=False)
    np.testing.assert_allclose(again(pictures, training=False), expected, rtol=1e-4, atol=1e-4)


def test_layers_that_official_weights_left_new_are_no_backbone(tmp_path) -> None:
    official = keras.applications.MobileNetV3Small(
        weights=None, input_shape=(32, 32, 3), include_top=False
    )
    write_legacy(official, tmp_path / "headless.h5")
    model = mobilenet_v3_small((32, 32, 3), 5, weights=str(tmp_path / "headless.h5"))
    _, head = backbone_and_head(model)
    assert [layer.name for layer in head.layers if layer.weights] == ["conv_2", "logits"]


def test_a_backbone_in_inference_mode_keeps_its_statistics_and_can_be_trained() -> None:
    backbone, _ = backbone_and_head(resnet20((16, 16, 3), 3))
    pictures = {"image": np.random.default_rng(0).normal(3, 2, (4, 16, 16, 3)).astype("float32")}
    before = [np.array(value) for value in backbone.get_weights()]
    answer = InferenceMode(backbone)(pictures, training=True)
    np.testing.assert_array_equal(answer, backbone(pictures, training=False))
    for one, other in zip(before, backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(InferenceMode(backbone).trainable_variables) == len(backbone.trainable_variables)


def test_cached_and_frozen_agree(ways) -> None:
    cached, frozen = ways["cached"], ways["frozen"]
    for one, other in zip(cached.history, frozen.history, strict=True):
        for name in ("loss", "val_loss", "val_accuracy"):
            assert one[name] == pytest.approx(other[name], rel=1e-4)
    one, other = (open_run(run.path) for run in (cached, frozen))
    for mine, yours in zip(one.model.get_weights(), other.model.get_weights(), strict=True):
        np.testing.assert_allclose(mine, yours, rtol=1e-3, atol=1e-5)
    inputs = one.sample_inputs(count=40)["serving_default"]
    answers = [opened.functions()["serving_default"](**inputs) for opened in (one, other)]
    np.testing.assert_array_equal(*(answer["labels"] for answer in answers))
    assert set(answers[0]["labels"].numpy().ravel()) == {b"5", b"6", b"7", b"8", b"9"}


def test_activations_are_used_again_by_another_run(runs, ways, capsys) -> None:
    capsys.readouterr()
    transferred(runs, "again", "--transfer=cached", "--learning_rate=0.1", "--epochs=2")
    assert capsys.readouterr().out.count("examples read from") == 2


def test_every_way_leaves_the_whole_model_on_the_backbone_s_pixels(runs, ways) -> None:
    learned = open_run(low(runs))
    fresh = assemble(learned.run.configuration).builder(**learned.preprocessor.model_arguments())
    names = [layer.name for layer in fresh.layers]
    for way, run in ways.items():
        opened = open_run(run.path)
        assert [layer.name for layer in opened.model.layers] == names
        assert all(layer.trainable for layer in opened.model.layers)
        np.testing.assert_array_equal(opened.preprocessor.mean, learned.preprocessor.mean)
        assert opened.preprocessor.labels == ["5", "6", "7", "8", "9"]
        backbones = [backbone_and_head(model)[0] for model in (opened.model, learned.model)]
        for one, other in zip(*(backbone.weights for backbone in backbones), strict=True):
            stays = way != "finetune" or not one.trainable
            assert np.array_equal(one, other) == stays, (way, one.path)


@pytest.mark.slow
def test_finetuning_goes_on_after_a_stop_as_if_there_had_been_none(runs) -> None:
    stages = ("--backbone.head_epochs=1", "--backbone.groups=2", "--schedule=constant")
    finetune = ("--transfer=finetune", "--batch_size=16", *stages)
    whole = transferred(runs, "uninterrupted", *finetune, "--epochs=5")
    transferred(runs, "parts", *finetune, "--epochs=3")
    parts = transferred(runs, "parts", *finetune, "--epochs=5", resume=True)
    models = [open_run(run.path).model for run in (whole, parts)]
    for one, other in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_finetuning_killed_and_resumed_ends_with_the_same_bits(runs) -> None:
    arguments = [
        *("-m", f"pipelines.{IMAGES}", "--transfer=finetune", f"--backbone={low(runs)}", HIGH),
        *("--epochs=12", "--batch_size=16", "--augment=affine", f"--runs_dir={runs}"),
    ]
    assert run_python(*arguments, "--run=unkilled").returncode == 0
    killed = Run(runs / IMAGES / "killed")
    process = start(*arguments, "--run=killed")
    wait_for_epochs(killed, 4, process)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not killed.finished
    assert run_python(*arguments, "--run=killed", "--resume").returncode == 0
    models = [open_run(runs / IMAGES / name).model for name in ("unkilled", "killed")]
    for one, other in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("rule", ["sgd", "momentum", "rmsprop", "adam", "adamw"])
def test_groups_start_late_and_learn_slowly(rule: str) -> None:
    recipe = Recipe(optimizer=rule, learning_rate=0.1, weight_decay=0.01)

    def steps(*groups: dict, count: int) -> np.ndarray:
        """Two numbers, each a group or both in one optimizer, after some steps along a slope."""
        numbers = [keras.Variable(1.0), keras.Variable(1.0)]
        own = [optimizer(recipe, 10, **group) for group in groups]
        together = own[0]
        if len(own) == 2:
            together = GroupedOptimizer([(o, [n]) for o, n in zip(own, numbers, strict=True)])
        together.build(numbers)
        for _ in range(count):
            slopes = [keras.ops.convert_to_tensor(0.5), keras.ops.convert_to_tensor(0.5)]
            together.apply_gradients(zip(slopes, numbers, strict=True))
        return np.array([float(number) for number in numbers])

    np.testing.assert_array_equal(steps({}, {}, count=3), steps({}, count=3))
    late = {"share": 0.5, "first_step": 2}
    first, second = steps({}, late, count=2)
    assert second == 1 != first
    below = steps({}, late, count=3)[1]
    assert below < 1
    if rule in ("sgd", "momentum"):
        assert 1 - below == pytest.approx(0.5 * (1 - steps({}, count=1)[1]))


@pytest.mark.slow
def test_published_weights_are_a_backbone(tmp_path, command) -> None:
    official = keras.applications.MobileNet(weights=None, input_shape=(32, 32, 3), alpha=0.25)
    randomise(official)
    write_legacy(official, tmp_path / "official.h5")
    result = command(
        train(IMAGES),
        *("--architecture=mobilenet", "--model.width=0.25", "--preprocess.size=32"),
        *(f"--model.weights={tmp_path / 'official.h5'}", "--transfer=cached", "--smoke"),
        *(f"--runs_dir={tmp_path}", "--run=official"),
    )
    assert result.status == 0, result.err
    kept = open_run(tmp_path / IMAGES / "official").model
    expected = mobilenet((32, 32, 3), 10, width=0.25, weights=str(tmp_path / "official.h5"))
    for name in ("conv1", "conv_pw_13_bn"):
        for one, other in zip(
            *(model.get_layer(name).get_weights() for model in (kept, expected)), strict=True
        ):
            np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_a_head_is_trained_on_jax_without_tensorflow(runs, command, tmp_path) -> None:
    for way in ("cached", "finetune"):
        prepared = tmp_path / way
        options = ["--backbone", low(runs), "--transfer", way, HIGH, "--batch_size", "32"]
        assert command(train(IMAGES), *options, "--prepare", prepared).status == 0
        program = (
            "import runpy, sys\n"
            "sys.modules['tensorflow'] = sys.modules['tensorflow_text'] = None\n"
            f"sys.argv[1:] = ['--prepared', {str(prepared)!r}, '--run', 'jax-{way}',"
            f" '--epochs', '8', '--runs_dir', {str(runs)!r}]\n"
            f"runpy.run_module('pipelines.{IMAGES}', run_name='__main__')\n"
        )
        result = run_python("-c", program, environment={"KERAS_BACKEND": "jax"})
        assert result.returncode == 0, result.stderr
        run = Run(runs / IMAGES / f"jax-{way}")
        assert run.history[-1]["loss"] < run.history[0]["loss"]
        assert "image" in open_run(run.path).model.input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--transfer", "cached"], "--transfer cached needs a backbone: --backbone RUN"),
        (["--backbone", "RUN"], "--backbone needs --transfer; there is: cached, frozen, finetune"),
        (
            ["--backbone", "RUN", "--transfer", "cachd"],
            "unknown transfer 'cachd'; there is: cached",
        ),
        (["--backbone", "nowhere", "--transfer", "cached"], "cannot read nowhere/config.json"),
        (
            ["--backbone", "RUN", "--transfer", "cached", "--preprocess.size", "64"],
            "was trained with --preprocess.size 28, so its backbone does not fit "
            "--preprocess.size 64",
        ),
        (
            ["--backbone", "RUN", "--transfer", "cached", "--preprocess.channels", "3"],
            "was trained with --preprocess.channels 1",
        ),
        (
            ["--backbone", "RUN", "--transfer", "frozen", "--architecture", "resnet20"],
            "was trained with --architecture convolutional_network, so its backbone does not fit "
            "--architecture resnet20",
        ),
        (
            ["--backbone", "RUN", "--transfer", "cached", "--augment", "crop"],
            "--transfer cached needs --arrange.augment none, not crop",
        ),
        (
            ["--backbone", "RUN", "--transfer", "finetune", "--backbone.falloff", "2"],
            "--backbone.falloff must be above 0 and at most 1, not 2",
        ),
        (
            ["--backbone", "RUN", "--transfer", "finetune", "--epochs", "5"],
            "the lowest layers would start after 5 epochs, of 5",
        ),
        (
            [
                *("--backbone", "RUN", "--transfer", "frozen", "--model.weights", "x.h5"),
                *("--architecture", "resnet50"),
            ],
            "--backbone and --model.weights exclude each other",
        ),
    ],
)
def test_mistake_is_one_clear_line(options: list[str], message: str, runs, command) -> None:
    options = [low(runs) if option == "RUN" else option for option in options]
    result = command(train(IMAGES), *options, HIGH, f"--runs_dir={runs}", "--run=mistaken")
    assert result.status == 2
    assert message in result.err
    assert not (runs / IMAGES / "mistaken").exists()


def test_backbone_of_another_application_or_unfinished_is_refused(runs, smoke_run) -> None:
    application = load_application(IMAGES)
    other = str(smoke_run("machine_translation"))
    with pytest.raises(UserError, match="is a configuration of machine_translation, not of image"):
        parse(application, ["--transfer=cached", f"--backbone={other}"])
    unfinished = runs / "elsewhere" / "unfinished"
    shutil.copytree(low(runs), unfinished)
    (unfinished / "model.keras").unlink()
    arguments = ["--transfer=cached", f"--backbone={unfinished}"]
    with pytest.raises(UserError, match="is not finished; finish it with"):
        train_run(assemble(parse(application, arguments)[0]), Command(runs_dir=str(runs)))
    with pytest.raises(UserError, match="unknown option --transfer"):
        parse(load_application("machine_translation"), ["--transfer", "cached"])
