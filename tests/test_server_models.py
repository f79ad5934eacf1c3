"""The model manager: versions come, go and fail while others answer."""

from __future__ import annotations

import pathlib
import shutil
import threading
import time
from collections.abc import Callable

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import model_pb2

from serving.server.configuration import ServedModel
from serving.server.errors import StatusError
from serving.server.models import Loading, ModelManager, State
from tests.served_models import save_scale

PATIENCE_SECONDS = 60


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """One version folder, to be copied: saving takes longer."""
    return save_scale(tmp_path_factory.mktemp("prepared") / "1", 2.0)


@pytest.fixture
def place(tmp_path, prepared):
    """``place(number)``: a whole version folder of that number appears in ``tmp_path``."""

    def copy(number: int) -> pathlib.Path:
        hidden = shutil.copytree(prepared, tmp_path / ".copy")
        return hidden.rename(tmp_path / str(number))

    return copy


@pytest.fixture
def managed(tmp_path):
    """``managed(...)``: a running manager of the model ``scale`` in ``tmp_path``."""
    managers = []

    def start(loading: dict | None = None, **policy) -> ModelManager:
        manager = ModelManager(
            [ServedModel("scale", tmp_path, **policy)],
            Loading(**{"poll_seconds": 0.05, "retries": 0, **(loading or {})}),
        )
        manager.start()
        managers.append(manager)
        return manager

    yield start
    for manager in managers:
        manager.stop()


def states(manager: ModelManager) -> dict[int, int]:
    return {version.number: version.state for version in manager.versions("scale")}


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


def spec(version: int | None = None) -> model_pb2.ModelSpec:
    chosen = model_pb2.ModelSpec(name="scale")
    if version is not None:
        chosen.version.value = version
    return chosen


def served_number(manager: ModelManager, version: int | None = None) -> int:
    with manager.use(spec(version)) as (number, _):
        return number


def test_the_latest_version_is_served_and_the_older_unloaded(managed, place):
    place(1)
    manager = managed()
    eventually(lambda: states(manager) == {1: State.AVAILABLE})
    place(2)
    eventually(lambda: states(manager) == {1: State.END, 2: State.AVAILABLE})
    assert served_number(manager) == 2
    with pytest.raises(StatusError, match=r"Servable not found for request: Specific\(scale, 1\)"):
        served_number(manager, 1)


def test_all_versions_and_an_empty_folder(managed, place, tmp_path):
    place(3)
    place(12)
    manager = managed(policy="all")
    eventually(lambda: states(manager) == {3: State.AVAILABLE, 12: State.AVAILABLE})
    assert served_number(manager, 3) == 3
    shutil.rmtree(tmp_path / "3")
    shutil.rmtree(tmp_path / "12")
    eventually(lambda: states(manager) == {3: State.END, 12: State.END})
    with pytest.raises(StatusError, match=r"Servable not found for request: Latest\(scale\)"):
        served_number(manager)
    place(3)
    eventually(lambda: states(manager) == {3: State.AVAILABLE, 12: State.END})


def test_a_specific_version(managed, place):
    for number in (1, 2, 3):
        place(number)
    manager = managed(policy="specific", specific=frozenset({2}))
    eventually(lambda: states(manager) == {2: State.AVAILABLE})


def test_a_base_path_that_goes_away_unloads_nothing(managed, place, tmp_path):
    place(1)
    manager = managed()
    eventually(lambda: states(manager) == {1: State.AVAILABLE})
    tmp_path.rename(tmp_path.with_name("away"))
    time.sleep(0.3)  # several looks
    assert served_number(manager) == 1
    tmp_path.with_name("away").rename(tmp_path)


def test_a_request_under_way_keeps_its_version(managed, place):
    place(1)
    manager = managed()
    eventually(lambda: states(manager) == {1: State.AVAILABLE})
    with manager.use(spec()) as (number, model):
        place(2)
        eventually(lambda: states(manager) == {1: State.UNLOADING, 2: State.AVAILABLE})
        assert served_number(manager) == 2
        assert number == 1
        signature = model.signatures["serving_default"]
        feeds = {signature.inputs["x"].name: np.array([3], np.float32)}
        assert model.run(feeds, [signature.outputs["y"].name])[0].tolist() == [6]
    eventually(lambda: states(manager) == {1: State.END, 2: State.AVAILABLE})


def test_a_version_that_fails_leaves_the_old_one(managed, place, tmp_path):
    place(1)
    manager = managed()
    eventually(lambda: states(manager) == {1: State.AVAILABLE})
    (tmp_path / "2").mkdir()
    (tmp_path / "2" / "saved_model.pb").write_bytes(b"no model")
    eventually(lambda: states(manager) == {1: State.AVAILABLE, 2: State.END})
    assert served_number(manager) == 1
    assert manager.versions("scale")[0].error.code != grpc.StatusCode.OK
    # It is not tried again until its folder disappears and returns.
    shutil.rmtree(tmp_path / "2")
    time.sleep(0.3)
    place(2)
    eventually(lambda: states(manager) == {1: State.END, 2: State.AVAILABLE})


def test_a_half_copied_version_is_tried_again(managed, place, tmp_path):
    place(1)
    manager = managed({"retries": 1000, "retry_seconds": 0.05})
    eventually(lambda: states(manager) == {1: State.AVAILABLE})
    (tmp_path / "2").mkdir()
    shutil.copytree(tmp_path / "1" / "variables", tmp_path / "2" / "variables")
    eventually(lambda: states(manager) == {1: State.AVAILABLE, 2: State.LOADING})
    assert served_number(manager) == 1
    shutil.copy(tmp_path / "1" / "saved_model.pb", tmp_path / "2" / "saved_model.pb")
    eventually(lambda: states(manager) == {1: State.END, 2: State.AVAILABLE})


def test_a_warm_up_request_that_fails_fails_the_load(managed, place, tmp_path):
    place(1)
    (tmp_path / "1" / "assets.extra").mkdir()
    (tmp_path / "1" / "assets.extra" / "tf_serving_warmup_requests").write_bytes(b"no records here")
    manager = managed()
    with pytest.raises(StatusError) as caught:
        manager.wait_until_available(threading.Event())
    assert caught.value.code == grpc.StatusCode.UNKNOWN
    assert caught.value.message.startswith(
        "1 servable(s) did not become available: {{name: scale version: 1} due to error: DATA_LOSS"
    )


def test_a_label_of_a_version_that_is_not_available(tmp_path):
    labelled = [ServedModel("scale", tmp_path, labels={"stable": 1})]
    with pytest.raises(
        StatusError,
        match="Request to assign label to version 1 of model scale, which is not currently "
        "available for inference",
    ):
        ModelManager(labelled, Loading())


def test_requests_by_label(tmp_path, place):
    place(1)
    place(2)
    labelled = [ServedModel("scale", tmp_path, policy="all", labels={"stable": 1})]
    manager = ModelManager(labelled, Loading(poll_seconds=0), early_labels=True)
    manager.start()
    eventually(lambda: states(manager) == {1: State.AVAILABLE, 2: State.AVAILABLE})
    with manager.use(model_pb2.ModelSpec(name="scale", version_label="stable")) as (number, _):
        assert number == 1
    unknown = model_pb2.ModelSpec(name="scale", version_label="canary")
    with (
        pytest.raises(StatusError, match="Unrecognized servable version label: canary"),
        manager.use(unknown),
    ):
        pass
    manager.stop()
