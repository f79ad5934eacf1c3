"""The files of serving/deploy: valid by the published schemas, in agreement, and served by.

TensorFlow Serving is not at hand here. So the embedded server, which takes the same flags and
files, is started with exactly those of the Deployment, and asked what the probes ask.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import kubernetes_validate
import pytest
import yaml
from google.protobuf import text_format
from google.protobuf.message import Message
from tensorflow.core.protobuf import config_pb2
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from serving.server import flags
from serving.server.protos import BatchingParameters, MonitoringConfig, read_text_proto
from serving.verify.messages import floats, predict, status
from serving.verify.predicting import answered
from serving.verify.server import Server, equal, eventually
from tests.conftest import ROOT, run_python
from tests.served_models import free_port, running_server, save_scale

DEPLOY = ROOT / "serving" / "deploy"
CONFIG = DEPLOY / "config"
BASE, GPU = DEPLOY / "kubernetes" / "base", DEPLOY / "kubernetes" / "gpu"
COMPOSE = [DEPLOY / "compose.yaml", DEPLOY / "compose.gpu.yaml"]
MANIFESTS = [path for path in sorted(BASE.glob("*.yaml")) if path.name != "kustomization.yaml"]
IMAGE = re.compile(r"tensorflow/serving:(\d+\.\d+\.\d+)(-gpu)?\Z")
CONFIG_PLACE = "/etc/serving/"  # where the containers see CONFIG

# Of tensorflow_model_server, as far as these files may use them.
FLAGS = {
    *("port", "rest_api_port", "model_name", "model_base_path", "model_config_file"),
    *("model_config_file_poll_wait_seconds", "allow_version_labels_for_unavailable_models"),
    *("enable_batching", "batching_parameters_file", "monitoring_config_file", "ssl_config_file"),
    *("tensorflow_session_config_file", "per_process_gpu_memory_fraction"),
    "xla_gpu_compilation_enabled",
}


def load(path: pathlib.Path) -> Any:
    return yaml.safe_load(path.read_text())


def resources() -> dict[str, dict]:
    """The manifests by "Kind name"."""
    found = {}
    for path in MANIFESTS:
        for resource in yaml.safe_load_all(path.read_text()):
            found[f"{resource['kind']} {resource['metadata']['name']}"] = resource
    return found


def pod() -> dict:
    return resources()["Deployment serving"]["spec"]["template"]


def container() -> dict:
    (only,) = pod()["spec"]["containers"]
    return only


def interpolate(text: str, **values: str) -> str:
    """Compose's ${NAME:-default} and ${NAME:?message}, and $$ for a dollar."""

    def value(match: re.Match) -> str:
        name, kind, rest = match.groups()
        return values.get(name, rest) if kind == "-" else values[name]

    return re.sub(r"\$\{(\w+):([-?])([^}]*)\}", value, text).replace("$$", "$")


def compose_flags(**values: str) -> list[str]:
    service = load(COMPOSE[0])["services"]["serving"]
    return [interpolate(word, **values) for word in service["command"]]


@pytest.mark.parametrize("path", COMPOSE, ids=lambda path: path.name)
def test_compose_files_are_valid(path):
    result = run_python("-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", path)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("version", ["1.29", "1.32", kubernetes_validate.latest_version()])
@pytest.mark.parametrize("name", resources())
def test_manifests_are_valid(name, version):
    kubernetes_validate.validate(resources()[name], version, strict=True)


def test_all_kinds_are_there():
    assert set(resources()) == {
        "PersistentVolumeClaim serving-exports",
        "Deployment serving",
        "Service serving",
        "Service serving-pods",
        "HorizontalPodAutoscaler serving",
        "PodDisruptionBudget serving",
    }


