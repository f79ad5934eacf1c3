"""Training as a user meets it: killed and resumed, out of disk, on several devices."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

from pipelines.engine.answers import open_run
from pipelines.engine.application import Recipe, UserError, load_application
from pipelines.engine.assembly import assemble
from pipelines.engine.cli import train_run
from pipelines.engine.configuration import Command, Configuration, parse
from pipelines.engine.interrupt import StopOnInterrupt, remembered_interrupts
from pipelines.engine.optimizer import optimizer
from pipelines.engine.run import Run, save_arrays
from pipelines.engine.schedule import learning_rate
from pipelines.engine.train import check_devices
from tests.conftest import ROOT, run_python

IMAGES = ("-m", "pipelines.image_classification")
SETTINGS = ("--epochs", "6", "--augment", "affine", "--batch_size", "16")


def start(*arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=os.environ,
    )


def wait_for_epochs(run: Run, count: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 300
    while len(run.history) < count:
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_killed_and_resumed_run_ends_with_the_same_bits(tmp_path) -> None:
    common = [*IMAGES, *SETTINGS, "--runs_dir", str(tmp_path)]
    whole = run_python(*common, "--run", "whole")
    assert whole.returncode == 0, whole.stderr
    killed = Run(tmp_path / "image_classification" / "killed")
    process = start(*common, "--run", "killed")
    wait_for_epochs(killed, 2, process)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not killed.finished
    assert 2 <= len(killed.history) < 6
    resumed = run_python(*common, "--run", "killed", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    uninterrupted = Run(tmp_path / "image_classification" / "whole")
    for one, other in zip(
        *(open_run(r.path).model.get_weights() for r in (uninterrupted, killed)),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)
    assert killed.scores == uninterrupted.scores
    for one, other in zip(uninterrupted.history, killed.history, strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}


def test_full_disk_keeps_the_previous_checkpoint(tmp_path) -> None:
    file = tmp_path / "last.npz"
    save_arrays(file, {"weights": np.arange(10)})
    # A file-size limit makes the kernel refuse the write, as a full disk does.
    program = (
        "import pathlib, resource, numpy\n"
        "from pipelines.engine.run import save_arrays\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        f"save_arrays(pathlib.Path({str(file)!r}), {{'weights': numpy.zeros(100_000)}})\n"
    )
    result = run_python("-c", program)
    assert result.returncode != 0
    assert "UserError: cannot write" in result.stderr
    assert "what was there before is kept" in result.stderr
    with np.load(file) as arrays:
        np.testing.assert_array_equal(arrays["weights"], np.arange(10))
    assert [path.name for path in tmp_path.iterdir()] == ["last.npz"]


@pytest.mark.slow
def test_disk_that_fills_up_during_training_leaves_a_resumable_run(tmp_path) -> None:
    common = [*IMAGES, "--epochs", "2", "--schedule", "constant", "--runs_dir", str(tmp_path)]
    first = run_python(*common, "--epochs", "1", "--run", "full")
    assert first.returncode == 0, first.stderr
    run = Run(tmp_path / "image_classification" / "full")
    before = run.last_checkpoint.read_bytes()
    arguments = [*common[2:], "--run", "full", "--resume"]
    limit = run.last_checkpoint.stat().st_size // 2
    program = (
        "import resource, sys\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        f"sys.argv[1:] = {arguments!r}\n"
        "import runpy\n"
        "runpy.run_module('pipelines.image_classification', run_name='__main__')\n"
    )
    stopped = run_python("-c", program)
    assert stopped.returncode == 2
    assert "error: cannot write" in stopped.stderr
    assert run.last_checkpoint.read_bytes() == before
    resumed = run_python(*common, "--run", "full", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert len(run.history) == 2


def test_lost_interrupt_ends_training_before_it_begins() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with remembered_interrupts():
            with StopOnInterrupt():
                pass  # nobody asked
            with contextlib.suppress(KeyboardInterrupt):  # as where garbage is collected
                signal.raise_signal(signal.SIGINT)
            with pytest.raises(KeyboardInterrupt):
                StopOnInterrupt().__enter__()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_interrupted_run_says_how_to_go_on(tmp_path) -> None:
    arguments = (*IMAGES, *SETTINGS, "--epochs", "100", "--runs_dir", str(tmp_path))
    process = start(*arguments, "--run", "stopped")
    # The end of the first epoch is where much is imported, and where interrupts used to get lost.
    wait_for_epochs(Run(tmp_path / "image_classification" / "stopped"), 1, process)
    process.send_signal(signal.SIGINT)
    try:
        _, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "--run stopped --resume" in errors.decode()


def test_two_devices_train_as_one(tmp_path) -> None:
    """Two logical processors share every batch; the losses stay those of one device."""
    program = (
        "import sys, tensorflow as tf\n"
        "processor = tf.config.list_physical_devices('CPU')[0]\n"
        "two = [tf.config.LogicalDeviceConfiguration()] * 2\n"
        "tf.config.set_logical_device_configuration(processor, two)\n"
        "from pipelines.engine.application import load_application\n"
        "from pipelines.engine.assembly import assemble\n"
        "from pipelines.engine.cli import train_run\n"
        "from pipelines.engine.configuration import Command, parse\n"
        "from pipelines.engine.train import prepare_backend\n"
        "name = sys.argv[1]\n"
        "options = ['--epochs', '2', '--ema', '0.9', '--l2', '1']\n"
        "configuration, _ = parse(load_application(name), options)\n"
        "for devices in (['CPU:0', 'CPU:1'], ['CPU:0']):\n"
        "    prepare_backend(configuration.recipe)\n"
        f"    command = Command(runs_dir={str(tmp_path)!r}, run=str(len(devices)), smoke=True)\n"
        "    strategy = tf.distribute.MirroredStrategy(devices)\n"
        "    train_run(assemble(configuration), command, strategy)\n"
    )
    result = run_python("-c", program, "image_classification")
    assert result.returncode == 0, result.stderr
    one, two = (Run(tmp_path / "image_classification" / name).history for name in "12")
    for single, mirrored in zip(one, two, strict=True):
        assert mirrored["loss"] == pytest.approx(single["loss"], rel=1e-3)


@pytest.mark.parametrize(
    ("changes", "gpus", "message"),
    [
        ({"mixed_precision": "float16"}, 0, "float16 needs a GPU"),
        ({"batch_size": 33}, 2, "multiple of 2"),
        ({"steps_per_execution": 4}, 2, "steps_per_execution must be 1"),
    ],
)
def test_what_the_devices_cannot_run_is_refused(changes: dict, gpus: int, message: str) -> None:
    recipe = dataclasses.replace(Recipe(), **changes)
    with pytest.raises(UserError, match=message):
        check_devices(recipe, gpus=gpus, replicas=max(gpus, 1))


def test_bfloat16_trains_and_answers_in_float32(tmp_path) -> None:
    result = run_python(
        *IMAGES, "--smoke", "--mixed_precision", "bfloat16", "--runs_dir", tmp_path, "--run", "half"
    )
    assert result.returncode == 0, result.stderr
    model = open_run(tmp_path / "image_classification" / "half").model
    assert model.layers[1].compute_dtype == "bfloat16"
    assert all(weight.dtype == "float32" for weight in model.weights)
    assert model.output.dtype == "float32"


@pytest.mark.slow
def test_early_stop_keeps_the_best_epoch(tmp_path) -> None:
    result = run_python(
        *(*IMAGES, "--epochs", "30", "--patience", "1", "--learning_rate", "0.05"),
        *("--schedule", "constant", "--runs_dir", tmp_path, "--run", "early"),
    )
    assert result.returncode == 0, result.stderr
    run = Run(tmp_path / "image_classification" / "early")
    values = [epoch[run.configuration.recipe.monitor] for epoch in run.history]
    mode = run.configuration.recipe.monitor_mode
    best = values.index(min(values) if mode == "min" else max(values))
    assert len(values) == best + 2 < 30
    with np.load(run.best_checkpoint) as kept:
        arrays = [kept[name] for name in kept.files]
    for one, other in zip(
        [a for a in arrays if a.dtype == np.float32],
        open_run(run.path).model.get_weights(),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_kept_weights_are_the_mean_of_the_last_epochs(tmp_path) -> None:
    options = ["--epochs", "4", "--averaged_epochs", "3", "--monitor", "val_loss"]
    configuration, _ = parse(load_application("image_classification"), options)
    run = train_run(
        assemble(configuration), Command(run="mean", runs_dir=str(tmp_path), smoke=True)
    )
    losses = [metrics["val_loss"] for metrics in run.history]
    assert min(losses) == losses[3], "else it is not the last three epochs that are averaged"
    assert not run.epoch_checkpoint(0).exists()
    checkpoints = [np.load(run.epoch_checkpoint(epoch)) for epoch in (1, 2, 3)]
    for weight, name in zip(open_run(run.path).model.variables, checkpoints[0], strict=True):
        arrays = [checkpoint[name] for checkpoint in checkpoints]
        if np.issubdtype(arrays[0].dtype, np.floating):
            assert np.ptp(arrays, axis=0).any()
            np.testing.assert_allclose(weight, np.mean(arrays, axis=0), rtol=1e-5, atol=1e-7)
        else:
            np.testing.assert_array_equal(weight, arrays[-1])


def test_the_transformer_s_schedule() -> None:
    dim, warmup = 512, 4000
    recipe = Recipe(
        learning_rate=(dim * warmup) ** -0.5, schedule="inverse_sqrt", warmup_steps=warmup
    )
    schedule = learning_rate(recipe, total_steps=100_000)
    for number in (1, 17, 3999, 4000, 4001, 100_000):
        published = dim**-0.5 * min(number**-0.5, number * warmup**-1.5)
        assert float(schedule(number - 1)) == pytest.approx(published, rel=1e-5)
    again = type(schedule).from_config(schedule.get_config())
    assert float(again(16)) == float(schedule(16))


def test_adam_s_constants_are_options_and_the_transformer_s_are_published() -> None:
    application = load_application("machine_translation")

    def made(*arguments: str) -> keras.optimizers.Optimizer:
        return optimizer(parse(application, arguments)[0].recipe, total_steps=1)

    plain, keras_s = made(), keras.optimizers.Adam()
    for name in ("beta_1", "beta_2", "epsilon"):
        assert getattr(plain, name) == getattr(keras_s, name)
    for architecture in ("transformer_tiny", "transformer_small", "transformer_base"):
        published = made("--architecture", architecture)
        assert (published.beta_1, published.beta_2, published.epsilon) == (0.9, 0.98, 1e-9)
    options = ("--beta_1=0.5", "--beta_2=0.75", "--epsilon=0.01", "--optimizer=adamw")
    changed = made(*options)
    assert (changed.beta_1, changed.beta_2, changed.epsilon) == (0.5, 0.75, 0.01)


@pytest.mark.parametrize(("clip_norm", "step"), [(1.0, [0.6, 0.8]), (9.0, [3, 4]), (None, [3, 4])])
def test_gradients_longer_than_the_limit_are_scaled_down(clip_norm, step) -> None:
    recipe = Recipe(optimizer="sgd", learning_rate=1.0, clip_norm=clip_norm)
    weights = [keras.Variable([0.0]), keras.Variable([0.0])]
    gradients = [keras.ops.convert_to_tensor([value]) for value in (3.0, 4.0)]
    optimizer(recipe, total_steps=1).apply(gradients, weights)
    np.testing.assert_allclose([float(weight[0]) for weight in weights], np.negative(step))


def test_a_run_older_than_an_option_has_its_default() -> None:
    configuration, _ = parse(load_application("image_classification"), [])
    older = json.loads(configuration.to_json())
    for name in ("beta_1", "beta_2", "epsilon"):
        del older[name]
    assert Configuration.from_json(json.dumps(older)) == configuration


def test_learning_rate_schedules() -> None:
    recipe = Recipe(learning_rate=0.1, schedule="steps")
    schedule = learning_rate(recipe, total_steps=100)
    assert [float(schedule(step)) for step in (0, 50, 51, 75, 76)] == pytest.approx(
        [0.1, 0.1, 0.01, 0.01, 0.001]
    )
    cosine = learning_rate(dataclasses.replace(recipe, schedule="cosine"), total_steps=100)
    assert [float(cosine(step)) for step in (0, 25, 50, 100)] == pytest.approx(
        [0.05 * (1 + np.cos(np.pi * t)) for t in (0, 0.25, 0.5, 1)], abs=1e-8
    )
    warm = learning_rate(
        dataclasses.replace(recipe, schedule="constant", warmup_steps=4), total_steps=100
    )
    assert [float(warm(step)) for step in range(5)] == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1])
    again = type(warm).from_config(warm.get_config())
    assert float(again(1)) == pytest.approx(0.05)


def test_recipe_sets_the_momentum_of_running_statistics() -> None:
    def momenta(*options: str) -> set[float]:
        arguments = ["--architecture", "mobilenet_v3_small", *options]
        configuration, _ = parse(load_application("image_classification"), arguments)
        model_arguments = {"input_shape": (32, 32, 3), "num_classes": 2}
        model = assemble(configuration).learner(model_arguments).build()
        norms = [n for n in model.layers if isinstance(n, keras.layers.BatchNormalization)]
        return {layer.momentum for layer in norms}

    assert momenta() == {0.9}
    assert momenta("--normalization_momentum", "null") == {0.999}


def test_momentum_of_running_statistics_reaches_a_captioner_s_backbone() -> None:
    options = ["--architecture", "show_and_tell", "--normalization_momentum", "0.5"]
    configuration, _ = parse(load_application("image_captioning"), options)
    model_arguments = {"input_shape": (32, 32, 3), "vocabulary_size": 9}
    backbone = assemble(configuration).learner(model_arguments).build().backbone
    norms = [n for n in backbone.layers if isinstance(n, keras.layers.BatchNormalization)]
    assert {layer.momentum for layer in norms} == {0.5}
