"""``python -m serving.export RUN``: a finished run becomes a version folder for a model server.

A version folder holds a SavedModel with one signature per endpoint, from a client's raw values to
the answer, and in ``assets.extra/`` the labels, warm-up requests and suggested batching
parameters. It is written under a hidden name that servers ignore, reloaded the way a server does,
compared with the run's own answers, and only then renamed to its number.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.engine.application import UserError
from pipelines.engine.cli import parse_with_search, run_command
from pipelines.engine.lazy import tensorflow as tf

if TYPE_CHECKING:
    from tensorflow_serving.apis import predict_pb2

DEFAULT_BASE_PATH = pathlib.Path("exports")
MODEL_FILE = "saved_model.pb"
LABELS_FILE = "assets.extra/labels.txt"
WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
BATCHING_FILE = "assets.extra/batching_parameters.txt"

# The graph that a server runs is optimised otherwise than the one in this process, which changes
# the order of sums: answers agree to this relative and absolute difference.
RELATIVE_TOLERANCE = 1e-3
ABSOLUTE_TOLERANCE = 1e-4

BATCHING_PARAMETERS = """\
# A start for --enable_batching --batching_parameters_file=<this file>, on a CPU: requests that
# arrive within 2 ms are answered together. As many batches run at a time as there are cores
# (num_batch_threads). On a GPU raise max_batch_size first, then batch_timeout_micros.
max_batch_size { value: 64 }
batch_timeout_micros { value: 2000 }
max_enqueued_batches { value: 100 }
"""

Samples = Mapping[str, Mapping[str, np.ndarray]]


def export_run(
    run: str | os.PathLike,
    *,
    search: Sequence[str] = (),
    model_base_path: str | os.PathLike | None = None,
    model_name: str | None = None,
    force: bool = False,
    jit_compile: bool = False,
) -> pathlib.Path:
    """Writes the next version of a run's model.

    Args:
        run: the run folder.
        search: how texts are searched for, see ``pipelines.engine.answers.open_run``.
        model_base_path: the folder of the version folders; by default ``exports/<model_name>``.
        model_name: by default the application's name.
        force: also writes a version whose signatures differ from those of the newest there.
        jit_compile: whether XLA compiles what decodes. Such a version is only answered by a server
            with --xla_cpu_compilation_enabled or --xla_gpu_compilation_enabled, and its warm-up
            requests have every shape compiled.

    Returns:
        the version folder.

    Raises:
        UserError: for a run that is not finished, signatures that differ, a folder that can't be
            written, a model that decodes nothing and is to be compiled.
    """
    # Only now, so that --help needs no TensorFlow.
    from pipelines.engine.answers import open_run

    opened = open_run(run, search)
    base_path = model_base_path or DEFAULT_BASE_PATH / (model_name or opened.application.name)
    functions = opened.functions(jit_compile=jit_compile)
    # Not all of the model's: what only training needs stays behind.
    used = {id(variable): variable for f in functions.values() for variable in f.variables}
    return export_functions(
        functions,
        base_path,
        trackables=[*used.values(), *opened.trackables],
        samples=opened.sample_inputs(),
        warm_up=list(opened.inputs_of_every_shape()) if jit_compile else (),
        labels=getattr(opened.preprocessor, "labels", ()),
        force=force,
    )


def export_functions(
    functions: Mapping[str, Callable],
    base_path: str | os.PathLike,
    *,
    trackables: Sequence[Any],
    samples: Samples,
    warm_up: Sequence[tuple[str, Mapping[str, np.ndarray]]] = (),
    labels: Sequence[str] = (),
    force: bool = False,
) -> pathlib.Path:
    """Writes functions as the next version in ``base_path``.

    Args:
        functions: for each signature a concrete function, or a ``tf.function`` with an input
            signature, of keyword tensors, that returns named tensors.
        base_path: the folder of the version folders.
        trackables: the variables, tables and tokenizers that the functions use.
        samples: for each signature a few real inputs, [rows, …] by name: the warm-up requests.
        warm_up: signatures with the inputs of further warm-up requests.
        labels: the names of the classes.
        force: see ``export_run``.

    Returns:
        the version folder.

    Raises:
        UserError: see ``export_run``; also if the reloaded model answers otherwise than the
            functions.
    """
    base_path = pathlib.Path(base_path)
    with _new_version(base_path) as folder:
        _save_functions(functions, trackables, folder)
        newest = _newest_version(base_path)
        if newest and not force:
            _check_signatures(base_path / str(newest), folder)
        requests = _sample_requests(base_path.name, samples)
        (folder / WARMUP_FILE).parent.mkdir()
        further = [_request(base_path.name, *signature_inputs) for signature_inputs in warm_up]
        _write_requests([*requests, *further], folder / WARMUP_FILE)
        (folder / BATCHING_FILE).write_text(BATCHING_PARAMETERS)
        if labels:
            (folder / LABELS_FILE).write_text("".join(f"{label}\n" for label in labels))
        _check_answers(functions, requests, folder)
        version = base_path / str(_last_number(base_path) + 1)
        folder.rename(version)
    return version


@contextlib.contextmanager
def _new_version(base_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A hidden folder in ``base_path`` that is gone at the end unless it was renamed."""
    folder = base_path / f".export-{os.getpid()}"
    try:
        folder.mkdir(parents=True)
        yield folder
    except (OSError, tf.errors.OpError) as error:
        reason = getattr(error, "message", None) or error
        raise UserError(f"no version was written to {base_path}: {reason}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _save_functions(
    functions: Mapping[str, Callable], trackables: Sequence[Any], folder: pathlib.Path
) -> None:
    module = tf.Module()
    module.parts = list(trackables)
    tf.saved_model.save(module, str(folder), signatures=dict(functions))


