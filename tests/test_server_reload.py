"""The configuration: refused, replaced while the server runs, followed from a file."""

from __future__ import annotations

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import grpc
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_management_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving.server import configuration, flags
from serving.server.core import Core
from serving.server.errors import StatusError
from serving.server.models import ModelManager
from serving.server.version import Loading, State
from tests.served_models import REPOSITORY, free_port, running_server, save_scale

PATIENCE_SECONDS = 60
NOT_AVAILABLE = "which is not currently available for inference"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """One version folder, to be copied: saving takes longer."""
    return save_scale(tmp_path_factory.mktemp("prepared") / "1", 2.0)


@pytest.fixture
def place(tmp_path, prepared):
    """``place(name, *numbers)``: whole version folders of a model; its base path."""

    def copy(name: str, *numbers: int) -> pathlib.Path:
        for number in numbers:
            hidden = shutil.copytree(prepared, tmp_path / ".copy")
            (tmp_path / name).mkdir(exist_ok=True)
            hidden.rename(tmp_path / name / str(number))
        return tmp_path / name

    return copy


@pytest.fixture
def serving():
    """``serving(...)``: the manager of a server that has no models yet, and its core."""
    managers = []

    def start(early_labels: bool = False, **loading) -> tuple[ModelManager, Core]:
        settings = {"poll_seconds": 0.05, "retries": 0, **loading}
        manager = ModelManager([], Loading(**settings), early_labels=early_labels)
        manager.start()
        managers.append(manager)
        return manager, Core(manager)

    yield start
    for manager in managers:
        manager.stop()


def entry(base_path: pathlib.Path, more: str = "", name: str = "") -> str:
    return (
        f'config {{ name: "{name or base_path.name}" base_path: "{base_path}" '
        f'model_platform: "tensorflow" {more} }}'
    )


def request_of(*entries: str) -> model_management_pb2.ReloadConfigRequest:
    request = model_management_pb2.ReloadConfigRequest()
    text_format.Parse(f"model_config_list {{ {' '.join(entries)} }}", request.config)
    return request


def refusal(core: Core, *entries: str) -> tuple[str, str]:
    with pytest.raises(StatusError) as caught:
        core.reload(request_of(*entries))
    return caught.value.code.name, caught.value.message


def states(manager: ModelManager, name: str) -> dict[int, int]:
    return {version.number: version.state for version in manager.versions(name)}


def served(manager: ModelManager, name: str, label: str = "") -> int:
    spec = model_pb2.ModelSpec(name=name)
    if label:
        spec.version_label = label
    with manager.use(spec) as (number, _):
        return number


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


def test_a_reload_returns_when_the_new_models_answer(serving, place):
    manager, core = serving()
    response = core.reload(request_of(entry(place("a", 1)), entry(place("b", 3))))
    assert response.HasField("status")
    assert (response.status.error_code, response.status.error_message) == (0, "")
    assert (served(manager, "a"), served(manager, "b")) == (1, 3)


def test_a_reload_replaces_the_whole_configuration(serving, place):
    manager, core = serving()
    a, b, c = place("a", 1), place("b", 1), place("c", 1)
    core.reload(request_of(entry(a), entry(b)))
    core.reload(request_of(entry(b), entry(c)))
    assert (served(manager, "b"), served(manager, "c")) == (1, 1)
    eventually(lambda: states(manager, "a") == {1: State.END})
    with pytest.raises(StatusError, match=r"Servable not found for request: Latest\(a\)"):
        served(manager, "a")
    core.reload(request_of())
    eventually(lambda: states(manager, "c") == {1: State.END})
    # What was unloaded, or is about to be, comes again.
    core.reload(request_of(entry(a), entry(b)))
    assert (served(manager, "a"), served(manager, "b")) == (1, 1)


def test_a_reload_without_polling_looks_once_more(serving, place):
    manager, core = serving(poll_seconds=0)
    base_path = place("a", 1)
    core.reload(request_of(entry(base_path)))
    place("a", 2)
    core.reload(request_of(entry(base_path)))  # nothing has changed: no look
    time.sleep(0.5)  # several steps of the manager
    assert states(manager, "a") == {1: State.AVAILABLE}
    core.reload(request_of(entry(base_path, "model_version_policy { all {} }")))
    eventually(lambda: states(manager, "a") == {1: State.AVAILABLE, 2: State.AVAILABLE})


