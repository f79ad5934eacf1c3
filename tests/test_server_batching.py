"""Dynamic batching: every rule of TensorFlow Serving's batching parameters, on real SavedModels."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import threading
import time
from concurrent import futures

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from serving.server import metrics
from serving.server.batching import BatchedModel, Batching, Parameters, read_parameters
from serving.server.errors import StatusError, as_status
from serving.server.saved_model import SavedModel
from tests.served_models import REPOSITORY, running_server, save_scale

INVALID = grpc.StatusCode.INVALID_ARGUMENT
FAILED = grpc.StatusCode.FAILED_PRECONDITION
PATIENCE_SECONDS = 60


class Rows(tf.Module):
    """Answers that can and can't be divided among requests."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def double(self, x):
        return {
            "y": 2 * x,
            "half": x[: tf.size(x) // 2],
            "total": tf.reduce_sum(x),
        }

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None], tf.float32, name="long"),
            tf.TensorSpec([None, None], tf.string, name="text"),
        ]
    )
    def wide(self, long, text):
        return {"long": long + 0, "text": tf.strings.join([text, "!"])}

    @tf.function(input_signature=[tf.TensorSpec(None, tf.float32, name="x")])
    def anything(self, x):
        return {"y": 2 * tf.debugging.check_numerics(x, "not a number")}


class WatchedModel(SavedModel):
    """Notes what every run is given and by which thread, and runs only while its gate is open."""

    def __init__(self, directory):
        super().__init__(directory)
        self.runs: list[dict[str, np.ndarray]] = []
        self.threads: list[int] = []
        self.gate = threading.Event()
        self.gate.set()

    def run(self, feeds, fetches, timeout_ms=0):
        self.runs.append(dict(feeds))
        self.threads.append(threading.get_ident())
        assert self.gate.wait(PATIENCE_SECONDS)
        return super().run(feeds, fetches, timeout_ms)

    @property
    def sizes(self) -> list[int]:
        return [len(next(iter(feeds.values()))) for feeds in self.runs]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows") / "1"
    module = Rows()
    signatures = {"double": module.double, "wide": module.wide, "anything": module.anything}
    tf.saved_model.save(module, str(folder), signatures=signatures)
    return folder


@pytest.fixture
def model(folder):
    model = WatchedModel(folder)
    yield model
    model.close()


@pytest.fixture
def pool():
    """Clients."""
    with futures.ThreadPoolExecutor(32) as pool:
        yield pool


def batched(model: SavedModel, **parameters) -> BatchedModel:
    return Batching(Parameters(**({"num_batch_threads": 1} | parameters))).wrap(model)


def ask(model: BatchedModel, signature: str, *outputs: str, timeout_ms: int = 0, **inputs):
    """One request's answer: an array, or several by output."""
    definition = model.signatures[signature]
    feeds = {definition.inputs[name].name: value for name, value in inputs.items()}
    fetches = [definition.outputs[name].name for name in outputs]
    answers = model.run(feeds, fetches, timeout_ms)
    return answers[0] if len(outputs) == 1 else dict(zip(outputs, answers, strict=True))


def double(model: BatchedModel, *values: float, timeout_ms: int = 0) -> list[float]:
    return ask(model, "double", "y", x=floats(*values), timeout_ms=timeout_ms).tolist()


def floats(*values) -> np.ndarray:
    return np.array(values, np.float32)


def refusal(call, *arguments, **keywords) -> tuple[grpc.StatusCode, str]:
    with pytest.raises((StatusError, tf.errors.OpError)) as caught:
        call(*arguments, **keywords)
    status = as_status(caught.value)
    return status.code, status.message


def wait_until(condition) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


@contextlib.contextmanager
def all_slots_taken(batches: BatchedModel, model: WatchedModel, pool):
    """Until the block ends, a run is under way, and everything else waits."""
    model.gate.clear()
    began = len(model.runs)
    first = pool.submit(double, batches, 0)
    try:
        wait_until(lambda: len(model.runs) > began)
        yield
    finally:
        model.gate.set()
    assert first.result(PATIENCE_SECONDS) == [0]


