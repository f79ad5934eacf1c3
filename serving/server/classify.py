"""Classify, Regress and MultiInference: requests that hold ``tf.train.Example`` messages.

The signature takes them serialized, as a vector of strings called ``inputs``. What it answers is
checked, for it is turned into labels with scores, or one number for each example.

Source: tensorflow_serving/servables/tensorflow/{classifier,regressor,multi_inference,util}.cc
(order and wording of the checks).
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    input_pb2,
    model_pb2,
    regression_pb2,
)

from serving.server import metrics
from serving.server.errors import StatusError, failed_precondition, invalid_argument
from serving.server.predict import DEFAULT_SIGNATURE
from serving.server.saved_model import SavedModel

_INPUTS, _CLASSES, _SCORES, _OUTPUTS = "inputs", "classes", "scores", "outputs"


def classify(
    model: SavedModel, request: classification_pb2.ClassificationRequest, timeout_ms: int = 0
) -> classification_pb2.ClassificationResponse:
    """Labels and scores of each example; the version in the answer's model_spec is left out.

    Raises:
        StatusError: if the request, the signature or what it answers is no classification.
        tensorflow.errors.OpError: if the graph fails.
    """
    response = classification_pb2.ClassificationResponse()
    return _infer(_CLASSIFICATION, model, request, response, timeout_ms)


def regress(
    model: SavedModel, request: regression_pb2.RegressionRequest, timeout_ms: int = 0
) -> regression_pb2.RegressionResponse:
    """One number for each example; the version in the answer's model_spec is left out.

    Raises:
        StatusError: if the request, the signature or what it answers is no regression.
        tensorflow.errors.OpError: if the graph fails.
    """
    response = regression_pb2.RegressionResponse()
    return _infer(_REGRESSION, model, request, response, timeout_ms)


def multi_inference(
    model: SavedModel, request: inference_pb2.MultiInferenceRequest, timeout_ms: int = 0
) -> inference_pb2.MultiInferenceResponse:
    """Several signatures of one model on the same examples, in one run of the graph.

    The results are in the order of the tasks; the versions in their model_specs are left out.

    Raises:
        StatusError: if a task doesn't fit the model, or not the task before it.
        tensorflow.errors.OpError: if the graph fails.
    """
    methods = _requested_methods(model, request.tasks)
    name = request.tasks[0].model_spec.name if request.tasks else ""
    started = time.perf_counter()
    answers = _run(model, request.input, methods, timeout_ms)
    metrics.ran(name, "MultiInference", started)
    metrics.examples_received(name, answers.examples)
    response = inference_pb2.MultiInferenceResponse()
    for task, (method, signature) in zip(request.tasks, methods, strict=True):
        result = response.results.add(model_spec=_answered(task.model_spec))
        method.write(signature, answers, getattr(result, method.result))
    return response


@dataclasses.dataclass(frozen=True)
class _Answers:
    """What one run of the graph gave: arrays by the names of tensors; and of how many examples."""

    arrays: Mapping[str, np.ndarray]
    examples: int


@dataclasses.dataclass(frozen=True)
class _Method:
    """One of the two ways to use a signature on examples.

    Attributes:
        api: its name among the metrics.
        result: the field of an InferenceResult for its answers.
        outputs: the names of the tensors to fetch; raises StatusError for another signature.
        write: turns the answers for a signature into a result message.
    """

    api: str
    result: str
    outputs: Callable[[meta_graph_pb2.SignatureDef], list[str]]
    write: Callable[[meta_graph_pb2.SignatureDef, _Answers, Any], None]


_Methods = list[tuple[_Method, meta_graph_pb2.SignatureDef]]


def _infer(method: _Method, model: SavedModel, request: Any, response: Any, timeout_ms: int) -> Any:
    """Fills in and returns ``response``, which is of the method's kind as ``request`` is."""
    signature = _requested_signature(model, request.model_spec)
    started = time.perf_counter()
    answers = _run(model, request.input, [(method, signature)], timeout_ms)
    metrics.ran(request.model_spec.name, method.api, started)
    metrics.examples_received(request.model_spec.name, answers.examples)
    method.write(signature, answers, response.result)
    response.model_spec.CopyFrom(_answered(request.model_spec))
    return response


