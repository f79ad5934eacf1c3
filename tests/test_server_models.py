"""The model manager: versions come, go and fail while others answer."""

from __future__ import annotations

import gc
import os
import pathlib
import re
import shutil
import threading
import time
import weakref
from collections.abc import Callable

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import get_model_status_pb2, model_pb2, predict_pb2, prediction_log_pb2

from serving.server.configuration import ServedModel
from serving.server.core import Core
from serving.server.errors import StatusError
from serving.server.models import ModelManager
from serving.server.saved_model import SavedModel
from serving.server.version import Loading, State
from serving.server.warmup import WARMUP_FILE
from tests.served_models import save_scale

PATIENCE_SECONDS = 60
BLOCKING_SECONDS = 30


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


class Gate(tf.Module):
    """Answers only when it is opened, which makes a load with a warm-up request wait."""

    def __init__(self):
        self.reached, self.open = threading.Event(), threading.Event()

    def _wait(self, x):
        self.reached.set()
        self.open.wait(BLOCKING_SECONDS)
        return x

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def pass_on(self, x):
        return {"y": tf.ensure_shape(tf.numpy_function(self._wait, [x], tf.float32), [None])}


@pytest.fixture(scope="module")
def gate_folder(tmp_path_factory):
    """A version folder of a gate, and the gate."""
    gate = Gate()
    folder = tmp_path_factory.mktemp("gate") / "1"
    tf.saved_model.save(gate, str(folder), signatures=gate.pass_on)
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.inputs["x"].CopyFrom(tf.make_tensor_proto([1.0]))
    (folder / WARMUP_FILE).parent.mkdir()
    with tf.io.TFRecordWriter(str(folder / WARMUP_FILE)) as writer:
        writer.write(log.SerializeToString())
    return folder, gate


@pytest.fixture
def gated(gate_folder, tmp_path):
    """``gated(folder)``: a version that is not loaded before the gate is opened; the gate."""
    prepared, gate = gate_folder

    def copy(folder: pathlib.Path) -> Gate:
        hidden = shutil.copytree(prepared, tmp_path / ".gated")
        folder.parent.mkdir(exist_ok=True)
        hidden.rename(folder)
        return gate

    gate.reached.clear()
    gate.open.clear()
    yield copy
    gate.open.set()


@pytest.fixture
def managed(tmp_path):
    """``managed(...)``: a running manager of the model ``scale`` in ``tmp_path``."""
    managers = []

    def start(loading: dict | None = None, *others: ServedModel, **policy) -> ModelManager:
        manager = ModelManager(
            [ServedModel("scale", tmp_path, **policy), *others],
            Loading(**{"poll_seconds": 0.05, "retries": 0, **(loading or {})}),
        )
        manager.start()
        managers.append(manager)
        return manager

    yield start
    for manager in managers:
        manager.stop()


def states(manager: ModelManager, name: str = "scale") -> dict[int, int]:
    return {version.number: version.state for version in manager.versions(name)}


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


def scaled(model: SavedModel, number: float) -> float:
    signature = model.signatures["serving_default"]
    feeds = {signature.inputs["x"].name: np.array([number], np.float32)}
    return model.run(feeds, [signature.outputs["y"].name])[0].item()


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
        assert scaled(model, 3) == 6
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


def test_a_label_is_no_version_for_the_status(managed, place):
    place(1)
    manager = managed()
    eventually(lambda: states(manager) == {1: State.AVAILABLE})
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "scale"
    request.model_spec.version_label = "unknown"
    (entry,) = Core(manager).status(request).model_version_status
    assert (entry.version, entry.state, entry.status.error_code) == (1, State.AVAILABLE, 0)


def test_version_zero_is_a_version_and_not_the_latest(managed, place):
    place(1)
    manager = managed()
    eventually(lambda: states(manager) == {1: State.AVAILABLE})
    with pytest.raises(StatusError, match=r"Servable not found for request: Specific\(scale, 0\)"):
        served_number(manager, 0)


