"""Classify, Regress and MultiInference on a loaded SavedModel: answers and error texts."""

from __future__ import annotations

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    input_pb2,
    regression_pb2,
)

from serving.server.classify import classify, multi_inference, regress
from serving.server.errors import StatusError
from serving.server.saved_model import SavedModel
from tests.served_models import save_half_plus_two

CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"
INVALID = grpc.StatusCode.INVALID_ARGUMENT
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    model = SavedModel(save_half_plus_two(tmp_path_factory.mktemp("half_plus_two") / "1"))
    yield model
    model.close()


def example(**features: float) -> tf.train.Example:
    message = tf.train.Example()
    for name, value in features.items():
        message.features.feature[name].float_list.value.append(value)
    return message


def examples(*values: float) -> input_pb2.Input:
    message = input_pb2.Input()
    message.example_list.examples.extend(example(x=value) for value in values)
    return message


def request_for(message: type, signature: str = "", input_: input_pb2.Input | None = None):
    request = message(input=input_ or examples(2, 4))
    request.model_spec.name = "half_plus_two"
    request.model_spec.signature_name = signature
    return request


def classification(signature: str, **kwargs) -> classification_pb2.ClassificationRequest:
    return request_for(classification_pb2.ClassificationRequest, signature, **kwargs)


def regression(signature: str, **kwargs) -> regression_pb2.RegressionRequest:
    return request_for(regression_pb2.RegressionRequest, signature, **kwargs)


def tasks(*tasks_: tuple[str, str, str]) -> inference_pb2.MultiInferenceRequest:
    """Each task: model, signature, method."""
    request = inference_pb2.MultiInferenceRequest(input=examples(2, 4))
    for name, signature, method in tasks_:
        task = request.tasks.add(method_name=method)
        task.model_spec.name = name
        task.model_spec.signature_name = signature
    return request


def rows(result: classification_pb2.ClassificationResult) -> list:
    return [[(c.label, c.score) for c in row.classes] for row in result.classifications]


def values(result: regression_pb2.RegressionResult) -> list[float]:
    return [regression.value for regression in result.regressions]


@pytest.mark.parametrize(
    ("signature", "expected"),
    [
        ("both", [[("half", 3), ("two", 4)], [("half", 4), ("two", 5)]]),
        ("scores", [[("", 3)], [("", 4)]]),
        ("classes", [[("half", 0), ("two", 0)], [("half", 0), ("two", 0)]]),
    ],
)
def test_classify(model, signature, expected):
    response = classify(model, classification(signature))
    assert rows(response.result) == expected
    assert response.model_spec.name == "half_plus_two"
    assert response.model_spec.signature_name == signature


@pytest.mark.parametrize("signature", ["", "vector"])
def test_regress(model, signature):
    response = regress(model, regression(signature))
    assert values(response.result) == [3, 4]
    assert response.model_spec.signature_name == (signature or "serving_default")


def test_the_context_belongs_to_every_example(model):
    shared = input_pb2.Input()
    shared.example_list_with_context.context.CopyFrom(example(x=2))
    shared.example_list_with_context.examples.extend([example(), example(other=1), example(x=6)])
    # What an example says itself comes later, and counts.
    assert values(regress(model, regression("", input_=shared)).result) == [3, 3, 5]


def test_multi_inference_answers_in_the_order_of_its_tasks(model):
    request = tasks(("m", "", REGRESS), ("m", "both", CLASSIFY), ("m", "vector", REGRESS))
    regressed, classified, vector = multi_inference(model, request).results
    assert values(regressed.regression_result) == [3, 4]
    assert rows(classified.classification_result) == [
        [("half", 3), ("two", 4)],
        [("half", 4), ("two", 5)],
    ]
    assert values(vector.regression_result) == [3, 4]
    assert [result.model_spec.signature_name for result in (regressed, classified, vector)] == [
        "serving_default",
        "both",
        "vector",
    ]


def test_multi_inference_runs_once(model, monkeypatch):
    runs = []
    run = model.run
    monkeypatch.setattr(model, "run", lambda *given: runs.append(given) or run(*given))
    multi_inference(model, tasks(("m", "", REGRESS), ("m", "scores", CLASSIFY)))
    assert len(runs) == 1


