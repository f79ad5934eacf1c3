"""The gRPC services: the core's answers, as gRPC sends them; and whether the server is well."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from concurrent import futures

import grpc
from grpc_health.v1 import health, health_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from serving.server import metrics
from serving.server.core import Core
from serving.server.errors import StatusError, as_status, shorten

_log = logging.getLogger(__name__)

# gRPC gives a client that sets no deadline one in the far future.
_LONGEST_WAIT_SECONDS = 10**9

# The methods that have metrics, as in TensorFlow Serving.
_COUNTED = {"Predict", "Classify", "Regress"}


def _answering(method: Callable) -> Callable:
    """Turns every exception of a method into a gRPC status, so that none ends the server."""
    api = method.__name__

    @functools.wraps(method)
    def answer(self, request, context):
        started, status = time.perf_counter(), None
        try:
            return method(self, request, context)
        except Exception as error:
            status = as_status(error)
        finally:
            if api in _COUNTED:
                metrics.request_ended(request.model_spec.name, api, "GRPC", started, status)
        if status.code == grpc.StatusCode.INTERNAL:
            _log.error("%s failed: %r", api, shorten(status.message))
        context.abort(status.code, shorten(status.message))

    return answer


def _remaining_ms(context: grpc.ServicerContext) -> int:
    """Milliseconds until the client stops waiting; 0 if it waits without end."""
    seconds = context.time_remaining()
    if seconds is None or seconds > _LONGEST_WAIT_SECONDS:
        return 0
    if seconds <= 0:
        raise StatusError(grpc.StatusCode.DEADLINE_EXCEEDED, "Timed out waiting for notification")
    return max(1, int(seconds * 1000))


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """What models answer, and what they can be asked."""

    def __init__(self, core: Core):
        self._core = core

    @_answering
    def Predict(  # noqa: N802
        self, request: predict_pb2.PredictRequest, context: grpc.ServicerContext
    ) -> predict_pb2.PredictResponse:
        return self._core.predict(request, _remaining_ms(context))

    @_answering
    def Classify(  # noqa: N802
        self, request: classification_pb2.ClassificationRequest, context: grpc.ServicerContext
    ) -> classification_pb2.ClassificationResponse:
        return self._core.classify(request, _remaining_ms(context))

    @_answering
    def Regress(  # noqa: N802
        self, request: regression_pb2.RegressionRequest, context: grpc.ServicerContext
    ) -> regression_pb2.RegressionResponse:
        return self._core.regress(request, _remaining_ms(context))

    @_answering
    def MultiInference(  # noqa: N802
        self, request: inference_pb2.MultiInferenceRequest, context: grpc.ServicerContext
    ) -> inference_pb2.MultiInferenceResponse:
        return self._core.multi_inference(request, _remaining_ms(context))

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
        _log.error("ReloadConfig failed: %r", shorten(status.message))
        context.set_code(status.code)
        context.set_details(shorten(status.message))
        response = model_management_pb2.ReloadConfigResponse()
        response.status.error_code = status.code.value[0]
        response.status.error_message = status.message
        return response


class Health(health.HealthServicer):
    """grpc.health.v1: well as long as it answers; models have GetModelStatus.

    A thread of its own answers, for a server whose threads are all busy is not ill.
    """

    def __init__(self):
        super().__init__()
        for name in ("", "ModelService", "PredictionService"):  # not their full names
            self.set(name, health_pb2.HealthCheckResponse.SERVING)

    def Check(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext
    ) -> health_pb2.HealthCheckResponse:
        return super().Check(request, context)

    Check.experimental_thread_pool = futures.ThreadPoolExecutor(1)
