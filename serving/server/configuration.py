"""Which models are served from where, and how sessions are set up: from flags, files and requests.

Source: tensorflow_serving/model_servers/{server_core,server}.cc (checks, their order and wording).
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import os
import pathlib
import threading
from collections.abc import Callable, Collection, Iterable, Mapping

from tensorflow.core.protobuf import config_pb2
from tensorflow_serving.config.model_server_config_pb2 import (
    ModelConfig,
    ModelServerConfig,
    ModelType,
)

from serving.server.errors import as_status, failed_precondition, invalid_argument
from serving.server.protos import read_text_proto

_log = logging.getLogger(__name__)
_PLATFORM = "tensorflow"


@dataclasses.dataclass(frozen=True)
class ServedModel:
    """One model of the configuration.

    Attributes:
        name: what requests call it.
        base_path: the folder of its version folders.
        policy: which of the versions in the folder are to be served: "latest", "all", "specific".
        latest: how many, for the policy "latest".
        specific: which, for the policy "specific".
        labels: version numbers by label.
    """

    name: str
    base_path: pathlib.Path
    policy: str = "latest"
    latest: int = 1
    specific: frozenset[int] = frozenset()
    labels: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def choose(self, versions: Iterable[int]) -> set[int]:
        """The versions to serve, of those that are there."""
        if self.policy == "latest":
            return set(sorted(versions, reverse=True)[: self.latest])
        return set(versions) if self.policy == "all" else self.specific & set(versions)


def read_models(options: argparse.Namespace) -> list[ServedModel]:
    """The models that the flags ask for; none for a configuration file that says nothing.

    Raises:
        StatusError: for a file or an entry that can't be used.
    """
    config = ModelServerConfig()
    if options.model_config_file:
        config = read_text_proto(options.model_config_file, ModelServerConfig)
        if config.WhichOneof("config") is None:
            _log.warning("Taking no action for empty config.")
            return []
    else:
        config.model_config_list.config.add(
            name=options.model_name, base_path=options.model_base_path, model_platform=_PLATFORM
        )
    return models_of(config)


def models_of(config: ModelServerConfig, configured: Collection[str] = ()) -> list[ServedModel]:
    """The models of a configuration.

    Args:
        config: the message.
        configured: the names of the models that are served now, which keep their platform.

    Raises:
        StatusError: INVALID_ARGUMENT for an entry that can't be used, FAILED_PRECONDITION if it is
            no list of models.
    """
    if config.WhichOneof("config") != "model_config_list":
        raise failed_precondition(
            "Cannot transition to requested config. It is only legal to transition from one "
            "ModelConfigList to another."
        )
    entries = config.model_config_list.config
    names: set[str] = set()
    for entry in entries:
        if entry.name in names:
            raise invalid_argument(
                f"Illegal to list model {entry.name} multiple times in config list"
            )
        names.add(entry.name)
    models = [_read_entry(entry) for entry in entries]
    for entry in entries:
        _check_platform(entry, entry.name in configured)
    return models


def _read_entry(entry: ModelConfig) -> ServedModel:
    if entry.HasField("logging_config"):
        _log.warning("requests of model %s are not logged: logging_config is ignored", entry.name)
    policy = entry.model_version_policy
    return ServedModel(
        name=entry.name,
        base_path=_base_path(entry),
        policy=policy.WhichOneof("policy_choice") or "latest",
        latest=policy.latest.num_versions or 1,
        specific=frozenset(policy.specific.versions),
        labels=dict(entry.version_labels),
    )


def _base_path(entry: ModelConfig) -> pathlib.Path:
    path = entry.base_path.removeprefix("file://")
    if os.path.isabs(path):
        return pathlib.Path(path)
    if "://" in path:
        raise invalid_argument(
            f"Model {entry.name} is on a file system that can't be read here: {entry.base_path}"
        )
    raise invalid_argument(
        f"Expected model {entry.name} to have an absolute path or URI; "
        f"got base_path()={entry.base_path}"
    )


def _check_platform(entry: ModelConfig, configured: bool) -> None:
    if entry.model_type and entry.model_platform:
        raise invalid_argument(
            "Illegal setting both ModelServerConfig::model_type (deprecated) and "
            f"ModelServerConfig::model_platform, model name is {entry.name}"
        )
    if entry.model_type == ModelType.TENSORFLOW:
        return
    if entry.model_type:
        raise invalid_argument(
            f"ModelServerConfig::model_type choice {entry.model_type} not supported."
        )
    if not entry.model_platform:
        raise invalid_argument(
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
            f"ModelServerConfig::model_platform, model name is {entry.name}"
        )
    if entry.model_platform == _PLATFORM:
        return
    if configured:
        raise invalid_argument(
            f"Illegal to change a model's platform. For model {entry.name} platform was "
            f"{_PLATFORM} and new platform requested is {entry.model_platform}"
        )
    raise invalid_argument(
        f"Model {entry.name} requests unsupported platform {entry.model_platform}"
    )


def follow_file(
    path: str,
    seconds: float,
    configure: Callable[[ModelServerConfig], object],
    stop: threading.Event,
) -> None:
    """Puts a ModelServerConfig file into force every ``seconds``, until ``stop`` is set.

    An unchanged file is put into force too: a label that was refused because its version was still
    loading is assigned later. A file that can't be used changes nothing; the reason is logged once.
    """
    last_refusal = ""
    while not stop.wait(seconds):
        refusal = ""
        try:
            configure(read_text_proto(path, ModelServerConfig))
        except Exception as error:
            refusal = str(as_status(error))
        if refusal and refusal != last_refusal:
            _log.error("the model configuration file changes nothing: %s", refusal)
        last_refusal = refusal


def read_session(options: argparse.Namespace) -> config_pb2.ConfigProto:
    """The configuration of TensorFlow's sessions; flags that are given override the file.

    Raises:
        StatusError: INVALID_ARGUMENT for a file that can't be read or parsed.
    """
    session = config_pb2.ConfigProto()
    if options.tensorflow_session_config_file:
        session = read_text_proto(options.tensorflow_session_config_file, config_pb2.ConfigProto)
    if options.tensorflow_intra_op_parallelism:
        session.intra_op_parallelism_threads = options.tensorflow_intra_op_parallelism
    if options.tensorflow_inter_op_parallelism:
        session.inter_op_parallelism_threads = options.tensorflow_inter_op_parallelism
    if options.per_process_gpu_memory_fraction:
        session.gpu_options.per_process_gpu_memory_fraction = (
            options.per_process_gpu_memory_fraction
        )
    return session
