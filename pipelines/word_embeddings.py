"""Word vectors learned from plain text: give a word, get the words used like it.

    python -m pipelines.word_embeddings
    python -m pipelines.word_embeddings --dataset text --data_dir my_texts --arrange.window 8

The first command puts the true context above all five random words in 23.9 % of 35,598 unseen pairs
(chance: 16.7 %; seed 0, 2026-11-22, two shared cores of a 2.5 GHz Xeon, 1 min 44 s beside other
work); nearest to "float" are complex, imaginary, convert, int and real.

Served: ``word`` [batch] → ``neighbours``, ``similarities`` [batch, k] and ``vector``
[batch, dimensions]; a word that was never trained has empty strings and zeros.
"""

from __future__ import annotations

from models.word2vec import skip_gram
from pipelines.arrange.skip_gram import arrange
from pipelines.engine.application import DEFAULT_SIGNATURE, Application, Endpoint, Recipe, Variant
from pipelines.engine.lazy import tensorflow as tf
from pipelines.preprocess.words import WordPreprocessor
from pipelines.sources.python_docs import PythonDocs
from pipelines.sources.text_files import TextFiles
from pipelines.tasks.word_embeddings import WordEmbeddings

nearest_words = Endpoint(
    inputs=lambda preprocessor: {"word": tf.TensorSpec([None], tf.string)},
    features=lambda preprocessor, batch: {"word": preprocessor.look_up(batch["word"])},
    respond=lambda task, model, features: task.nearest(model, features["word"]),
    answer=lambda preprocessor, response, inputs: (
        response | {"neighbours": preprocessor.spell(response["neighbours"])}
    ),
    samples=lambda preprocessor, raw: {
        "word": preprocessor.tokenize(raw["text"]).flat_values[: len(raw["text"])]
    },
)

application = Application(
    name="word_embeddings",
    summary="word vectors from plain text; word → nearest words",
    sources={"docs": Variant(PythonDocs), "text": Variant(TextFiles)},
    preprocessor=WordPreprocessor,
    arrange=arrange,
    task=WordEmbeddings,
    # The word2vec program's rate of 0.025 a pair, times 2,048, because a step takes the mean over
    # the pairs of a batch. Plain gradient descent touches only the rows of the words in the batch.
    recipe=Recipe(
        epochs=25,
        batch_size=2048,
        optimizer="sgd",
        learning_rate=50.0,
        schedule="cosine",
        monitor="val_accuracy",
    ),
    architectures={"skip_gram": Variant(skip_gram)},
    endpoints={DEFAULT_SIGNATURE: nearest_words},
)

if __name__ == "__main__":
    from pipelines.engine.cli import main

    main(application)
