"""A client of a model server that speaks TensorFlow Serving's gRPC interface, without TensorFlow.

    from serving.client import Client
    with Client("localhost:8500") as client:
        answer = client.predict("image_classification", image=pathlib.Path("seven.png"))

What an input is called, its type and its shape come from the model itself (GetModelMetadata), so
that the names of a signature are the keywords here. On the command line::

    python -m serving.client image_classification --image @seven.png
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import grpc
import numpy as np

from serving import wire

DEFAULT_TARGET = "localhost:8500"
DEFAULT_SIGNATURE = "serving_default"
DEFAULT_TIMEOUT = 30.0

# Longer outputs are printed by their shape.
_MOST_NUMBERS = 50


class ServingError(Exception):
    """What the server, or the way to it, answered instead of a result.

    Attributes:
        code: the name of the gRPC status, e.g. "NOT_FOUND".
        message: the server's own text.
    """

    def __init__(self, code: str, message: str):
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class InvalidRequestError(ServingError):
    """The server understood the request and refuses it: asking again changes nothing."""


class NotFoundError(ServingError):
    """No such model or version is served."""


class UnavailableError(ServingError):
    """The server can't be reached or is overloaded: asking again later may succeed."""


class DeadlineExceededError(ServingError):
    """No answer came in time."""


class InputError(ValueError):
    """A value that doesn't fit the model's signature, noticed before anything was sent."""


_ERRORS: dict[str, type[ServingError]] = {
    "INVALID_ARGUMENT": InvalidRequestError,
    "FAILED_PRECONDITION": InvalidRequestError,
    "OUT_OF_RANGE": InvalidRequestError,
    "NOT_FOUND": NotFoundError,
    "UNAVAILABLE": UnavailableError,
    "RESOURCE_EXHAUSTED": UnavailableError,
    "DEADLINE_EXCEEDED": DeadlineExceededError,
}


@dataclasses.dataclass(frozen=True)
class Field:
    """One input or output.

    Attributes:
        dtype: e.g. "float32" or "string".
        shape: the size of each axis, None where it is open; None if not even the rank is known.
        required: whether a request must hold it.
    """

    dtype: str
    shape: tuple[int | None, ...] | None
    required: bool = True

    @property
    def batched(self) -> bool:
        """Whether the first axis is open: that of the examples."""
        return bool(self.shape) and self.shape[0] is None

    def __str__(self) -> str:
        if self.shape is None:
            return f"{self.dtype} of any shape"
        return f"{self.dtype} [{', '.join('?' if n is None else str(n) for n in self.shape)}]"


@dataclasses.dataclass(frozen=True)
class Signature:
    """The inputs and outputs of one way to ask a model, by name."""

    inputs: Mapping[str, Field]
    outputs: Mapping[str, Field]


@dataclasses.dataclass(frozen=True)
class VersionStatus:
    """What has become of one version of a model.

    Attributes:
        version: its number.
        state: START, LOADING, AVAILABLE, UNLOADING or END.
        error: why it could not be loaded; empty if nothing went wrong.
    """

    version: int
    state: str
    error: str


