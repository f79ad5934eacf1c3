"""BLEU as a function of sums over sentences, so that its uncertainty can be told.

Papineni et al.: BLEU: a Method for Automatic Evaluation of Machine Translation, 2002,
https://aclanthology.org/P02-1040; counted and smoothed as in sacreBLEU (Post 2018,
https://aclanthology.org/W18-6319), whose numbers these are.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from pipelines.engine.bootstrap import SummedFigure

ORDERS = 4  # n-grams of one to four words


def corpus_bleu(written: Sequence[str], references: Sequence[str]) -> SummedFigure:
    """BLEU in percent of texts with one reference each, case-sensitive, with sacreBLEU's "13a"."""
    return bleu_by_order(written, [[reference] for reference in references])[-1]


def bleu_by_order(
    written: Sequence[str], references: Sequence[Sequence[str]], *, lower_case: bool = False
) -> list[SummedFigure]:
    """BLEU of one to four words, as ``corpus_bleu``.

    Args:
        written: a text of each example.
        references: one or more that are right of each of the same examples.
        lower_case: whether case is ignored.
    """
    from sacrebleu.metrics import BLEU

    # Nothing of the effective order is in the counts, which alone are taken from here.
    metric = BLEU(lowercase=lower_case, effective_order=True)
    rows = []
    for text, known in zip(written, references, strict=True):
        counted = metric.sentence_score(text, known)
        rows.append([counted.sys_len, counted.ref_len, *counted.counts, *counted.totals])
    terms = np.array(rows, float).reshape(-1, 2 + 2 * ORDERS)
    return [
        SummedFigure(terms, functools.partial(_bleu, order=order)) for order in range(1, ORDERS + 1)
    ]


def _bleu(sums: np.ndarray, order: int) -> np.ndarray:
    """[..., 10] lengths of texts and references, n-grams found and n-grams written → [...]."""
    length, reference_length = sums[..., 0], sums[..., 1]
    found, written = sums[..., 2 : 2 + order], sums[..., 2 + ORDERS :][..., :order]
    # The n-th order of which nothing is found counts as 1 / 2, the next as 1 / 4 ("exp").
    missing = 2.0 ** -np.cumsum(found == 0, axis=-1)
    precisions = np.where(found > 0, found, missing) / np.maximum(written, 1)
    brevity = np.exp(np.minimum(0, 1 - reference_length / np.maximum(length, 1)))
    bleu = 100 * brevity * np.exp(np.log(precisions).mean(axis=-1))
    return np.where((found[..., 0] > 0) & (written > 0).all(axis=-1), bleu, 0.0)
