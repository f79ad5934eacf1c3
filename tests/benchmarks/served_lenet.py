"""LeNet-5 as a SavedModel with its request and right answer: what the serving benchmarks ask for.

    python -m tests.benchmarks.served_lenet VERSION_FOLDER

prints the seconds that a run of it takes for one picture, on one thread.

Without training: how fast it is does not depend on its weights, and random ones tell its versions
apart.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import statistics
import sys
import time
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from models.lenet import lenet5_dense
from serving.server.predict import predict
from serving.server.saved_model import SavedModel

NAME = "lenet"
TOLERANCE = 1e-5  # batches of different sizes add up in a different order


@dataclasses.dataclass(frozen=True)
class Served:
    """A version folder, and what is to be answered from it.

    Attributes:
        folder: of the SavedModel.
        request: one Predict request.
        response: the answer to it, but for the version.
        output: the name of its only output.
    """

    folder: pathlib.Path
    request: predict_pb2.PredictRequest
    response: predict_pb2.PredictResponse
    output: str

    def check(self, response: predict_pb2.PredictResponse) -> None:
        """Raises ValueError if it is not the right answer."""
        right, given = (
            np.array(message.outputs[self.output].float_val)
            for message in (self.response, response)
        )
        if right.shape != given.shape or not np.allclose(right, given, atol=TOLERANCE):
            raise ValueError(f"{right[:10]} was expected, {given[:10]} came")


def save_lenet(folder: pathlib.Path, seed: int = 0) -> Served:
    """Writes LeNet-5 with random weights, and asks it for one picture."""
    keras.utils.set_random_seed(seed)
    model = lenet5_dense()

    @tf.function(input_signature=[tf.TensorSpec([None, 32, 32, 1], tf.float32, name="image")])
    def probabilities(image):
        return {"probabilities": tf.nn.softmax(model({"image": image}))}

    variables = [variable.value for variable in model.variables]
    return save(folder, probabilities, variables, {"image": picture()})


def picture() -> np.ndarray:
    """Random pixels, always the same ones."""
    return np.random.default_rng(0).random((1, 32, 32, 1), np.float32)


def save(
    folder: pathlib.Path, function: tf.function, variables: list, inputs: dict[str, np.ndarray]
) -> Served:
    """Writes a function as a SavedModel, and answers one request from it in this process."""
    module = tf.Module()
    module.variables_used = variables
    tf.saved_model.save(module, str(folder), signatures=function)
    request = predict_pb2.PredictRequest()
    request.model_spec.name = NAME
    request.model_spec.name = NAME
    for name, array in inputs.items():
        tensor = request.inputs[name]
        tensor.CopyFrom(tf.make_tensor_proto(array))
    model = SavedModel(folder)
    response = predict(model, request)
    model.close()
    response.model_spec.version.value = int(folder.name)
    (output,) = response.outputs
    return Served(folder, request, response, output)


def seconds_of(function: Callable[[], object], times: int) -> float:
    """Seconds that a call takes, of so many one after the other."""
    function()
    began = time.perf_counter()
    for _ in range(times):
        function()
    return (time.perf_counter() - began) / times


def main(folder: str) -> None:
    one_thread = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=1)
    model = SavedModel(pathlib.Path(folder), one_thread)
    signature = model.signatures["serving_default"]
    feeds = {signature.inputs["image"].name: picture()}
    fetches = [signature.outputs["probabilities"].name]
    run = functools.partial(model.run, feeds, fetches)
    print(statistics.median(seconds_of(run, 100) for _ in range(20)))


if __name__ == "__main__":
    main(sys.argv[1])
