"""Machine translation: a text in, the same text in another language or form out.

Built in are dates as people write them in many languages, to be written as ISO dates, character by
character. With ``--dataset text --data_dir DIR`` it learns from files of parallel sentences, in
subwords.

    python -m pipelines.machine_translation
    python -m pipelines.machine_translation --dataset text --data_dir multi30k \\
        --source.source_language en --source.target_language de

The first command writes all 2,000 test dates right (exact match 100 %, seed 0, 2026-11-22, two
shared cores of a 2.5 GHz Xeon: 2 min 55 s for everything, 2 min 4 s of it training). With
``--architecture transformer_tiny`` 99.90 % are right (2026-11-25), with ``sequence_to_sequence``
99.95 %, with ``rnn_encoder_decoder`` 99.15 %.

Multi30k, English → German, with ``--architecture transformer_tiny``, ``--preprocess.vocabulary_size
4000 --arrange.tokens_per_batch 4096``, ``--learning_rate 5e-3 --schedule inverse_sqrt``,
``--warmup_steps 2000 --averaged_epochs 5`` and ``--patience 10 --epochs 70``: 39.5 BLEU
[37.9, 41.1] on test2016 (sacreBLEU, raw text, case-sensitive; seed 0, 2026-11-25, 126 minutes of
training beside other work on two shared cores of an AMD EPYC).

``python -m pipelines.diagnose RUN`` says whether the search or the model is at fault for what is
wrong, and which beam width and length penalty are best; ``python -m tuning.decoding RUN`` looks for
the best of both together.

Served, three signatures:

- ``serving_default``: ``source`` [batch] → ``texts``, ``scores``, ``lengths`` [batch, n], best
  first, ``alignment`` [batch, n, written tokens, read tokens], and ``truncated`` [batch], true
  where the source was longer than is read.
- ``translate``: also asks for ``length_penalty``, ``beam_width``, ``maximum_length``,
  ``temperature`` and ``seed`` [batch]; above temperature 0 it draws at random instead of searching.
  Also answers ``source_tokens`` and ``target_tokens``, what the alignment is between.
- ``score``: ``source`` and ``target`` [batch] → ``scores``, the log-probability of that target, its
  ``lengths``, and ``truncated`` [batch].
"""

from __future__ import annotations

from models.encoder_decoder import bahdanau_attention, rnn_encoder_decoder, sequence_to_sequence
from models.transformer import transformer_base, transformer_small, transformer_tiny
from pipelines.arrange.translation import arrange
from pipelines.diagnosis.search_or_model import search_or_model
from pipelines.engine.application import DEFAULT_SIGNATURE, Application, Endpoint, Recipe, Variant
from pipelines.preprocess.text import TranslationPreprocessor
from pipelines.sources.dates import Dates
from pipelines.sources.parallel_text import ParallelText
from pipelines.tasks.translation import Translation
from pipelines.tasks.writing import scoring, wishing

# The axis of what is as long as the source.
SOURCE_LENGTHS = {"source": 1, "alignment": 3}

translate = wishing(
    Endpoint(compiled=SOURCE_LENGTHS),
    respond=lambda task, model, features, wishes: (
        task.respond(model, features, wishes) | {"source": features["source"]}
    ),
    answer=lambda preprocessor, response, inputs: (
        preprocessor.answer(response, inputs)
        | preprocessor.aligned_tokens(response["source"], response)
    ),
)

score = scoring(
    "target",
    ids=lambda preprocessor, inputs: preprocessor.target(inputs),
    given=lambda raw: raw["target"],
)

# As published for the base model (Vaswani et al. 2017, section 5.3): 1 / √(512 · 4000) at most.
ADAM = {"beta_1": 0.9, "beta_2": 0.98, "epsilon": 1e-9}
NOAM = ADAM | {"learning_rate": 7e-4, "schedule": "inverse_sqrt", "warmup_steps": 4000}
# Normalized before each sublayer, a small one learns fast at a high rate.
FAST = ADAM | {"learning_rate": 2e-3, "warmup_steps": 100, "batch_size": 64}
# All that is read must pass through the last states, which takes three times as many steps to learn
# as dates otherwise do; other texts take more epochs than these.
LONGER = {"epochs": 5, "batch_size": 64}

application = Application(
    name="machine_translation",
    summary="Translate a text: dates in many languages to ISO dates, or any parallel text.",
    sources={
        # What is read and what is written are different characters, and nothing is ambiguous.
        "dates": Variant(Dates, model={"shared_embeddings": False, "dropout": 0.0}),
        "text": Variant(
            ParallelText,
            recipe={"epochs": 20, "batch_size": 64, "patience": 3},
            preprocess={
                "tokenizer": "unigram",
                "vocabulary_size": 8000,
                "shared_vocabulary": True,
                "maximum_source_length": 100,
                "maximum_target_length": 100,
            },
            # On JAX, which compiles every shape: --arrange.pad_to 8.
            arrange={"bucket_batches": 128, "pad_to": 1},
            task={"maximum_length": 100, "label_smoothing": 0.1},
            model={"units": 256, "embedding_dim": 256, "dropout": 0.3, "shared_embeddings": True},
        ),
    },
    preprocessor=TranslationPreprocessor,
    arrange=arrange,
    task=Translation,
    recipe=Recipe(epochs=3, batch_size=128, learning_rate=5e-3, schedule="cosine", clip_norm=1.0),
    architectures={
        "bahdanau_attention": Variant(bahdanau_attention),
        "rnn_encoder_decoder": Variant(rnn_encoder_decoder),
        "sequence_to_sequence": Variant(sequence_to_sequence, LONGER),
        "transformer_tiny": Variant(transformer_tiny, FAST, model={"normalization": "pre"}),
        "transformer_small": Variant(transformer_small, NOAM),
        "transformer_base": Variant(transformer_base, NOAM),
    },
    endpoints={
        DEFAULT_SIGNATURE: Endpoint(compiled=SOURCE_LENGTHS),
        "translate": translate,
        "score": score,
    },
    diagnoses=(search_or_model,),
)

if __name__ == "__main__":
    from pipelines.engine.cli import main

    main(application)