@pytest.mark.parametrize("folder", [CONFIG, BASE, GPU], ids=lambda folder: folder.name)
def test_kustomizations_name_every_file(folder):
    kustomization = load(folder / "kustomization.yaml")
    named = {
        *kustomization.get("resources", []),
        *(patch["path"] for patch in kustomization.get("patches", [])),
        *(
            file
            for generator in kustomization.get("configMapGenerator", [])
            for file in generator["files"]
        ),
    }
    assert all((folder / name).exists() for name in named)
    assert {path.name for path in folder.iterdir()} - {"kustomization.yaml"} <= named


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (CONFIG / "models.config", ModelServerConfig),
        (CONFIG / "batching.config", BatchingParameters),
        (GPU / "batching.config", BatchingParameters),
        (CONFIG / "monitoring.config", MonitoringConfig),
        (CONFIG / "session.config", config_pb2.ConfigProto),
    ],
    ids=lambda value: f"{value.parent.name}/{value.name}" if isinstance(value, os.PathLike) else "",
)
def test_configuration_files_are_of_their_messages(path: pathlib.Path, message: type[Message]):
    assert read_text_proto(path, message).ByteSize()


def test_images_are_pinned_to_one_version():
    tags = [load(path)["services"]["serving"]["image"] for path in COMPOSE]
    (of_gpu,) = load(GPU / "kustomization.yaml")["images"]
    tags += [container()["image"], f"{of_gpu['name']}:{of_gpu['newTag']}"]
    matches = [IMAGE.match(tag) for tag in tags]
    assert all(matches), tags
    assert len({match[1] for match in matches}) == 1
    assert [bool(match[2]) for match in matches] == [False, True, False, True]
    texts = [ROOT / "docs" / "serving.md", ROOT / "serving" / "verify" / "__main__.py"]
    named = [re.findall(r"tensorflow/serving:([\w.-]+)", path.read_text()) for path in texts]
    assert {tag for tags in named for tag in tags} == {matches[0][1]}


@pytest.mark.parametrize(
    "words",
    [
        compose_flags(),
        compose_flags(MODEL_CONFIG_FILE=f"{CONFIG_PLACE}models.config"),
        container()["args"],
    ],
    ids=["one model", "several models", "kubernetes"],
)
def test_flags_are_those_of_either_server(words):
    names = [word.removeprefix("--").partition("=")[0] for word in words]
    assert set(names) <= FLAGS
    by_entrypoint = ["--port=8500", "--rest_api_port=8501", "--model_name=m"]
    options = flags.parse([*by_entrypoint, "--model_base_path=/models/m", *words])
    assert (options.port, options.rest_api_port) == (8500, 8501)
    assert options.enable_batching
    # Labels are looked up before models are loaded.
    assert options.allow_version_labels_for_unavailable_models
    places = [word.partition("=")[2] for word in words if CONFIG_PLACE in word]
    assert places
    for place in places:
        assert (CONFIG / place.removeprefix(CONFIG_PLACE)).is_file()


def test_the_page_lists_the_flags_of_the_embedded_server():
    page = (ROOT / "docs" / "serving.md").read_text()
    table = page.partition("\n| flags | |\n")[2].partition("\n\n")[0]
    listed = [flag for row in table.splitlines() for flag in re.findall(r"`(\w+)`", row)]
    assert sorted(listed) == sorted(vars(flags.parse(["--model_base_path=/models/m"])))
    refused = re.findall(r"`(--\w+)`", page.partition("Every other flag of")[2].partition(")")[0])
    assert refused
    for flag in refused:
        with pytest.raises(SystemExit):
            flags.parse(["--model_base_path=/models/m", f"{flag}=true"])


