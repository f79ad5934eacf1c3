"""Decoding compiled by XLA: the same answers in few shapes, and servers that permit it or not."""

from __future__ import annotations

import functools
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.captioning import show_attend_tell
from models.layers.reserved_tokens import END, PADDING
from models.transformer import transformer_tiny
from pipelines.engine.answers import open_run
from pipelines.engine.application import UserError, load_application
from pipelines.engine.compilation import LENGTHS, ROWS, compiled
from pipelines.machine_translation import SOURCE_LENGTHS
from pipelines.tasks.captioning import Captioning
from pipelines.tasks.translation import Translation
from serving.client import Client, ServingError
from serving.export import export_run
from tests.conftest import train
from tests.served_models import REPOSITORY, running_server


def sources(rows, length):
    """Rows of different lengths, the first of all of ``length``."""
    draw = np.random.default_rng(rows)
    ids = draw.integers(4, 12, (rows, length)).astype("int32")
    for row in range(rows):
        end = length - row % length
        ids[row, end - 1] = END
        ids[row, end:] = PADDING
    return {"source": tf.constant(ids)}


@pytest.fixture(scope="module")
def translating():
    """``respond`` of a model whose answers differ in tokens and length, and the same compiled."""
    keras.utils.set_random_seed(1)
    model = transformer_tiny(
        12, 8, dim=8, hidden_dim=12, layers=2, heads=2, shared_embeddings=False
    )
    model.set_weights([1.5 * weight for weight in model.get_weights()])
    task = Translation(maximum_length=6, beam_width=3, answers=2)

    def respond(features):
        return task.respond(model, features) | features

    answered = tf.function(
        compiled(respond, SOURCE_LENGTHS, model.variables),
        input_signature=[{"source": tf.TensorSpec([None, None], tf.int32)}],
        autograph=False,
    )
    return respond, answered


def same_answers(found, expected):
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name].shape == value.shape, name
        if value.dtype.is_floating:
            np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-4)
        else:
            np.testing.assert_array_equal(found[name], value)


@pytest.mark.parametrize(("rows", "length"), [(1, 5), (2, 40), (33, 7)])
def test_compiled_answers_are_the_answers(translating, rows, length):
    """Of one row, of rows and lengths that are filled up, and of more rows than one part has."""
    respond, answered = translating
    features = sources(rows, length)
    expected, found = respond(features), answered(features)
    same_answers(found, expected)
    assert rows == 1 or len(set(expected["lengths"].numpy()[:, 0])) > 1


@pytest.mark.parametrize(
    ("rows", "length", "shape"),
    [
        (1, 1, (1, 32)),
        (1, 33, (1, 128)),
        (2, 3, (4, 32)),
        (4, 32, (4, 32)),
        (9, 65, (4, 128)),
        (33, 5000, (4, 5000)),
    ],
)
def test_only_few_shapes_are_compiled(rows, length, shape):
    def respond(features):
        source = features["source"]
        shape = tf.tile(tf.shape(source)[None], [tf.shape(source)[0], 1])
        return {"shape": shape, "count": tf.reduce_sum(source, axis=1), "source": source}

    features = {"source": tf.ones([rows, length], tf.int32)}
    response = compiled(respond, {"source": 1})(features)
    assert response["shape"].numpy().tolist() == [list(shape)] * rows
    assert response["count"].numpy().tolist() == [length] * rows
    np.testing.assert_array_equal(response["source"], features["source"])


def test_parts_do_not_wait_for_each_other(translating):
    """TensorFlow repeats side by side only what has no state."""
    _, answered = translating
    loops = {node.op for node in answered.get_concrete_function().graph.as_graph_def().node}
    assert {name for name in loops if "While" in name} == {"StatelessWhile"}


def test_what_cannot_be_compiled_is_refused(smoke_run):
    with pytest.raises(UserError, match="nothing of image_classification can be compiled"):
        open_run(smoke_run("image_classification")).functions(jit_compile=True)


def test_warm_up_requests_are_of_every_shape(smoke_run):
    opened = open_run(smoke_run("machine_translation"))
    longest = opened.preprocessor.maximum_source_length
    shapes = {name: set() for name in ("serving_default", "translate")}
    for signature, inputs in opened.inputs_of_every_shape():
        ids = opened.preprocessor.features({"source": tf.constant(inputs["source"])})["source"]
        rows, length = ids.bounding_shape().numpy()
        shapes[signature].add((int(rows), next(size for size in LENGTHS if size >= length)))
    lengths = [
        size for size, shorter in zip(LENGTHS, (0, *LENGTHS[:-1]), strict=True) if shorter < longest
    ]
    expected = {(rows, length) for rows in ROWS for length in lengths}
    assert shapes == {"serving_default": expected, "translate": expected}


