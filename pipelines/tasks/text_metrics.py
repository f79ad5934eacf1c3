"""BLEU as a function of sums over sentences, so that its uncertainty can be told.

Papineni et al.: BLEU: a Method for Automatic Evaluation of Machine Translation, 2002,
https://aclanthology.org/P02-1040; counted and smoothed as in sacreBLEU (Post 2018,
https://aclanthology.org/W18-6319), whose numbers these are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipelines.engine.bootstrap import SummedFigure

ORDERS = 4  # n-grams of one to four words


def corpus_bleu(written: Sequence[str], references: Sequence[str]) -> SummedFigure:
    """BLEU in percent of texts with one reference each, case-sensitive, with sacreBLEU's "13a"."""
    from sacrebleu.metrics import BLEU

    # Nothing of the effective order is in the counts, which alone are taken from here.
    metric = BLEU(effective_order=True)
    rows = []
    for text, reference in zip(written, references, strict=True):
        counted = metric.sentence_score(text, [reference])
        rows.append([counted.sys_len, counted.ref_len, *counted.counts, *counted.totals])
    return SummedFigure(np.array(rows, float).reshape(-1, 2 + 2 * ORDERS), _bleu)


def _bleu(sums: np.ndarray) -> np.ndarray:
    """[..., 10] lengths of texts and references, n-grams found and n-grams written → [...]."""
    length, reference_length = sums[..., 0], sums[..., 1]
    found, written = sums[..., 2 : 2 + ORDERS], sums[..., 2 + ORDERS :]
    # The n-th order of which nothing is found counts as 1 / 2, the next as 1 / 4 ("exp").
    missing = 2.0 ** -np.cumsum(found == 0, axis=-1)
    precisions = np.where(found > 0, found, missing) / np.maximum(written, 1)
    brevity = np.exp(np.minimum(0, 1 - reference_length / np.maximum(length, 1)))
    bleu = 100 * brevity * np.exp(np.log(precisions).mean(axis=-1))
    return np.where((found[..., 0] > 0) & (written > 0).all(axis=-1), bleu, 0.0)