def test_back_to_a_smaller_number(managed, place, tmp_path):
    place(1)
    place(2)
    manager = managed()
    eventually(lambda: states(manager) == {2: State.AVAILABLE})
    shutil.rmtree(tmp_path / "2")
    eventually(lambda: states(manager) == {1: State.AVAILABLE, 2: State.END})
    place(2)
    eventually(lambda: states(manager) == {1: State.END, 2: State.AVAILABLE})


def test_a_folder_that_returns_while_its_version_is_still_in_use(managed, place, tmp_path):
    place(1)
    manager = managed()
    eventually(lambda: states(manager) == {1: State.AVAILABLE})
    with manager.use(spec()) as (_, model):
        (tmp_path / "1").rename(tmp_path / "away")
        eventually(lambda: states(manager) == {1: State.UNLOADING})
        (tmp_path / "away").rename(tmp_path / "1")
        assert scaled(model, 3) == 6
    eventually(lambda: states(manager) == {1: State.AVAILABLE})
    with manager.use(spec()) as (_, again):
        assert again is not model


def test_no_second_look_without_polling(managed, place):
    place(1)
    manager = managed({"poll_seconds": 0})
    eventually(lambda: states(manager) == {1: State.AVAILABLE})
    place(2)
    time.sleep(0.5)  # several steps of the manager
    assert states(manager) == {1: State.AVAILABLE}


def test_many_versions_are_loaded_side_by_side(managed, place, tmp_path):
    numbers = range(1, 13)
    for number in numbers:
        place(number)
    manager = managed(policy="all")
    eventually(lambda: states(manager) == dict.fromkeys(numbers, State.AVAILABLE))
    for number in numbers:
        with manager.use(spec(number)) as (_, model):
            assert scaled(model, 3) == 6


def test_a_slow_load_holds_up_no_other(managed, place, gated, tmp_path):
    """Other models load, other versions load, the file system is looked at."""
    gate = gated(tmp_path / "gated" / "1")
    place(1)
    manager = managed({}, ServedModel("gated", tmp_path / "gated"))
    assert gate.reached.wait(PATIENCE_SECONDS)
    eventually(lambda: states(manager) == {1: State.AVAILABLE})
    place(2)
    eventually(lambda: states(manager) == {1: State.END, 2: State.AVAILABLE})
    assert states(manager, "gated") == {1: State.LOADING}
    gate.open.set()
    eventually(lambda: states(manager, "gated") == {1: State.AVAILABLE})


def test_a_retrying_model_holds_up_no_other(managed, place, tmp_path):
    (tmp_path / "bad" / "1").mkdir(parents=True)
    place(1)
    manager = managed({"retries": 5, "retry_seconds": 3600}, ServedModel("bad", tmp_path / "bad"))
    eventually(lambda: states(manager) == {1: State.AVAILABLE})
    eventually(lambda: states(manager, "bad") == {1: State.LOADING})
    # When the folder goes, so does the wait for the next attempt.
    (tmp_path / "bad" / "1").rmdir()
    eventually(lambda: states(manager, "bad") == {1: State.END})
    shutil.copytree(tmp_path / "1", tmp_path / "bad" / "2")
    eventually(lambda: states(manager, "bad") == {1: State.END, 2: State.AVAILABLE})


def test_a_folder_that_vanishes_while_it_is_loaded(managed, place, gated, tmp_path):
    place(1)
    manager = managed()
    eventually(lambda: states(manager) == {1: State.AVAILABLE})
    gate = gated(tmp_path / "2")
    assert gate.reached.wait(PATIENCE_SECONDS)
    shutil.rmtree(tmp_path / "2")
    time.sleep(0.3)  # several looks
    assert served_number(manager) == 1
    gate.open.set()
    eventually(lambda: states(manager) == {1: State.AVAILABLE, 2: State.END})
    assert served_number(manager) == 1