def _numbers(base_path: pathlib.Path) -> list[int]:
    return [int(path.name) for path in base_path.iterdir() if path.name.isdecimal()]


def _last_number(base_path: pathlib.Path) -> int:
    return max(_numbers(base_path), default=0)


def _newest_version(base_path: pathlib.Path) -> int | None:
    """The newest version that is whole, if any."""
    whole = (n for n in _numbers(base_path) if (base_path / str(n) / MODEL_FILE).is_file())
    return max(whole, default=None)


def _check_signatures(old: pathlib.Path, new: pathlib.Path) -> None:
    before, after = _read_signatures(old), _read_signatures(new)
    changes = [
        f"{tensor}: {before.get(tensor, 'absent')} → {after.get(tensor, 'absent')}"
        for tensor in sorted(before.keys() | after.keys())
        if before.get(tensor) != after.get(tensor)
    ]
    if changes:
        raise UserError(
            f"the signatures differ from those of {old}, which clients rely on "
            f"({'; '.join(changes)}); --force exports all the same"
        )


def _read_signatures(folder: pathlib.Path) -> dict[str, str]:
    """ "signature input|output name" → "type [shape]" of a SavedModel."""
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel.FromString((folder / MODEL_FILE).read_bytes())
    tensors = {}
    for name, signature in saved.meta_graphs[0].signature_def.items():
        if name.startswith("__"):  # how tables are initialised; nobody asks for it
            continue
        for role, infos in (("input", signature.inputs), ("output", signature.outputs)):
            for alias, info in infos.items():
                shape = tf.TensorShape(info.tensor_shape)
                dtype = tf.dtypes.as_dtype(info.dtype).name
                tensors[f"{name} {role} {alias}"] = f"{dtype} {shape}"
    return tensors


def _sample_requests(model_name: str, samples: Samples) -> list[predict_pb2.PredictRequest]:
    """For each signature a request with the first sample and one with all of them."""
    return [
        _request(model_name, signature, {name: values[rows] for name, values in inputs.items()})
        for signature, inputs in samples.items()
        for rows in (slice(1), slice(None))
    ]


def _request(
    model_name: str, signature: str, inputs: Mapping[str, np.ndarray]
) -> predict_pb2.PredictRequest:
    from tensorflow_serving.apis import predict_pb2

    from serving.server import tensors

    request = predict_pb2.PredictRequest()
    request.model_spec.name = model_name
    request.model_spec.signature_name = signature
    for name, values in inputs.items():
        request.inputs[name].CopyFrom(tensors.encode(values))
    return request


def _write_requests(requests: Sequence[predict_pb2.PredictRequest], path: pathlib.Path) -> None:
    from tensorflow_serving.apis import prediction_log_pb2

    with tf.io.TFRecordWriter(str(path)) as writer:
        for request in requests:
            log = prediction_log_pb2.PredictionLog()
            log.predict_log.request.CopyFrom(request)
            writer.write(log.SerializeToString())


def _check_answers(
    functions: Mapping[str, Callable],
    requests: Sequence[predict_pb2.PredictRequest],
    folder: pathlib.Path,
) -> None:
    """Asks the reloaded model, as a server does, what the functions are asked here."""
    from serving.server import tensors
    from serving.server.predict import predict
    from serving.server.saved_model import SavedModel

    with contextlib.closing(SavedModel(folder)) as model:
        for request in requests:
            signature = request.model_spec.signature_name
            inputs = {
                name: tf.io.parse_tensor(tensor.SerializeToString(), tensor.dtype)
                for name, tensor in request.inputs.items()
            }
            served = predict(model, request).outputs
            for name, tensor in functions[signature](**inputs).items():
                here, there = tensor.numpy(), tensors.decode(served[name], name)
                if not _agree(here, there):
                    raise UserError(
                        "nothing was exported, for the reloaded model answers otherwise than the "
                        f"run: {signature} {name} is {there!r} instead of {here!r}"
                    )


def _agree(one: np.ndarray, other: np.ndarray) -> bool:
    one, other = np.asarray(one), np.asarray(other)
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if not np.issubdtype(one.dtype, np.inexact):
        return bool(np.array_equal(one, other))
    return bool(np.allclose(one, other, RELATIVE_TOLERANCE, ABSOLUTE_TOLERANCE, equal_nan=True))


def run(arguments: Sequence[str]) -> None:
    """Does what the command line says, and prints the version folder."""
    parser = argparse.ArgumentParser(
        prog="python -m serving.export",
        allow_abbrev=False,
        description="Exports a finished run as the next version for a model server. How one "
        "searches for texts can be changed after RUN: --task.beam_width, --task.length_penalty ...",
    )
    parser.add_argument("run", metavar="RUN", help="the run folder")
    place = parser.add_mutually_exclusive_group()
    place.add_argument(
        "--model_base_path",
        metavar="DIR",
        help="the folder of the version folders (exports/<application>)",
    )
    place.add_argument("--model_name", metavar="M", help="the last part of exports/<application>")
    parser.add_argument(
        "--force", action="store_true", help="even if the signatures differ from the newest version"
    )
    parser.add_argument(
        "--jit_compile",
        action="store_true",
        help="compile what decodes by XLA; servers then need --xla_cpu_compilation_enabled",
    )
    known, search = parse_with_search(parser, arguments)
    options = vars(known)
    print(f"exported: {export_run(options.pop('run'), search=search, **options)}")
    if options["jit_compile"]:
        print("its server needs --xla_cpu_compilation_enabled (on a GPU --xla_gpu_…)")


main = functools.partial(run_command, run)

if __name__ == "__main__":
    main()
