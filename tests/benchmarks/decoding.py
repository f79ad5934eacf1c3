"""Target tokens a second of beam search, ours compiled as it is exported, beside its peers.

The model is the tiny Transformer with a vocabulary of 8,000 and random weights, changed so that
nothing ends an answer: all write as many tokens. The beam's width is 4. Ours and CTranslate2 run in
processes of their own, on one thread or on all, whatever is faster for each. Peers:

- a plain Keras loop that computes the whole prefix anew for each token;
- KerasHub's beam search over its own cached decoder of the same size;
- CTranslate2 in float32 with the same weights, converted here.

What a new shape costs to compile is left out on all sides; the last comparison is ours with itself,
source and answers twice as long.

    python -m tests.benchmarks.decoding THREADS LENGTH < SOURCES

is the process of ours: it answers as ``peers/ctranslate2_beam.py`` does, but without tokens.
"""

from __future__ import annotations

import contextlib
import functools
import json
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

import keras
import numpy as np
import tensorflow as tf

from models.layers.positions import sinusoidal_positions
from models.layers.reserved_tokens import BEGIN, END, PADDING, RESERVED
from models.transformer import TransformerDecoder, transformer_tiny
from pipelines.engine.application import UserError
from pipelines.engine.compilation import compiled
from pipelines.machine_translation import SOURCE_LENGTHS
from pipelines.tasks.translation import Translation
from tests.benchmarks.comparison import Comparison
from tests.benchmarks.input_pipeline import PEER_PYTHON
from tests.benchmarks.machine import processors

PEERS = pathlib.Path(__file__).parent / "peers"
VOCABULARY = 8000
BEAM = 4
LENGTH = 32  # tokens of each source and of each answer
BATCHES = (1, 32)

# Seen in XLA's own profile of one token of one text.
MANY_KERNELS = "XLA runs 280 kernels one after the other for a token, most of them tiny"

Decoder = Callable[[np.ndarray], float]  # sources [B, S] → seconds