class Client:
    """A connection to one server, safe to share between threads.

    Args:
        target: "host:port" or "unix:PATH".
        timeout: seconds to wait for an answer, unless a call says otherwise.
    """

    def __init__(self, target: str = DEFAULT_TARGET, *, timeout: float = DEFAULT_TIMEOUT):
        unlimited = [
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", -1),
        ]
        self._channel = grpc.insecure_channel(target, options=unlimited)
        self._timeout = timeout
        self._signatures: dict[tuple, dict[str, Signature]] = {}

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection; calls under way fail with CANCELLED."""
        self._channel.close()

    def predict(
        self,
        model: str,
        inputs: Mapping[str, Any] | None = None,
        /,
        *,
        signature: str = DEFAULT_SIGNATURE,
        version: int | None = None,
        label: str | None = None,
        timeout: float | None = None,
        **features: Any,
    ) -> dict[str, Any]:
        """Asks a model.

        A value is an array, a number, a (nested) list of them, text, bytes, or a ``pathlib.Path``:
        the contents of that file (for a numeric input an .npy file). An input whose first axis is
        open takes a batch or, with one axis less, a single example. If only single examples are
        given, the outputs come without the axis of examples; next to a batch, a single one counts
        for every example of it.

        Args:
            model: its name on the server.
            inputs: further features, for names that are no Python keyword or stand below.
            signature: the name of the signature.
            version: a version's number; the newest by default.
            label: a version's label, instead of its number.
            timeout: seconds to wait for the answer.
            **features: the inputs by their names in the signature.

        Returns:
            the outputs by name: numpy arrays, or Python values where no axis is left. Strings are
            ``str`` where the whole output is UTF-8, else ``bytes``.

        Raises:
            InputError: if names, types or shapes don't fit the signature.
            ServingError: with the server's code and text.
        """
        known = self.signatures(model, version=version, label=label, timeout=timeout)
        if signature not in known:
            raise InputError(f"{model} has no signature {signature!r}; there is: {_names(known)}")
        arrays, single = prepare(known[signature], {**(inputs or {}), **features})
        request = wire.PredictRequest()
        _fill_spec(request.model_spec, model, version, label)
        request.model_spec.signature_name = signature
        for name, array in arrays.items():
            tensor = wire.encode(array, known[signature].inputs[name].dtype)
            request.inputs[name].CopyFrom(tensor)
        try:
            response = self._call(
                "PredictionService/Predict", request, wire.PredictResponse, timeout
            )
        except ServingError:
            # Another version may have taken over, with other inputs: look again next time.
            self._signatures.clear()
            raise
        return present(known[signature], response, single)

    def signatures(
        self,
        model: str,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout: float | None = None,
    ) -> dict[str, Signature]:
        """What a model can be asked, by the signatures' names; asked of the server once."""
        key = (model, version, label)
        if key not in self._signatures:
            request = wire.GetModelMetadataRequest(metadata_field=["signature_def"])
            _fill_spec(request.model_spec, model, version, label)
            response = self._call(
                "PredictionService/GetModelMetadata",
                request,
                wire.GetModelMetadataResponse,
                timeout,
            )
            self._signatures[key] = _read_signatures(response)
        return self._signatures[key]

    def status(
        self, model: str, *, version: int | None = None, timeout: float | None = None
    ) -> list[VersionStatus]:
        """The state of each version that the server has met, the newest first."""
        request = wire.GetModelStatusRequest()
        _fill_spec(request.model_spec, model, version, None)
        response = self._call(
            "ModelService/GetModelStatus", request, wire.GetModelStatusResponse, timeout
        )
        return [
            VersionStatus(
                entry.version,
                wire.MODEL_STATES.get(entry.state, str(entry.state)),
                entry.status.error_message,
            )
            for entry in response.model_version_status
        ]

    def _call(self, method: str, request: Any, response: type, timeout: float | None) -> Any:
        call: Callable = self._channel.unary_unary(
            f"/tensorflow.serving.{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=response.FromString,
        )
        try:
            return call(request, timeout=self._timeout if timeout is None else timeout)
        except grpc.RpcError as error:
            code = error.code().name
            raise _ERRORS.get(code, ServingError)(code, error.details()) from None


def prepare(signature: Signature, values: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], bool]:
    """A caller's values as the arrays that a signature asks for.

    Returns:
        the arrays by name, and whether all of them were single examples, now batches of one.

    Raises:
        InputError: if names, types or shapes don't fit the signature.
    """
    missing = [n for n, field in signature.inputs.items() if field.required and n not in values]
    surplus = [name for name in values if name not in signature.inputs]
    if missing or surplus:
        asked = ", ".join(f"{name}: {field}" for name, field in sorted(signature.inputs.items()))
        problem = f"unknown input {_names(surplus)}" if surplus else f"missing {_names(missing)}"
        raise InputError(f"{problem}; the model takes {asked}")
    arrays = {n: _as_array(n, value, signature.inputs[n]) for n, value in values.items()}
    batched = [name for name in arrays if signature.inputs[name].batched]
    singles = [n for n in batched if arrays[n].ndim == len(signature.inputs[n].shape) - 1]
    single = bool(batched) and len(singles) == len(batched)
    sizes = {n: len(arrays[n]) for n in batched if n not in singles}
    if len(set(sizes.values())) > 1:
        counts = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise InputError(f"inputs of unequal numbers of examples: {counts}")
    size = next(iter(sizes.values()), 1)
    for name in singles:
        arrays[name] = np.repeat(arrays[name][None], size, axis=0)
    for name, array in arrays.items():
        _check_shape(name, array, signature.inputs[name])
    return arrays, single