def _requested_signature(
    model: SavedModel, spec: model_pb2.ModelSpec
) -> meta_graph_pb2.SignatureDef:
    name = spec.signature_name or DEFAULT_SIGNATURE
    if name not in model.signatures:
        raise invalid_argument(f"No signature was found with the name: {name}")
    return model.signatures[name]


def _requested_methods(model: SavedModel, tasks: Iterable[inference_pb2.InferenceTask]) -> _Methods:
    methods: _Methods = []
    model_name, seen = "", set()
    for task in tasks:
        spec = task.model_spec
        if not spec.name:
            raise invalid_argument("Found ModelSpec with an empty model name.")
        if model_name not in ("", spec.name):
            raise invalid_argument(
                "All ModelSpecs in a MultiInferenceRequest must access the same model name."
            )
        model_name = spec.name
        signature_name = spec.signature_name or DEFAULT_SIGNATURE
        if signature_name in seen:
            raise invalid_argument(f"Duplicate evaluation of signature: {signature_name}")
        seen.add(signature_name)
        if signature_name not in model.signatures:
            raise invalid_argument(
                f"Requested signature not found in model graph: {signature_name}"
            )
        if task.method_name not in _METHODS:
            raise StatusError(
                grpc.StatusCode.UNIMPLEMENTED,
                f"Unsupported signature method_name: {task.method_name}",
            )
        method, signature = _METHODS[task.method_name], model.signatures[signature_name]
        method.outputs(signature)
        methods.append((method, signature))
    return methods


def _answered(spec: model_pb2.ModelSpec) -> model_pb2.ModelSpec:
    return model_pb2.ModelSpec(
        name=spec.name, signature_name=spec.signature_name or DEFAULT_SIGNATURE
    )


def _run(
    model: SavedModel, examples: input_pb2.Input, methods: _Methods, timeout_ms: int
) -> _Answers:
    """Runs the graph once for all methods; each signature may have an input tensor of its own."""
    fetches = sorted({name for method, signature in methods for name in method.outputs(signature)})
    inputs = {signature.inputs[_INPUTS].name for _, signature in methods}
    serialized = _serialized(examples)
    arrays = model.run(dict.fromkeys(inputs, serialized), fetches, timeout_ms)
    return _Answers(dict(zip(fetches, arrays, strict=True)), len(serialized))


def _serialized(examples: input_pb2.Input) -> np.ndarray:
    """The examples as strings; what they share comes before each: parsers merge the two."""
    context = b""
    if examples.WhichOneof("kind") == "example_list_with_context":
        listed = examples.example_list_with_context.examples
        context = examples.example_list_with_context.context.SerializeToString()
    else:
        listed = examples.example_list.examples
    if not listed:
        raise invalid_argument("Input is empty.")
    return np.array([context + example.SerializeToString() for example in listed], object)


def _classification_outputs(signature: meta_graph_pb2.SignatureDef) -> list[str]:
    _require_one_input(signature)
    if len(signature.outputs) not in (1, 2):
        raise invalid_argument(
            f"Expected one or two output Tensors, found {len(signature.outputs)}"
        )
    _require_inputs(signature, "classification")
    found = [alias for alias in (_CLASSES, _SCORES) if alias in signature.outputs]
    if not found:
        raise failed_precondition(
            "Expected classification signature outputs to contain at least one of "
            f'"{_CLASSES}" or "{_SCORES}". Signature was: {signature}'
        )
    return [signature.outputs[alias].name for alias in found]


def _regression_outputs(signature: meta_graph_pb2.SignatureDef) -> list[str]:
    _require_one_input(signature)
    if len(signature.outputs) != 1:
        raise invalid_argument("Expected one output Tensor.")
    _require_inputs(signature, "regression")
    if _OUTPUTS not in signature.outputs:
        raise failed_precondition(f"No regression outputs found in SignatureDef: {signature}")
    return [signature.outputs[_OUTPUTS].name]