def measure(quick: bool) -> list[Comparison]:
    pairs = 2 if quick else 12
    model = never_ending_model()
    comparisons = []
    with contextlib.ExitStack() as stack:
        weights = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()), "weights.npz")
        write_weights(model, weights)
        start = functools.partial(on_each_count_of_threads, stack)
        ours, ours_long = (start(sys.executable, "-m", __name__, length=n * LENGTH) for n in (1, 2))
        ctranslate2 = start(
            PEER_PYTHON, PEERS / "ctranslate2_beam.py", weights, BEAM, length=LENGTH
        )
        for batch in BATCHES:
            sources = random_sources(batch, LENGTH)
            short = fastest(ours, sources)
            long = fastest(ours_long, random_sources(batch, 2 * LENGTH))
            loop = functools.partial(keras_loop, model, length=LENGTH)
            comparisons.append(compare("a Keras loop", short, loop, sources, pairs // 2, 5.0))
            with kerashub(model) as peer:
                comparisons.append(compare("KerasHub", short, peer, sources, pairs, 2.0))
            target = 1.0 if batch == 1 else 0.8
            peer = fastest(ctranslate2, sources)
            comparisons.append(compare("CTranslate2", short, peer, sources, pairs, target))
            comparisons.append(compare_lengths(short, long, batch, pairs))
    return comparisons


def compare(
    name: str, ours: Decoder, peer: Decoder, sources: np.ndarray, pairs: int, target: float
) -> Comparison:
    """Tokens a second of pairs of batches, after one of each that compiles."""
    for decode in (ours, peer):
        decode(sources)
    seconds = [(ours(sources), peer(sources)) for _ in range(pairs)]
    ours_rates, peer_rates = (
        tuple(len(sources) * LENGTH / value for value in column)
        for column in zip(*seconds, strict=True)
    )
    return Comparison(
        name=f"beam {BEAM}, batch {len(sources)}, against {name}",
        unit="target tokens/s",
        ours=ours_rates,
        peer=peer_rates,
        better="higher",
        target=target,
        reason=MANY_KERNELS,
    )


def compare_lengths(short: Decoder, long: Decoder, batch: int, pairs: int) -> Comparison:
    """Milliseconds a token where everything is twice as long, and where it is not."""
    sources = {decode: random_sources(batch, n * LENGTH) for decode, n in ((short, 1), (long, 2))}
    for decode in (short, long):
        decode(sources[decode])
    seconds = [[decode(sources[decode]) for decode in (long, short)] for _ in range(pairs)]
    return Comparison(
        name=f"batch {batch}, {2 * LENGTH} tokens against {LENGTH}",
        unit="ms a step",
        ours=tuple(1000 * value / (2 * LENGTH) for value, _ in seconds),
        peer=tuple(1000 * value / LENGTH for _, value in seconds),
        target=1.3,
    )


def never_ending_model() -> keras.Model:
    """A tiny Transformer with random weights."""
    keras.utils.set_random_seed(0)
    return never_ending(transformer_tiny(VOCABULARY, VOCABULARY, dropout=0.0, normalization="pre"))


def never_ending(model: TransformerDecoder) -> TransformerDecoder:
    """The model, but for one place of the last vectors: always 1, it decides on three logits.

    So padding, begin and end are all but impossible, in every implementation.
    """
    scale, shift = (weight.numpy() for weight in model.decoder_norm.weights)
    scale[0], shift[0] = 0, 1
    model.decoder_norm.set_weights([scale, shift])
    (table,) = model.target_embedding.get_weights()
    table[:, 0] = 0
    table[[PADDING, BEGIN, END], 0] = -1000
    model.target_embedding.set_weights([table])
    return model


def random_sources(batch: int, length: int) -> np.ndarray:
    """Token ids [batch, length], always the same ones, the end token last."""
    sources = np.random.default_rng(0).integers(RESERVED, VOCABULARY, (batch, length), "int32")
    sources[:, -1] = END
    return sources


def decoder(model: keras.Model, length: int) -> Decoder:
    """Ours, as a compiled export has it."""
    task = Translation(maximum_length=length, beam_width=BEAM, answers=BEAM)
    respond = functools.partial(task.respond, model)
    respond = compiled(respond, SOURCE_LENGTHS, model.variables)
    signature = {"source": tf.TensorSpec([None, None], tf.int32)}
    function = tf.function(respond, input_signature=[signature], autograph=False)

    def decode(sources: np.ndarray) -> float:
        began = time.perf_counter()
        response = function({"source": sources})
        assert (response["lengths"].numpy() == length).all()
        return time.perf_counter() - began

    return decode


def keras_loop(model: keras.Model, sources: np.ndarray, length: int) -> float:
    """As one writes it first: the model on all prefixes of a beam, the best 4 go on."""
    began = time.perf_counter()
    batch = len(sources)
    repeated = np.repeat(sources, BEAM, axis=0)
    written = np.full((batch * BEAM, 1), BEGIN, "int32")
    scores = np.full((batch, BEAM), -np.inf, "float32")
    scores[:, 0] = 0
    for _ in range(length):
        logits = _next_logits(model, repeated, written)
        totals = scores[..., None] + tf.nn.log_softmax(logits).numpy().reshape(batch, BEAM, -1)
        scores, best = (value.numpy() for value in tf.math.top_k(totals.reshape(batch, -1), BEAM))
        parents = (best // VOCABULARY + BEAM * np.arange(batch)[:, None]).ravel()
        tokens = (best % VOCABULARY).reshape(-1, 1).astype("int32")
        written = np.concatenate([written[parents], tokens], axis=1)
    return time.perf_counter() - began


@functools.cache
def _traced(model: keras.Model) -> Callable:
    open_shape = tf.TensorSpec([None, None], tf.int32)
    signature = [{"source": open_shape, "target": open_shape}]
    return tf.function(lambda inputs: model(inputs)[:, -1], input_signature=signature)


def _next_logits(model: keras.Model, source: np.ndarray, target: np.ndarray) -> tf.Tensor:
    return _traced(model)({"source": source, "target": target})


def write_weights(model: keras.Model, file: pathlib.Path) -> None:
    """What ``peers/ctranslate2_beam.py`` reads."""
    weights = {
        "/".join(["model", *variable.path.split("/")[1:]]): variable.numpy()
        for variable in model.variables
    }
    positions = sinusoidal_positions(np.arange(4 * LENGTH), model.dim)
    np.savez(file, positions=positions, heads=model.heads, **weights)


@contextlib.contextmanager
def asked(*words: object) -> Iterator[Callable[[np.ndarray], object]]:
    """A process that answers a line of JSON to each batch of sources."""
    if PEER_PYTHON in words and not PEER_PYTHON.exists():
        raise UserError(f"no {PEER_PYTHON} to run the peers; make bench sets it up")
    process = subprocess.Popen(
        [str(word) for word in words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def ask(sources: np.ndarray) -> object:
        print(json.dumps(sources.tolist()), file=process.stdin, flush=True)
        return json.loads(process.stdout.readline())

    try:
        yield ask
    finally:
        process.stdin.close()
        process.wait()


@contextlib.contextmanager
def kerashub(model: keras.Model) -> Iterator[Decoder]:
    options = model.get_config()
    sizes = [options[name] for name in ("layers", "heads", "dim", "hidden_dim")]
    script = PEERS / "kerashub_beam.py"
    with asked(PEER_PYTHON, script, VOCABULARY, *sizes, BEAM, LENGTH) as ask:
        yield ask


def on_each_count_of_threads(
    stack: contextlib.ExitStack, *words: object, length: int
) -> list[Decoder]:
    """A process on one thread and one on as many as there are processors."""

    def seconds(ask: Callable[[np.ndarray], object], sources: np.ndarray) -> float:
        answer = ask(sources)
        assert answer["lengths"] == [length] * len(sources)
        return answer["seconds"]

    counts = (1, processors())
    asks = [stack.enter_context(asked(*words, count, length)) for count in counts]
    return [functools.partial(seconds, ask) for ask in asks]


def fastest(decoders: list[Decoder], sources: np.ndarray) -> Decoder:
    """The first answer of each is not looked at: it compiles."""
    for decode in decoders:
        decode(sources)
    return min(decoders, key=lambda decode: min(decode(sources) for _ in range(4)))


def main(threads: int, length: int) -> None:
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    decode = decoder(never_ending_model(), length)
    for line in sys.stdin:
        sources = np.array(json.loads(line), "int32")
        answer = {"seconds": decode(sources), "lengths": [length] * len(sources)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