def present(signature: Signature, response: Any, single: bool) -> dict[str, Any]:
    """A PredictResponse as Python and numpy values; ``single`` drops the axis of examples."""
    answer = {}
    for name, tensor in sorted(response.outputs.items()):
        array = _as_text(wire.decode(tensor))
        field = signature.outputs.get(name)
        if single and field and field.batched and len(array) == 1:
            array = array[0]
        answer[name] = array if np.ndim(array) else _scalar(array)
    return answer


def _scalar(value: Any) -> Any:
    """A value without axes as Python's own; numpy hands out single strings as they are."""
    return value.item() if isinstance(value, np.ndarray | np.generic) else value


def _as_array(name: str, value: Any, field: Field) -> np.ndarray:
    try:
        return _as_strings(value) if field.dtype == "string" else _as_numbers(value, field.dtype)
    except OSError as error:
        raise InputError(f"{name}: can't read {error.filename}: {error.strerror}") from None
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} must be {field}: {error}") from None


def _as_strings(value: Any) -> np.ndarray:
    array = np.array(value, dtype=object)
    encoded = np.empty(array.size, dtype=object)
    for index, item in enumerate(array.ravel()):
        if isinstance(item, pathlib.Path):
            encoded[index] = item.read_bytes()
        elif isinstance(item, str):
            encoded[index] = item.encode()
        elif isinstance(item, bytes):
            encoded[index] = bytes(item)
        else:
            raise TypeError(f"{item!r} is neither text, bytes nor a file (pathlib.Path)")
    return encoded.reshape(array.shape)


def _as_numbers(value: Any, dtype: str) -> np.ndarray:
    array = np.asarray(_load(value))
    target = wire.numpy_type(dtype)
    if array.size and not np.can_cast(array.dtype, target, "same_kind"):
        raise TypeError(f"got {array.dtype}")
    converted = array.astype(target)
    if np.issubdtype(target, np.integer) and not np.array_equal(converted, array):
        raise ValueError("a number is out of range")
    return converted


def _load(value: Any) -> Any:
    if isinstance(value, pathlib.Path):
        return np.load(value, allow_pickle=False)
    return [_load(item) for item in value] if isinstance(value, list | tuple) else value


def _check_shape(name: str, array: np.ndarray, field: Field) -> None:
    fits = field.shape is None or (
        array.ndim == len(field.shape)
        and all(want in (None, size) for want, size in zip(field.shape, array.shape, strict=True))
    )
    if not fits:
        raise InputError(f"{name} must be {field}, not of shape {list(array.shape)}")


def _as_text(array: np.ndarray) -> np.ndarray:
    """Strings as ``str`` if all of them are UTF-8; other arrays as they are."""
    if array.dtype != object:
        return array
    text = np.empty(array.size, dtype=object)
    try:
        text[:] = [item.decode() for item in array.ravel()]
    except UnicodeDecodeError:
        return array
    return text.reshape(array.shape)


def _fill_spec(spec: Any, model: str, version: int | None, label: str | None) -> None:
    if version is not None and label is not None:
        raise InputError("a version is named by its number or by its label, not by both")
    spec.name = model
    if version is not None:
        spec.version.value = version
    if label is not None:
        spec.version_label = label


def _read_signatures(response: Any) -> dict[str, Signature]:
    packed = response.metadata["signature_def"].value
    return {
        name: Signature(
            {
                key: _read_field(info, key not in signature.defaults)
                for key, info in signature.inputs.items()
            },
            {key: _read_field(info) for key, info in signature.outputs.items()},
        )
        for name, signature in wire.SignatureDefMap.FromString(packed).signature_def.items()
        if name != "__saved_model_init_op"  # initialises tables; nothing to ask
    }


