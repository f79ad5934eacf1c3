"""Classify, Regress and MultiInference: tf.Examples in, classes and values out."""

from __future__ import annotations

import re

import grpc
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    input_pb2,
    regression_pb2,
)

from serving.verify.messages import (
    MODEL,
    classify,
    example,
    examples,
    multi_inference,
    regress,
    spec,
    task,
)
from serving.verify.predicting import FAILED_PRECONDITION, INVALID, NOT_FOUND
from serving.verify.server import Check, Server, equal, refuses

TWO = examples(example(x=2.0))
TWO_AND_FOUR = examples(example(x=2.0), example(x=4.0))
IN_CONTEXT = examples(example(), example(), context=example(x=2.0))


def _classes(result: classification_pb2.ClassificationResult) -> list:
    return [[(entry.label, entry.score) for entry in row.classes] for row in result.classifications]


def _values(result: regression_pb2.RegressionResult) -> list[float]:
    return [row.value for row in result.regressions]


def _classified(signature: str, input_: input_pb2.Input, expected: list) -> Check:
    def check(server: Server) -> None:
        response = server.ask(classify(signature, input_))
        equal("classes", expected, _classes(response.result))
        equal("model_spec", spec(signature=signature, version=2), response.model_spec)

    return check


def _regressed(signature: str, input_: input_pb2.Input, expected: list, version: int = 2) -> Check:
    def check(server: Server) -> None:
        response = server.ask(regress(signature, input_, label="stable" if version == 1 else ""))
        equal("values", expected, _values(response.result))
        equal("model_spec", spec(signature=signature, version=version), response.model_spec)

    return check


def _in_the_order_of_the_tasks(server: Server) -> None:
    response = server.ask(multi_inference(task("regress", "regress"), task("classify", "classify")))
    kinds = [result.WhichOneof("result") for result in response.results]
    equal("results", ["regression_result", "classification_result"], kinds)
    regression, classification = response.results
    equal("values", [3.0], _values(regression.regression_result))
    equal(
        "classes",
        [[("positive", 3.0), ("negative", -3.0)]],
        _classes(classification.classification_result),
    )
    equal("first model_spec", spec(signature="regress", version=2), regression.model_spec)
    equal("second model_spec", spec(signature="classify", version=2), classification.model_spec)


CLASSIFY: dict[str, Check] = {
    "classes and scores": _classified(
        "classify",
        TWO_AND_FOUR,
        [[("positive", 3.0), ("negative", -3.0)], [("positive", 4.0), ("negative", -4.0)]],
    ),
    "scores without classes have an empty label": _classified(
        "classify_scores", TWO, [[("", 3.0)]]
    ),
    "classes without scores": _classified(
        "classify_names", TWO, [[("positive", 0.0), ("negative", 0.0)]]
    ),
    "the context is before each example": _classified(
        "classify_scores", IN_CONTEXT, [[("", 3.0)], [("", 3.0)]]
    ),
    "no model_spec": refuses(
        classification_pb2.ClassificationRequest(input=TWO), INVALID, "Missing ModelSpec"
    ),
    "unknown model": refuses(
        classify("classify", TWO, model="nobody"),
        NOT_FOUND,
        "Servable not found for request: Latest(nobody)",
    ),
    "unknown signature": refuses(
        classify("nothing", TWO), INVALID, "No signature was found with the name: nothing"
    ),
    "two inputs": refuses(
        classify("classify_two_inputs", TWO), INVALID, "Expected one input Tensor."
    ),
    "three outputs": refuses(
        classify("classify_three_outputs", TWO),
        INVALID,
        "Expected one or two output Tensors, found 3",
    ),
    "the input has another name": refuses(
        classify("classify_other_input", TWO),
        FAILED_PRECONDITION,
        re.compile(r"No classification inputs found in SignatureDef: .+", re.DOTALL),
    ),
    "no examples": refuses(classify("classify", examples()), INVALID, "Input is empty."),
    "no input": refuses(classify("classify", input_pb2.Input()), INVALID, "Input is empty."),
    "classes are strings": refuses(
        classify("classify_numbers", TWO),
        INVALID,
        "Expected classes Tensor of DT_STRING. Got: DT_FLOAT",
    ),
    "scores are floats": refuses(
        classify("classify_integers", TWO),
        INVALID,
        "Expected scores Tensor of DT_FLOAT. Got: DT_INT32",
    ),
    "scores are rows": refuses(
        classify("classify_flat", TWO),
        INVALID,
        "Expected Tensor shape: [batch_size num_classes] but got [1]",
    ),
}

REGRESS: dict[str, Check] = {
    "a column of values": _regressed("regress", TWO_AND_FOUR, [3.0, 4.0]),
    "a row of values": _regressed("regress_flat", TWO_AND_FOUR, [3.0, 4.0]),
    "a label chooses and is not echoed": _regressed("regress", TWO, [2.0], version=1),
    "the context is before each example": _regressed("regress", IN_CONTEXT, [3.0, 3.0]),
    "no model_spec": refuses(
        regression_pb2.RegressionRequest(input=TWO), INVALID, "Missing ModelSpec"
    ),
    "unknown model": refuses(
        regress("regress", TWO, model="nobody"),
        NOT_FOUND,
        "Servable not found for request: Latest(nobody)",
    ),
    "unknown signature": refuses(
        regress("nothing", TWO), INVALID, "No signature was found with the name: nothing"
    ),
    "two inputs": refuses(
        regress("regress_two_inputs", TWO), INVALID, "Expected one input Tensor."
    ),
    "two outputs": refuses(
        regress("regress_two_outputs", TWO), INVALID, "Expected one output Tensor."
    ),
    "the input has another name": refuses(
        regress("regress_other_input", TWO),
        FAILED_PRECONDITION,
        re.compile(r"No regression inputs found in SignatureDef: .+", re.DOTALL),
    ),
    "no examples": refuses(regress("regress", examples()), INVALID, "Input is empty."),
    "values are one a row": refuses(
        regress("regress_wide", TWO),
        INVALID,
        "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got [1,2]",
    ),
    "values are floats": refuses(
        regress("regress_integers", TWO),
        INVALID,
        "Expected output Tensor of DT_FLOAT.  Got: DT_INT32",
    ),
}

MULTI_INFERENCE: dict[str, Check] = {
    "results in the order of the tasks": _in_the_order_of_the_tasks,
    "the model of the first task": refuses(
        multi_inference(task("regress", "regress", "nobody")),
        NOT_FOUND,
        "Servable not found for request: Latest(nobody)",
    ),
    "a later task without a name": refuses(
        multi_inference(task("regress", "regress"), task("classify", "classify", "")),
        INVALID,
        "Found ModelSpec with an empty model name.",
    ),
    "two models": refuses(
        multi_inference(task("regress", "regress"), task("classify", "classify", "matrix")),
        INVALID,
        "All ModelSpecs in a MultiInferenceRequest must access the same model name.",
    ),
    "a signature twice": refuses(
        multi_inference(task("regress", "regress"), task("regress", "regress")),
        INVALID,
        "Duplicate evaluation of signature: regress",
    ),
    "unknown signature": refuses(
        multi_inference(task("nothing", "regress")),
        INVALID,
        "Requested signature not found in model graph: nothing",
    ),
    "another method": refuses(
        multi_inference(task("regress", "predict")),
        grpc.StatusCode.UNIMPLEMENTED,
        "Unsupported signature method_name: tensorflow/serving/predict",
    ),
    "no examples": refuses(
        inference_pb2.MultiInferenceRequest(tasks=[task("regress", "regress", MODEL)]),
        INVALID,
        "Input is empty.",
    ),
}
