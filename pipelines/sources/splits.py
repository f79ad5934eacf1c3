"""Cutting examples into training, validation and test by a hash: the same on every machine.

Whole groups are cut, in the order of a hash of their names. So nothing leaks, no random generator
is involved, and a later addition to the data moves only groups next to a border.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

SPLITS = ("train", "validation", "test")

NAMES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
"""What people call the splits, in file and folder names."""

HELD_OUT = 0.1
"""The share of the examples that goes to each of validation and test."""

FEW, FEW_HELD_OUT = 10**4, 0.2
MANY_HELD_OUT = {10**6: 0.01, 10**7: 0.0025}
"""That share by size: a fifth of up to 10,000 examples; from a million on a hundredth, from ten
million on a quarter of it. What counts is how many are held out, enough to tell models apart."""


def shares_by_size(count: int) -> dict[str, float]:
    """The share of each split of ``count`` examples, by ``FEW`` and ``MANY_HELD_OUT``.

    In between, the logarithm of the share falls in a straight line with that of the count, so that
    more examples never mean fewer of them held out.
    """
    least = min(MANY_HELD_OUT)
    if count <= FEW:
        held_out = FEW_HELD_OUT
    elif count < least:
        way = math.log(count / FEW) / math.log(least / FEW)
        held_out = FEW_HELD_OUT * (MANY_HELD_OUT[least] / FEW_HELD_OUT) ** way
    else:
        held_out = MANY_HELD_OUT[max(size for size in MANY_HELD_OUT if size <= count)]
    return {"train": 1 - 2 * held_out, "validation": held_out, "test": held_out}


def split_in_name(name: str) -> str | None:
    """The split that a word in the name of a file tells of, if any does."""
    words = re.split(r"[^a-z]+", name.lower())
    return next((NAMES[word] for word in words if word in NAMES), None)


def rank(name: str, seed: int = 0) -> int:
    """A number that orders names as if at random, the same everywhere and always."""
    digest = hashlib.blake2b(f"{seed}:{name}".encode("utf-8", "surrogateescape"), digest_size=8)
    return int.from_bytes(digest.digest(), "big")


def cut(
    groups: Iterable[str], shares: Mapping[str, float], strata: Sequence[str] | None = None
) -> list[str]:
    """The split of each example, given its group.

    Args:
        groups: the group of each example (its id where nothing can leak).
        shares: the splits and the share of the examples that each gets, adding up to 1; met as
            closely as whole groups allow.
        strata: something (the label) whose values shall be cut in equal shares. A group that has
            several of them is not kept whole.
    """
    # Eight bytes an example: there may be millions.
    ranks = np.fromiter(map(rank, groups), np.uint64)
    if strata is None:
        return _cut(ranks, shares).tolist()
    result = np.empty(len(ranks), object)
    values, which = np.unique(np.asarray(strata), return_inverse=True)
    for value in range(len(values)):
        result[which == value] = _cut(ranks[which == value], shares)
    return result.tolist()


def _cut(ranks: np.ndarray, shares: Mapping[str, float]) -> np.ndarray:
    _, group, sizes = np.unique(ranks, return_inverse=True, return_counts=True)
    middles = (np.cumsum(sizes) - sizes / 2) / len(ranks)
    ends = np.cumsum(list(shares.values()))
    place = np.minimum(np.searchsorted(ends, middles, side="right"), len(ends) - 1)
    return np.array(list(shares), object)[place][group]


def complete(
    official: Sequence[str | None],
    groups: Sequence[str],
    *,
    strata: Sequence[str] | None = None,
    held_out: float = HELD_OUT,
) -> list[str]:
    """The split of each example, where the data come with all, some or none of the splits.

    Official validation and test parts stay whole; one that is missing is cut off the rest. Without
    an official training part, all examples are cut.

    Args:
        official: the split that the data put each example into, or None.
        groups: the group of each example.
        strata: as of ``cut``.
        held_out: share of the examples for each of validation and test.
    """
    present = set(official) if "train" in official else set()
    shares = {split: held_out for split in SPLITS[1:] if split not in present}
    shares = {"train": 1 - sum(shares.values()), **shares}
    free = [i for i, split in enumerate(official) if not present or split in (None, "train")]
    return recut(official, free, groups, shares, strata)


def recut(
    splits: Sequence[str | None],
    rows: Sequence[int],
    groups: Sequence[str],
    shares: Mapping[str, float],
    strata: Sequence[str] | None = None,
) -> list[str]:
    """The split of each example after ``rows`` of them alone were cut, as ``cut`` does."""
    result = list(splits)
    parts = cut(
        (groups[row] for row in rows), shares, [strata[row] for row in rows] if strata else None
    )
    for row, split in zip(rows, parts, strict=True):
        result[row] = split
    return result