def wait_for_waiting(batches: BatchedModel, requests: int) -> None:
    """Returns when so many requests wait in the queues of a model."""

    def waiting() -> int:
        queues = list(batches._queues.values())
        return sum(len(batch.tasks) for queue in queues for batch in list(queue.batches))

    wait_until(lambda: waiting() == requests)


def submit_in_turn(pool, batches: BatchedModel, calls) -> list[futures.Future]:
    """Begins requests one after the other, each when the one before it waits."""
    answers = []
    for call, *arguments in calls:
        answers.append(pool.submit(call, batches, *arguments))
        wait_for_waiting(batches, len(answers))
    return answers


def results(answers: list[futures.Future]) -> list:
    return [answer.result(PATIENCE_SECONDS) for answer in answers]


def test_defaults_of_all_nine_fields():
    assert Parameters() == Parameters(
        max_batch_size=1000,
        batch_timeout_micros=0,
        max_enqueued_batches=10,
        num_batch_threads=os.cpu_count(),
        thread_pool_name="",
        allowed_batch_sizes=(),
        pad_variable_length_inputs=False,
        enable_large_batch_splitting=False,
        max_execution_batch_size=0,
    )
    assert Parameters().largest_batch == 1000


def test_all_nine_fields_are_read_from_text(tmp_path):
    path = tmp_path / "batching.txt"
    path.write_text("""
        max_batch_size { value: 64 }
        batch_timeout_micros { value: 500 }
        max_enqueued_batches { value: 3 }
        num_batch_threads { value: 2 }
        thread_pool_name { value: "pool" }
        allowed_batch_sizes: 8
        allowed_batch_sizes: 32
        pad_variable_length_inputs: true
        enable_large_batch_splitting { value: true }
        max_execution_batch_size { value: 32 }
    """)
    assert read_parameters(path) == Parameters(
        max_batch_size=64,
        batch_timeout_micros=500,
        max_enqueued_batches=3,
        num_batch_threads=2,
        thread_pool_name="pool",
        allowed_batch_sizes=(8, 32),
        pad_variable_length_inputs=True,
        enable_large_batch_splitting=True,
        max_execution_batch_size=32,
    )
    path.write_text("max_batch_size { value: 0 }")
    assert refusal(read_parameters, path) == (INVALID, "max_batch_size must be positive; was 0")
    path.write_text("max_batch_size: 8")
    code, message = refusal(read_parameters, path)
    assert code == INVALID
    assert message.startswith("Error parsing text-format tensorflow.serving.BatchingParameters")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"max_enqueued_batches": 0}, "max_enqueued_batches must be positive; was 0"),
        ({"num_batch_threads": -1}, "num_batch_threads must be positive; was -1"),
        ({"batch_timeout_micros": -1}, "batch_timeout_micros must be non-negative; was -1"),
        (
            {"max_batch_size": 8, "max_execution_batch_size": 9},
            "max_execution_batch_size 9 must not exceed max_batch_size 8",
        ),
        (
            {"max_batch_size": 8, "allowed_batch_sizes": (4, 2, 8)},
            "allowed_batch_sizes entries must be positive and monotonically increasing; were "
            "[4, 2, 8]",
        ),
        (
            {"max_batch_size": 8, "allowed_batch_sizes": (2, 4)},
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 4; "
            "expected 8",
        ),
        (
            {
                "max_batch_size": 8,
                "enable_large_batch_splitting": True,
                "max_execution_batch_size": 4,
                "allowed_batch_sizes": (2, 8),
            },
            "Last entry in allowed_batch_sizes must match max_execution_batch_size; last entry was "
            "8; expected 4",
        ),
    ],
)
def test_parameters_that_can_not_be_met(parameters, message):
    assert refusal(Parameters, **parameters) == (INVALID, message)


def test_a_request_that_finds_a_free_slot_is_run_by_its_own_thread(model):
    batches = batched(model)
    assert double(batches, 1, 2) == [2, 4]
    assert model.threads == [threading.get_ident()]


def test_requests_that_wait_are_run_together_and_each_gets_its_own_rows(model, pool):
    batches = batched(model)
    with all_slots_taken(batches, model, pool):
        calls = [(double, 1), (double, 2, 3), (double, 4, 5, 6)]
        answers = submit_in_turn(pool, batches, calls)
    assert results(answers) == [[2], [4, 6], [8, 10, 12]]
    assert model.sizes == [1, 6]