def test_another_base_path_and_another_policy(serving, place):
    manager, core = serving()
    one, two = place("one", 1), place("two", 2, 3)
    core.reload(request_of(entry(one, name="m")))
    core.reload(request_of(entry(two, name="m")))
    eventually(lambda: states(manager, "m") == {1: State.END, 3: State.AVAILABLE})
    core.reload(request_of(entry(two, "model_version_policy { all {} }", name="m")))
    eventually(lambda: states(manager, "m").get(2) == State.AVAILABLE)
    specific = "model_version_policy { specific { versions: 2 } }"
    core.reload(request_of(entry(two, specific, name="m")))
    eventually(lambda: states(manager, "m")[3] == State.END)
    core.reload(request_of(entry(one, name="m")))
    eventually(lambda: states(manager, "m") == {1: State.AVAILABLE, 2: State.END, 3: State.END})


def test_a_uri_of_a_local_folder_is_a_base_path(serving, place):
    manager, core = serving()
    base_path = place("a", 1)
    core.reload(request_of(entry(base_path).replace(str(base_path), f"file://{base_path}")))
    assert served(manager, "a") == 1


def test_the_deprecated_model_type_is_a_platform(serving, place):
    manager, core = serving()
    text = entry(place("a", 1)).replace('model_platform: "tensorflow"', "model_type: TENSORFLOW")
    core.reload(request_of(text))
    assert served(manager, "a") == 1


def test_a_new_model_that_fails_is_an_error_and_the_others_stay(serving, place, tmp_path):
    manager, core = serving()
    good = place("good", 1)
    (tmp_path / "bad" / "7").mkdir(parents=True)
    code, message = refusal(core, entry(good), entry(tmp_path / "bad"))
    assert code == "UNKNOWN"
    assert message.startswith(
        "1 model(s) did not become available: {{name: bad version: 7} due to error: NOT_FOUND: "
        "Specified file path does not appear to contain a SavedModel bundle"
    )
    assert message.endswith("}, }")
    assert served(manager, "good") == 1
    # It is in the configuration, and begins to answer when it can.
    place("bad", 8)
    eventually(lambda: states(manager, "bad") == {7: State.END, 8: State.AVAILABLE})


def test_one_good_version_of_a_new_model_is_enough(serving, place, tmp_path):
    manager, core = serving()
    base_path = place("a", 1)
    (base_path / "2").mkdir()
    core.reload(request_of(entry(base_path, "model_version_policy { all {} }")))
    assert served(manager, "a") == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda text: text + text,
            "Illegal to list model m multiple times in config list",
        ),
        (
            lambda text: text.replace('base_path: "/', 'base_path: "'),
            "Expected model m to have an absolute path or URI; got base_path()=",
        ),
        (
            lambda text: text.replace('base_path: "/', 'base_path: "gs://'),
            "Model m is on a file system that can't be read here: gs://",
        ),
        (
            lambda text: text.replace('"tensorflow"', '"torch"'),
            "Illegal to change a model's platform. For model m platform was tensorflow and new "
            "platform requested is torch",
        ),
        (
            lambda text: text.replace('"tensorflow"', '"torch"').replace('"m"', '"n"'),
            "Model n requests unsupported platform torch",
        ),
        (
            lambda text: text.replace('model_platform: "tensorflow"', ""),
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
            "ModelServerConfig::model_platform, model name is m",
        ),
        (
            lambda text: text.replace("model_platform", "model_type: TENSORFLOW model_platform"),
            "Illegal setting both ModelServerConfig::model_type (deprecated) and "
            "ModelServerConfig::model_platform, model name is m",
        ),
        (
            lambda text: text.replace('model_platform: "tensorflow"', "model_type: OTHER"),
            "ModelServerConfig::model_type choice 2 not supported.",
        ),
    ],
)
def test_a_configuration_that_is_refused_changes_nothing(serving, place, change, message):
    manager, core = serving()
    good = entry(place("m", 1))
    core.reload(request_of(good))
    code, text = refusal(core, entry(place("other", 1)), change(good))
    assert code == "INVALID_ARGUMENT"
    assert text.startswith(message)
    assert served(manager, "m") == 1
    assert not manager.versions("other")


