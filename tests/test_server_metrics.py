"""Metrics: Prometheus' text format, and what the server counts of requests to both interfaces."""

from __future__ import annotations

import http.client
import json
import threading

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from serving.server import metrics
from serving.server.core import Core
from serving.server.models import ModelManager
from serving.server.rest import Request, RestApi, read_metrics_path
from serving.server.version import Loading
from serving.server.warmup import WARMUP_FILE
from tests.served_models import free_port, running_server, save_half_plus_two, save_scale

METRICS_PATH = "/monitoring/prometheus/metrics"

# The format


def test_a_counter_is_a_number_for_each_combination_of_labels():
    counter = metrics.Counter("/test/path/total", "name", "status")
    counter.add("b", "OK")
    counter.add("a", "OK", amount=2)
    counter.add("b", "OK")
    assert list(counter.lines()) == [
        "# TYPE :test:path:total counter",
        ':test:path:total{name="a",status="OK"} 2',
        ':test:path:total{name="b",status="OK"} 2',
    ]


def test_a_counter_may_have_no_labels():
    counter = metrics.Counter("/test/total")
    assert list(counter.lines()) == ["# TYPE :test:total counter"]
    counter.add()
    assert list(counter.lines())[1:] == [":test:total{} 1"]


def test_a_histogram_counts_what_is_below_its_bounds():
    histogram = metrics.Histogram("/test/path/histogram", "status", scale=1, growth=2, count=10)
    for value in (2, 20, 200):
        histogram.add(value, "good")
    below = {1: 0, 2: 0, 4: 1, 8: 1, 16: 1, 32: 2, 64: 2, 128: 2, 256: 3, 512: 3, "+Inf": 3}
    assert list(histogram.lines()) == [
        "# TYPE :test:path:histogram histogram",
        *(
            f':test:path:histogram_bucket{{status="good",le="{bound}"}} {count}'
            for bound, count in below.items()
        ),
        ':test:path:histogram_sum{status="good"} 222',
        ':test:path:histogram_count{status="good"} 3',
    ]


def test_a_sum_stays_exact():
    histogram = metrics.Histogram("/sum", scale=1, growth=2, count=1)
    histogram.add(123_456_789)
    histogram.add(1)
    assert list(histogram.lines())[-2] == ":sum_sum{} 123456790"


@pytest.mark.parametrize(
    ("name", "label", "value", "line"),
    [
        ("/a/b", "name", '"abc\\"', r':a:b{name="\"abc\\\""} 1'),
        ("/a/b", "name", "a\nb", r':a:b{name="a\nb"} 1'),
        ("/a/b", "my-name+1", "abc", ':a:b{my_name_1="abc"} 1'),
        ("/a/b", "1st", "abc", ':a:b{_1st="abc"} 1'),
        ("0/path-total_count", "name", "abc", '_0:path:total_count{name="abc"} 1'),
    ],
)
def test_names_and_values_become_legal(name, label, value, line):
    counter = metrics.Counter(name, label)
    counter.add(value)
    assert list(counter.lines())[1] == line


def test_several_threads_may_count():
    counter = metrics.Counter("/count", "name")
    histogram = metrics.Histogram("/histogram", scale=1, growth=2, count=3)

    def count() -> None:
        for number in range(5000):
            counter.add("abc")
            histogram.add(number % 2)

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(counter.lines())[1:] == [':count{name="abc"} 40000']
    assert list(histogram.lines())[-2:] == [":histogram_sum{} 20000", ":histogram_count{} 40000"]


def test_memory_does_not_grow_with_the_names_that_clients_invent():
    counter = metrics.Counter("/count", "name")
    histogram = metrics.Histogram("/histogram", "name", scale=1, growth=2, count=3)
    for number in range(20_000):
        counter.add(str(number))
        histogram.add(1, str(number))
    counter.add("0")
    lines = list(counter.lines())
    assert len(lines) == 1 + 10_000
    assert ':count{name="0"} 2' in lines
    assert len(list(histogram.lines())) == 1 + 10_000 * 6


# What the server counts


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """``half``: version 1, warmed up, and version 2, which can't be loaded; ``scale``."""
    folder = tmp_path_factory.mktemp("models")
    version = save_half_plus_two(folder / "half" / "1")
    log = prediction_log_pb2.PredictionLog()
    request = log.regress_log.request
    request.input.example_list.examples.add().features.feature["x"].float_list.value.append(2)
    (version / WARMUP_FILE).parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(version / WARMUP_FILE)) as writer:
        writer.write(log.SerializeToString())
    (folder / "half" / "2").mkdir()
    (folder / "scale").mkdir()
    save_scale(folder / "scale" / "1", 2.0)
    (folder / "models.config").write_text(f"""model_config_list {{
        config {{ name: "half" base_path: "{folder}/half" model_platform: "tensorflow"
                 model_version_policy {{ all {{}} }} }}
        config {{ name: "scale" base_path: "{folder}/scale" model_platform: "tensorflow" }}
    }}""")
    (folder / "monitoring.config").write_text("prometheus_config { enable: true }")
    return folder


