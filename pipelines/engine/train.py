"""The training loop: one ``fit`` for every application.

A checkpoint holds every variable of the model (the states of its random generators among them), of
the optimizer, and the history; the order of examples depends on seed and epoch alone. So a run that
was killed and resumed ends with the same bits as one that never was (TensorFlow backend, CPU).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import sys
import time
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from pipelines.engine.application import Recipe, UserError
from pipelines.engine.by_hand import ByHand
from pipelines.engine.interrupt import StopOnInterrupt
from pipelines.engine.kernels import regularize, warn_of_symmetry
from pipelines.engine.lazy import tensorflow as tf
from pipelines.engine.optimizer import AveragingOptimizer, optimizer
from pipelines.engine.run import Run, replacing, save_arrays
from pipelines.tasks.task import Task


@dataclasses.dataclass(frozen=True)
class Learner:
    """A model that is fitted, and what is kept of it.

    Attributes:
        build: makes the uncompiled model; called again for the model that is kept.
        keep: the model that is kept, given the fitted one with its best weights.
        optimizer: ``optimizer(model, recipe, total_steps)``: what changes its weights.
        network: where the model reads the activations of a network that no longer changes instead
            of the data's features: makes that network.
    """

    build: Callable[[], keras.Model]
    keep: Callable[[keras.Model], keras.Model] = lambda model: model
    optimizer: Callable[[keras.Model, Recipe, int], keras.optimizers.Optimizer] = (
        lambda model, recipe, total_steps: optimizer(recipe, total_steps)
    )
    network: Callable[[], keras.Model] | None = None


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """What ``fit`` reads.

    The batches never end: one iterator lasts for the whole training, and the first batches of an
    epoch are made while the epoch before is validated and saved.

    Attributes:
        training: ``training(epoch)`` is an endless ``tf.data.Dataset`` or
            ``keras.utils.PyDataset`` of the batches of that epoch, counted from 0, and of all that
            follow.
        steps_per_epoch: batches of an epoch.
        validation: the batches of the validation split, over and over.
        validation_steps: batches of the validation split.
        model_arguments: what the builder must know of the data.
        examples: of the training split.
    """

    training: Callable[[int], Any]
    steps_per_epoch: int
    validation: Any
    validation_steps: int
    model_arguments: dict[str, Any]
    examples: int


def prepare_backend(recipe: Recipe) -> None:
    """Seeds everything, makes operations deterministic and sets the number format.

    Raises:
        UserError: for a combination that Keras cannot run on the devices at hand.
    """
    on_tensorflow = keras.backend.backend() == "tensorflow"
    check_devices(recipe, gpus=_gpu_count(), replicas=_gpu_count() if on_tensorflow else 1)
    keras.utils.set_random_seed(recipe.seed)
    if on_tensorflow:
        tf.config.experimental.enable_op_determinism()
    policy = {"float32": "float32"}.get(recipe.mixed_precision, f"mixed_{recipe.mixed_precision}")
    keras.config.set_dtype_policy(policy)


def check_devices(recipe: Recipe, *, gpus: int, replicas: int) -> None:
    """Raises UserError where the recipe and the devices do not go together.

    Mirrored training with several steps per execution, or with batches that are no multiple of the
    replicas, fails inside Keras 3.15; a CPU only emulates float16.
    """
    if recipe.mixed_precision == "float16" and gpus == 0:
        raise UserError(
            "--mixed_precision float16 needs a GPU: processors have no float16 arithmetic and "
            "emulate it many times slower than float32; use bfloat16 or float32 here"
        )
    if replicas > 1 and recipe.rows(replicas) % replicas:
        raise UserError(
            f"--batch_size {recipe.batch_size} cannot be shared out to {replicas} GPUs; "
            f"use a multiple of {replicas}"
        )
    if replicas > 1 and recipe.steps_per_execution > 1:
        raise UserError(f"--steps_per_execution must be 1 on {replicas} GPUs")


def _gpu_count() -> int:
    if keras.backend.backend() == "tensorflow":
        return len(tf.config.list_logical_devices("GPU"))
    return len([device for device in keras.distribution.list_devices() if "cpu" not in device])


def distribution_strategy() -> Any:
    """Mirrors the model over all GPUs if there are several; else None."""
    if keras.backend.backend() == "tensorflow" and _gpu_count() > 1:
        return tf.distribute.MirroredStrategy()
    return None


def fit(
    learner: Learner,
    task: Task,
    recipe: Recipe,
    data: TrainingData,
    run: Run,
    strategy: Any = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> list[dict[str, float]]:
    """Trains until the recipe's end or an early stop, and leaves the best model in the run.

    Starts where the run's last checkpoint is, if it has one.

    Args:
        learner: the model, and what is kept of it.
        task: loss and metrics.
        recipe: how to fit.
        data: the batches.
        run: the folder for checkpoints, metrics and the finished ``model.keras``.
        strategy: a ``tf.distribute.Strategy`` to train under, or None.
        callbacks: further ones, called before the engine's own.

    Returns:
        the metrics of every epoch.

    Raises:
        UserError: if the loss is no longer finite, or the disk is full.
    """
    total_steps = max(1, data.steps_per_epoch * recipe.epochs)
    with strategy.scope() if strategy else contextlib.nullcontext():
        model = learner.build()
        regularize(model, recipe.l1, recipe.l2, data.examples)
        rule, average = learner.optimizer(model, recipe, total_steps), None
        if recipe.ema is not None:
            rule = average = AveragingOptimizer(rule, recipe.ema)
        model.compile(
            optimizer=rule,
            steps_per_execution=recipe.steps_per_execution,
            **task.compile_arguments(),
        )
        model.optimizer.build(model.trainable_variables)
        history = restore(model, run)
    if not history:
        warn_of_symmetry(model)
    recorder = Recorder(run, recipe, history, average)
    if len(history) < recipe.epochs and not recorder.stops_early():
        with StopOnInterrupt() as interrupt:
            model.fit(
                data.training(len(history)),
                steps_per_epoch=data.steps_per_epoch,
                validation_data=data.validation,
                validation_steps=data.validation_steps,
                epochs=recipe.epochs,
                initial_epoch=len(history),
                callbacks=[*callbacks, ByHand(run), recorder, interrupt],
                shuffle=False,  # the data's own order is a function of seed and epoch
                verbose=1 if sys.stdout.isatty() else 2,
            )
    _keep_best(learner, run)
    return history


class Recorder(keras.callbacks.Callback):
    """Writes metrics and checkpoints after each epoch, and decides when training stops early.

    Its whole state is the history and the files, so that nothing else has to be restored.

    Args:
        run: the folder.
        recipe: how the model is fitted.
        history: the metrics of the epochs before.
        average: of the weights, if it is to be validated and kept in their place.
    """

    def __init__(
        self,
        run: Run,
        recipe: Recipe,
        history: list[dict[str, float]],
        average: AveragingOptimizer | None = None,
    ) -> None:
        super().__init__()
        self.run, self.recipe, self.history, self.average = run, recipe, history, average

    def on_train_begin(self, logs: dict | None = None) -> None:
        # The summary writer is TensorFlow's; other backends have the metrics in metrics.jsonl.
        kinds = ("train", "validation") if keras.backend.backend() == "tensorflow" else ()
        folder = self.run.path / "logs"
        self.writers = {kind: tf.summary.create_file_writer(str(folder / kind)) for kind in kinds}

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.started = time.perf_counter()

    def on_test_begin(self, logs: dict | None = None) -> None:
        if self.average:
            self.average.swap()

    def on_test_end(self, logs: dict | None = None) -> None:
        if self.average:
            self.average.swap()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        metrics = {name: float(value) for name, value in logs.items()}
        if not math.isfinite(metrics["loss"]):
            raise UserError(
                f"the loss became {metrics['loss']} in epoch {epoch + 1}; lower --learning_rate or "
                "set --clip_norm (the last checkpoint is from before)"
            )
        if self.recipe.monitor not in metrics:
            raise UserError(f"no --monitor {self.recipe.monitor}; there is: {', '.join(metrics)}")
        metrics["learning_rate"] = float(self.model.optimizer.learning_rate)
        metrics["seconds"] = round(time.perf_counter() - self.started, 3)
        self.history.append({"epoch": epoch + 1, **metrics})
        with self.average.averages_in_place() if self.average else contextlib.nullcontext():
            weights = _arrays("model", self.model.variables)
        if self.recipe.averaged_epochs > 1:
            save_arrays(self.run.epoch_checkpoint(epoch), weights)
        if self.best_epoch() == epoch:
            save_arrays(self.run.best_checkpoint, self._averaged(epoch, weights))
        save_checkpoint(self.model, self.history, self.run)
        self.run.write_history(self.history)
        self._write_tensorboard(epoch, metrics)
        # Not before the last checkpoint is safe: a resumed run may have to average again.
        self.run.epoch_checkpoint(epoch - self.recipe.averaged_epochs).unlink(missing_ok=True)
        if self.stops_early():
            self.model.stop_training = True

    def best_epoch(self) -> int:
        """Index of the first epoch with the best monitored measure."""
        values = [metrics[self.recipe.monitor] for metrics in self.history]
        best = min(values) if self.recipe.monitor_mode == "min" else max(values)
        return values.index(best)

    def _averaged(self, epoch: int, weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The mean of the last epochs' weights; what is no float is the last epoch's."""
        earlier = range(max(0, epoch + 1 - self.recipe.averaged_epochs), epoch)
        kept = [_load(self.run.epoch_checkpoint(number)) for number in earlier]
        return {
            name: np.mean([*(arrays[name] for arrays in kept), value], axis=0, dtype=value.dtype)
            if np.issubdtype(value.dtype, np.floating)
            else value
            for name, value in weights.items()
        }

    def stops_early(self) -> bool:
        patience = self.recipe.patience
        if patience is None or not self.history:
            return False
        return len(self.history) - 1 - self.best_epoch() >= patience

    def _write_tensorboard(self, epoch: int, metrics: dict[str, float]) -> None:
        for kind, writer in self.writers.items():
            with writer.as_default(step=epoch):
                for name, value in metrics.items():
                    if name.startswith("val_") == (kind == "validation"):
                        tf.summary.scalar(f"epoch_{name.removeprefix('val_')}", value)
            writer.flush()