@pytest.mark.parametrize("config", ["", "custom_model_config {}"])
def test_only_a_list_of_models_can_be_requested(serving, config):
    _, core = serving()
    request = model_management_pb2.ReloadConfigRequest()
    text_format.Parse(config, request.config)
    with pytest.raises(StatusError) as caught:
        core.reload(request)
    assert str(caught.value) == (
        "INVALID_ARGUMENT: ServerModelConfig type not supported by HandleReloadConfigRequest. "
        "Only ModelConfigList is currently supported"
    )


def labels(**numbers: int) -> str:
    return "model_version_policy { all {} }" + "".join(
        f' version_labels {{ key: "{label}" value: {number} }}' for label, number in numbers.items()
    )


def test_labels_are_assigned_before_models_are_loaded(serving, place):
    """A label of a version that is not available stops the whole change."""
    manager, core = serving()
    a, b = place("a", 1, 2), place("b", 1)
    expected = (
        "FAILED_PRECONDITION",
        f"Request to assign label to version 1 of model a, {NOT_AVAILABLE}",
    )
    assert refusal(core, entry(a, labels(stable=1)), entry(b)) == expected
    assert not manager.versions("b")
    core.reload(request_of(entry(a, labels())))
    eventually(lambda: states(manager, "a") == {1: State.AVAILABLE, 2: State.AVAILABLE})
    core.reload(request_of(entry(a, labels(stable=1, canary=2))))
    assert (served(manager, "a", "stable"), served(manager, "a", "canary")) == (1, 2)
    code, _ = refusal(core, entry(a, labels(stable=9)), entry(b))
    assert code == "FAILED_PRECONDITION"
    assert served(manager, "a", "stable") == 1
    assert not manager.versions("b")
    with pytest.raises(StatusError, match="Unrecognized servable version label: other"):
        served(manager, "a", "other")


def test_early_labels_may_be_new_but_not_moved_ahead(serving, place):
    manager, core = serving(early_labels=True)
    a = place("a", 1)
    core.reload(request_of(entry(a, labels(stable=1, canary=2))))
    assert served(manager, "a", "stable") == 1
    with pytest.raises(StatusError, match=r"Servable not found for request: Specific\(a, 2\)"):
        served(manager, "a", "canary")
    core.reload(request_of(entry(a, labels(stable=1, canary=2, next=3))))  # unchanged, and new
    assert refusal(core, entry(a, labels(stable=2))) == (
        "FAILED_PRECONDITION",
        f"Request to assign label to version 2 of model a, {NOT_AVAILABLE}",
    )
    place("a", 2)
    eventually(lambda: states(manager, "a").get(2) == State.AVAILABLE)
    core.reload(request_of(entry(a, labels(stable=2))))
    assert served(manager, "a", "stable") == 2
    with pytest.raises(StatusError, match="Unrecognized servable version label: canary"):
        served(manager, "a", "canary")


def test_a_reload_waits_no_longer_than_its_client(serving, place, tmp_path):
    """A base path that is not there keeps a model from being found, for as long as it isn't."""
    manager, core = serving()
    left = threading.Event()
    waiting = threading.Thread(
        target=core.reload,
        args=(request_of(entry(tmp_path / "a")), lambda: not left.is_set()),
    )
    waiting.start()
    left.set()
    waiting.join(PATIENCE_SECONDS)
    assert not waiting.is_alive()
    place("a", 1)
    eventually(lambda: states(manager, "a") == {1: State.AVAILABLE})


def test_a_later_reload_frees_one_that_waits(serving, place, tmp_path):
    manager, core = serving()
    waiting = threading.Thread(target=core.reload, args=(request_of(entry(tmp_path / "gone")),))
    waiting.start()
    eventually(lambda: "gone" in manager._models)
    core.reload(request_of(entry(place("a", 1))))
    waiting.join(PATIENCE_SECONDS)
    assert not waiting.is_alive()