def _require_one_input(signature: meta_graph_pb2.SignatureDef) -> None:
    if len(signature.inputs) != 1:
        raise invalid_argument("Expected one input Tensor.")


def _require_inputs(signature: meta_graph_pb2.SignatureDef, method: str) -> None:
    if _INPUTS not in signature.inputs:
        raise failed_precondition(f"No {method} inputs found in SignatureDef: {signature}")


def _write_classifications(
    signature: meta_graph_pb2.SignatureDef,
    answers: _Answers,
    result: classification_pb2.ClassificationResult,
) -> None:
    """Fills in a class of each column; without classes all labels are empty, without scores 0."""
    classes, scores = (
        _class_columns(signature, answers, alias, dtype)
        for alias, dtype in ((_CLASSES, tf.string), (_SCORES, tf.float32))
    )
    if classes is None:
        classes = np.full(scores.shape, b"", object)
    elif scores is None:
        scores = np.zeros(classes.shape, np.float32)
    if classes.shape != scores.shape:
        raise invalid_argument(
            "Tensors class and score should match in dim_size(1). Got "
            f"{classes.shape[1]} vs. {scores.shape[1]}"
        )
    for labels, values in zip(classes.tolist(), scores.tolist(), strict=True):
        row = result.classifications.add()
        for label, score in zip(labels, values, strict=True):
            row.classes.add(label=label.decode(errors="replace"), score=score)


def _class_columns(
    signature: meta_graph_pb2.SignatureDef, answers: _Answers, alias: str, dtype: tf.DType
) -> np.ndarray | None:
    """An output of shape [batch, classes], or None if the signature has no such output."""
    if alias not in signature.outputs:
        return None
    array = answers.arrays[signature.outputs[alias].name]
    if array.ndim != 2:
        raise invalid_argument(
            f"Expected Tensor shape: [batch_size num_classes] but got {_shape(array)}"
        )
    if _dtype(array) != dtype:
        raise invalid_argument(
            f"Expected {alias} Tensor of {_type_name(dtype)}. Got: {_type_name(_dtype(array))}"
        )
    if len(array) != answers.examples:
        raise invalid_argument(
            f"Expected {alias} output batch size of {answers.examples}. Got: {len(array)}"
        )
    return array


def _write_regressions(
    signature: meta_graph_pb2.SignatureDef,
    answers: _Answers,
    result: regression_pb2.RegressionResult,
) -> None:
    array = answers.arrays[signature.outputs[_OUTPUTS].name]
    if array.ndim != 1 and array.shape[1:] != (1,):
        raise invalid_argument(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got "
            f"{_shape(array)}"
        )
    if len(array) != answers.examples:
        raise invalid_argument(
            f"Input batch size did not match output batch size: {answers.examples} vs. {len(array)}"
        )
    if _dtype(array) != tf.float32:
        raise invalid_argument(
            f"Expected output Tensor of DT_FLOAT.  Got: {_type_name(_dtype(array))}"
        )
    for value in array.ravel().tolist():
        result.regressions.add(value=value)


def _shape(array: np.ndarray) -> str:
    return "[" + ",".join(map(str, array.shape)) + "]"


def _dtype(array: np.ndarray) -> tf.DType:
    return tf.string if array.dtype == object else tf.dtypes.as_dtype(array.dtype)


def _type_name(dtype: tf.DType) -> str:
    return types_pb2.DataType.Name(dtype.as_datatype_enum)


_CLASSIFICATION = _Method(
    "Classify", "classification_result", _classification_outputs, _write_classifications
)
_REGRESSION = _Method("Regress", "regression_result", _regression_outputs, _write_regressions)
_METHODS = {
    "tensorflow/serving/classify": _CLASSIFICATION,
    "tensorflow/serving/regress": _REGRESSION,
}