def test_warm_up_requests_of_pictures_are_of_every_number_of_rows(smoke_run):
    opened = open_run(smoke_run("image_captioning"))
    found = [(name, len(inputs["image"])) for name, inputs in opened.inputs_of_every_shape()]
    assert found == [(name, rows) for name in ("serving_default", "caption") for rows in ROWS]


def test_a_compiled_captioner_s_answers_are_the_answers():
    """Of nine pictures, three parts of four."""
    keras.utils.set_random_seed(2)
    options = {"backbone": "convolutional_network", "backbone_options": {"maps": (4, 6)}}
    model = show_attend_tell((12, 8, 3), 9, **options, units=6, embedding_dim=5, stride=2)
    model.set_weights([4 * weight for weight in model.get_weights()])
    task = Captioning(maximum_length=6, beam_width=3, answers=2)
    draw = np.random.default_rng(0)
    image = draw.normal(size=(9, 1, 1, 3)) + draw.normal(size=(9, 12, 8, 3))
    features = {"image": tf.constant(image, tf.float32)}
    endpoint = load_application("image_captioning").endpoints["serving_default"]
    expected = task.respond(model, features)
    respond = functools.partial(task.respond, model)
    found = compiled(respond, endpoint.compiled, model.variables)(features)
    same_answers(found, expected)
    assert len({tuple(row) for row in expected["tokens"].numpy()[:, 0]}) > 1, "all alike"


@pytest.fixture(scope="module")
def doubling(tmp_path_factory):
    """The base path of a model that has itself compiled, and has no warm-up requests."""

    @tf.function(jit_compile=True, autograph=False)
    def double(x):
        return 2 * x

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")], autograph=False)
    def answer(x):
        return {"y": double(x)}

    folder = tmp_path_factory.mktemp("doubling")
    tf.saved_model.save(tf.Module(), str(folder / "1"), signatures=answer)
    return folder


def test_a_compiled_model_fails_at_its_first_request_unless_the_server_permits_it(doubling):
    with running_server(f"--model_base_path={doubling}") as (_, port):
        with Client(f"localhost:{port}") as client, pytest.raises(ServingError) as error:
            client.predict("default", x=np.ones(2, "float32"))
        assert error.value.code == "INTERNAL"
        assert "XLA compilation disabled" in str(error.value)


@pytest.mark.parametrize("flag", ["--xla_cpu_compilation_enabled", "--xla_gpu_compilation_enabled"])
def test_each_flag_permits_it(doubling, flag):
    with running_server(f"--model_base_path={doubling}", flag) as (_, port):
        with Client(f"localhost:{port}") as client:
            answer = client.predict("default", x=np.ones(2, "float32"))
        assert answer["y"].tolist() == [2, 2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options", "given", "maps"),
    [
        # So short that all sources have one length: three programs a signature.
        (
            "machine_translation",
            ["--preprocess.maximum_source_length=32"],
            "source",
            "alignment",
        ),
        ("image_captioning", [], "image", "attention"),
    ],
)
def test_a_compiled_export_answers_as_the_portable_one_and_needs_the_flag(
    name, options, given, maps, tmp_path
):
    train(name)(["--smoke", "--run=short", f"--runs_dir={tmp_path / 'runs'}", *options])
    run = tmp_path / "runs" / name / "short"
    export_run(run, model_base_path=tmp_path / "exports", jit_compile=True)
    flags = [f"--model_base_path={tmp_path / 'exports'}", "--model_name=m"]
    refused = subprocess.run(
        [
            *(sys.executable, "-m", "serving.server", *flags, "--max_num_load_retries=0"),
            *("--port=0", f"--grpc_socket_path={tmp_path / 'socket'}"),
        ],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 1
    assert "XLA compilation disabled" in refused.stderr

    opened = open_run(run)
    portable = opened.functions()
    raw = np.resize(opened.sample_inputs()["serving_default"][given], 5)
    with (
        running_server(*flags, "--xla_cpu_compilation_enabled") as (_, port),
        Client(f"localhost:{port}") as client,
    ):
        for rows in (raw[:1], raw, np.resize(raw, 40)):
            expected = portable["serving_default"](**{given: tf.constant(rows)})
            answer = client.predict("m", {given: rows})
            texts = [[text.decode() for text in row] for row in expected["texts"].numpy()]
            assert answer["texts"].tolist() == texts
            for key in ("scores", maps):
                np.testing.assert_allclose(answer[key], expected[key], rtol=1e-4, atol=1e-4)
