"""The Predict request: checked against the signature, run, answered.

Source: tensorflow_serving/servables/tensorflow/predict_util.cc (order and wording of the checks).
"""

from __future__ import annotations

import time
from collections.abc import Iterable

import numpy as np
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import predict_pb2

from serving.server import metrics, tensors
from serving.server.errors import failed_precondition, invalid_argument
from serving.server.saved_model import SavedModel

DEFAULT_SIGNATURE = "serving_default"


def predict(
    model: SavedModel,
    request: predict_pb2.PredictRequest,
    timeout_ms: int = 0,
    *,
    as_content: bool = False,
) -> predict_pb2.PredictResponse:
    """Answers a request but for the version in its model_spec.

    Args:
        model: the version.
        request: for one of its signatures.
        timeout_ms: see ``SavedModel.run``.
        as_content: whether numbers are answered as ``tensor_content``.

    Raises:
        StatusError: if the request doesn't fit the signature.
        tensorflow.errors.OpError: if the graph fails.
    """
    name = request.model_spec.signature_name or DEFAULT_SIGNATURE
    if name not in model.signatures:
        raise failed_precondition(f'Serving signature key "{name}" not found.')
    signature = model.signatures[name]
    feeds = _feeds(signature, request)
    outputs = _output_aliases(signature, request.output_filter)
    fetches = [signature.outputs[alias].name for alias in outputs]
    started = time.perf_counter()
    results = model.run(feeds, fetches, timeout_ms)
    metrics.ran(request.model_spec.name, "Predict", started)
    response = predict_pb2.PredictResponse()
    response.model_spec.name = request.model_spec.name
    response.model_spec.signature_name = name
    for alias, array in zip(outputs, results, strict=True):
        tensors.fill(response.outputs[alias], array, as_content=as_content)
    return response


def _feeds(
    signature: meta_graph_pb2.SignatureDef, request: predict_pb2.PredictRequest
) -> dict[str, np.ndarray]:
    given, known, defaults = request.inputs, signature.inputs, signature.defaults
    if len(given) > len(known) or (len(given) < len(known) and not defaults):
        raise invalid_argument(
            f"input size does not match signature: {len(given)}!={len(known)} "
            f"len({_set(given)}) != len({_set(known)}). "
            f"Sent extra: {_set(set(given) - set(known))}. "
            f"Missing but required: {_set(set(known) - set(given) - set(defaults))}."
        )
    feeds, used = {}, set()
    for alias, info in sorted(known.items()):
        if alias in given:
            feeds[info.name] = tensors.decode(given[alias], alias)
            used.add(alias)
        elif alias in defaults:
            feeds[info.name] = tensors.decode(defaults[alias], alias)
        else:
            raise invalid_argument(
                f"Signature input alias: {alias}(feed name: {info.name}) not found in request and "
                "no default value provided. Inputs expected to be in the request "
                f"{_set(given)}, or default input alias set: {','.join(sorted(defaults))}"
            )
    if len(used) != len(given):
        raise invalid_argument(
            "Inputs contains invalid name. Used request inputs: "
            f"{','.join(sorted(used))}, request input: {','.join(sorted(given))}"
        )
    return feeds


def _output_aliases(
    signature: meta_graph_pb2.SignatureDef, output_filter: Iterable[str]
) -> list[str]:
    chosen: list[str] = []
    for alias in output_filter:
        if alias not in signature.outputs:
            raise invalid_argument(
                f"output tensor alias not found in signature: {alias} Outputs expected to be in "
                f"the set {_set(signature.outputs)}."
            )
        if alias in chosen:
            raise invalid_argument(f"duplicate output tensor alias: {alias}")
        chosen.append(alias)
    return chosen or sorted(signature.outputs)


def _set(names: Iterable[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"