def test_an_end_while_a_version_is_loaded(managed, place, gated, tmp_path):
    place(1)
    manager = managed()
    eventually(lambda: states(manager) == {1: State.AVAILABLE})
    gate = gated(tmp_path / "2")
    assert gate.reached.wait(PATIENCE_SECONDS)
    manager.stop()
    assert states(manager) == {1: State.END, 2: State.LOADING}
    gate.open.set()
    eventually(lambda: states(manager) == {1: State.END, 2: State.END})


def test_folders_that_come_and_go_all_the_time(managed, place, tmp_path):
    place(1)
    manager = managed({"poll_seconds": 0.001})
    eventually(lambda: states(manager) == {1: State.AVAILABLE})
    for _ in range(20):
        place(2)
        shutil.rmtree(tmp_path / "2")
        with manager.use(spec()) as (_, model):
            assert scaled(model, 3) == 6
    place(3)
    eventually(lambda: states(manager).get(3) == State.AVAILABLE)
    eventually(lambda: states(manager)[1] == State.END)


def without_file(name: str) -> Callable[[pathlib.Path], None]:
    return lambda folder: (folder / name).unlink()


def with_contents(name: str, change: Callable[[bytes], bytes]) -> Callable[[pathlib.Path], None]:
    def write(folder: pathlib.Path) -> None:
        (folder / name).write_bytes(change((folder / name).read_bytes()))

    return write


def without_serve_tag(content: bytes) -> bytes:
    message = saved_model_pb2.SavedModel.FromString(content)
    message.meta_graphs[0].meta_info_def.tags[:] = ["train"]
    return message.SerializeToString()


def with_abort(content: bytes) -> bytes:
    """A graph at which TensorFlow ends the process: a constant that is of two types at once."""
    message = saved_model_pb2.SavedModel.FromString(content)
    graph = message.meta_graphs[0].graph_def
    bounds = graph.node.add(name="bounds", op="Const")
    bounds.attr["dtype"].type = tf.int32.as_datatype_enum
    bounds.attr["value"].tensor.CopyFrom(tf.make_tensor_proto([1], tf.uint16))
    sliced = graph.node.add(name="sliced", op="StridedSlice", input=["bounds"] * 4)
    sliced.attr["T"].type = sliced.attr["Index"].type = tf.int32.as_datatype_enum
    return message.SerializeToString()


