"""CTranslate2 decoding with the weights of a ``transformer_tiny`` of ours, in float32.

    python ctranslate2_beam.py WEIGHTS BEAM THREADS LENGTH < SOURCES

WEIGHTS is an .npz file: the variables by their path, the table of ``positions``, and ``heads``.
Each line of the input is a JSON list of sources (token ids, the end token last); the answer is a
JSON object: the ``seconds`` it took, and the ``lengths`` of the best answers, at most LENGTH.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Mapping

import ctranslate2
import numpy as np
from ctranslate2.specs import TransformerSpec

RESERVED = ["<pad>", "<s>", "</s>", "<unk>"]


def specification(weights: Mapping[str, np.ndarray]) -> TransformerSpec:
    """The model as CTranslate2 describes one: kernels transposed, projections joined."""
    layers = len({path.split("/")[1] for path in weights if path.startswith("model/decoder_")}) - 1
    spec = TransformerSpec.from_config(
        (layers, layers), int(weights["heads"]), pre_norm="model/encoder_norm/gamma" in weights
    )
    table = weights["model/target_embedding/embeddings"]
    spec.encoder.embeddings[0].weight = spec.decoder.embeddings.weight = table
    spec.decoder.projection.weight = table
    for side, name in ((spec.encoder, "encoder"), (spec.decoder, "decoder")):
        side.position_encodings.encodings = weights["positions"]
        _normalize(side.layer_norm, weights, f"model/{name}_norm")
        for number, layer in enumerate(side.layer):
            _fill_layer(layer, weights, f"model/{name}_{number}")
    tokens = RESERVED + [str(number) for number in range(len(RESERVED), len(table))]
    spec.register_source_vocabulary(tokens)
    spec.register_target_vocabulary(tokens)
    return spec


def _fill_layer(layer, weights, path: str) -> None:
    attention = layer.self_attention
    _normalize(attention.layer_norm, weights, f"{path}/self_attention_norm")
    _project(attention.linear[0], weights, f"{path}/self_attention", "query", "key", "value")
    _project(attention.linear[1], weights, f"{path}/self_attention", "output")
    if hasattr(layer, "attention"):
        attention = layer.attention
        _normalize(attention.layer_norm, weights, f"{path}/cross_attention_norm")
        _project(attention.linear[0], weights, f"{path}/cross_attention", "query")
        _project(attention.linear[1], weights, f"{path}/cross_attention", "key", "value")
        _project(attention.linear[2], weights, f"{path}/cross_attention", "output")
    _normalize(layer.ffn.layer_norm, weights, f"{path}/feed_forward_norm")
    for linear, name in ((layer.ffn.linear_0, "hidden"), (layer.ffn.linear_1, "shrink")):
        _project(linear, weights, path, name)
        linear.bias = weights[f"{path}/{name}/bias"]


def _normalize(spec, weights, path: str) -> None:
    spec.gamma, spec.beta = weights[f"{path}/gamma"], weights[f"{path}/beta"]


def _project(spec, weights, path: str, *names: str) -> None:
    spec.weight = np.concatenate([weights[f"{path}/{name}/kernel"].T for name in names])


def main(file: str, beam: int, threads: int, length: int) -> None:
    spec = specification(dict(np.load(file)))
    spec.validate()
    spec.optimize()
    with tempfile.TemporaryDirectory() as folder:
        spec.save(folder)
        translator = ctranslate2.Translator(
            folder, device="cpu", compute_type="float32", intra_threads=threads
        )
        for line in sys.stdin:
            print(json.dumps(translate(translator, json.loads(line), beam, length)), flush=True)


def translate(translator, sources: list[list[int]], beam: int, length: int) -> dict:
    """All sources as one batch."""
    texts = [[RESERVED[i] if i < len(RESERVED) else str(i) for i in source] for source in sources]
    began = time.perf_counter()
    results = translator.translate_batch(
        texts,
        beam_size=beam,
        num_hypotheses=beam,
        length_penalty=0.6,
        max_decoding_length=length,
    )
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "lengths": [len(result.hypotheses[0]) for result in results]}


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
