"""Requests about the probe models, built as any client builds them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    input_pb2,
    model_pb2,
    predict_pb2,
    regression_pb2,
)

MODEL = "half_plus_version"


def spec(
    model: str = MODEL, *, signature: str = "", version: int | None = None, label: str = ""
) -> model_pb2.ModelSpec:
    """Which model, signature and version are meant."""
    chosen = model_pb2.ModelSpec(name=model, signature_name=signature)
    if version is not None:
        chosen.version.value = version
    if label:
        chosen.version_label = label
    return chosen


def tensor(dtype: tf.DType, shape: Sequence[int] | None, **values: Any) -> tensor_pb2.TensorProto:
    """A tensor with exactly these fields; without a shape the field is absent."""
    proto = tensor_pb2.TensorProto(dtype=dtype.as_datatype_enum, **values)
    for size in shape or ():
        proto.tensor_shape.dim.add(size=size)
    return proto


def floats(*values: float) -> tensor_pb2.TensorProto:
    return tensor(tf.float32, [len(values)], float_val=values)


def predict(
    inputs: Mapping[str, tensor_pb2.TensorProto],
    signature: str = "",
    *,
    output_filter: Iterable[str] = (),
    **of_spec: Any,
) -> predict_pb2.PredictRequest:
    """A PredictRequest; ``of_spec`` as for ``spec``."""
    request = predict_pb2.PredictRequest(
        model_spec=spec(signature=signature, **of_spec), output_filter=output_filter
    )
    for name, proto in inputs.items():
        request.inputs[name].CopyFrom(proto)
    return request


def example(**features: float) -> tf.train.Example:
    return tf.train.Example(
        features=tf.train.Features(
            feature={
                name: tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
                for name, value in features.items()
            }
        )
    )


def examples(*rows: tf.train.Example, context: tf.train.Example | None = None) -> input_pb2.Input:
    """The input of Classify, Regress and MultiInference."""
    if context is None:
        return input_pb2.Input(example_list=input_pb2.ExampleList(examples=rows))
    return input_pb2.Input(
        example_list_with_context=input_pb2.ExampleListWithContext(examples=rows, context=context)
    )


def classify(
    signature: str, input_: input_pb2.Input, **of_spec: Any
) -> classification_pb2.ClassificationRequest:
    return classification_pb2.ClassificationRequest(
        model_spec=spec(signature=signature, **of_spec), input=input_
    )


def regress(
    signature: str, input_: input_pb2.Input, **of_spec: Any
) -> regression_pb2.RegressionRequest:
    return regression_pb2.RegressionRequest(
        model_spec=spec(signature=signature, **of_spec), input=input_
    )


def task(signature: str, method: str, model: str = MODEL) -> inference_pb2.InferenceTask:
    """One task of MultiInference; ``method`` is "classify" or "regress", or what is neither."""
    return inference_pb2.InferenceTask(
        model_spec=spec(model, signature=signature), method_name=f"tensorflow/serving/{method}"
    )


def multi_inference(*tasks: inference_pb2.InferenceTask) -> inference_pb2.MultiInferenceRequest:
    return inference_pb2.MultiInferenceRequest(tasks=tasks, input=examples(example(x=2.0)))


def metadata(
    *fields: str, model: str = MODEL, **of_spec: Any
) -> get_model_metadata_pb2.GetModelMetadataRequest:
    return get_model_metadata_pb2.GetModelMetadataRequest(
        model_spec=spec(model, **of_spec), metadata_field=fields
    )


def status(model: str = MODEL, **of_spec: Any) -> get_model_status_pb2.GetModelStatusRequest:
    return get_model_status_pb2.GetModelStatusRequest(model_spec=spec(model, **of_spec))


def values(proto: tensor_pb2.TensorProto) -> list:
    """What a tensor of an answer holds, as nested lists; numbers of 16 bits become floats."""
    array = tf.io.parse_tensor(proto.SerializeToString(), tf.dtypes.as_dtype(proto.dtype)).numpy()
    return array.astype(np.float32).tolist() if array.dtype.itemsize == 2 else array.tolist()