@pytest.mark.parametrize(
    ("call", "request_", "code", "message"),
    [
        (
            classify,
            classification("nothing"),
            INVALID,
            "No signature was found with the name: nothing",
        ),
        (regress, regression("nothing"), INVALID, "No signature was found with the name: nothing"),
        (classify, classification("two_inputs"), INVALID, "Expected one input Tensor."),
        (regress, regression("two_inputs"), INVALID, "Expected one input Tensor."),
        (
            classify,
            classification("three"),
            INVALID,
            "Expected one or two output Tensors, found 3",
        ),
        (regress, regression("both"), INVALID, "Expected one output Tensor."),
        (
            classify,
            classification("scores", input_=input_pb2.Input()),
            INVALID,
            "Input is empty.",
        ),
        (regress, regression("", input_=examples()), INVALID, "Input is empty."),
        (
            classify,
            classification("flat"),
            INVALID,
            "Expected Tensor shape: [batch_size num_classes] but got [2]",
        ),
        (
            classify,
            classification("numbers"),
            INVALID,
            "Expected classes Tensor of DT_STRING. Got: DT_FLOAT",
        ),
        (
            classify,
            classification("longer_scores"),
            INVALID,
            "Expected scores output batch size of 2. Got: 4",
        ),
        (
            classify,
            classification("uneven"),
            INVALID,
            "Tensors class and score should match in dim_size(1). Got 2 vs. 1",
        ),
        (
            regress,
            regression("wide"),
            INVALID,
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got "
            "[2,2]",
        ),
        (
            regress,
            regression("longer"),
            INVALID,
            "Input batch size did not match output batch size: 2 vs. 4",
        ),
        (
            regress,
            regression("texts"),
            INVALID,
            "Expected output Tensor of DT_FLOAT.  Got: DT_STRING",
        ),
        (
            multi_inference,
            tasks(("", "", REGRESS)),
            INVALID,
            "Found ModelSpec with an empty model name.",
        ),
        (
            multi_inference,
            tasks(("m", "", REGRESS), ("n", "vector", REGRESS)),
            INVALID,
            "All ModelSpecs in a MultiInferenceRequest must access the same model name.",
        ),
        (
            multi_inference,
            tasks(("m", "", REGRESS), ("m", "serving_default", REGRESS)),
            INVALID,
            "Duplicate evaluation of signature: serving_default",
        ),
        (
            multi_inference,
            tasks(("m", "nothing", REGRESS)),
            INVALID,
            "Requested signature not found in model graph: nothing",
        ),
        (
            multi_inference,
            tasks(("m", "", "tensorflow/serving/predict")),
            grpc.StatusCode.UNIMPLEMENTED,
            "Unsupported signature method_name: tensorflow/serving/predict",
        ),
        (
            multi_inference,
            tasks(("m", "", REGRESS), ("m", "both", REGRESS)),
            INVALID,
            "Expected one output Tensor.",
        ),
    ],
)
def test_what_can_not_be_answered(model, call, request_, code, message):
    with pytest.raises(StatusError) as caught:
        call(model, request_)
    assert (caught.value.code, caught.value.message) == (code, message)


@pytest.mark.parametrize(
    ("call", "request_", "message"),
    [
        (
            classify,
            classification("other_input_scores"),
            "No classification inputs found in SignatureDef: inputs {",
        ),
        (
            regress,
            regression("other_input"),
            "No regression inputs found in SignatureDef: inputs {",
        ),
        (
            classify,
            classification("other_output"),
            "Expected classification signature outputs to contain at least one of "
            '"classes" or "scores". Signature was: inputs {',
        ),
        (
            regress,
            regression("other_output"),
            "No regression outputs found in SignatureDef: inputs {",
        ),
    ],
)
def test_a_signature_with_other_names_is_shown(model, call, request_, message):
    with pytest.raises(StatusError) as caught:
        call(model, request_)
    assert caught.value.code == PRECONDITION
    assert caught.value.message.startswith(message)


def test_an_example_without_the_feature_is_the_operation_s_error(model):
    lacking = input_pb2.Input()
    lacking.example_list.examples.append(example(z=1))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"Feature: x .*is required"):
        regress(model, regression("", input_=lacking))