def _read_field(info: Any, required: bool = True) -> Field:
    shape = None
    if not info.tensor_shape.unknown_rank:
        shape = tuple(None if axis.size < 0 else axis.size for axis in info.tensor_shape.dim)
    return Field(wire.type_name(info.dtype), shape, required)


def _names(names: Any) -> str:
    return ", ".join(sorted(names))


def _parse(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        prog="python -m serving.client",
        allow_abbrev=False,
        description="Asks a model over gRPC and prints its answer.",
        epilog="The features are the inputs of the signature: --<feature> VALUE|@file …; several "
        "values are a batch. @file stands for the bytes of a file, for a numeric feature for an "
        ".npy file; numbers and lists of them are written as JSON.",
    )
    parser.add_argument("model", help="the model's name on the server")
    parser.add_argument("--host", default=DEFAULT_TARGET, help="host:port (%(default)s)")
    parser.add_argument("--signature", default=DEFAULT_SIGNATURE, help="(%(default)s)")
    parser.add_argument("--version", type=int, help="a version's number (the newest)")
    parser.add_argument("--label", help="a version's label")
    parser.add_argument("--timeout", type=float, default=DEFAULT_TIMEOUT, help="seconds (30)")
    parser.add_argument("--json", action="store_true", help="print the answer as one JSON object")
    return parser.parse_known_args(arguments)


def _read_features(arguments: list[str], signature: Signature) -> dict[str, Any]:
    """``--<feature> VALUE|@file …`` for the inputs of a signature."""
    parser = argparse.ArgumentParser(
        prog="python -m serving.client", allow_abbrev=False, add_help=False, exit_on_error=False
    )
    for name in signature.inputs:
        parser.add_argument(f"--{name}", dest=name, nargs="+", default=argparse.SUPPRESS)
    try:
        found, surplus = parser.parse_known_args(arguments)
    except argparse.ArgumentError as error:
        raise InputError(str(error)) from None
    if surplus:
        asked = ", ".join(f"--{name} ({field})" for name, field in signature.inputs.items())
        raise InputError(f"unknown argument {surplus[0]}; the model takes {asked}")
    features = {}
    for name, words in vars(found).items():
        values = [_read_word(name, word, signature.inputs[name]) for word in words]
        features[name] = values[0] if len(values) == 1 else values
    return features


def _read_word(name: str, word: str, field: Field) -> Any:
    if word.startswith("@"):
        return pathlib.Path(word[1:])
    if field.dtype == "string":
        return word
    try:
        return json.loads(word)
    except json.JSONDecodeError:
        raise InputError(f"{name} must be {field}, not {word!r}") from None


def _plain(value: Any) -> Any:
    """A value as JSON has it; bytes that are no text as their length."""
    if isinstance(value, np.ndarray):
        return [_plain(item) for item in value]
    return f"<{len(value)} bytes>" if isinstance(value, bytes) else _scalar(value)


def _readable(value: Any) -> str:
    """A value for people: rows on lines of their own, many numbers only by their shape."""
    if isinstance(value, np.ndarray):
        if value.dtype != object and value.size > _MOST_NUMBERS:
            return f"{value.dtype} {list(value.shape)} (--json prints the numbers)"
        if value.ndim == 1:
            return ", ".join(_readable(item) for item in value)
        return "".join(f"\n  {_readable(row)}" for row in value)
    value = _plain(value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    options, rest = _parse(arguments)
    chosen = {"version": options.version, "label": options.label}
    try:
        with Client(options.host, timeout=options.timeout) as client:
            known = client.signatures(options.model, **chosen)
            if options.signature not in known:
                raise InputError(
                    f"{options.model} has no signature {options.signature!r}; "
                    f"there is: {_names(known)}"
                )
            features = _read_features(rest, known[options.signature])
            answer = client.predict(options.model, features, signature=options.signature, **chosen)
    except (InputError, ServingError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps({name: _plain(value) for name, value in answer.items()}))
    else:
        for name, value in answer.items():
            print(f"{name}: {_readable(value)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
