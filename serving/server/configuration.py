"""Which models are served from where: the ModelServerConfig, from flags or from a file."""

from __future__ import annotations

import argparse
import dataclasses
import os
import pathlib
from collections.abc import Iterable, Mapping

from tensorflow_serving.config.model_server_config_pb2 import ModelConfig, ModelServerConfig

from serving.server.errors import invalid_argument
from serving.server.protos import read_text_proto


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
    """The models that the flags ask for.

    Raises:
        StatusError: INVALID_ARGUMENT for a file or an entry that can't be used.
    """
    config = ModelServerConfig()
    if options.model_config_file:
        config = read_text_proto(options.model_config_file, ModelServerConfig)
    else:
        config.model_config_list.config.add(
            name=options.model_name,
            base_path=options.model_base_path,
            model_platform="tensorflow",
        )
    models: dict[str, ServedModel] = {}
    for entry in config.model_config_list.config:
        if entry.name in models:
            raise invalid_argument(
                f"Illegal to list model {entry.name} multiple times in config list"
            )
        models[entry.name] = _read_entry(entry)
    return list(models.values())


def _read_entry(entry: ModelConfig) -> ServedModel:
    if not entry.model_platform and not entry.model_type:
        raise invalid_argument(
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
            f"ModelServerConfig::model_platform, model name is {entry.name}"
        )
    if entry.model_platform not in ("", "tensorflow"):
        raise invalid_argument(
            f"Model {entry.name} requests unsupported platform {entry.model_platform}"
        )
    if not os.path.isabs(entry.base_path):
        raise invalid_argument(
            f"Expected model {entry.name} to have an absolute path or URI; "
            f"got base_path()={entry.base_path}"
        )
    policy = entry.model_version_policy
    return ServedModel(
        name=entry.name,
        base_path=pathlib.Path(entry.base_path),
        policy=policy.WhichOneof("policy_choice") or "latest",
        latest=policy.latest.num_versions or 1,
        specific=frozenset(policy.specific.versions),
        labels=dict(entry.version_labels),
    )