def test_max_batch_size_of_a_request(model):
    batches = batched(model, max_batch_size=128)
    assert refusal(double, batches, *range(200)) == (
        INVALID,
        "Task size 200 is larger than maximum input batch size 128",
    )
    assert len(double(batches, *range(128))) == 128


def test_max_batch_size_of_a_batch(model, pool):
    batches = batched(model, max_batch_size=4)
    with all_slots_taken(batches, model, pool):
        calls = [(double, 1, 1), (double, 2, 2, 2), (double, 3), (double, 4)]
        answers = submit_in_turn(pool, batches, calls)
    assert results(answers) == [[2, 2], [4, 4, 4], [6], [8]]
    assert model.sizes == [1, 2, 4, 1]  # three rows don't fit in with two


def test_batch_timeout_ends_at_once_for_a_full_batch(model, pool):
    batches = batched(model, max_batch_size=2, batch_timeout_micros=3_600_000_000)
    answers = [pool.submit(double, batches, value) for value in (1, 2)]
    assert results(answers) == [[2], [4]]
    assert model.sizes == [2]


def test_batch_timeout_ends_at_once_for_a_batch_that_the_next_one_closes(model, pool):
    batches = batched(model, max_batch_size=4, batch_timeout_micros=3_600_000_000)
    first = pool.submit(double, batches, 1, 1, 1)
    wait_for_waiting(batches, 1)
    second = pool.submit(double, batches, 2, 2)
    assert first.result(PATIENCE_SECONDS) == [2, 2, 2]
    wait_for_waiting(batches, 1)
    assert double(batches, 3, 3) == [6, 6]
    assert second.result(PATIENCE_SECONDS) == [4, 4]
    assert model.sizes == [3, 4]


def test_batch_timeout_lets_a_batch_go_that_does_not_fill(model):
    batches = batched(model, batch_timeout_micros=20_000)
    assert double(batches, 1) == [2]
    assert model.sizes == [1]


def test_max_enqueued_batches_include_the_open_one(model, pool):
    batches = batched(model, max_batch_size=2, max_enqueued_batches=2)
    with all_slots_taken(batches, model, pool):
        answers = submit_in_turn(pool, batches, [(double, 1), (double, 2), (double, 3)])
        assert refusal(double, batches, 4, 4) == (
            grpc.StatusCode.UNAVAILABLE,
            "The batch scheduling queue to which this task was submitted is full; currently 2 "
            "batches enqueued and max_enqueued_batches is 2",
        )
        answers.append(pool.submit(double, batches, 5))  # has room in the open batch
        wait_for_waiting(batches, 4)
    assert results(answers) == [[2], [4], [6], [10]]
    assert double(batches, 6) == [12]


@pytest.mark.parametrize("threads", [1, 2])
def test_num_batch_threads_are_shared_by_all_models(folder, model, pool, threads):
    batching = Batching(Parameters(num_batch_threads=threads, max_batch_size=1))
    other = WatchedModel(folder)
    batches, others = batching.wrap(model), batching.wrap(other)
    model.gate.clear()
    answers = [pool.submit(double, batches, number) for number in range(threads)]
    wait_until(lambda: len(model.runs) == threads)
    answers.append(pool.submit(double, others, 9))
    wait_for_waiting(others, 1)
    assert not other.runs
    model.gate.set()
    assert results(answers) == [[2 * number] for number in range(threads)] + [[18]]
    other.close()


def test_models_take_turns(folder, model, pool):
    batching = Batching(Parameters(num_batch_threads=1, max_batch_size=1))
    other = WatchedModel(folder)
    batches, others = batching.wrap(model), batching.wrap(other)
    order = []
    for watched in (model, other):
        watched.run = noting(order, watched)
    with all_slots_taken(batches, model, pool):
        answers = submit_in_turn(pool, batches, [(double, 1), (double, 2), (double, 3)])
        answers.append(pool.submit(double, others, 4))
        wait_for_waiting(others, 1)
    assert results(answers) == [[2], [4], [6], [8]]
    assert order == [model, model, other, model, model]
    other.close()


