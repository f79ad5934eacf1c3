"""Changes of the learning rate by hand, while a model is trained.

Whoever watches a run writes a wish into its ``control.json``, e.g. ``{"learning_rate": 0.0001}``,
which training takes within about a second (JAX: at the next epoch), notes in ``changes.jsonl`` and
removes. A learning rate that follows a schedule keeps following it, from there on in proportion to
what was wished. A resumed run makes the noted changes again, at the same steps.
"""

from __future__ import annotations

import json
import math
import sys
import time

import keras

from pipelines.engine.application import UserError
from pipelines.engine.optimizer import Thawed
from pipelines.engine.run import Run, write_text

BETWEEN_LOOKS = 1.0  # seconds
EXAMPLE = '{"learning_rate": 0.0001}'


def wish(run: Run, learning_rate: float) -> None:
    """Asks the process that trains a run for another learning rate.

    Raises:
        UserError: for a number that is no learning rate, a run that is finished, or if the disk
            refuses.
    """
    if not (math.isfinite(learning_rate) and learning_rate > 0):
        raise UserError(f"--learning_rate must be above 0, not {learning_rate}")
    if run.finished:
        raise UserError(f"{run.path} is finished; its learning rate has nothing more to change")
    write_text(run.control_file, json.dumps({"learning_rate": learning_rate}))


def read_wish(text: str) -> float:
    """The learning rate that a control file asks for; UserError for any other text."""
    try:
        values = json.loads(text)
    except ValueError as error:
        raise UserError(f"it is no JSON ({error})") from None
    if not isinstance(values, dict) or list(values) != ["learning_rate"]:
        raise UserError("it must have a learning_rate and nothing else")
    rate = values["learning_rate"]
    if isinstance(rate, bool) or not isinstance(rate, int | float):
        raise UserError(f"its learning_rate is no number: {rate!r}")
    if not (math.isfinite(rate) and rate > 0):
        raise UserError(f"its learning_rate must be above 0, not {rate}")
    return float(rate)


class ByHand(keras.callbacks.Callback):
    """Takes wishes for another learning rate, and makes again the changes of a resumed run.

    A change belongs to a number of steps done, counted over all epochs. It is noted before it is
    made, so that it survives the process; the checkpoint of a resumed run may be from before it.
    """

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run
        self._noted = run.changes
        self._looked = -math.inf
        self._refused: int | None = None  # the time stamp of a file that was no wish

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._first_epoch: int | None = None

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._steps = epoch * self.params["steps"]
        if self._first_epoch is None:
            self._first_epoch = epoch
            self._restore()
        self._act(self._steps, look=True)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        # JAX holds what is trained elsewhere within an epoch, where an assignment would be lost.
        if keras.backend.backend() == "tensorflow":
            look = time.monotonic() - self._looked >= BETWEEN_LOOKS
            self._act(self._steps + batch + 1, look=look)

    def _restore(self) -> None:
        """Brings schedules to where they were; a rate of its own is in the checkpoint."""
        for change in self._noted:
            if change["step"] < self._steps:
                self._scale(change["learning_rate"] / change["before"], schedules_alone=True)
        self._noted = [change for change in self._noted if change["step"] >= self._steps]

    def _act(self, steps: int, *, look: bool) -> None:
        while self._noted and self._noted[0]["step"] <= steps:
            self._change(self._noted.pop(0)["learning_rate"])
        if look:
            self._looked = time.monotonic()
            self._take_wish(steps)

    def _take_wish(self, steps: int) -> None:
        file = self.run.control_file
        try:
            stamp = file.stat().st_mtime_ns
            if stamp == self._refused:
                return
            rate, before = read_wish(file.read_text(encoding="utf-8")), self._learning_rate()
            if before == 0:
                raise UserError("the learning rate is 0 here, of which no other is a multiple")
        except FileNotFoundError:
            return
        except (OSError, UnicodeDecodeError, UserError) as error:
            self._refused = stamp
            print(f"warning: {file} changes nothing: {error}; e.g. {EXAMPLE}", file=sys.stderr)
            return
        # What was noted for later steps was made by a process whose epoch is done anew.
        change = {
            "step": steps,
            "epochs": round(steps / self.params["steps"], 3),
            "before": before,
            "learning_rate": rate,
        }
        self.run.write_changes([*(c for c in self.run.changes if c["step"] <= steps), change])
        self._noted = []
        file.unlink(missing_ok=True)
        self._change(rate)
        print(f"learning rate {before:.4g} → {rate:.4g} by hand, after {steps} steps")

    def _change(self, rate: float) -> None:
        before = self._learning_rate()
        if before:
            self._scale(rate / before)

    def _learning_rate(self) -> float:
        return float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))

    def _scale(self, factor: float, *, schedules_alone: bool = False) -> None:
        """Multiplies the learning rates of all optimizers."""
        for optimizer in _plain(self.model.optimizer):
            rate = optimizer._learning_rate  # the public name is its value at the step at hand
            if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
                optimizer.learning_rate = Thawed(rate, factor, 0)
                self.model.make_train_function(force=True)  # the schedule is part of its graph
            elif not schedules_alone:
                optimizer.learning_rate = factor * float(keras.ops.convert_to_numpy(rate))


def _plain(optimizer: keras.optimizers.Optimizer) -> list[keras.optimizers.Optimizer]:
    """The optimizers that change weights, of which an optimizer is made: most are their own."""
    parts = list(getattr(optimizer, "optimizers", ()))
    parts += [getattr(optimizer, n) for n in ("inner", "inner_optimizer") if hasattr(optimizer, n)]
    return [plain for part in parts for plain in _plain(part)] or [optimizer]
