"""Translation: a text is answered with a text, written token by token."""

from __future__ import annotations

import dataclasses
import pathlib
import textwrap
from typing import Literal

import keras
import numpy as np
from keras import ops

from models.layers.reserved_tokens import BEGIN, END, PADDING
from pipelines.engine.bootstrap import SummedFigure, mean, ratio
from pipelines.tasks.decoding import Wishes, decode
from pipelines.tasks.task import Evaluation, Figure, Scores
from pipelines.tasks.text_metrics import corpus_bleu
from pipelines.tasks.writing import Writing, hits, plain_text

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
        return response | {"truncated": _truncated(features["source"])}

    def forced(self, model: keras.Model, features: dict) -> dict:
        """How probable given translations are: ``source`` [B, S] and ``target`` [B, T] ids, both
        with their end tokens → ``scores`` [B], log-probabilities; ``lengths`` [B], tokens without
        the end token; ``truncated`` [B], whether either text was cut."""
        source, target = features["source"], features["target"]
        begin = ops.full_like(target[:, :1], BEGIN)
        inputs = {"source": source, "target": ops.concatenate([begin, target[:, :-1]], axis=1)}
        written = ops.logical_and(ops.not_equal(target, PADDING), ops.not_equal(target, END))
        return {
            "scores": self.assess(model, inputs, target)["reference_scores"],
            "lengths": _count(written),
            "truncated": ops.logical_or(_truncated(source), _truncated(target)),
        }

    def assess(self, model: keras.Model, features: dict, target) -> dict:
        """Teacher forcing: ``source`` [B, S] and ``target`` [B, T] ids, the begin token first, and
        the target itself [B, T] → of each, over its tokens without padding: ``reference_scores``,
        its log-probability, ``reference_tokens``, how many they are, the end token counted, and
        ``reference_hits``, how many of them were the most probable ones."""
        logits = model(features, training=False)
        chosen = ops.take_along_axis(ops.log_softmax(logits), target[..., None], axis=-1)[..., 0]
        real = ops.not_equal(target, PADDING)
        return {
            "reference_scores": ops.sum(ops.where(real, chosen, 0.0), axis=-1),
            "reference_tokens": _count(real),
            "reference_hits": _count(ops.logical_and(real, hits(target, logits))),
        }

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
        summed |= _forced_figures(answers)
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


def _count(flags):
    return ops.sum(ops.cast(flags, "int32"), axis=-1)


def _forced_figures(answers: dict[str, list]) -> dict[str, SummedFigure]:
    """What ``Translation.assess`` found as figures of the split, where it was asked."""
    if "reference_scores" not in answers:
        return {}
    tokens = np.array(answers["reference_tokens"])
    log_loss = ratio(-np.array(answers["reference_scores"]), tokens)
    return {
        "token_accuracy": ratio(np.array(answers["reference_hits"]), tokens),
        "perplexity": SummedFigure(log_loss.terms, lambda sums: np.exp(log_loss.of_sums(sums))),
    }


def _truncated(ids):
    return ops.logical_not(ops.any(ops.equal(ids, END), axis=-1))


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