def test_compose_mounts_what_the_flags_name():
    service = load(COMPOSE[0])["services"]["serving"]
    mounts = {mount["target"]: mount["source"] for mount in service["volumes"]}
    assert (DEPLOY / mounts["/models"]).resolve() == ROOT / "exports"
    assert (DEPLOY / mounts[CONFIG_PLACE.rstrip("/")]).resolve() == CONFIG
    assert service["ports"] == ["8500:8500", "8501:8501"]
    with pytest.raises(KeyError, match="MODEL_NAME"):
        interpolate(service["environment"]["MODEL_NAME"])
    of_gpu = load(COMPOSE[1])["services"]["serving"]
    (mount,) = of_gpu["volumes"]
    assert (DEPLOY / mount["source"]).is_file()
    assert mount["target"] == f"{CONFIG_PLACE}batching.config"
    (device,) = of_gpu["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]


def test_pods_mount_what_the_flags_name():
    mounts = {mount["name"]: mount["mountPath"] for mount in container()["volumeMounts"]}
    assert mounts == {"models": "/models", "config": CONFIG_PLACE.rstrip("/")}
    volumes = {volume["name"]: volume for volume in pod()["spec"]["volumes"]}
    claim = volumes["models"]["persistentVolumeClaim"]["claimName"]
    assert f"PersistentVolumeClaim {claim}" in resources()
    sources = [source["configMap"]["name"] for source in volumes["config"]["projected"]["sources"]]
    generators = load(CONFIG / "kustomization.yaml")["configMapGenerator"]
    assert sources == [generator["name"] for generator in generators]
    assert load(GPU / "kustomization.yaml")["configMapGenerator"][0]["name"] in sources


def test_the_gpu_overlay_patches_the_deployment():
    patch = load(GPU / "deployment.yaml")
    assert patch["metadata"]["name"] == resources()["Deployment serving"]["metadata"]["name"]
    (patched,) = patch["spec"]["template"]["spec"]["containers"]
    assert patched["name"] == container()["name"]
    assert patched["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_ports_and_labels_agree():
    ports = {port["name"]: port["containerPort"] for port in container()["ports"]}
    assert ports == {"grpc": 8500, "rest": 8501}
    labels = pod()["metadata"]["labels"]
    for name, resource in resources().items():
        if name.startswith("Service "):
            assert resource["spec"]["selector"].items() <= labels.items()
            for port in resource["spec"]["ports"]:
                assert ports[port["targetPort"]] == port["port"]
        elif name.partition(" ")[0] in ("Deployment", "PodDisruptionBudget"):
            assert resource["spec"]["selector"]["matchLabels"].items() <= labels.items()
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        (how,) = (
            container()[probe].get(kind)
            for kind in ("httpGet", "tcpSocket")
            if kind in container()[probe]
        )
        assert how["port"] in ports
    annotations = pod()["metadata"]["annotations"]
    monitoring = read_text_proto(CONFIG / "monitoring.config", MonitoringConfig).prometheus_config
    assert annotations["prometheus.io/port"] == str(ports["rest"])
    assert annotations["prometheus.io/path"] == monitoring.path


def test_pods_are_replaced_without_a_gap():
    deployment = resources()["Deployment serving"]["spec"]
    assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert "replicas" not in deployment  # would undo the autoscaler at every apply
    word, seconds = container()["lifecycle"]["preStop"]["exec"]["command"]
    assert word == "sleep"
    assert int(seconds) < deployment["template"]["spec"]["terminationGracePeriodSeconds"]


def test_the_autoscaler_asks_for_the_metric_that_is_made():
    autoscaler = resources()["HorizontalPodAutoscaler serving"]["spec"]
    target = autoscaler["scaleTargetRef"]
    assert f"{target['kind']} {target['name']}" in resources()
    (metric,) = autoscaler["metrics"]
    (rule,) = load(DEPLOY / "kubernetes" / "prometheus_adapter.yaml")["rules"]["custom"]
    assert metric["pods"]["metric"]["name"] == rule["name"]["as"]
    # A histogram: its sum by its count is the mean. In microseconds, longer than a wait by design.
    series = ":tensorflow:serving:batching_session:queuing_latency"
    assert f'__name__="{series}_sum"' in rule["seriesQuery"]
    for part in ("sum", "count"):
        assert f"{series}_{part}{{<<.LabelMatchers>>}}" in rule["metricsQuery"]
    for folder in (CONFIG, GPU):
        batching = read_text_proto(folder / "batching.config", BatchingParameters)
        target_value = int(metric["pods"]["target"]["averageValue"])
        assert target_value > batching.batch_timeout_micros.value


@dataclasses.dataclass(frozen=True)
class Served:
    """An embedded server with the flags of the Deployment, and its models.config."""

    server: Server
    models_config: pathlib.Path

    def configure(self, versions: Sequence[int], labels: Mapping[str, int]) -> None:
        """Changes the file as kubelet does: at once."""
        config = text_format.Parse(self.models_config.read_text(), ModelServerConfig())
        (model,) = config.model_config_list.config
        model.model_version_policy.specific.versions[:] = versions
        model.version_labels.clear()
        model.version_labels.update(labels)
        beside = self.models_config.with_suffix(".new")
        beside.write_text(text_format.MessageToString(config))
        beside.rename(self.models_config)


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("models")
    config = text_format.Parse((CONFIG / "models.config").read_text(), ModelServerConfig())
    (model,) = config.model_config_list.config
    model.base_path = str(folder / pathlib.Path(model.base_path).relative_to("/models"))
    pathlib.Path(model.base_path).mkdir()
    for version, factor in ((1, 10.0), (2, 20.0)):
        save_scale(pathlib.Path(model.base_path, str(version)), factor)
    models_config = folder / "models.config"
    models_config.write_text(text_format.MessageToString(config))
    words = [
        word.replace(f"{CONFIG_PLACE}models.config", str(models_config)).replace(
            CONFIG_PLACE, f"{CONFIG}/"
        )
        for word in container()["args"]
    ]
    rest_port = free_port()
    soon = "--model_config_file_poll_wait_seconds=0.1"
    with running_server(f"--rest_api_port={rest_port}", *words, soon) as (_, port):
        server = Server(f"localhost:{port}", f"localhost:{rest_port}")
        yield Served(server, models_config)
        server.close()


@pytest.mark.parametrize("probe", ["startupProbe", "readinessProbe"])
def test_probes_are_answered(served, probe):
    assert served.server.http("GET", container()[probe]["httpGet"]["path"]).status == 200


def test_readiness_tells_a_model_that_is_not_served(served):
    path = container()["readinessProbe"]["httpGet"]["path"]
    assert served.server.http("GET", path.replace("stable", "absent")).status == 400
    assert served.server.http("GET", path.replace("image_classification", "absent")).status == 400


def test_metrics_are_where_prometheus_looks(served):
    response = served.server.http("GET", pod()["metadata"]["annotations"]["prometheus.io/path"])
    assert response.status == 200
    assert ":tensorflow:cc:saved_model:load_attempt_count" in response.text


@pytest.mark.parametrize(("model", "status"), [("image_classification", 0), ("absent", 1)])
def test_the_healthcheck_of_compose_asks_for_the_model(served, model, status):
    kind, *words = load(COMPOSE[0])["services"]["serving"]["healthcheck"]["test"]
    assert kind == "CMD"
    address = served.server.rest_address.replace(":", "/")
    command = [interpolate(word).replace("127.0.0.1/8501", address) for word in words]
    result = subprocess.run(
        command, env={**os.environ, "MODEL_NAME": model}, timeout=60, check=False
    )
    assert result.returncode == status


def test_rollout_and_rollback_by_label(served):
    """The steps of docs/serving.md; a label moves once its version is loaded."""
    model = "image_classification"

    def answers(label: str, version: int) -> None:
        request = predict({"x": floats(1.0)}, model=model, label=label)
        answered(request, {"y": [10.0 * version]}, version, served.server)

    def loaded(version: int) -> None:
        (entry,) = served.server.ask(status(model, version=version)).model_version_status
        equal("state", entry.AVAILABLE, entry.state)

    answers("stable", 1)
    served.configure([1, 2], {"stable": 1})
    eventually(lambda: loaded(2))
    answers("stable", 1)
    served.configure([1, 2], {"stable": 1, "canary": 2})
    eventually(lambda: answers("canary", 2))
    answers("stable", 1)
    served.configure([1, 2], {"stable": 2})
    eventually(lambda: answers("stable", 2))
    served.configure([1, 2], {"stable": 1})
    eventually(lambda: answers("stable", 1))
