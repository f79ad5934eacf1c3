"""CIDEr-D: how much a caption says of what people agree upon.

Vedantam, Zitnick, Parikh: CIDEr: Consensus-based Image Description Evaluation, 2015,
https://arxiv.org/abs/1411.5726, sections 3 and 6 (CIDEr-D). For n-grams of one to four words, the
cosine between caption and reference, each n-gram weighted by its count and by log(pictures /
pictures with a reference that holds it). In the numerator a caption's weight counts only up to the
reference's, and a Gaussian penalty (σ = 6 words) falls on a difference of length. The mean over
references and over n, times ten. As in the evaluation program of COCO, counts are not divided by
the length of the sentence. Words are lower-case without punctuation, and not stemmed.
"""

from __future__ import annotations

import collections
import math
import re
from collections.abc import Sequence

import numpy as np

LONGEST = 4
SIGMA = 6.0
SCALE = 10.0

WORD = re.compile(r"\w+(?:['’-]\w+)*")

Vector = dict[tuple[str, ...], float]


def words(text: str) -> list[str]:
    """Lower-case words without punctuation."""
    return WORD.findall(text.lower())


def cider_d(written: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """CIDEr-D of each caption, from 0 to 10.

    Args:
        written: a caption of each picture.
        references: one or more true captions of each of the same pictures; n-grams weigh by how
            rare they are among all of these.
    """
    candidates = [_ngrams(words(text)) for text in written]
    truths = [[_ngrams(words(text)) for text in texts] for texts in references]
    holding = collections.Counter()
    for texts in truths:
        holding.update(set().union(*(ngrams for counts in texts for ngrams in counts)))
    # What no reference holds is as rare as what one holds.
    pictures = math.log(len(written))

    def weighted(counts: list[collections.Counter]) -> list[Vector]:
        return [
            {ngram: n * (pictures - math.log(max(holding[ngram], 1))) for ngram, n in one.items()}
            for one in counts
        ]

    scores = []
    for candidate, texts in zip(candidates, truths, strict=True):
        own = weighted(candidate)
        scores.append(np.mean([_similarity(own, candidate, weighted(t), t) for t in texts]))
    return SCALE * np.array(scores)


def _ngrams(tokens: list[str]) -> list[collections.Counter]:
    """Counts of the n-grams of each length from 1 to 4."""
    return [
        collections.Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))
        for n in range(1, LONGEST + 1)
    ]


def _similarity(own: list[Vector], own_counts, other: list[Vector], other_counts) -> float:
    """The mean over n of clipped cosines, with the penalty on the difference of length."""
    difference = own_counts[0].total() - other_counts[0].total()
    penalty = math.exp(-(difference**2) / (2 * SIGMA**2))
    return penalty * float(
        np.mean([_clipped_cosine(a, b) for a, b in zip(own, other, strict=True)])
    )


def _clipped_cosine(own: Vector, other: Vector) -> float:
    product = sum(
        min(weight, other[ngram]) * other[ngram] for ngram, weight in own.items() if ngram in other
    )
    norms = math.hypot(*own.values()) * math.hypot(*other.values())
    return product / norms if norms else 0.0