def test_a_file_is_followed_and_a_damaged_one_changes_nothing(serving, place, tmp_path, caplog):
    manager, _ = serving()
    a, b = place("a", 1), place("b", 1)
    path, stop = tmp_path / "models.config", threading.Event()
    path.write_text(f"model_config_list {{ {entry(a)} }}")
    thread = threading.Thread(
        target=configuration.follow_file, args=(str(path), 0.02, manager.replace, stop)
    )
    thread.start()
    eventually(lambda: states(manager, "a") == {1: State.AVAILABLE})
    for damaged in ("model_config_list {", "", "\x00\xff", "custom_model_config {}"):
        caplog.clear()
        path.write_text(damaged)
        eventually(lambda: len(caplog.records) >= 1)
        time.sleep(0.2)  # several readings
        assert len([r for r in caplog.records if "changes nothing" in r.getMessage()]) == 1
        assert served(manager, "a") == 1
        path.write_text(f"model_config_list {{ {entry(a)} }}")
        time.sleep(0.1)
    path.unlink()
    time.sleep(0.1)
    # A label that comes too early is assigned when its version is available.
    path.write_text(f"model_config_list {{ {entry(a)} {entry(b)} }}")
    eventually(lambda: states(manager, "b") == {1: State.AVAILABLE})
    path.write_text(f"model_config_list {{ {entry(b, labels(stable=2))} }}")
    place("b", 2)
    time.sleep(0.1)
    assert served(manager, "a") == 1
    path.write_text(f"model_config_list {{ {entry(b, labels())} }}")
    eventually(lambda: states(manager, "b").get(2) == State.AVAILABLE)
    path.write_text(f"model_config_list {{ {entry(b, labels(stable=2))} }}")
    eventually(lambda: "stable" in manager._models["b"].labels)
    assert served(manager, "b", "stable") == 2
    stop.set()
    thread.join()


def options(*arguments: str):
    return flags.parse(["--model_base_path=/m", *arguments])


def test_the_session_s_configuration(tmp_path):
    path = tmp_path / "session.config"
    path.write_text(
        "gpu_options { allow_growth: true per_process_gpu_memory_fraction: 0.5 } "
        "intra_op_parallelism_threads: 3 inter_op_parallelism_threads: 4"
    )
    file = f"--tensorflow_session_config_file={path}"
    session = configuration.read_session(options(file))
    assert session.gpu_options.allow_growth
    assert session.gpu_options.per_process_gpu_memory_fraction == 0.5
    assert (session.intra_op_parallelism_threads, session.inter_op_parallelism_threads) == (3, 4)
    session = configuration.read_session(
        options(
            file,
            "--per_process_gpu_memory_fraction=0.25",
            "--tensorflow_intra_op_parallelism=1",
            "--tensorflow_inter_op_parallelism=2",
        )
    )
    assert session.gpu_options.allow_growth
    assert session.gpu_options.per_process_gpu_memory_fraction == 0.25
    assert (session.intra_op_parallelism_threads, session.inter_op_parallelism_threads) == (1, 2)
    path.write_text("gpu_options { no_such_option: true }")
    with pytest.raises(StatusError, match=r"Error parsing text-format tensorflow\.ConfigProto: "):
        configuration.read_session(options(file))


def resident_mib() -> float:
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def test_unloading_gives_memory_back(serving, tmp_path):
    """Fifty times a version of 10 MiB, which would be 500 MiB."""
    large = tf.Module()
    large.weights = tf.Variable(tf.ones([10 * 2**18]))
    large.answer = tf.function(
        lambda x: {"y": x + large.weights[0]},
        input_signature=[tf.TensorSpec([None], tf.float32, name="x")],
    )
    tf.saved_model.save(large, str(tmp_path / "large" / "1"), signatures=large.answer)
    manager, core = serving(poll_seconds=0)
    resident = []
    for _ in range(50):
        core.reload(request_of(entry(tmp_path / "large")))
        core.reload(request_of())
        eventually(lambda: states(manager, "large") == {1: State.END})
        resident.append(resident_mib())
    assert max(resident[10:]) - min(resident[5:10]) < 60


def channel_of(port: int) -> grpc.Channel:
    return grpc.insecure_channel(f"localhost:{port}")


def status_of(channel: grpc.Channel, name: str) -> dict[int, int]:
    request = get_model_status_pb2.GetModelStatusRequest(model_spec=model_pb2.ModelSpec(name=name))
    try:
        response = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(request)
    except grpc.RpcError as error:
        if error.code() != grpc.StatusCode.NOT_FOUND:
            raise
        return {}
    return {version.version: version.state for version in response.model_version_status}


def doubled(channel: grpc.Channel, name: str, number: float, **spec) -> list[float]:
    request = predict_pb2.PredictRequest(model_spec=model_pb2.ModelSpec(name=name, **spec))
    request.inputs["x"].CopyFrom(tf.make_tensor_proto([number], tf.float32))
    response = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request)
    return list(response.outputs["y"].float_val)


