"""Captioning: a picture is answered with a sentence, written token by token."""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
import textwrap
from typing import Literal

import keras
import numpy as np
from keras import ops

from pipelines.engine.bootstrap import SummedFigure, mean
from pipelines.tasks.cider import cider_d, words
from pipelines.tasks.decoding import Wishes, decode
from pipelines.tasks.examples import pictures
from pipelines.tasks.task import Evaluation, Figure, Scores
from pipelines.tasks.text_metrics import bleu_by_order
from pipelines.tasks.writing import Writing, forced_figures, plain_text

SHOWN = 12
LOOKED_INTO = 3
WORDS_SHOWN = 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class Captioning(Writing):
    """A picture is answered with the sentences that most probably describe it."""

    maximum_length: int = 40
    beam_width: int = 3
    answers: int = 3
    length_penalty: float = 0.6
    length_normalization: Literal["power", "gnmt"] = "gnmt"

    def respond(self, model: keras.Model, features: dict, wishes: Wishes | None = None) -> dict:
        """``image`` [B, height, width, channels] → what ``decode`` returns, with its alignment as
        ``attention`` [B, n, T, rows, columns]."""
        response = decode(model, {"image": features["image"]}, self, wishes)
        alignment = response.pop("alignment")
        shape = (-1, *alignment.shape[1:3], *model.grid)
        return response | {"attention": ops.reshape(alignment, shape)}

    def scores(self, answers: dict[str, list], examples: dict[str, list]) -> Scores:
        """Compares the best texts with all references.

        ``exact_scene`` is the share of captions that describe the very scene, where examples have
        all ``descriptions`` of theirs. ``cider_d`` is from 0 to 10, ten times less than usually
        printed; in its interval n-grams are as rare as in the whole split. ``bleu_1`` to ``bleu_4``
        (Papineni et al. 2002) and ``chrf`` (Popović 2015) are sacreBLEU's, of the whole split,
        lower case, in percent. ``token_accuracy`` and ``perplexity`` are those of the first
        reference, as in translation. ``distinct_captions`` is the share of captions that are
        written for one picture alone; ``distinct_2`` the number of different pairs of neighbouring
        words by that of all pairs (Li et al. 2016, arXiv:1510.03055).
        """
        from sacrebleu.metrics import CHRF

        written, references = _best(answers), _lines(examples["captions"])
        if "descriptions" in examples:
            every = _lines(examples["descriptions"])
            wrong = [text not in true for text, true in zip(written, every, strict=True)]
            unit, errors = "caption of another scene (0 or 1)", np.array(wrong, float)
            summed = {"exact_scene": mean(1 - errors)}
        else:
            metric, pairs = CHRF(lowercase=True), zip(written, references, strict=True)
            likeness = [metric.sentence_score(text, known).score for text, known in pairs]
            unit, errors = "1 - chrF of the caption", 1 - np.array(likeness) / 100
            summed = {}
        summed |= _consensus(written, references) | forced_figures(answers)
        values = {name: figure.value for name, figure in summed.items()}
        streams = _streams(references)
        values["chrf"] = CHRF(lowercase=True).corpus_score(written, streams).score
        return Scores(values | _diversity(written), unit, errors, summed)

    def figures(self, evaluation: Evaluation, folder: pathlib.Path) -> list[Figure]:
        """Pictures with their captions, and where the model looked as it wrote some of them."""
        return [_draw_captions(evaluation, folder), self._draw_attention(evaluation, folder)]

    def _draw_attention(self, evaluation: Evaluation, folder: pathlib.Path) -> Figure:
        from matplotlib.figure import Figure as Canvas

        chosen = _spread(len(evaluation.examples["id"]), LOOKED_INTO)
        pixels = pictures(evaluation, chosen)
        preprocessor = evaluation.preprocessor
        response = self.respond(evaluation.model, preprocessor.model_inputs({"image": pixels}))
        attention = ops.convert_to_numpy(response["attention"])[:, 0]
        lines = [pieces[:WORDS_SHOWN] for pieces in preprocessor.pieces(response)]

        columns = max(map(len, lines)) + 1
        canvas = Canvas(figsize=(1.15 * columns, 1.4 * len(chosen)), layout="constrained")
        grid = canvas.subplots(len(chosen), columns, squeeze=False)
        for axes in grid.flat:
            axes.axis("off")
        for row, picture, maps, pieces in zip(grid, pixels, attention, lines, strict=True):
            height, width = picture.shape[:2]
            row[0].imshow(np.squeeze(picture), cmap="gray", vmin=0, vmax=255)
            for axes, weights, piece in zip(row[1:], maps, pieces, strict=False):
                axes.imshow(np.squeeze(picture), cmap="gray", vmin=0, vmax=255)
                axes.imshow(
                    weights / max(weights.max(), 1e-9),
                    cmap="gray",
                    alpha=0.65,
                    extent=(-0.5, width - 0.5, height - 0.5, -0.5),
                    interpolation="bilinear",
                )
                axes.set_title(piece, fontsize=9)
        canvas.savefig(folder / "attention.png", dpi=110)
        return Figure(
            "attention.png",
            "Attention",
            "Where the model looked as it wrote each word: the lighter, the more, by the lightest "
            "place of each word. ∎ is the end of a caption.",
        )