def noting(order: list, model: WatchedModel):
    def run(*arguments):
        order.append(model)
        return WatchedModel.run(model, *arguments)

    return run


def test_allowed_batch_sizes_are_reached_by_the_last_request_s_first_row(model, pool):
    batches = batched(model, max_batch_size=8, allowed_batch_sizes=(2, 8))
    with all_slots_taken(batches, model, pool):
        answers = submit_in_turn(pool, batches, [(double, 1, 2), (double, 3, 4)])
    assert results(answers) == [[2, 4], [6, 8]]
    ((_, first), *_), ((_, second), *_) = (feeds.items() for feeds in model.runs)
    assert first.tolist() == [0, 0]
    assert second.tolist() == [1, 2, 3, 4, 3, 3, 3, 3]


def test_pad_variable_length_inputs_with_each_one_s_first_element(model, pool):
    batches = batched(model, pad_variable_length_inputs=True)

    def wide(batches, long, text):
        return ask(batches, "wide", "long", "text", long=floats(*long), text=text)

    short = ([[1, 2]], np.array([[b"a"], [b"b"]], object)[:1])
    long = ([[3, 4, 5], [6, 7, 8]], np.array([[b"c", b"d"], [b"e", b"f"]], object))
    with all_slots_taken(batches, model, pool):
        answers = submit_in_turn(pool, batches, [(wide, *short), (wide, *long)])
    first, second = results(answers)
    assert first["long"].tolist() == [[1, 2, 1]]
    assert first["text"].tolist() == [[b"a!", b"a!"]]
    assert second["long"].tolist() == [[3, 4, 5], [6, 7, 8]]
    assert second["text"].tolist() == [[b"c!", b"d!"], [b"e!", b"f!"]]


def anything(batches: BatchedModel, array) -> list:
    return ask(batches, "anything", "y", x=np.asarray(array, np.float32)).tolist()


SHAPES_DIFFER = (
    "Tensors with name 'anything_x:0' from different tasks have different shapes and padding is "
    "turned off.Set pad_variable_length_inputs to true, or ensure that all tensors with the same "
    "namehave equal dimensions starting with the first dim."
)


@pytest.mark.parametrize(
    ("padding", "shapes", "refused"),
    [
        (False, [(1, 2), (1, 3)], (FAILED, SHAPES_DIFFER)),
        (True, [(1, 2), (1, 2, 3)], (FAILED, SHAPES_DIFFER)),
        (True, [(1, 2), (1, 0)], (INVALID, "Got empty tensor in batch of non-empty tensors.")),
    ],
)
def test_shapes_that_clash_fail_every_request_of_the_batch(model, pool, padding, shapes, refused):
    batches = batched(model, pad_variable_length_inputs=padding)
    with all_slots_taken(batches, model, pool):
        calls = [(anything, np.ones(shape)) for shape in shapes]
        answers = submit_in_turn(pool, batches, calls)
    assert [refusal(answer.result, PATIENCE_SECONDS) for answer in answers] == [refused] * 2
    assert anything(batches, [[1, 2]]) == [[2, 4]]


def test_enable_large_batch_splitting(model):
    whole = batched(model, max_batch_size=10, max_execution_batch_size=4)
    assert double(whole, *range(10)) == [2 * number for number in range(10)]
    assert model.sizes == [10]  # not switched on
    split = batched(
        model, max_batch_size=10, max_execution_batch_size=4, enable_large_batch_splitting=True
    )
    assert double(split, *range(10)) == [2 * number for number in range(10)]
    assert sorted(model.sizes[1:]) == [2, 4, 4]
    assert refusal(double, split, *range(11)) == (
        INVALID,
        "Task size 11 is larger than maximum input batch size 10",
    )


def test_a_request_that_is_split_first_fills_the_open_batch(model, pool):
    batches = batched(
        model, max_batch_size=10, max_execution_batch_size=4, enable_large_batch_splitting=True
    )
    with all_slots_taken(batches, model, pool):
        answers = submit_in_turn(pool, batches, [(double, 100)])
        answers.append(pool.submit(double, batches, *range(7)))
        wait_for_waiting(batches, 3)
    assert results(answers) == [[200], [2 * number for number in range(7)]]
    assert model.sizes == [1, 4, 4]


