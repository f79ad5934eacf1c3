"""A finished run, opened to answer: the same functions for evaluation, prediction and export."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import keras

from pipelines.engine.assembly import Assembly, assemble
from pipelines.engine.data import raw_batches
from pipelines.engine.lazy import tensorflow as tf
from pipelines.engine.run import Run


@dataclasses.dataclass(frozen=True)
class OpenRun:
    """A trained model with everything around it.

    Attributes:
        run: the folder.
        assembly: the parts, with the preprocessor as it was fitted.
        model: the best model.
    """

    run: Run
    assembly: Assembly
    model: keras.Model

    @property
    def application(self) -> Any:
        return self.assembly.application

    @property
    def preprocessor(self) -> Any:
        return self.assembly.preprocessor

    @property
    def task(self) -> Any:
        return self.assembly.task

    @property
    def trackables(self) -> list:
        """What an export must hold on to besides the model's variables."""
        return self.preprocessor.trackables

    def functions(self) -> dict[str, Any]:
        """One concrete function per signature: named raw tensors → named answers."""
        return {name: self._function(name) for name in self.application.endpoints}

    def inputs(self, signature: str) -> dict[str, tf.TensorSpec]:
        """The raw inputs of a signature, batch dimension first and open."""
        specs = self.application.endpoints[signature].inputs(self.preprocessor)
        return {
            name: tf.TensorSpec(spec.shape, spec.dtype, name=name) for name, spec in specs.items()
        }

    def _function(self, signature: str) -> Any:
        endpoint = self.application.endpoints[signature]

        def answer(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            rows = tf.shape(next(iter(inputs.values())))[0]
            features = _at_least_one_row(endpoint.features(self.preprocessor, inputs), rows)
            response = endpoint.respond(self.task, self.model, features)
            response = {name: value[:rows] for name, value in response.items()}
            return endpoint.answer(self.preprocessor, response, inputs)

        return tf.function(answer, autograph=False).get_concrete_function(**self.inputs(signature))

    def sample_inputs(self, count: int = 4) -> dict[str, dict[str, Any]]:
        """A few real inputs for each signature: names and numpy arrays with ``count`` rows."""
        raw = next(iter(raw_batches(self.assembly.source, "validation", limit=count)))
        return {
            name: {
                key: value.numpy()
                for key, value in endpoint.samples(self.preprocessor, raw).items()
            }
            for name, endpoint in self.application.endpoints.items()
        }


def _at_least_one_row(features: dict[str, Any], rows: tf.Tensor) -> dict[str, Any]:
    """A row of zeros in place of an empty batch, whose shape some fused convolutions get wrong."""
    missing = tf.cast(tf.equal(rows, 0), tf.int32)

    def filled(value: tf.Tensor) -> tf.Tensor:
        # Not by tf.pad: a padding before a convolution is fused into it, that of rows wrongly.
        zeros = tf.zeros(tf.concat([[missing], tf.shape(value)[1:]], axis=0), value.dtype)
        return tf.concat([value, zeros], axis=0)

    return {name: filled(value) for name, value in features.items()}


def open_run(path: str | os.PathLike) -> OpenRun:
    """Loads a finished run.

    Raises:
        UserError: if the folder is no run, or the run is not finished.
    """
    run = Run(path)
    run.require_finished()
    assembly = assemble(run.configuration)
    assembly.preprocessor.restore(run.preprocessor_folder)
    return OpenRun(run, assembly, run.load_model())
