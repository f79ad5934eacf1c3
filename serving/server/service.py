"""The gRPC services: PredictionService and ModelService."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable

import grpc
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving.server.errors import as_status, invalid_argument, not_found, shorten
from serving.server.models import ModelManager
from serving.server.predict import predict, remaining_ms

_log = logging.getLogger(__name__)
_METADATA_FIELD = "signature_def"


def _answering(method: Callable) -> Callable:
    """Turns every exception of a method into a gRPC status, so that none ends the server."""

    @functools.wraps(method)
    def answer(self, request, context):
        try:
            if not request.HasField("model_spec"):
                raise invalid_argument("Missing ModelSpec")
            return method(self, request, context)
        except Exception as error:
            status = as_status(error)
        if status.code == grpc.StatusCode.INTERNAL:
            _log.error("%s failed: %s", method.__name__, status.message)
        context.abort(status.code, shorten(status.message))

    return answer


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict and GetModelMetadata."""

    def __init__(self, manager: ModelManager):
        self._manager = manager

    @_answering
    def Predict(  # noqa: N802
        self, request: predict_pb2.PredictRequest, context: grpc.ServicerContext
    ) -> predict_pb2.PredictResponse:
        with self._manager.use(request.model_spec) as (number, model):
            response = predict(model, request, remaining_ms(context))
        response.model_spec.version.value = number
        return response

    @_answering
    def GetModelMetadata(  # noqa: N802
        self,
        request: get_model_metadata_pb2.GetModelMetadataRequest,
        context: grpc.ServicerContext,
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
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


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus."""

    def __init__(self, manager: ModelManager):
        self._manager = manager

    @_answering
    def GetModelStatus(  # noqa: N802
        self,
        request: get_model_status_pb2.GetModelStatusRequest,
        context: grpc.ServicerContext,
    ) -> get_model_status_pb2.GetModelStatusResponse:
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