@pytest.mark.parametrize(
    ("signature", "output", "inputs", "code", "message"),
    [
        (
            "anything",
            "y",
            {"x": floats(1)[0]},
            INVALID,
            "Batching Run() input tensors must have at least one dimension",
        ),
        (
            "wide",
            "long",
            {"long": floats([1], [2]), "text": np.array([[b"a"]], object)},
            INVALID,
            "Batching Run() input tensors must have equal 0th-dimension size",
        ),
        ("double", "y", {}, INVALID, "Batching Run() must have at least one input tensor"),
        ("double", "total", {"x": floats(1)}, FAILED, "Batched output tensor has 0 dimensions"),
        (
            "double",
            "half",
            {"x": floats(1, 2)},
            FAILED,
            "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension "
            "sizes of the input tensors",
        ),
    ],
)
def test_what_has_no_rows_to_share(model, signature, output, inputs, code, message):
    batches = batched(model)
    assert refusal(ask, batches, signature, output, **inputs) == (code, message)
    assert double(batches, 1) == [2]


def test_no_rows_are_answered_with_no_rows(model):
    assert double(batched(model, max_batch_size=4, allowed_batch_sizes=(4,))) == []


def test_a_wrong_type_fails_alone(model, pool):
    def wrong(batches):
        return ask(batches, "double", "y", x=np.array([1, 2], np.int64))

    batches = batched(model)
    with all_slots_taken(batches, model, pool):
        good, bad, late = submit_in_turn(pool, batches, [(double, 1), (wrong,), (double, 2)])
    assert results([good, late]) == [[2], [4]]
    code, message = refusal(bad.result, PATIENCE_SECONDS)
    assert (code, message) == (INVALID, "Expects arg[0] to be float but int64 is provided")


def test_queues_are_for_the_same_outputs_in_any_order(model, pool):
    def outputs(batches, *names):
        return ask(batches, "wide", *names, long=floats([1]), text=np.array([[b"a"]], object))

    batches = batched(model)
    with all_slots_taken(batches, model, pool):
        calls = [(outputs, "long", "text"), (outputs, "text", "long"), (outputs, "text")]
        answers = submit_in_turn(pool, batches, calls)
    one, other, alone = results(answers)
    assert {name: array.tolist() for name, array in one.items()} == {
        "long": [[1]],
        "text": [[b"a!"]],
    }
    assert list(other) == ["text", "long"]
    assert other["text"].tolist() == one["text"].tolist() == alone.tolist()
    assert sorted(model.sizes) == [1, 1, 2]


def test_resource_exhausted_when_all_requests_of_a_batch_have_expired(model, pool):
    def brief(batches, value):
        return double(batches, value, timeout_ms=1)

    batches = batched(model)
    with all_slots_taken(batches, model, pool):
        answers = submit_in_turn(pool, batches, [(brief, 1), (brief, 2)])
        time.sleep(0.01)  # ten times as long as they wait
    for answer in answers:
        assert refusal(answer.result, PATIENCE_SECONDS) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "Run() timeout exceeded while waiting in batching queue",
        )
    assert model.sizes == [1]


def test_a_batch_runs_as_long_as_one_of_its_requests_waits(model, pool):
    def brief(batches, value):
        return double(batches, value, timeout_ms=1)

    batches = batched(model)
    with all_slots_taken(batches, model, pool):
        answers = submit_in_turn(pool, batches, [(brief, 1), (double, 2)])
        time.sleep(0.01)
    assert results(answers) == [[2], [4]]


def test_an_error_of_the_graph_is_everyone_s_and_the_slot_is_free_again(model, pool):
    batches = batched(model)
    with all_slots_taken(batches, model, pool):
        answers = submit_in_turn(pool, batches, [(anything, [1]), (anything, [np.nan])])
    for answer in answers:
        code, message = refusal(answer.result, PATIENCE_SECONDS)
        assert code == INVALID
        assert message.startswith("not a number : Tensor had NaN values")
    assert anything(batches, [3]) == [6]


