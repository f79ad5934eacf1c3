"""Which examples are for training, which for choosing (dev) and which for the test.

Every source comes with splits. ``Partition`` says how to make others of the same examples, by the
same hash as sources themselves do (``splits.py``), so that a run's sets are the same everywhere.
What hangs together stays together: examples of one ``group``; equal rows of a table; else it is the
``id`` that is cut. Where examples have a label and no group, each label is cut in equal shares.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import logging
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pipelines.engine.application import UserError, choose
from pipelines.engine.lazy import tensorflow as tf
from pipelines.sources.source import Source
from pipelines.sources.splits import SPLITS, recut, shares_by_size

READ_BATCH = 1024  # examples that are listed together
UNUSED = ""  # the split of an example that is in none

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Partition:
    """How a source's examples become sets. Every field is an option of the same name.

    Args:
        split: shares of training, dev (validation) and test, as 0.8,0.1,0.1; or auto, by size:
            60, 20 and 20 % of up to 10,000 examples, 98, 1 and 1 % from a million on, 99.5, 0.25
            and 0.25 % from ten million on; none: as the source has them.
        train_dev: the share of the training examples that is kept apart as the split train_dev, of
            the same distribution, which tells variance from data mismatch.
        fold: i/K: the dev set is the i-th of K parts of all examples that are not for the test
            (python -m pipelines.cross_validate trains on all K).
        dev_source: another source of the application, from which dev and test examples come:
            NAME, or NAME:DIR with its own --data_dir. The options --source.* hold for both where
            both have them. Training examples of the same group as one of these are left out.
    """

    split: str | None = None
    train_dev: float | None = None
    fold: str | None = None
    dev_source: str | None = None

    def __post_init__(self) -> None:
        """Raises UserError for sets that there cannot be."""
        self.shares(1)
        if self.train_dev is not None and not 0 < self.train_dev < 1:
            raise UserError(f"--train_dev must lie between 0 and 1, not be {self.train_dev:g}")
        if self.fold is not None:
            found = re.fullmatch(r"(\d+)/(\d+)", self.fold)
            if not found or int(found[2]) < 2 or not 1 <= int(found[1]) <= int(found[2]):
                raise UserError(f"--fold {self.fold}: write it as 2/5, the second of five")
            if self.dev_source:
                raise UserError("--fold and --dev_source exclude each other")

    def shares(self, count: int) -> dict[str, float] | None:
        """The share of each split of ``count`` examples; None: they stay as they are."""
        if self.split is None:
            return None
        if self.split == "auto":
            return shares_by_size(count)
        try:
            numbers = [float(number) for number in self.split.split(",")]
        except ValueError:
            numbers = []
        if len(numbers) != 3 or min(numbers) <= 0 or abs(sum(numbers) - 1) > 1e-6:
            raise UserError(
                f"--split {self.split}: write auto, or three shares that add up to 1: 0.8,0.1,0.1"
            )
        return dict(zip(SPLITS, numbers, strict=True))

    @property
    def development(self) -> tuple[str, str | None] | None:
        """The name of the source of dev and test examples, and its folder."""
        if self.dev_source is None:
            return None
        name, _, folder = self.dev_source.partition(":")
        return name, folder or None

    def of(self, source: Source, development: Source | None = None) -> Source:
        """The source with these sets: itself where nothing is asked for.

        Args:
            source: of the training examples.
            development: of dev and test examples, if it is another.
        """
        if self == Partition():
            return source
        return Partitioned(source, self, development)


class Partitioned(Source):
    """The examples of one source or two, cut as a partition says.

    All of them are read once, to list them, before the first are handed out.
    """

    def __init__(
        self, source: Source, partition: Partition, development: Source | None = None
    ) -> None:
        self.sources = [source] if development is None else [source, development]
        self.partition = partition
        for name in ("place", "licence", "citation", "blocks"):
            setattr(self, name, getattr(source, name))
        train_dev = ["train_dev"] if partition.train_dev else []
        self.splits = ("train", *train_dev, "validation", "test")

    @property
    def fields(self) -> dict[str, tf.TensorSpec]:
        return self.sources[0].fields

    @property
    def skipped(self) -> tuple[str, ...]:
        return tuple(item for source in self.sources for item in source.skipped)

    def load(self, split: str) -> tf.data.Dataset:
        choose("split", split, self.splits)
        pieces = [
            _only(source.load(inner), splits == split, source.blocks)
            for source, inner, splits in self._pieces
            if (splits == split).any()
        ]
        if not pieces:
            raise UserError(f"too few examples: none is left for the split {split!r}")
        return functools.reduce(tf.data.Dataset.concatenate, pieces)

    @functools.cached_property
    def _pieces(self) -> list[tuple[Source, str, np.ndarray]]:
        """Every split of every source, with the split here of each of its examples."""
        if len(self.sources) == 2:
            self._check_fields()
        listings = [_list(source) for source in self.sources]
        cuts = [_cut(listing, self.partition) for listing in listings]
        if len(self.sources) == 2:
            cuts = _by_source(listings, cuts)
        return [
            (source, inner, np.array([cut[row] for row in rows], object))
            for source, listing, cut in zip(self.sources, listings, cuts, strict=True)
            for inner, rows in listing.rows.items()
        ]

    def _check_fields(self) -> None:
        fields, others = (dict(source.fields) for source in self.sources)
        if fields != others or self.sources[0].blocks != self.sources[1].blocks:
            raise UserError(
                f"--dev_source {self.partition.dev_source} has other fields "
                f"({', '.join(others)}) than the training examples ({', '.join(fields)})"
            )


class _Listing(NamedTuple):
    """All examples of a source.

    Attributes:
        rows: for each of its splits, which of the examples they are.
        splits: of each example.
        groups: what each hangs together with.
        strata: the label of each, or None.
    """

    rows: dict[str, range]
    splits: list[str]
    groups: list[str]
    strata: list[str] | None


def _list(source: Source) -> _Listing:
    rows, splits, groups, strata = {}, [], [], []
    for inner in source.splits:
        dataset = source.load(inner)
        for batch in (dataset if source.blocks else _named(dataset, source)).as_numpy_iterator():
            groups += _groups(batch, source.blocks)
            strata += batch["label"].tolist() if _has_strata(source) else []
        rows[inner] = range(len(splits), len(groups))
        splits += [inner] * len(rows[inner])
    return _Listing(rows, splits, groups, strata or None)


def _named(dataset: tf.data.Dataset, source: Source) -> tf.data.Dataset:
    """What tells examples apart, in batches."""
    names = ["group" if "group" in source.fields else "id", *(["label"] * _has_strata(source))]
    return dataset.map(lambda row: {name: row[name] for name in names}).batch(READ_BATCH)


def _has_strata(source: Source) -> bool:
    fields = source.fields
    return fields.get("label") == tf.TensorSpec((), tf.string) and "group" not in fields


def _groups(batch: dict[str, np.ndarray], blocks: bool) -> list[str]:
    if "group" in batch:
        return _text(batch["group"])
    if not blocks:
        return _text(batch["id"])
    cells = zip(*(batch[name].tolist() for name in sorted(batch) if name != "id"), strict=True)
    return [hashlib.blake2b(repr(row).encode(), digest_size=8).hexdigest() for row in cells]


def _text(values: np.ndarray) -> list[str]:
    return [value.decode("utf-8", "surrogateescape") for value in values.tolist()]


def _cut(listing: _Listing, partition: Partition) -> list[str]:
    """The split of each example of one source."""
    splits = listing.splits

    def again(old: Sequence[str], shares: dict[str, float]) -> list[str]:
        rows = [row for row, split in enumerate(splits) if split in old]
        return recut(splits, rows, listing.groups, shares, listing.strata)

    if shares := partition.shares(len(splits)):
        splits = again(sorted(set(splits)), shares)
    if partition.fold:
        number, folds = partition.fold.split("/")
        parts = {str(part + 1): 1 / int(folds) for part in range(int(folds))}
        names = dict.fromkeys(parts, "train") | {number: "validation"}
        splits = [names.get(split, split) for split in again(("train", "validation"), parts)]
    if share := partition.train_dev:
        splits = again(("train",), {"train": 1 - share, "train_dev": share})
    return splits


def _by_source(listings: Sequence[_Listing], cuts: Sequence[Sequence[str]]) -> list[list[str]]:
    """Training from the first source, dev and test from the second, no group in both."""
    kept = [
        [split if split in names else UNUSED for split in cut]
        for names, cut in zip((("train", "train_dev"), SPLITS[1:]), cuts, strict=True)
    ]
    used = zip(listings[1].groups, kept[1], strict=True)
    held_out = {group for group, split in used if split != UNUSED}
    both = [
        row
        for row, group in enumerate(listings[0].groups)
        if kept[0][row] != UNUSED and group in held_out
    ]
    for row in both:
        kept[0][row] = UNUSED
    if both:
        log.warning("left out %d training examples that the dev and test sets have too", len(both))
    return kept


def _only(dataset: tf.data.Dataset, keep: np.ndarray, blocks: bool) -> tf.data.Dataset:
    """The examples of a data set for which ``keep`` [examples] is true, in their order."""
    if keep.all():
        return dataset
    kept = tf.constant(keep)
    if not blocks:
        numbered = dataset.enumerate().filter(lambda number, _: kept[number])
        return numbered.map(lambda _, example: example)

    def of_block(start: tf.Tensor, block: dict) -> tuple:
        end = start + tf.shape(block["id"], tf.int64)[0]
        chosen = kept[start:end]
        return end, {name: tf.boolean_mask(values, chosen) for name, values in block.items()}

    return dataset.scan(tf.constant(0, tf.int64), of_block)
