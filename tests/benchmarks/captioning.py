"""Captions a second of the default captioner: against a plain loop, and served against in process.

The model has random weights, changed so that nothing ends a caption: all have as many tokens. The
beam's width is 3. Ours is compiled as a compiled export has it; the loop is what one writes first,
the same model on the picture and all that was written, anew for each token.
"""

from __future__ import annotations

import functools
import pathlib
import tempfile
import time
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from models.layers.reserved_tokens import BEGIN
from pipelines.engine.answers import OpenRun, open_run
from pipelines.engine.application import load_application
from pipelines.engine.compilation import compiled
from pipelines.tasks.captioning import Captioning
from serving.client import Client
from serving.export import export_run
from tests.benchmarks.comparison import Comparison
from tests.benchmarks.decoding import BATCHES, never_ending
from tests.conftest import train
from tests.served_models import running_server

NAME = "image_captioning"
SIDE = 64
VOCABULARY = 36  # about as many words as describe the rendered scenes
BEAM = 3
LENGTH = 16  # tokens of each caption
SERVED_ROWS = 32

Captioner = Callable[[np.ndarray], None]  # pictures [B, side, side, 3]


def measure(quick: bool) -> list[Comparison]:
    rounds = 2 if quick else 12
    model = never_ending_model()
    ours, loop = decoder(model), keras_loop(model)
    comparisons = []
    for batch in BATCHES:
        image = np.random.default_rng(0).normal(size=(batch, SIDE, SIDE, 3)).astype("float32")
        comparisons.append(
            compare(
                f"beam {BEAM}, batch {batch}, against a Keras loop",
                lambda image=image: ours(image),
                lambda image=image: loop(image),
                captions=batch,
                rounds=rounds,
                target=5.0,
            )
        )
    return [*comparisons, served(rounds)]


def compare(
    name: str, ours: Callable, peer: Callable, *, captions: int, rounds: int, target: float
) -> Comparison:
    """Captions a second in turns, after a turn that traces and compiles."""

    def rate(answer: Callable) -> float:
        began = time.perf_counter()
        answer()
        return captions / (time.perf_counter() - began)

    pairs = [(rate(ours), rate(peer)) for _ in range(1 + rounds)][1:]
    ours_rates, peer_rates = zip(*pairs, strict=True)
    return Comparison(
        name=name,
        unit="captions/s",
        ours=ours_rates,
        peer=peer_rates,
        better="higher",
        target=target,
    )


def never_ending_model() -> keras.Model:
    """The default captioner with random weights."""
    keras.utils.set_random_seed(0)
    variant = load_application(NAME).architectures["caption_transformer"]
    return never_ending(variant.builder((SIDE, SIDE, 3), VOCABULARY, **variant.model, dropout=0.0))


def decoder(model: keras.Model) -> Captioner:
    """Ours, as a compiled export has it."""
    task = Captioning(maximum_length=LENGTH, beam_width=BEAM, answers=BEAM)
    endpoint = load_application(NAME).endpoints["serving_default"]
    respond = functools.partial(task.respond, model)
    respond = compiled(respond, endpoint.compiled, model.variables)
    signature = {"image": tf.TensorSpec([None, SIDE, SIDE, 3])}
    function = tf.function(respond, input_signature=[signature], autograph=False)

    def caption(image: np.ndarray) -> None:
        assert (function({"image": image})["lengths"].numpy() == LENGTH).all()

    return caption


def keras_loop(model: keras.Model) -> Captioner:
    """The model on all prefixes of a beam, of which the best 3 go on."""
    signature = {
        "image": tf.TensorSpec([None, SIDE, SIDE, 3]),
        "target": tf.TensorSpec([None, None], tf.int32),
    }
    last = tf.function(
        lambda inputs: tf.nn.log_softmax(model(inputs)[:, -1]), input_signature=[signature]
    )

    def caption(image: np.ndarray) -> None:
        batch = len(image)
        image = np.repeat(image, BEAM, axis=0)
        written = np.full((batch * BEAM, 1), BEGIN, "int32")
        scores = np.tile([0.0] + [-np.inf] * (BEAM - 1), (batch, 1)).astype("float32")
        for _ in range(LENGTH):
            log_probabilities = last({"image": image, "target": written}).numpy()
            totals = scores[..., None] + log_probabilities.reshape(batch, BEAM, VOCABULARY)
            flat = totals.reshape(batch, -1)
            best = np.argsort(-flat, axis=1)[:, :BEAM]
            scores = np.take_along_axis(flat, best, axis=1)
            parents = (best // VOCABULARY + BEAM * np.arange(batch)[:, None]).ravel()
            tokens = (best % VOCABULARY).reshape(-1, 1).astype("int32")
            written = np.concatenate([written[parents], tokens], axis=1)

    return caption


def served(rounds: int) -> Comparison:
    """Bytes of pictures to captions, by a server next door and in this process."""
    with tempfile.TemporaryDirectory() as folder:
        train(NAME)(["--smoke", "--run=bench", f"--runs_dir={folder}"])
        opened = open_run(pathlib.Path(folder, NAME, "bench"))
        base = pathlib.Path(folder, "exports")
        export_run(opened.run.path, model_base_path=base)
        image = pictures(opened)
        function = opened.functions()["serving_default"]
        flags = (f"--model_base_path={base}", f"--model_name={NAME}")
        with running_server(*flags) as (_, port), Client(f"localhost:{port}") as client:
            return compare(
                f"a batch of {SERVED_ROWS} served, against in process",
                lambda: client.predict(NAME, image=image),
                lambda: function(image=tf.constant(image)),
                captions=SERVED_ROWS,
                rounds=rounds,
                target=0.95,
            )


def pictures(opened: OpenRun) -> np.ndarray:
    """Bytes of PNG files [32]."""
    return opened.sample_inputs(count=SERVED_ROWS)["serving_default"]["image"]