def test_batches_are_counted(model, pool):
    batches = batched(model, thread_pool_name="counted", max_batch_size=4, allowed_batch_sizes=(4,))
    with all_slots_taken(batches, model, pool):
        answers = submit_in_turn(pool, batches, [(double, 1), (double, 2, 3)])
    results(answers)
    name = ":tensorflow:serving:batching_session:queuing_latency_count"
    assert f'{name}{{thread_pool_name="counted"}} 3\n' in metrics.page()


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"batch_timeout_micros": 2000, "max_batch_size": 16},
        {"max_batch_size": 8, "allowed_batch_sizes": (1, 3, 8), "num_batch_threads": 3},
        {
            "max_batch_size": 16,
            "enable_large_batch_splitting": True,
            "max_execution_batch_size": 3,
            "batch_timeout_micros": 300,
        },
    ],
)
def test_every_caller_gets_exactly_its_own_rows(folder, parameters):
    """Random sizes, two models and two kinds of request, from many threads at a time."""
    limits = {"max_enqueued_batches": 1000, "num_batch_threads": 2} | parameters
    batching = Batching(Parameters(**limits))
    models = [SavedModel(folder) for _ in range(2)]
    batches = [batching.wrap(model) for model in models]
    largest = min(8, batching.parameters.max_batch_size)

    def client(seed: int) -> int:
        rng = random.Random(seed)
        for number in range(60):
            values = [1000 * seed + number + row / 16 for row in range(rng.randint(1, largest))]
            chosen = rng.choice(batches)
            if rng.random() < 0.3:
                assert anything(chosen, values) == [2 * value for value in values]
            else:
                assert double(chosen, *values) == [2 * value for value in values]
        return number + 1

    with futures.ThreadPoolExecutor(16) as pool:
        answered = [pool.submit(client, seed) for seed in range(16)]
        assert results(answered) == [60] * 16
    for model in models:
        model.close()


def predict_request(*values: float) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "default"
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(floats(*values)))
    return request


@pytest.mark.parametrize(
    "text",
    ["", "max_batch_size { value: 4 } batch_timeout_micros { value: 1000 } allowed_batch_sizes: 4"],
)
def test_a_server_that_batches_while_versions_come_and_go(tmp_path, text):
    """Every answer is of one of the versions; none fails while they are loaded and unloaded."""
    path, base_path = tmp_path / "batching.txt", tmp_path / "model"
    path.write_text(text)
    base_path.mkdir()
    save_scale(base_path / "1", 1.0)
    last = 4

    def client(seed: int) -> int:
        newest, count = 1, 0
        while newest < last:
            values = [seed + row for row in range(1 + seed % 4)]
            response = stub.Predict(predict_request(*values), timeout=PATIENCE_SECONDS)
            newest = response.model_spec.version.value
            expected = [newest * value for value in values]
            assert list(response.outputs["y"].float_val) == expected
            count += 1
        return count

    with (
        running_server(
            f"--model_base_path={base_path}",
            "--enable_batching",
            f"--batching_parameters_file={path}",
            "--file_system_poll_wait_seconds=0.1",
        ) as (_, port),
        grpc.insecure_channel(f"localhost:{port}") as channel,
        futures.ThreadPoolExecutor(16) as pool,
    ):
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        clients = [pool.submit(client, seed) for seed in range(16)]
        for version in range(2, last + 1):
            save_scale(base_path / str(version), float(version))
        assert all(results(clients))
        if text:
            with pytest.raises(grpc.RpcError) as caught:
                stub.Predict(predict_request(*range(5)))
            assert caught.value.code() == INVALID
            assert caught.value.details() == (
                "Task size 5 is larger than maximum input batch size 4"
            )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--enable_batching"], "Last entry in allowed_batch_sizes must match max_batch_size"),
        ([], "--batching_parameters_file is set without setting --enable_batching to true"),
    ],
)
def test_a_server_does_not_start_with_parameters_that_can_not_be_met(tmp_path, flags, message):
    path = tmp_path / "batching.txt"
    path.write_text("max_batch_size { value: 8 } allowed_batch_sizes: 4")
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "serving.server", "--port=0"),
            *(f"--grpc_socket_path={tmp_path}/socket", f"--model_base_path={tmp_path}"),
            *(f"--batching_parameters_file={path}", *flags),
        ],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert ended.returncode == 1
    assert message in ended.stderr
