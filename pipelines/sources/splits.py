"""Cutting examples into training, validation and test by a hash: the same on every machine.

Whole groups are cut, in the order of a hash of their names. So nothing leaks, no random generator
is involved, and a later addition to the data moves only groups next to a border.
"""

from __future__ import annotations

import hashlib
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


def split_in_name(name: str) -> str | None:
    """The split that a word in the name of a file tells of, if any does."""
    words = re.split(r"[^a-z]+", name.lower())
    return next((NAMES[word] for word in words if word in NAMES), None)


def rank(name: str, seed: int = 0) -> int:
    """A number that orders names as if at random, the same everywhere and always."""
    digest = hashlib.blake2b(f"{seed}:{name}".encode("utf-8", "surrogateescape"), digest_size=8)
    return int.from_bytes(digest.digest(), "big")


def cut(groups: Iterable[str], shares: Mapping[str, float]) -> list[str]:
    """The split of each example, given its group.

    Args:
        groups: the group of each example (its id where nothing can leak).
        shares: the splits and the share of the examples that each gets, adding up to 1; met as
            closely as whole groups allow.
    """
    # Eight bytes an example: there may be millions.
    ranks = np.fromiter(map(rank, groups), np.uint64)
    _, group, sizes = np.unique(ranks, return_inverse=True, return_counts=True)
    middles = (np.cumsum(sizes) - sizes / 2) / len(ranks)
    ends = np.cumsum(list(shares.values()))
    place = np.minimum(np.searchsorted(ends, middles, side="right"), len(ends) - 1)
    return np.array(list(shares), object)[place][group].tolist()


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
        strata: something (the label) whose values shall be cut in equal shares.
        held_out: share of the examples for each of validation and test.
    """
    present = set(official) if "train" in official else set()
    shares = {split: held_out for split in SPLITS[1:] if split not in present}
    shares = {"train": 1 - sum(shares.values()), **shares}
    pools: dict[str, list[int]] = {}
    result = list(official)
    for index, split in enumerate(official):
        if not present or split in (None, "train"):
            pools.setdefault(strata[index] if strata else "", []).append(index)
    for pool in pools.values():
        for index, split in zip(pool, cut((groups[i] for i in pool), shares), strict=True):
            result[index] = split
    return result