@pytest.fixture(scope="module")
def ports(folder):
    """Of gRPC and REST, on a server that shows its metrics."""
    rest_port = free_port()
    with running_server(
        f"--rest_api_port={rest_port}",
        f"--model_config_file={folder}/models.config",
        f"--monitoring_config_file={folder}/monitoring.config",
        "--max_num_load_retries=0",
    ) as (process, port):
        assert process.stdout.readline().startswith("Exporting HTTP/REST API")
        yield port, rest_port


@pytest.fixture
def rest(ports):
    """``rest(path, body)``: the code, the content type and the text of a reply."""
    connection = http.client.HTTPConnection("localhost", ports[1])

    def ask(path: str, body: dict | None = None) -> tuple[int, str, str]:
        text = None if body is None else json.dumps(body)
        connection.request("GET" if body is None else "POST", path, text)
        response = connection.getresponse()
        return response.status, response.getheader("Content-Type"), response.read().decode()

    yield ask
    connection.close()


@pytest.fixture
def prediction(ports):
    with grpc.insecure_channel(f"localhost:{ports[0]}") as channel:
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel)


def samples(rest) -> dict[str, float]:
    """The page of metrics as numbers by name and labels, without the buckets."""
    _, _, page = rest(METRICS_PATH)
    lines = [line for line in page.splitlines() if not line.startswith("#")]
    pairs = (line.rsplit(" ", 1) for line in lines if "_bucket{" not in line)
    return {name: float(value) for name, value in pairs}


def changes(rest, act) -> dict[str, float]:
    """What grows while ``act()`` runs, apart from times, whose amount is chance."""
    before = samples(rest)
    act()
    after = samples(rest)
    return {
        name.removeprefix(":tensorflow:serving:"): value - before.get(name, 0)
        for name, value in after.items()
        if value != before.get(name, 0) and "latency_sum" not in name
    }


def test_the_page_has_every_metric_and_no_help(rest):
    code, content_type, page = rest(METRICS_PATH)
    assert (code, content_type) == (200, "text/plain")
    assert page.endswith("\n")
    assert "# HELP" not in page
    kinds = [line.split()[2:] for line in page.splitlines() if line.startswith("# TYPE ")]
    serving, batching = ":tensorflow:serving", ":tensorflow:serving:batching_session"
    assert kinds == [
        [":tensorflow:cc:saved_model:load_attempt_count", "counter"],
        [":tensorflow:cc:saved_model:load_latency", "counter"],
        [f"{batching}:input_batch_size", "histogram"],
        [f"{batching}:padding_size", "histogram"],
        [f"{batching}:processed_batch_size", "histogram"],
        [f"{batching}:queuing_latency", "histogram"],
        [f"{batching}:wrapped_run_count", "counter"],
        [f"{serving}:model_warmup_latency", "histogram"],
        [f"{serving}:request_count", "counter"],
        [f"{serving}:request_example_count_total", "counter"],
        [f"{serving}:request_example_counts", "histogram"],
        [f"{serving}:request_latency", "histogram"],
        [f"{serving}:runtime_latency", "histogram"],
    ]


def test_answers_over_grpc_are_counted(rest, prediction):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "scale"
    request.inputs["x"].CopyFrom(tf.make_tensor_proto([1.0]))
    assert changes(rest, lambda: prediction.Predict(request)) == {
        'request_count{model_name="scale",status="OK"}': 1,
        'request_latency_count{model_name="scale",API="Predict",entrypoint="GRPC"}': 1,
        'runtime_latency_count{model_name="scale",API="Predict",runtime="TF1"}': 1,
    }
    request = regression_pb2.RegressionRequest()
    request.model_spec.name = "half"
    for x in (1, 2):
        example = request.input.example_list.examples.add()
        example.features.feature["x"].float_list.value.append(x)
    assert changes(rest, lambda: prediction.Regress(request)) == {
        'request_count{model_name="half",status="OK"}': 1,
        'request_example_count_total{model="half"}': 2,
        'request_example_counts_count{model="half"}': 1,
        'request_example_counts_sum{model="half"}': 2,
        'request_latency_count{model_name="half",API="Regress",entrypoint="GRPC"}': 1,
        'runtime_latency_count{model_name="half",API="Regress",runtime="TF1"}': 1,
    }


def test_answers_over_rest_are_counted(rest):
    body = {"instances": [1.0]}
    assert changes(rest, lambda: rest("/v1/models/scale:predict", body)) == {
        'request_count{model_name="scale",status="OK"}': 1,
        'request_latency_count{model_name="scale",API="predict",entrypoint="REST"}': 1,
        'runtime_latency_count{model_name="scale",API="Predict",runtime="TF1"}': 1,
    }
    body = {"signature_name": "scores", "examples": [{"x": 1.0}]}
    assert changes(rest, lambda: rest("/v1/models/half:classify", body)) == {
        'request_count{model_name="half",status="OK"}': 1,
        'request_example_count_total{model="half"}': 1,
        'request_example_counts_count{model="half"}': 1,
        'request_example_counts_sum{model="half"}': 1,
        'request_latency_count{model_name="half",API="classify",entrypoint="REST"}': 1,
        'runtime_latency_count{model_name="half",API="Classify",runtime="TF1"}': 1,
    }
    assert changes(rest, lambda: rest("/v1/models/half")) == {
        'request_count{model_name="half",status="OK"}': 1,
        'request_latency_count{model_name="half",API="",entrypoint="REST"}': 1,
    }


