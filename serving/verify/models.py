"""What a server says about its models, and how it takes another configuration."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping

from google.protobuf import text_format
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
)
from tensorflow_serving.config import model_server_config_pb2

from serving.verify.messages import MODEL, floats, metadata, predict, spec, status
from serving.verify.predicting import FAILED_PRECONDITION, INVALID, NOT_FOUND, X, answered
from serving.verify.probe_models import LABELS, MATRIX, model_config
from serving.verify.server import (
    Check,
    Server,
    equal,
    eventually,
    refused,
    refuses,
)

ModelServerConfig = model_server_config_pb2.ModelServerConfig
State = get_model_status_pb2.ModelVersionStatus.State


def _signatures(
    response: get_model_metadata_pb2.GetModelMetadataResponse,
) -> get_model_metadata_pb2.SignatureDefMap:
    signatures = get_model_metadata_pb2.SignatureDefMap()
    packed = response.metadata["signature_def"]
    equal("type_url", "type.googleapis.com/tensorflow.serving.SignatureDefMap", packed.type_url)
    packed.Unpack(signatures)
    return signatures


def _signature_def(server: Server) -> None:
    response = server.ask(metadata("signature_def", label="stable"))
    equal("model_spec", spec(version=1), response.model_spec)
    signature = _signatures(response).signature_def["shift"]
    inputs = {name: info.name for name, info in signature.inputs.items()}
    equal("inputs", {"x": "serving_default_x:0", "by": "shift_by:0"}, inputs)
    equal("defaults", ["by"], list(signature.defaults))
    equal("method_name", "tensorflow/serving/predict", signature.method_name)


def _all_signatures(server: Server) -> None:
    response = server.ask(metadata("signature_def", model=MATRIX))
    found = sorted(_signatures(response).signature_def)
    equal("signatures", ["__saved_model_init_op", "serving_default"], found)


METADATA: dict[str, Check] = {
    "name and version, and the signatures": _signature_def,
    "all signatures": _all_signatures,
    "no model_spec": refuses(
        get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"]),
        INVALID,
        "Missing ModelSpec",
    ),
    "no field": refuses(
        metadata(), INVALID, "GetModelMetadataRequest must specify at least one metadata_field"
    ),
    "another field": refuses(metadata("labels"), INVALID, "Metadata field labels is not supported"),
    "unknown model": refuses(
        metadata("signature_def", model="nobody"),
        NOT_FOUND,
        "Servable not found for request: Latest(nobody)",
    ),
}


def _states(server: Server, **of_spec) -> list[tuple[int, str, int, str]]:
    return [
        (
            entry.version,
            State.Name(entry.state),
            entry.status.error_code,
            entry.status.error_message,
        )
        for entry in server.ask(status(**of_spec)).model_version_status
    ]


def _descending(server: Server) -> None:
    equal("versions", [(2, "AVAILABLE", 0, ""), (1, "AVAILABLE", 0, "")], _states(server))


def _one_version(server: Server) -> None:
    equal("versions", [(1, "AVAILABLE", 0, "")], _states(server, version=1))


def _label_is_ignored(server: Server) -> None:
    equal("versions", [2, 1], [version for version, *_ in _states(server, label="stable")])


STATUS: dict[str, Check] = {
    "versions descending": _descending,
    "one version": _one_version,
    "the label is ignored": _label_is_ignored,
    "no model_spec": refuses(
        get_model_status_pb2.GetModelStatusRequest(), INVALID, "Missing ModelSpec"
    ),
    "unknown model": refuses(
        status("nobody"), NOT_FOUND, "Could not find any versions of model nobody"
    ),
    "unknown version": refuses(
        status(version=9), NOT_FOUND, f"Could not find version 9 of model {MODEL}"
    ),
}


def _reload(config: ModelServerConfig) -> model_management_pb2.ReloadConfigRequest:
    return model_management_pb2.ReloadConfigRequest(config=config)


def _config(server: Server, labels: Mapping[str, int] = LABELS) -> ModelServerConfig:
    return text_format.Parse(model_config(server.models, labels), ModelServerConfig())


@contextlib.contextmanager
def _restored(server: Server) -> Iterator[None]:
    """The first configuration is back at the end, with both versions loaded."""
    try:
        yield
    finally:
        server.ask(_reload(_config(server)))


def _replaces_wholly(server: Server) -> None:
    with _restored(server):
        config = _config(server)
        added = config.model_config_list.config.add()
        added.CopyFrom(config.model_config_list.config[0])
        added.name = "twin"
        added.model_version_policy.specific.versions[:] = [2]
        response = server.ask(_reload(config))
        equal(
            "response.status", (0, ""), (response.status.error_code, response.status.error_message)
        )
        # The call has waited for a version of the new model.
        answered(predict(X, model="twin"), {"y": [3.0]}, 2, server)
    gone = "Servable not found for request: Latest(twin)"
    eventually(lambda: refused(predict(X, model="twin"), NOT_FOUND, gone, server))
    eventually(
        lambda: equal(
            "unloaded versions",
            [(2, "END", 0, "")],
            _states(server, model="twin"),
        ),
    )


def _labels_move(server: Server) -> None:
    with _restored(server):
        server.ask(_reload(_config(server, {"stable": 2})))
        answered(predict(X, label="stable"), {"y": [3.0]}, 2, server)
        refused(
            predict(X, label="canary"),
            INVALID,
            "Unrecognized servable version label: canary",
            server,
        )


def _label_of_an_unavailable_version(server: Server) -> None:
    refused(
        _reload(_config(server, {**LABELS, "stable": 9})),
        FAILED_PRECONDITION,
        f"Request to assign label to version 9 of model {MODEL}, which is not currently available "
        "for inference",
        server,
    )
    answered(predict(X, label="stable"), {"y": [2.0]}, 1, server)


def _refused_config(change: Callable[[ModelServerConfig], None], text: str) -> Check:
    """A configuration that is refused changes nothing."""

    def check(server: Server) -> None:
        config = _config(server)
        change(config)
        refused(_reload(config), INVALID, text, server)
        answered(predict({"x": floats(4.0)}), {"y": [4.0]}, 2, server)

    return check


def _list_twice(config: ModelServerConfig) -> None:
    config.model_config_list.config.append(config.model_config_list.config[0])


def _relative_path(config: ModelServerConfig) -> None:
    config.model_config_list.config[0].base_path = "models"


def _other_platform(config: ModelServerConfig) -> None:
    config.model_config_list.config.add(name="new", base_path="/new", model_platform="torch")


def _no_platform(config: ModelServerConfig) -> None:
    config.model_config_list.config.add(name="new", base_path="/new")


def _not_a_list(config: ModelServerConfig) -> None:
    config.custom_model_config.SetInParent()


RELOAD: dict[str, Check] = {
    "the configuration is replaced, and waited for": _replaces_wholly,
    "labels move": _labels_move,
    "a label for a version that is not available": _label_of_an_unavailable_version,
    "a model twice": _refused_config(
        _list_twice, f"Illegal to list model {MODEL} multiple times in config list"
    ),
    "a relative path": _refused_config(
        _relative_path,
        f"Expected model {MODEL} to have an absolute path or URI; got base_path()=models",
    ),
    "another platform": _refused_config(
        _other_platform, "Model new requests unsupported platform torch"
    ),
    "no platform": _refused_config(
        _no_platform,
        "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
        "ModelServerConfig::model_platform, model name is new",
    ),
    "no list": _refused_config(
        _not_a_list,
        "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList "
        "is currently supported",
    ),
}
