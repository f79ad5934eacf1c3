"""Every architecture of image classification: a run of it exports and answers about a JPEG.

Nothing is trained here; the networks are as built, on the digits.
"""

from __future__ import annotations

import io
import pathlib
from collections.abc import Iterator

import grpc
import keras
import numpy as np
import pytest
import skimage.data
import tensorflow as tf
from PIL import Image
from tensorflow_serving.apis import model_management_pb2, model_service_pb2_grpc

from pipelines.engine.answers import open_run
from pipelines.engine.assembly import assemble
from pipelines.engine.configuration import parse
from pipelines.engine.data import raw_batches
from pipelines.engine.run import Run
from pipelines.image_classification import application
from serving.client import Client
from serving.export import export_run
from tests.served_models import running_server

PATIENCE_SECONDS = 120


def untrained_run(name: str, folder: pathlib.Path, *options: str) -> Run:
    """A finished run of the architecture ``name`` that took no step."""
    configuration, _ = parse(application, ["--architecture", name, *options])
    keras.utils.set_random_seed(0)
    assembly = assemble(configuration)
    assembly.preprocessor.fit(raw_batches(assembly.source, "train", limit=200))
    run = Run.create(folder / application.name / name, configuration, assembly.preprocessor.save)
    assembly.builder(**assembly.preprocessor.model_arguments()).save(run.model_file)
    return run


def values_stored(version: pathlib.Path) -> int:
    """How many numbers an exported version holds in its variables."""
    file = str(version / "variables" / "variables")
    shapes = {name: shape for name, shape in tf.train.list_variables(file) if "VARIABLE" in name}
    return sum(int(np.prod(shape)) for shape in shapes.values())


def values_served(model: keras.Model) -> int:
    """How many numbers the layers between the picture and the answer own."""
    return sum(int(np.prod(weight.shape)) for layer in model.layers for weight in layer.weights)


def test_export_leaves_behind_what_only_training_needs(tmp_path) -> None:
    run = untrained_run("googlenet", tmp_path, "--preprocess.size=32")
    version = export_run(run.path, model_base_path=tmp_path / "exports")
    model = open_run(run.path).model
    assert values_stored(version) == values_served(model) < model.count_params()


@pytest.fixture(scope="module")
def photograph() -> bytes:
    """The JPEG of a photograph in colour."""
    buffer = io.BytesIO()
    Image.fromarray(skimage.data.astronaut()).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def port(tmp_path_factory) -> Iterator[int]:
    """The port of a server that serves nothing yet."""
    configuration = tmp_path_factory.mktemp("config") / "models.config"
    configuration.write_text("model_config_list {}")
    with running_server(f"--model_config_file={configuration}") as (_, port):
        yield port


def serve(port: int, name: str, base_path: pathlib.Path) -> None:
    """Makes the server load that model and unload whatever else it serves."""
    request = model_management_pb2.ReloadConfigRequest()
    request.config.model_config_list.config.add(
        name=name, base_path=str(base_path), model_platform="tensorflow"
    )
    with grpc.insecure_channel(f"localhost:{port}") as channel:
        stub = model_service_pb2_grpc.ModelServiceStub(channel)
        response = stub.HandleReloadConfigRequest(request, timeout=PATIENCE_SECONDS)
    assert not response.status.error_code, response.status.error_message


@pytest.mark.slow
@pytest.mark.parametrize("name", application.architectures)
def test_architecture_answers_over_grpc_about_a_jpeg(
    name: str, port: int, photograph: bytes, tmp_path
) -> None:
    run = untrained_run(name, tmp_path)
    # The export compares the reloaded version with the model in process.
    version = export_run(run.path, model_base_path=tmp_path / name)
    serve(port, name, version.parent)
    with Client(f"localhost:{port}", timeout=PATIENCE_SECONDS) as client:
        answer = client.predict(name, image=photograph)
    assert set(answer) == {"labels", "probabilities"}
    assert len(set(answer["labels"])) == 5
    assert set(answer["labels"]) <= set("0123456789")
    assert 0 < answer["probabilities"].sum() <= 1 + 1e-6
    assert (np.diff(answer["probabilities"]) <= 0).all()