def test_a_process_follows_its_file_and_takes_requests_to_reload(place, tmp_path):
    a, b = place("a", 1), place("b", 1)
    path = tmp_path / "models.config"
    path.write_text(f"model_config_list {{ {entry(a)} }}")
    with (
        running_server(
            f"--model_config_file={path}",
            "--model_config_file_poll_wait_seconds=0.2",
            "--file_system_poll_wait_seconds=0.1",
        ) as (_, port),
        channel_of(port) as channel,
    ):
        service = model_service_pb2_grpc.ModelServiceStub(channel)
        assert doubled(channel, "a", 3) == [6]
        path.write_text(f"model_config_list {{ {entry(b)} }}")

        eventually(lambda: status_of(channel, "a") == {1: State.END})
        eventually(lambda: status_of(channel, "b") == {1: State.AVAILABLE})
        path.write_text("no configuration")
        response = service.HandleReloadConfigRequest(request_of(entry(a), entry(b)))
        assert (response.HasField("status"), response.status.error_code) == (True, 0)
        assert (doubled(channel, "a", 3), doubled(channel, "b", 3)) == ([6], [6])
        with pytest.raises(grpc.RpcError) as caught:
            service.HandleReloadConfigRequest(request_of(entry(a), entry(a)))
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert caught.value.details() == "Illegal to list model a multiple times in config list"
        with pytest.raises(grpc.RpcError) as caught:
            service.HandleReloadConfigRequest(
                request_of(entry(a), entry(tmp_path / "nowhere")), timeout=0.3
            )
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert doubled(channel, "a", 3) == [6]


def test_a_killed_process_comes_back_with_the_same_versions(place, tmp_path):
    """And a file that is not polled is read at the start only."""
    path = tmp_path / "models.config"
    path.write_text(f"model_config_list {{ {entry(place('a', 1, 2), labels(stable=1))} }}")
    arguments = (
        f"--model_config_file={path}",
        "--allow_version_labels_for_unavailable_models",
        "--file_system_poll_wait_seconds=0.1",
    )
    for _ in range(2):
        with running_server(*arguments) as (process, port), channel_of(port) as channel:
            eventually(
                lambda channel=channel: (
                    status_of(channel, "a") == {1: State.AVAILABLE, 2: State.AVAILABLE}
                )
            )
            assert doubled(channel, "a", 3, version_label="stable") == [6]
            kept = path.read_text()
            path.write_text("model_config_list {}")
            time.sleep(0.5)
            assert doubled(channel, "a", 3) == [6]
            path.write_text(kept)
            process.send_signal(signal.SIGKILL)
            process.wait(PATIENCE_SECONDS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "model_config_list { nonsense }",
            "INVALID_ARGUMENT: Error parsing text-format tensorflow.serving.ModelServerConfig: ",
        ),
        (
            'model_config_list { config { name: "a" base_path: "/a" model_platform: "tensorflow" '
            'version_labels { key: "stable" value: 1 } } }',
            "FAILED_PRECONDITION: Request to assign label to version 1 of model a, "
            + NOT_AVAILABLE,
        ),
    ],
)
def test_a_process_that_can_not_be_configured_ends(tmp_path, text, message):
    path = tmp_path / "models.config"
    path.write_text(text)
    result = subprocess.run(
        [
            *(sys.executable, "-m", "serving.server", f"--port={free_port()}"),
            f"--model_config_file={path}",
        ],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert result.returncode == 1
    assert f"Failed to start server. Error: {message}" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_process_that_still_waits_for_a_model_ends_when_it_is_told_to(tmp_path):
    """One model has no version yet, another one retries."""
    (tmp_path / "retries" / "1").mkdir(parents=True)
    (tmp_path / "waits").mkdir()
    path = tmp_path / "models.config"
    path.write_text(
        f"model_config_list {{ {entry(tmp_path / 'waits')} {entry(tmp_path / 'retries')} }}"
    )
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "serving.server", f"--port={free_port()}"),
            f"--model_config_file={path}",
        ],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        seen = ""
        while "next attempt in 60 s" not in seen or "Did you forget to name" not in seen:
            line = process.stderr.readline()
            assert line, seen
            seen += line
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 0
        assert not process.stdout.read()
