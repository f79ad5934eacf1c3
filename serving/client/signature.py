"""A model's signatures: from a caller's values to the arrays they ask for, from tensors to answers.

Nothing here knows how requests travel.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from serving import wire
from serving.client.errors import InputError, ServingError, as_input_error


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


def read_signatures(response: Any) -> dict[str, Signature]:
    """The signatures in a GetModelMetadataResponse, by name."""
    packed = response.metadata["signature_def"].value
    return {
        name: Signature(
            {
                key: _read_field(info, key not in signature.defaults)
                for key, info in sorted(signature.inputs.items())
            },
            {key: _read_field(info) for key, info in sorted(signature.outputs.items())},
        )
        for name, signature in wire.SignatureDefMap.FromString(packed).signature_def.items()
        if name != "__saved_model_init_op"  # initialises tables; nothing to ask
    }


def _read_field(info: Any, required: bool = True) -> Field:
    shape = None
    if not info.tensor_shape.unknown_rank:
        shape = tuple(None if axis.size < 0 else axis.size for axis in info.tensor_shape.dim)
    return Field(wire.type_name(info.dtype), shape, required)


def choose_signature(model: str, known: Mapping[str, Signature], name: str) -> Signature:
    """One of a model's signatures.

    Raises:
        InputError: if there is none of that name.
    """
    if name not in known:
        raise InputError(f"{model} has no signature {name!r}; there is: {_names(known)}")
    return known[name]


def check_names(signature: Signature, names: Collection[str]) -> None:
    """That all required inputs are given and no other.

    Raises:
        InputError: if not.
    """
    missing = [n for n, field in signature.inputs.items() if field.required and n not in names]
    surplus = [name for name in names if name not in signature.inputs]
    if missing or surplus:
        asked = ", ".join(f"{name}: {field}" for name, field in signature.inputs.items())
        problem = f"unknown input {_names(surplus)}" if surplus else f"missing {_names(missing)}"
        raise InputError(f"{problem}; the model takes {asked}")


def prepare(
    signature: Signature, values: Mapping[str, Any], batches: Collection[str] = ()
) -> tuple[dict[str, np.ndarray], bool]:
    """A caller's values as the arrays that a signature asks for.

    Args:
        signature: what is asked for.
        values: by the inputs' names.
        batches: the inputs that are no single example, whatever their shape is.

    Returns:
        the arrays by name, and whether all of them were single examples, now batches of one.

    Raises:
        InputError: if names, types or shapes don't fit the signature.
    """
    check_names(signature, values)
    arrays = {n: _as_array(n, value, signature.inputs[n]) for n, value in values.items()}
    batched = [name for name in arrays if signature.inputs[name].batched]
    singles = [
        name
        for name in batched
        if name not in batches and arrays[name].ndim == len(signature.inputs[name].shape) - 1
    ]
    single = bool(batched) and len(singles) == len(batched)
    size = same_size({name: len(arrays[name]) for name in batched if name not in singles}) or 1
    for name in singles:
        arrays[name] = np.repeat(arrays[name][None], size, axis=0)
    for name, array in arrays.items():
        _check_shape(name, array, signature.inputs[name])
    return arrays, single


def same_size(sizes: Mapping[str, int]) -> int | None:
    """The number of examples that all inputs have in common; None if there is no input.

    Raises:
        InputError: if they have none in common.
    """
    if len(set(sizes.values())) > 1:
        counts = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise InputError(f"inputs of unequal numbers of examples: {counts}")
    return next(iter(sizes.values()), None)


def read_outputs(response: Any) -> dict[str, np.ndarray]:
    """The arrays in a PredictResponse by name; strings as objects that are all bytes.

    Raises:
        ServingError: INTERNAL, as gRPC calls an answer that can't be read.
    """
    try:
        return {name: wire.decode(tensor) for name, tensor in sorted(response.outputs.items())}
    except (ValueError, IndexError) as error:
        raise ServingError("INTERNAL", f"the answer can't be read: {error}") from None


def present(signature: Signature, outputs: Mapping[str, np.ndarray], single: bool) -> dict:
    """Outputs as a caller gets them; ``single`` drops the axis of the examples."""
    answer = {}
    for name, array in outputs.items():
        field = signature.outputs.get(name)
        one = single and field and field.batched and len(array) == 1
        answer[name] = _readable(array[0] if one else array)
    return answer


def rows(signature: Signature, outputs: Mapping[str, np.ndarray], count: int) -> Iterator[dict]:
    """The outputs of each of ``count`` examples; what has no axis of examples goes to all."""
    unknown = Field("", None)  # of an output that the signature does not tell of
    split = {
        name
        for name, array in outputs.items()
        if (field := signature.outputs.get(name, unknown)).batched or field.shape is None
        if array.ndim and len(array) == count
    }
    for row in range(count):
        yield {name: _readable(a[row] if name in split else a) for name, a in outputs.items()}


def _readable(value: Any) -> Any:
    """Without axes as Python's own value; strings as ``str`` if all of them are UTF-8."""
    if np.ndim(value) == 0 and isinstance(value, np.ndarray | np.generic):
        value = value.item()
    try:
        if isinstance(value, bytes):
            return value.decode()
        if isinstance(value, np.ndarray) and value.dtype == object:
            text = np.empty(value.size, dtype=object)
            text[:] = [item.decode() for item in value.ravel()]
            return text.reshape(value.shape)
    except UnicodeDecodeError:
        pass
    return value


def _as_array(name: str, value: Any, field: Field) -> np.ndarray:
    with as_input_error(name, str(field)):
        return as_strings(value) if field.dtype == "string" else _as_numbers(value, field.dtype)


def as_strings(value: Any) -> np.ndarray:
    """Text, bytes and files, in lists as deep as wanted, as an array of bytes objects.

    Raises:
        OSError: if a file can't be read.
        TypeError: if something is none of the three.
    """
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
    target = np.dtype(wire.numpy_type(dtype))
    array = np.asarray(_load(value))
    if not array.size or array.dtype == target:
        return array.astype(target, copy=False)
    if array.dtype.kind in "iu" and target.kind in "iu":
        limits = np.iinfo(target)
        if int(array.min()) < limits.min or int(array.max()) > limits.max:
            raise ValueError("a number is out of range")
    elif not np.can_cast(array.dtype, target, "same_kind"):
        raise TypeError(f"got {array.dtype}")
    return array.astype(target)


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


def _names(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
