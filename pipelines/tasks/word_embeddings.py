"""Telling a word's true neighbour from random words, and finding the words nearest to a word."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import keras
import numpy as np
from keras import ops

from pipelines.tasks.task import Evaluation, Figure, Scores, Task

TABLE_ROWS = 24
MAP_WORDS = 300


@keras.saving.register_keras_serializable(package="zoo")
def negative_sampling_loss(target, logits):
    """Binary cross-entropies, summed over the candidates: [batch, candidates] → [batch].

    The negative of equation 4 in Mikolov et al. 2013, "Distributed Representations of Words and
    Phrases and their Compositionality".
    """
    return ops.sum(ops.binary_crossentropy(target, logits, from_logits=True), axis=-1)


@keras.saving.register_keras_serializable(package="zoo")
def true_context_first(target, logits):
    """1 where the first candidate, the true one, scores above all others: → [batch] float32."""
    return ops.cast(_rivals(logits) == 0, "float32")


def _rivals(logits):
    """How many random words score at least as high as the true context: → [batch] int32."""
    return ops.sum(ops.cast(logits[:, 1:] >= logits[:, :1], "int32"), axis=-1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WordEmbeddings(Task):
    """Word vectors from pairs of neighbours.

    ``accuracy`` is the share of pairs whose true neighbour scores above all of its random words.

    Args:
        neighbours: how many nearest words an answer names.
    """

    neighbours: int = 10

    def compile_arguments(self) -> dict[str, Any]:
        accuracy = keras.metrics.MeanMetricWrapper(true_context_first, name="accuracy")
        return {"loss": negative_sampling_loss, "metrics": [accuracy]}

    def respond(self, model: keras.Model, features: dict) -> dict:
        """``loss`` [batch] and ``rivals`` [batch]: random words that score at least as high."""
        logits = model(features, training=False)
        target = ops.one_hot(ops.zeros_like(features["center"]), ops.shape(logits)[1])
        return {"loss": negative_sampling_loss(target, logits), "rivals": _rivals(logits)}

    def nearest(self, model: keras.Model, word) -> dict:
        """The words whose vectors have the highest cosine with a word's, itself left out.

        Args:
            model: has a layer ``word_vectors``.
            word: [batch] int32 numbers of words; a negative one is unknown.

        Returns:
            ``neighbours`` [batch, k] int32 and ``similarities`` [batch, k] float32, the nearest
            first, k at most the rest of the vocabulary, and ``vector`` [batch, dimensions]
            float32. For an unknown word -1, 0 and 0.
        """
        vectors = ops.cast(model.get_layer("word_vectors").embeddings, "float32")
        directions = ops.normalize(vectors, axis=-1)
        known = ops.expand_dims(word >= 0, -1)
        row = ops.maximum(word, 0)
        cosines = ops.matmul(ops.take(directions, row, axis=0), ops.transpose(directions))
        itself = ops.one_hot(row, vectors.shape[0])
        k = min(self.neighbours, vectors.shape[0] - 1)
        similarities, neighbours = ops.top_k(cosines - 4 * itself, k)
        return {
            "neighbours": ops.where(known, neighbours, -1),
            "similarities": ops.where(known, similarities, 0.0),
            "vector": ops.where(known, ops.take(vectors, row, axis=0), 0.0),
        }

    def scores(self, answers: dict[str, list], examples: dict[str, list]) -> Scores:
        rivals = np.asarray(answers["rivals"], float)
        values = {"accuracy": np.mean(rivals == 0), "loss": np.mean(answers["loss"])}
        return Scores(
            values={name: float(value) for name, value in values.items()},
            unit="random words that score at least as high as the true neighbour",
            errors=rivals,
        )

    def figures(self, evaluation: Evaluation, folder: pathlib.Path) -> list[Figure]:
        words = evaluation.preprocessor.words
        return [
            self._neighbour_table(evaluation.model, words, folder),
            _word_map(evaluation.model, words, folder),
        ]

    def _neighbour_table(self, model, words: list[str], folder: pathlib.Path) -> Figure:
        """Frequent words of four letters or more with their nearest words and cosines."""
        import matplotlib.figure

        shown = [i for i, word in enumerate(words) if len(word) >= 4][:TABLE_ROWS]
        shown = shown or list(range(len(words)))[:TABLE_ROWS]
        answer = self.nearest(model, ops.convert_to_tensor(shown, "int32"))
        columns = min(6, answer["neighbours"].shape[1])
        numbers, cosines = (
            ops.convert_to_numpy(answer[name])[:, :columns]
            for name in ("neighbours", "similarities")
        )
        cells = [
            [words[word], *(f"{words[n]}  {c:.2f}" for n, c in zip(*row, strict=True))]
            for word, *row in zip(shown, numbers, cosines, strict=True)
        ]
        figure = matplotlib.figure.Figure(figsize=(2 * (columns + 1), 0.3 * len(cells) + 0.5))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        heading = ["word", *(f"nearest {n + 1}" for n in range(columns))]
        table = axes.table(cells, colLabels=heading, cellLoc="left", bbox=(0.01, 0.02, 0.98, 0.96))
        table.auto_set_font_size(False)
        table.set_fontsize(9)
        for (row, column), cell in table.get_celld().items():
            cell.set_edgecolor("lightgrey")
            if row == 0 or column == 0:
                cell.set_text_props(weight="bold")
        figure.savefig(folder / "nearest_words.png", dpi=100)
        return Figure(
            "nearest_words.png",
            "Nearest words",
            "The most frequent words of four letters or more, and the words whose vectors point"
            " in the most similar direction, with the cosine.",
        )


def _word_map(model, words: list[str], folder: pathlib.Path) -> Figure:
    """The most frequent words on a plane, near where their vectors are near (t-SNE)."""
    import matplotlib.figure
    import sklearn.manifold

    vectors = ops.convert_to_numpy(model.get_layer("word_vectors").embeddings)[:MAP_WORDS]
    plane = sklearn.manifold.TSNE(
        metric="cosine", perplexity=min(15, (len(vectors) - 1) / 3), init="random", random_state=0
    ).fit_transform(vectors)
    figure = matplotlib.figure.Figure(figsize=(14, 10))
    axes = figure.add_axes((0.01, 0.01, 0.98, 0.98), xticks=[], yticks=[])
    axes.scatter(*plane.T, s=4, color="tab:orange")
    for word, point in zip(words, plane, strict=False):
        axes.annotate(
            word, point, xytext=(0, 2), textcoords="offset points", fontsize=8, ha="center"
        )
    figure.savefig(folder / "word_map.png", dpi=100)
    return Figure(
        "word_map.png",
        "Word map",
        f"The {len(vectors)} most frequent words on a plane: near each other where the cosine of"
        " their vectors is high (t-SNE; distances between far groups mean nothing).",
    )
