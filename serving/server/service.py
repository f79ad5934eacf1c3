"""The gRPC services PredictionService and ModelService: the core's answers, as gRPC sends them."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable

import grpc
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving.server.core import Core
from serving.server.errors import as_status, shorten
from serving.server.predict import remaining_ms

_log = logging.getLogger(__name__)


def _answering(method: Callable) -> Callable:
    """Turns every exception of a method into a gRPC status, so that none ends the server."""

    @functools.wraps(method)
    def answer(self, request, context):
        try:
            return method(self, request, context)
        except Exception as error:
            status = as_status(error)
        if status.code == grpc.StatusCode.INTERNAL:
            _log.error("%s failed: %s", method.__name__, status.message)
        context.abort(status.code, shorten(status.message))

    return answer


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """What models answer, and what they can be asked."""

    def __init__(self, core: Core):
        self._core = core

    @_answering
    def Predict(  # noqa: N802
        self, request: predict_pb2.PredictRequest, context: grpc.ServicerContext
    ) -> predict_pb2.PredictResponse:
        return self._core.predict(request, remaining_ms(context))

    @_answering
    def GetModelMetadata(  # noqa: N802
        self,
        request: get_model_metadata_pb2.GetModelMetadataRequest,
        context: grpc.ServicerContext,
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        return self._core.metadata(request)


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """Which models are there."""

    def __init__(self, core: Core):
        self._core = core

    @_answering
    def GetModelStatus(  # noqa: N802
        self,
        request: get_model_status_pb2.GetModelStatusRequest,
        context: grpc.ServicerContext,
    ) -> get_model_status_pb2.GetModelStatusResponse:
        return self._core.status(request)

    def HandleReloadConfigRequest(  # noqa: N802
        self,
        request: model_management_pb2.ReloadConfigRequest,
        context: grpc.ServicerContext,
    ) -> model_management_pb2.ReloadConfigResponse:
        """Tells an error twice: as the call's status and in the response."""
        try:
            return self._core.reload(request, waiting=context.is_active)
        except Exception as error:
            status = as_status(error)
        _log.error("ReloadConfig failed: %s", status.message)
        context.set_code(status.code)
        context.set_details(shorten(status.message))
        response = model_management_pb2.ReloadConfigResponse()
        response.status.error_code = status.code.value[0]
        response.status.error_message = status.message
        return response