DATA = "variables/variables.data-00000-of-00001"
INDEX = "variables/variables.index"
DAMAGES = {
    "no graph": (without_file("saved_model.pb"), "NOT_FOUND", "does not appear to contain"),
    "empty graph": (with_contents("saved_model.pb", lambda _: b""), "NOT_FOUND", "supplied tags"),
    "no proto": (
        with_contents("saved_model.pb", lambda _: os.urandom(500)),
        "DATA_LOSS",
        "Can't parse .*saved_model.pb as binary proto",
    ),
    "half a graph": (
        with_contents("saved_model.pb", lambda content: content[: len(content) // 2]),
        "DATA_LOSS",
        "Can't parse .*saved_model.pb as binary proto",
    ),
    "no serve tag": (
        with_contents("saved_model.pb", without_serve_tag),
        "NOT_FOUND",
        "Could not find meta graph def matching supplied tags: { serve }",
    ),
    "deadly graph": (
        with_contents("saved_model.pb", with_abort),
        "DATA_LOSS",
        "TensorFlow ends the process that loads it",
    ),
    "no index": (without_file(INDEX), None, "variables"),
    "no variables": (without_file(DATA), None, "variables"),
    "half of the variables": (
        with_contents(DATA, lambda content: content[: len(content) // 2]),
        None,
        "variables|bytes",
    ),
    "other variables": (
        with_contents(DATA, lambda content: bytes(byte ^ 255 for byte in content)),
        "DATA_LOSS",
        "[Cc]hecksum",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_version_ends_with_its_error_and_the_old_one_answers(
    managed, place, prepared, tmp_path, damage
):
    break_it, code, text = DAMAGES[damage]
    place(1)
    manager = managed()
    eventually(lambda: states(manager) == {1: State.AVAILABLE})
    hidden = shutil.copytree(prepared, tmp_path / ".damaged")
    break_it(hidden)
    hidden.rename(tmp_path / "2")
    eventually(lambda: states(manager) == {1: State.AVAILABLE, 2: State.END})
    error = manager.versions("scale")[0].error
    assert code in (None, error.code.name), error
    assert re.search(text, error.message), error
    with manager.use(spec()) as (_, model):
        assert scaled(model, 3) == 6


def test_a_graph_that_was_edited_on_purpose_is_served(managed, place, tmp_path):
    """Its checksum no longer fits, but it does no harm."""
    folder = place(1)
    message = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    signatures = message.meta_graphs[0].signature_def
    signatures["other"].CopyFrom(signatures["serving_default"])
    (folder / "saved_model.pb").write_bytes(message.SerializeToString())
    manager = managed()
    eventually(lambda: states(manager) == {1: State.AVAILABLE})
    with manager.use(spec()) as (_, model):
        assert "other" in model.signatures


def test_a_file_that_is_named_like_a_version(managed, place, tmp_path):
    place(1)
    manager = managed()
    eventually(lambda: states(manager) == {1: State.AVAILABLE})
    (tmp_path / "2").write_text("no folder")
    eventually(lambda: states(manager) == {1: State.AVAILABLE, 2: State.END})


def test_a_version_that_is_loaded_while_it_is_copied(managed, place, prepared, tmp_path):
    """File by file and piece by piece, the graph first: each attempt fails, the last succeeds."""
    place(1)
    manager = managed({"retries": 1000, "retry_seconds": 0.01})
    eventually(lambda: states(manager) == {1: State.AVAILABLE})
    (tmp_path / "2" / "variables").mkdir(parents=True)
    (tmp_path / "2" / "assets").mkdir()
    for name in ("saved_model.pb", INDEX, DATA, "fingerprint.pb"):
        content = (prepared / name).read_bytes()
        with (tmp_path / "2" / name).open("wb", buffering=0) as file:
            for start in range(0, len(content), max(1, len(content) // 3)):
                file.write(content[start : start + max(1, len(content) // 3)])
                time.sleep(0.05)
    eventually(lambda: states(manager) == {1: State.END, 2: State.AVAILABLE})
    with manager.use(spec()) as (_, model):
        assert scaled(model, 3) == 6


def test_unloading_under_load_fails_no_request(managed, prepared, tmp_path):
    """Six swaps while four threads ask: every answer is right."""
    manager = managed()
    request = predict_pb2.PredictRequest(model_spec=spec())
    request.inputs["x"].CopyFrom(tf.make_tensor_proto([3.0]))
    core, stop, answers, failures = Core(manager), threading.Event(), set(), []

    def ask() -> None:
        while not stop.is_set():
            try:
                response = core.predict(request)
                answers.add((response.model_spec.version.value, *response.outputs["y"].float_val))
            except Exception as error:
                failures.append(error)

    shutil.copytree(prepared, tmp_path / "1")
    eventually(lambda: states(manager) == {1: State.AVAILABLE})
    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(2, 8):
        shutil.copytree(prepared, tmp_path / ".copy").rename(tmp_path / str(number))
        eventually(lambda number=number: states(manager).get(number) == State.AVAILABLE)
        eventually(lambda number=number: states(manager)[number - 1] == State.END)
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert answers == {(number, 6.0) for number in range(1, 8)}


def test_an_unloaded_graph_needs_no_garbage_collector(prepared):
    gc.disable()
    try:
        model = SavedModel(prepared)
        assert scaled(model, 3) == 6
        graph = weakref.ref(model._graph)
        model.close()
        del model
        assert graph() is None
    finally:
        gc.enable()
