"""KerasHub's beam search over its own cached decoder, of the size that it is told.

    python kerashub_beam.py VOCABULARY LAYERS HEADS DIM HIDDEN BEAM LENGTH < SOURCES

Each line of the input is a JSON list of sources (token ids, all of one length); the answer is a
line with the seconds that LENGTH tokens of each answer took. Weights are random, and nothing ends
an answer. Whether its loop is compiled is left to KerasHub.
"""

from __future__ import annotations

import json
import sys
import time

import keras_hub
import numpy as np

BEGIN = 1


def main(
    vocabulary: int, layers: int, heads: int, dim: int, hidden: int, beam: int, length: int
) -> None:
    backbone = keras_hub.models.BartBackbone(
        vocabulary_size=vocabulary,
        num_layers=layers,
        num_heads=heads,
        hidden_dim=dim,
        intermediate_dim=hidden,
        max_sequence_length=2 * length,
    )
    model = keras_hub.models.BartSeq2SeqLM(backbone)
    model.compile(sampler=keras_hub.samplers.BeamSampler(num_beams=beam))
    for line in sys.stdin:
        sources = np.array(json.loads(line), "int32")
        written = np.zeros((len(sources), length + 1), "int32")
        written[:, 0] = BEGIN
        inputs = {
            "encoder_token_ids": sources,
            "encoder_padding_mask": np.ones_like(sources),
            "decoder_token_ids": written,
            "decoder_padding_mask": (written == BEGIN).astype("int32"),
        }
        began = time.perf_counter()
        model.generate(inputs, stop_token_ids=None)
        print(time.perf_counter() - began, flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
