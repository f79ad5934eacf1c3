"""The image architectures beside keras.applications: time, memory, and building the largest.

Each of the two networks has a process of its own, so that its memory can be told; the processes
take turns. Pictures and batches are small, which two processors train in a fraction of a second,
and which shows what a network costs beside its arithmetic. Both run as the engine runs them: with
deterministic operations, and not compiled by XLA. Weights start at random.

Peak memory is what resident memory grew by between the import of TensorFlow and the last step.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import keras
import numpy as np
from keras import applications

from pipelines.engine.application import Recipe
from pipelines.engine.train import prepare_backend
from tests.benchmarks.comparison import Comparison
from tests.benchmarks.processes import process
from tests.benchmarks.serving_memory import MIB, resident_memory
from tests.keras_applications import Peer

BATCH = 8
TURN_SECONDS = 0.2  # what is quicker is repeated within a turn
STEPS = ("forward", "training step")
ROUNDS = 6  # the order in which weights are updated is chance, and decides on the peak of memory
PAIRS = 5
BUILDS = 7
TARGET = 1.03
BUILDING_TARGET = 1.1

PEERS = [
    Peer("mobilenet.mobilenet", applications.MobileNet, (64, 64, 3)),
    Peer("mobilenet.mobilenet_v2", applications.MobileNetV2, (64, 64, 3)),
    Peer("mobilenet.mobilenet_v3_small", applications.MobileNetV3Small, (64, 64, 3)),
    Peer("mobilenet.mobilenet_v3_large", applications.MobileNetV3Large, (64, 64, 3)),
    Peer("efficientnet.efficientnet_b0", applications.EfficientNetB0, (64, 64, 3)),
    # keras.applications has left out the dropout of the paper.
    Peer("vgg.vgg16", applications.VGG16, (32, 32, 3), own={"dropout": 0.0}),
    Peer("resnet.resnet50", applications.ResNet50, (64, 64, 3)),
    Peer("inception.inception_v3", applications.InceptionV3, (75, 75, 3)),
    Peer("inception_resnet.inception_resnet_v2", applications.InceptionResNetV2, (75, 75, 3)),
]
LARGEST = Peer("efficientnet.efficientnet_b7", applications.EfficientNetB7, (600, 600, 3))


def measure(quick: bool) -> list[Comparison]:
    peers, rounds, pairs = (PEERS[:1], 1, 2) if quick else (PEERS, ROUNDS, PAIRS)
    found = [comparison for peer in peers for comparison in compare(peer, rounds, pairs)]
    return [*found, compare_building(LARGEST, 1 if quick else BUILDS)]


def compare(peer: Peer, rounds: int, pairs: int) -> list[Comparison]:
    """Milliseconds of both kinds of step, and the memory that both have taken in the end.

    Args:
        peer: the two networks.
        rounds: how many pairs of processes are started.
        pairs: turns of each kind of step in every round.
    """
    name = peer.builder.split(".")[1]
    found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in (*STEPS, "memory")}
    for _ in range(rounds):
        with process(network, peer, True) as ours, process(network, peer, False) as theirs:
            for kind in STEPS:
                for side in (ours, theirs):
                    side(kind, 2)  # traces, and finds its memory
                repeats = max(1, round(1000 * TURN_SECONDS / theirs(kind, 1)))
                found[kind] += [(ours(kind, repeats), theirs(kind, repeats)) for _ in range(pairs)]
            found["memory"].append((ours("memory"), theirs("memory")))
    return [
        *(comparison(f"{kind} of {name}", "ms", found[kind]) for kind in STEPS),
        comparison(f"peak memory of {name}", "MiB", found["memory"]),
    ]


def comparison(
    name: str, unit: str, pairs: list[tuple[float, float]], target: float = TARGET
) -> Comparison:
    ours, peer = zip(*pairs, strict=True)
    return Comparison(name=name, unit=unit, ours=ours, peer=peer, target=target)


def network(peer: Peer, is_ours: bool) -> Callable[..., float]:
    """In a process of its own: what takes steps, or tells the memory that they took."""
    prepare_backend(Recipe())
    random = np.random.default_rng(0)
    pictures = random.uniform(0, 255, (BATCH, *peer.shape)).astype("float32")
    classes = random.integers(0, 1000, BATCH)
    keras.ops.sum(pictures)  # TensorFlow sets itself up
    before = resident_memory(os.getpid(), peak=True)
    model = peer.build() if is_ours else peer.build_reference()
    inputs = {"image": pictures} if is_ours else pictures
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, jit_compile=False)
    steps = {
        "forward": lambda: model.predict_on_batch(inputs),
        "training step": lambda: model.train_on_batch(inputs, classes),
    }

    def answer(kind: str, repeats: int = 1) -> float:
        if kind == "memory":
            return (resident_memory(os.getpid(), peak=True) - before) / MIB
        began = time.perf_counter()
        for _ in range(repeats):
            steps[kind]()
        return 1000 * (time.perf_counter() - began) / repeats

    return answer


def compare_building(peer: Peer, pairs: int) -> Comparison:
    """Seconds in which both build the network with its weights; the first pair warms up."""
    times = [(seconds(peer.build), seconds(peer.build_reference)) for _ in range(1 + pairs)]
    name = peer.builder.split(".")[1]
    return comparison(f"building {name}", "s", times[1:], BUILDING_TARGET)


def seconds(build: Callable[[], keras.Model]) -> float:
    keras.utils.clear_session()
    began = time.perf_counter()
    build()
    return time.perf_counter() - began
