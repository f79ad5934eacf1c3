"""All checks, by name: the part of the contract, and the row of it that a check is about."""

from __future__ import annotations

from collections.abc import Mapping

from serving.verify import (
    examples,
    models,
    predicting,
    rest_models,
    rest_predicting,
    tensors,
    transport,
)
from serving.verify.server import Check


def _named(parts: Mapping[str, Mapping[str, Check]]) -> dict[str, Check]:
    return {f"{part}: {row}": check for part, rows in parts.items() for row, check in rows.items()}


GRPC = _named(
    {
        "Predict": predicting.CHECKS,
        "tensor": tensors.CHECKS,
        "Classify": examples.CLASSIFY,
        "Regress": examples.REGRESS,
        "MultiInference": examples.MULTI_INFERENCE,
        "GetModelMetadata": models.METADATA,
        "GetModelStatus": models.STATUS,
        "transport": transport.CHECKS,
    }
)
REST = _named(
    {
        "REST predict": rest_predicting.CHECKS,
        "REST address": rest_models.ADDRESSES,
        "REST examples": rest_models.EXAMPLES,
        "REST models": rest_models.MODELS,
        "REST headers": rest_models.HEADERS,
        "Prometheus": rest_models.PROMETHEUS,
    }
)
RELOAD = _named({"HandleReloadConfigRequest": models.RELOAD})


def choose(*, rest: bool, models: bool) -> dict[str, Check]:
    """The checks for a server of which the REST address or the folder of models is known."""
    return GRPC | (REST if rest else {}) | (RELOAD if models else {})
