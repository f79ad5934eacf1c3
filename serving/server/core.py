"""What a server answers, whichever interface asks: gRPC and REST are two ways to this."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_pb2,
    predict_pb2,
    regression_pb2,
)

from serving.server.classify import classify, multi_inference, regress
from serving.server.errors import invalid_argument, not_found
from serving.server.models import ModelManager
from serving.server.predict import DEFAULT_SIGNATURE, predict

_METADATA_FIELD = "signature_def"


class Core:
    """The requests of PredictionService and ModelService, answered from the models in memory.

    Every method raises StatusError, or tensorflow.errors.OpError where a graph fails.

    Args:
        manager: the models.
        as_content: whether numbers are answered as ``tensor_content``.
    """

    def __init__(self, manager: ModelManager, *, as_content: bool = False):
        self._manager = manager
        self._as_content = as_content

    def predict(
        self, request: predict_pb2.PredictRequest, timeout_ms: int = 0
    ) -> predict_pb2.PredictResponse:
        """Runs a signature; ``timeout_ms`` of 0 waits without end."""
        method = functools.partial(predict, as_content=self._as_content)
        return self._infer(method, request, timeout_ms)

    def classify(
        self, request: classification_pb2.ClassificationRequest, timeout_ms: int = 0
    ) -> classification_pb2.ClassificationResponse:
        """Labels and scores of examples."""
        return self._infer(classify, request, timeout_ms)

    def regress(
        self, request: regression_pb2.RegressionRequest, timeout_ms: int = 0
    ) -> regression_pb2.RegressionResponse:
        """A number for each example."""
        return self._infer(regress, request, timeout_ms)

    def _infer(self, method: Callable, request: Any, timeout_ms: int) -> Any:
        _require_spec(request)
        with self._manager.use(request.model_spec) as (number, model):
            response = method(model, request, timeout_ms)
        response.model_spec.version.value = number
        return response

    def multi_inference(
        self, request: inference_pb2.MultiInferenceRequest, timeout_ms: int = 0
    ) -> inference_pb2.MultiInferenceResponse:
        """Classifications and regressions of the same examples; the first task names the model."""
        spec = request.tasks[0].model_spec if request.tasks else model_pb2.ModelSpec()
        with self._manager.use(spec) as (number, model):
            response = multi_inference(model, request, timeout_ms)
        for result in response.results:
            result.model_spec.version.value = number
        return response

    def inputs(self, spec: model_pb2.ModelSpec) -> Mapping[str, meta_graph_pb2.TensorInfo]:
        """What a signature takes: REST reads numbers and strings by it."""
        name = spec.signature_name or DEFAULT_SIGNATURE
        with self._manager.use(spec) as (_, model):
            if name not in model.signatures:
                raise invalid_argument(
                    f'Serving signature name: "{name}" not found in signature def'
                )
            return model.signatures[name].inputs

    def metadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """All signatures of a version."""
        _require_spec(request)
        if not request.metadata_field:
            raise invalid_argument(
                "GetModelMetadataRequest must specify at least one metadata_field"
            )
        for field in request.metadata_field:
            if field != _METADATA_FIELD:
                raise invalid_argument(f"Metadata field {field} is not supported")
        signatures = get_model_metadata_pb2.SignatureDefMap()
        with self._manager.use(request.model_spec) as (number, model):
            for name, signature in model.signatures.items():
                signatures.signature_def[name].CopyFrom(signature)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = number
        response.metadata[_METADATA_FIELD].Pack(signatures)
        return response

    def status(
        self, request: get_model_status_pb2.GetModelStatusRequest
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """The state of every version that was met since the start, the newest first."""
        _require_spec(request)
        name = request.model_spec.name
        versions = self._manager.versions(name)
        if not versions:
            raise not_found(f"Could not find any versions of model {name}")
        if request.model_spec.HasField("version"):
            number = request.model_spec.version.value
            versions = [version for version in versions if version.number == number]
            if not versions:
                raise not_found(f"Could not find version {number} of model {name}")
        response = get_model_status_pb2.GetModelStatusResponse()
        for version in versions:
            entry = response.model_version_status.add(version=version.number, state=version.state)
            entry.status.SetInParent()
            if version.error:
                entry.status.error_code = version.error.code.value[0]
                entry.status.error_message = version.error.message
        return response

    def reload(
        self,
        request: model_management_pb2.ReloadConfigRequest,
        waiting: Callable[[], bool] = lambda: True,
    ) -> model_management_pb2.ReloadConfigResponse:
        """Replaces the configuration; answers when each new model is available or has failed.

        ``waiting`` tells whether the client still does.
        """
        if request.config.WhichOneof("config") != "model_config_list":
            raise invalid_argument(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. Only "
                "ModelConfigList is currently supported"
            )
        self._manager.reload(request.config, waiting)
        response = model_management_pb2.ReloadConfigResponse()
        response.status.SetInParent()
        return response


def _require_spec(request) -> None:
    if not request.HasField("model_spec"):
        raise invalid_argument("Missing ModelSpec")