def _draw_captions(evaluation: Evaluation, folder: pathlib.Path) -> Figure:
    """Draws pictures under their captions, the worst in the upper half."""
    from matplotlib.figure import Figure as Canvas
    from sacrebleu.metrics import BLEU

    errors = evaluation.scores.errors
    worst = np.argsort(-errors, kind="stable")[: SHOWN // 2]
    chosen = list(dict.fromkeys([*worst, *_spread(len(errors), SHOWN)]))[:SHOWN]
    written, references = _best(evaluation.answers), _lines(evaluation.examples["captions"])
    columns = 4
    rows = -(-len(chosen) // columns)
    canvas = Canvas(figsize=(3.6 * columns, 3.9 * rows), layout="constrained")
    grid = canvas.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.axis("off")
    for axes, example, picture in zip(grid, chosen, pictures(evaluation, chosen), strict=False):
        axes.imshow(np.squeeze(picture), cmap="gray", vmin=0, vmax=255)
        true = textwrap.fill(f"true: {references[example][0]}", 44)
        given = textwrap.fill(written[example], 44)
        axes.set_title(f"{given}\n({true})", fontsize=8)
    canvas.savefig(folder / "captions.png", dpi=110)
    metric = BLEU(lowercase=True)
    metric.corpus_score(written, _streams(references))
    return Figure(
        "captions.png",
        "Captions",
        f"The {len(worst)} captions of {evaluation.split} with the largest errors, then others; "
        f"below each, one that is true. BLEU's signature: `{metric.get_signature()}`.",
    )


def _spread(count: int, wanted: int) -> list[int]:
    """Up to ``wanted`` of ``count`` places, evenly spread."""
    return np.unique(np.linspace(0, count - 1, wanted).astype(int)).tolist()


def _consensus(written: list[str], references: list[list[str]]) -> dict[str, SummedFigure]:
    """CIDEr-D, and BLEU-1 to BLEU-4."""
    bleu = bleu_by_order(written, references, lower_case=True)
    named = {f"bleu_{order}": figure for order, figure in enumerate(bleu, 1)}
    return {"cider_d": mean(cider_d(written, references))} | named


def _streams(references: list[list[str]]) -> list[tuple[str | None, ...]]:
    """The first references of all pictures, then the second ones, …; None where there is none."""
    return list(itertools.zip_longest(*references))


def _diversity(written: list[str]) -> dict[str, float]:
    pairs = [pair for caption in written for pair in itertools.pairwise(words(caption))]
    return {
        "distinct_captions": len(set(written)) / len(written),
        "distinct_2": len(set(pairs)) / max(len(pairs), 1),
    }


def _best(answers: dict[str, list]) -> list[str]:
    return [plain_text(texts[0]) for texts in answers["texts"]]


def _lines(texts: list) -> list[list[str]]:
    """The lines of each text."""
    return [plain_text(text).split("\n") for text in texts]