def test_refusals_are_counted_without_latency(rest, prediction):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "nothing"

    def refuse() -> None:
        with pytest.raises(grpc.RpcError):
            prediction.Predict(request)
        rest("/v1/models/scale:predict", {})
        rest("/v1/nowhere")

    assert changes(rest, refuse) == {
        'request_count{model_name="nothing",status="NOT_FOUND"}': 1,
        'request_count{model_name="scale",status="INVALID_ARGUMENT"}': 1,
        'request_count{model_name="",status="INVALID_ARGUMENT"}': 1,
    }


def test_loads_and_warm_ups_are_counted(rest, folder):
    found = samples(rest)
    loads = ":tensorflow:cc:saved_model:load_attempt_count"
    assert found[f'{loads}{{model_path="{folder}/half/1",status="success"}}'] == 1
    assert found[f'{loads}{{model_path="{folder}/half/2",status="fail"}}'] == 1
    assert found[f'{loads}{{model_path="{folder}/scale/1",status="success"}}'] == 1
    latency = ":tensorflow:cc:saved_model:load_latency"
    assert found[f'{latency}{{model_path="{folder}/half/1"}}'] > 0
    assert f'{latency}{{model_path="{folder}/half/2"}}' not in found
    warm_ups = {name: value for name, value in found.items() if "warmup_latency_count" in name}
    assert warm_ups == {
        ":tensorflow:serving:model_warmup_latency_count"
        f'{{model_path="{folder}/half/1",status="OK"}}': 1
    }


def test_latencies_have_33_bounds_from_10_microseconds(rest):
    rest("/v1/models/scale")
    name = ':tensorflow:serving:request_latency_bucket{model_name="scale",API="",entrypoint="REST"'
    lines = [line for line in rest(METRICS_PATH)[2].splitlines() if line.startswith(name)]
    bounds = [line.removeprefix(f'{name},le="').partition('"')[0] for line in lines]
    assert bounds == [*(f"{10 * 1.8**power:g}" for power in range(33)), "+Inf"]
    assert bounds[:2] == ["10", "18"]
    counts = [int(line.rsplit(" ", 1)[1]) for line in lines]
    assert counts == sorted(counts)
    assert counts[-1] >= 1


def test_the_path_is_exact(rest):
    code, content_type, text = rest(f"{METRICS_PATH}?x=1")
    assert (code, content_type) == (400, "text/plain")
    assert text == f"Unexpected path: {METRICS_PATH}?x=1. Should be {METRICS_PATH}"
    assert rest(f"{METRICS_PATH}/")[0] == 404


@pytest.mark.parametrize(
    ("config", "path"),
    [
        ("prometheus_config { enable: true }", METRICS_PATH),
        ('prometheus_config { enable: true path: "/numbers" }', "/numbers"),
        ('prometheus_config { path: "/numbers" }', None),
        ("", None),
    ],
)
def test_the_page_is_where_the_configuration_puts_it(tmp_path, config, path):
    (tmp_path / "monitoring.config").write_text(config)
    assert read_metrics_path(str(tmp_path / "monitoring.config")) == path
    assert read_metrics_path("") is None


def test_the_path_may_be_another():
    core = Core(ModelManager([], Loading()))
    api = RestApi(core, 0, with_cors=False, metrics_path="/numbers")
    assert api.reply(Request("GET", "/numbers")).body.startswith(b"# TYPE :tensorflow:")
    assert api.reply(Request("GET", METRICS_PATH)).code == 404


def test_batches_are_counted():
    def sums() -> dict[str, float]:
        pairs = (line.rsplit(" ", 1) for line in metrics.page().splitlines())
        return {
            name.removeprefix(":tensorflow:serving:batching_session:"): float(value)
            for name, value in pairs
            if ":batching_session:" in name and "_bucket{" not in name and name[0] != "#"
        }

    before = sums()
    metrics.batch_processed("test threads", [0.001, 0.002], [3, 4], 8)
    changed = {name: value - before.get(name, 0) for name, value in sums().items()}
    assert {name: value for name, value in changed.items() if value} == {
        'queuing_latency_sum{thread_pool_name="test threads"}': 3000,
        'queuing_latency_count{thread_pool_name="test threads"}': 2,
        'padding_size_sum{execution_batch_size="8"}': 1,
        'padding_size_count{execution_batch_size="8"}': 1,
        "input_batch_size_sum{}": 7,
        "input_batch_size_count{}": 2,
        "processed_batch_size_sum{}": 8,
        "processed_batch_size_count{}": 1,
        "wrapped_run_count{}": 1,
    }
