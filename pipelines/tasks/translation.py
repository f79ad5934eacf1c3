"""Translation: a text is answered with a text, written token by token."""

from __future__ import annotations

import dataclasses
import pathlib
import textwrap
from typing import Literal

import keras
import numpy as np
from keras import ops

from pipelines.engine.bootstrap import mean
from pipelines.tasks.decoding import Wishes, decode
from pipelines.tasks.task import Evaluation, Figure, Scores
from pipelines.tasks.text_metrics import corpus_bleu
from pipelines.tasks.writing import Writing, forced_figures, plain_text, truncated

HEAT_MAPS = 4
MISTAKES = 12


@dataclasses.dataclass(frozen=True, kw_only=True)
class Translation(Writing):
    """A text is answered with the texts that most probably translate it.

    The defaults of the search are those of Vaswani et al. 2017, section 6.1.
    """

    beam_width: int = 4
    answers: int = 4
    length_penalty: float = 0.6
    length_normalization: Literal["power", "gnmt"] = "gnmt"

    def respond(self, model: keras.Model, features: dict, wishes: Wishes | None = None) -> dict:
        """``source`` [B, S] ids → what ``decode`` returns, and ``truncated`` [B] bool.

        A source that was cut lacks its end token; the answer may then miss what was cut off.
        """
        response = decode(model, features, self, wishes)
        return response | {"truncated": truncated(features["source"])}

    def forced(self, model: keras.Model, features: dict) -> dict:
        """``source`` [B, S] and ``target`` [B, T] → see ``Writing.forced``; either may be cut."""
        forced = super().forced(model, features)
        cut = ops.logical_or(truncated(features["source"]), forced["truncated"])
        return forced | {"truncated": cut}

    def scores(self, answers: dict[str, list], examples: dict[str, list]) -> Scores:
        """Compares the best texts with the references, as they were given: no tokens, no folding.

        ``bleu`` (Papineni et al. 2002) and ``chrf`` (Popović 2015) are sacreBLEU's, of the whole
        split, in percent; ``exact_match`` is a share, and comes first where no reference has more
        than one word. Of what ``assess`` found, ``token_accuracy`` is a share of all tokens of the
        references, and ``perplexity`` is that of a token.
        """
        from sacrebleu.metrics import CHRF

        written = _best(answers)
        references = [plain_text(target) for target in examples["target"]]
        wrong = np.array([a != b for a, b in zip(written, references, strict=True)], float)
        summed = {"bleu": corpus_bleu(written, references), "exact_match": mean(1 - wrong)}
        if not any(len(reference.split()) > 1 for reference in references):
            summed = dict(reversed(summed.items()))
        summed |= forced_figures(answers)
        values = {name: figure.value for name, figure in summed.items()}
        values["chrf"] = CHRF().corpus_score(written, [references]).score
        return Scores(values, "text that differs from the reference (0 or 1)", wrong, summed)

    def figures(self, evaluation: Evaluation, folder: pathlib.Path) -> list[Figure]:
        """Attention heat maps of a few examples, and the answers least like their references."""
        return [self._heat_maps(evaluation, folder), _worst_mistakes(evaluation, folder)]

    def _heat_maps(self, evaluation: Evaluation, folder: pathlib.Path) -> Figure:
        from matplotlib.figure import Figure as Canvas

        sources = evaluation.examples["source"]
        shown = np.unique(np.linspace(0, len(sources) - 1, HEAT_MAPS).astype(int))
        preprocessor = evaluation.preprocessor
        features = preprocessor.features({"source": np.array([sources[i] for i in shown], object)})
        response = self.respond(evaluation.model, preprocessor.model_inputs(features))
        alignment = keras.ops.convert_to_numpy(response["alignment"])[:, 0]
        read, written = preprocessor.pieces(features, response)

        height = -(-len(shown) // 2)
        canvas = Canvas(figsize=(14, 4.5 * height), layout="constrained")
        grid = canvas.subplots(height, 2, squeeze=False).flat
        for axes in grid[len(shown) :]:
            axes.axis("off")
        for axes, weights, columns, lines in zip(grid, alignment, read, written, strict=False):
            seen = weights[: len(lines), : len(columns)]
            axes.imshow(seen, cmap="Blues", vmin=0, vmax=1, aspect="auto")
            axes.set_xticks(range(len(columns)), columns, rotation=90, fontsize=8)
            axes.set_yticks(range(len(lines)), lines, fontsize=8)
            axes.set(xlabel="read", ylabel="written")
        canvas.savefig(folder / "attention.png", dpi=110)
        return Figure(
            "attention.png",
            "Attention",
            "Where the model looked (columns) as it wrote each token (rows); dark is all, white "
            "is nothing. ∎ is the end of a text.",
        )


def _worst_mistakes(evaluation: Evaluation, folder: pathlib.Path) -> Figure:
    from matplotlib.figure import Figure as Canvas
    from sacrebleu.metrics import BLEU, CHRF

    written = _best(evaluation.answers)
    references = [plain_text(target) for target in evaluation.examples["target"]]
    wrong = np.flatnonzero(evaluation.scores.errors)
    likeness = [CHRF().sentence_score(written[i], [references[i]]).score for i in wrong]
    order = np.argsort(likeness, kind="stable")[:MISTAKES]
    rows = [
        [
            textwrap.fill(text, 44)
            for text in (plain_text(evaluation.examples["source"][i]), references[i], written[i])
        ]
        + [f"{likeness[position]:.0f}"]
        for position, i in zip(order, wrong[order], strict=True)
    ] or [["none", "", "", ""]]

    lines = [max(cell.count("\n") + 1 for cell in row) for row in rows]
    canvas = Canvas(figsize=(13, 0.28 * (sum(lines) + 2)), layout="constrained")
    axes = canvas.subplots()
    axes.axis("off")
    table = axes.table(
        rows,
        colLabels=["source", "reference", "answer", "chrF"],
        colWidths=[0.32, 0.31, 0.31, 0.06],
        cellLoc="left",
        bbox=[0, 0, 1, 1],
    )
    table.auto_set_font_size(False)
    table.set_fontsize(9)
    for (row, _), cell in table.get_celld().items():
        cell.set_height((lines[row - 1] if row else 1) / (sum(lines) + 1))
    canvas.savefig(folder / "mistakes.png", dpi=110)
    metric = BLEU()
    metric.corpus_score(written, [references])
    return Figure(
        "mistakes.png",
        "Worst mistakes",
        f"{len(wrong):,} of {len(written):,} answers differ from their reference; shown are up to "
        f"{MISTAKES}, those least like it first. BLEU's signature: `{metric.get_signature()}`.",
    )


def _best(answers: dict[str, list]) -> list[str]:
    return [plain_text(texts[0]) for texts in answers["texts"]]