def save_checkpoint(model: keras.Model, history: list[dict[str, float]], run: Run) -> None:
    """Replaces the run's last checkpoint: all variables and the history, in one file."""
    arrays = _arrays("model", model.variables) | _arrays("optimizer", model.optimizer.variables)
    arrays["history"] = np.frombuffer(json.dumps(history).encode(), np.uint8)
    save_arrays(run.last_checkpoint, arrays)


def restore(model: keras.Model, run: Run) -> list[dict[str, float]]:
    """Loads the last checkpoint into a compiled model and returns its history (empty: none)."""
    if not run.last_checkpoint.exists():
        return []
    arrays = _load(run.last_checkpoint)
    _assign("model", model.variables, arrays, run)
    _assign("optimizer", model.optimizer.variables, arrays, run)
    history = json.loads(arrays["history"].tobytes())
    run.write_history(history)
    return history


def _keep_best(learner: Learner, run: Run) -> None:
    """Writes ``model.keras``: an uncompiled model with the weights of the best epoch."""
    model = learner.build()
    _assign("model", model.variables, _load(run.best_checkpoint), run)
    with replacing(run.model_file) as beside:
        learner.keep(model).save(beside)


def _arrays(owner: str, variables: list) -> dict[str, np.ndarray]:
    # Keras's paths are not unique, so the position names a variable and the path is for people.
    return {
        f"{owner}:{number}:{variable.path}": keras.ops.convert_to_numpy(variable)
        for number, variable in enumerate(variables)
    }


def _load(file: Any) -> dict[str, np.ndarray]:
    try:
        with np.load(file) as arrays:
            return dict(arrays)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"{file} is damaged and cannot be read: {error}") from None


def _assign(owner: str, variables: list, arrays: dict[str, np.ndarray], run: Run) -> None:
    values = [array for name, array in arrays.items() if name.startswith(f"{owner}:")]
    if [v.shape for v in values] != [tuple(v.shape) for v in variables]:
        raise UserError(f"the checkpoint in {run.path} is not of this {owner}")
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
