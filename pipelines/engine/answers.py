"""A finished run, opened to answer: the same functions for evaluation, prediction and export."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Iterator, Sequence
from typing import Any

import keras

from pipelines.engine.application import UserError, load_application
from pipelines.engine.assembly import Assembly, assemble
from pipelines.engine.compilation import LENGTHS, ROWS, compiled
from pipelines.engine.configuration import Configuration, Parser
from pipelines.engine.data import raw_batches
from pipelines.engine.lazy import tensorflow as tf
from pipelines.engine.run import Run
from pipelines.tasks.decoding import Search


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
    def changes(self) -> dict[str, Any]:
        """What it is asked to do otherwise than as it was trained to: dotted name → value."""
        differences = self.run.configuration.differences(self.assembly.configuration)
        return {name: value for name, (_, value) in differences.items()}

    @property
    def trackables(self) -> list:
        """What an export must hold on to besides the model's variables."""
        return self.preprocessor.trackables

    def functions(self, *, jit_compile: bool = False) -> dict[str, Any]:
        """One concrete function per signature: named raw tensors → named answers.

        Args:
            jit_compile: whether XLA compiles what decodes; texts stay outside.

        Raises:
            UserError: where nothing decodes that could be compiled.
        """
        if jit_compile and not self._compiled_endpoints():
            raise UserError(
                f"nothing of {self.application.name} can be compiled yet; export it without"
            )
        return {name: self._function(name, jit_compile) for name in self.application.endpoints}

    def _compiled_endpoints(self) -> dict[str, Any]:
        endpoints = self.application.endpoints.items()
        return {name: endpoint for name, endpoint in endpoints if endpoint.compiled is not None}

    def inputs(self, signature: str) -> dict[str, tf.TensorSpec]:
        """The raw inputs of a signature, batch dimension first and open."""
        specs = self.application.endpoints[signature].inputs(self.preprocessor)
        return {
            name: tf.TensorSpec(spec.shape, spec.dtype, name=name) for name, spec in specs.items()
        }

    def _function(self, signature: str, jit_compile: bool) -> Any:
        endpoint = self.application.endpoints[signature]
        respond = functools.partial(endpoint.respond, self.task, self.model)
        if jit_compile and endpoint.compiled is not None:
            respond = compiled(respond, endpoint.compiled, self.model.variables)

        def answer(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            rows = tf.shape(next(iter(inputs.values())))[0]
            features = _at_least_one_row(endpoint.features(self.preprocessor, inputs), rows)
            response = respond(features)
            response = {name: value[:rows] for name, value in response.items()}
            return endpoint.answer(self.preprocessor, response, inputs)

        return tf.function(answer, autograph=False).get_concrete_function(**self.inputs(signature))

    def sample_inputs(self, count: int = 4) -> dict[str, dict[str, Any]]:
        """A few real inputs for each signature: names and numpy arrays with ``count`` rows."""
        raw = self._raw_examples(count)
        return {
            name: self._sampled(endpoint, raw)
            for name, endpoint in self.application.endpoints.items()
        }

    def _raw_examples(self, count: int) -> dict[str, tf.Tensor]:
        return next(iter(raw_batches(self.assembly.source, "validation", limit=count)))

    def _sampled(self, endpoint: Any, raw: dict[str, tf.Tensor]) -> dict[str, Any]:
        samples = endpoint.samples(self.preprocessor, raw)
        return {name: value.numpy() for name, value in samples.items()}

    def inputs_of_every_shape(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Signatures with inputs that bring each compiled one to every shape that it may get."""
        raw = self._raw_examples(1)
        for name, endpoint in self._compiled_endpoints().items():
            for example in self._of_every_length(raw, endpoint.compiled):
                for rows in ROWS:
                    repeated = {key: tf.repeat(value, rows, 0) for key, value in example.items()}
                    yield name, self._sampled(endpoint, repeated)

    def _of_every_length(self, raw: dict, lengths: Any) -> Iterator[dict[str, tf.Tensor]]:
        """The example with texts that are as long as each length wants them."""
        texts = [name for name in self.preprocessor.signature if name in lengths]
        if not texts:
            yield raw
            return
        for shorter in (0, *LENGTHS[:-1]):
            longer = {name: self.preprocessor.longer(raw[name], shorter) for name in texts}
            if None in longer.values():
                return
            yield raw | longer


def _at_least_one_row(features: dict[str, Any], rows: tf.Tensor) -> dict[str, Any]:
    """A row of zeros in place of an empty batch, whose shape some fused convolutions get wrong."""
    missing = tf.cast(tf.equal(rows, 0), tf.int32)

    def filled(value: tf.Tensor) -> tf.Tensor:
        # Not by tf.pad: a padding before a convolution is fused into it, that of rows wrongly.
        zeros = tf.zeros(tf.concat([[missing], tf.shape(value)[1:]], axis=0), value.dtype)
        return tf.concat([value, zeros], axis=0)

    return {name: filled(value) for name, value in features.items()}


def searching(configuration: Configuration, options: Sequence[str]) -> Configuration:
    """The configuration, but that texts are searched for in another way.

    Args:
        configuration: of a run.
        options: of a command line, those of ``Search``: ``--task.beam_width=8``.

    Raises:
        UserError: for a task that searches for no texts, and for what no search can be.
    """
    name = configuration.application
    task = load_application(name).task(**configuration.task)
    if not isinstance(task, Search):
        raise UserError(f"{name} searches for no texts, and so has no option {options[0]} here")
    own = {field.name: getattr(task, field.name) for field in dataclasses.fields(Search)}
    parser = Parser(allow_abbrev=False, exit_on_error=False)
    parser.add_class_arguments(Search, "task")
    parser.set_defaults({f"task.{option}": value for option, value in own.items()})
    wanted = parser.parse_args(list(options)).as_dict()["task"]
    changed = {option: value for option, value in wanted.items() if value != own[option]}
    dataclasses.replace(task, **changed)  # refuses what no search can be
    return dataclasses.replace(configuration, task={**configuration.task, **changed})


def open_run(path: str | os.PathLike, search: Sequence[str] = ()) -> OpenRun:
    """Loads a finished run.

    Args:
        path: of its folder.
        search: options as of a command line, how texts are searched for instead of as it was
            trained to: ``--task.beam_width=8``.

    Raises:
        UserError: if the folder is no run, the run is not finished, or it cannot search so.
    """
    run = Run(path)
    run.require_finished()
    configuration = run.configuration
    assembly = assemble(searching(configuration, search) if search else configuration)
    assembly.preprocessor.restore(run.preprocessor_folder)
    return OpenRun(run, assembly, run.load_model())
