"""tf.Example, the form in which Classify and Regress take their input, from plain dictionaries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from serving.client.errors import as_input_error
from serving.client.signature import as_strings


def fill_input(
    message: Any,
    examples: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    context: Mapping[str, Any] | None,
) -> bool:
    """Writes examples into an Input message, beside features that they have in common.

    Returns:
        whether there was one example, not in a list.

    Raises:
        InputError: if a value is nothing that a feature can hold.
    """
    single = isinstance(examples, Mapping)
    if context is None:
        target = message.example_list
    else:
        target = message.example_list_with_context
        _fill_example(target.context, context)
    target.SetInParent()  # no examples, too, are a list of them
    for example in [examples] if single else examples:
        _fill_example(target.examples.add(), example)
    return single


def _fill_example(message: Any, features: Mapping[str, Any]) -> None:
    for name, value in features.items():
        with as_input_error(name, "numbers, text, bytes or files"):
            _fill_feature(message.features.feature[name], value)


def _fill_feature(message: Any, value: Any) -> None:
    """Floats make a float_list, integers and truth values an int64_list, all else must be bytes."""
    array = np.asarray(value)
    if array.dtype == bool:
        array = array.astype(int)
    if not array.size:
        return  # a feature without values is of no type
    if array.dtype.kind == "f":
        message.float_list.value.extend(array.ravel().tolist())
    elif array.dtype.kind in "iu":
        message.int64_list.value.extend(array.ravel().tolist())
    else:
        # From the value itself: numpy would have made text of numbers beside text.
        message.bytes_list.value.extend(as_strings(value).ravel().tolist())
