"""Rows of a table as numbers that a network reads: scaled, encoded, with what is missing marked.

A column that the source gives as floats is a number. One of texts is a date if all its training
values are ISO 8601 dates, else a category. In the row of numbers that a model reads,

- a number is standardized by the mean and deviation of the training split. Where it is missing it
  is the mean, and if it was ever missing in training a 1 in a column of its own says so;
- with ``pieces`` a number is also encoded piecewise linearly between quantiles of the training
  split (Gorishniy, Rubachev, Babenko 2022, "On Embeddings for Numerical Features in Tabular Deep
  Learning", section 3.2.1, https://arxiv.org/abs/2203.05556): piece t rises from 0 to 1 between the
  quantiles t - 1 and t, so that a network bends where the data are;
- a date is three numbers, the time in years and the place in the year as sine and cosine;
- a category is one-hot. A value that was rare in training, or never seen, is all zeros; a missing
  one is a category like any other.
"""

from __future__ import annotations

import collections
import json
import math
import pathlib
from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np

from pipelines.engine.application import UserError, choose, listed
from pipelines.engine.lazy import tensorflow as tf
from pipelines.preprocess.checks import checked
from pipelines.preprocess.labels import class_indices, named_classes, sort_labels
from pipelines.preprocess.preprocessor import Preprocessor

NO_INPUTS = ("id", "group", "target", "label")  # what a source tells beside the columns
NO_COUNTS = ("id", "group")  # texts of which every row may have its own
DATE = r"\s*(\d{4})-?(0[1-9]|1[0-2])-?(0[1-9]|[12]\d|3[01])([T ].*)?"
DATE_PARTS = ("time", "sine", "cosine")
YEAR = 365.2425  # days
UNKNOWN = -1
LEARNED_FILE = "table.json"


class TablePreprocessor(Preprocessor):
    """Turns columns into one row of numbers.

    Args:
        pieces: linear pieces that each number is encoded in; 0: none.
        minimum_count: how often a category must occur in the training split to be known.
        maximum_categories: of a column, the most frequent ones.
        dates: the text columns that hold dates, separated by commas; by default those all of whose
            training values are dates.

    Attributes:
        learned: what ``fit`` found out of the columns; see ``_learn``.
    """

    supplies: ClassVar[tuple[str, ...]] = ("num_features",)

    def __init__(
        self,
        *,
        pieces: int = 0,
        minimum_count: int = 5,
        maximum_categories: int = 500,
        dates: str | None = None,
    ) -> None:
        if pieces < 0 or minimum_count < 1 or maximum_categories < 1:
            raise UserError(
                "--preprocess.pieces must be at least 0, minimum_count and maximum_categories 1"
            )
        self.pieces = pieces
        self.minimum_count = minimum_count
        self.maximum_categories = maximum_categories
        self.dates = None if dates is None else listed(dates)
        self.learned: dict = {}

    def fit(self, dataset: tf.data.Dataset) -> None:
        """Finds out what the columns hold, and their scales and categories.

        Raises:
            UserError: if no column tells anything.
        """
        numbers: dict[str, list] = collections.defaultdict(list)
        texts: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
        for batch in dataset.as_numpy_iterator():
            for name, values in batch.items():
                if values.dtype.kind == "f":
                    numbers[name].append(values)
                elif name not in NO_COUNTS:
                    texts[name].update(values.tolist())
        columns = {name: np.concatenate(blocks) for name, blocks in numbers.items()}
        self._hold(self._learn(columns, texts))
        print(f"columns: {self.description}")

    def _learn(self, columns: dict[str, np.ndarray], texts: dict[str, collections.Counter]) -> dict:
        """What JSON can keep of the training split.

        ``numbers``, ``dates``: names. ``categories``: by name, the known values. ``ignored``: names
        of columns that tell nothing. For each number, those of dates behind the others: ``mean``,
        ``deviation``, whether some are ``missing``, and ``quantiles``.

        Args:
            columns: float32 [rows] by name.
            texts: by name, how often each text occurs.
        """
        numbers = [name for name in columns if name not in NO_INPUTS]
        told = {name: counts for name, counts in texts.items() if name not in NO_INPUTS}
        for name in self.dates or ():
            choose("text column", name, told)
        dates = [name for name, counts in told.items() if self._holds_dates(name, counts)]
        categories = {n: self._categories(told[n]) for n in told if n not in dates}
        known = {name: values for name, values in categories.items() if len(values) > 1}
        if not (numbers or dates or known):
            raise UserError("no column tells anything of what is to be predicted")
        parts = [columns[name] for name in numbers]
        for name in dates:
            counts = list(told[name].values())
            parts += [np.repeat(part, counts) for part in _date(tf.constant(list(told[name])))]
        values = np.stack(parts, axis=1) if parts else np.zeros((1, 0), np.float32)
        return {
            "numbers": numbers,
            "dates": dates,
            "categories": known,
            "ignored": [name for name in categories if name not in known],
            "mean": np.nanmean(values, axis=0).tolist(),
            "deviation": [float(d) or 1.0 for d in np.nanstd(values, axis=0)],
            "missing": np.isnan(values).any(axis=0).tolist(),
            "quantiles": [self._quantiles(column) for column in values.T],
        }

    def _holds_dates(self, name: str, counts: collections.Counter) -> bool:
        if self.dates is not None:
            return name in self.dates
        there = [value for value in counts if value]
        return bool(there) and bool(tf.reduce_all(tf.strings.regex_full_match(there, DATE)))

    def _categories(self, counts: collections.Counter) -> list[str]:
        """The values that are frequent enough, by the alphabet."""
        stripped = collections.Counter()
        for value, count in counts.items():
            stripped[value.strip()] += count
        frequent = [v for v, count in stripped.most_common() if count >= self.minimum_count]
        kept = sorted(frequent[: self.maximum_categories])
        return [value.decode("utf-8", "replace") for value in kept]

    def _quantiles(self, values: np.ndarray) -> list[float]:
        if not self.pieces:
            return []
        shares = np.linspace(0, 1, self.pieces + 1)
        return np.unique(np.nanquantile(values, shares).astype(np.float32)).tolist()

    def _hold(self, learned: dict) -> None:
        """Makes tensors and the table of categories from what was learned."""
        self.learned = learned
        self._mean = np.array(learned["mean"], np.float32)
        self._deviation = np.array(learned["deviation"], np.float32)
        self._sometimes_missing = np.flatnonzero(learned["missing"])
        edges = [np.array(quantiles, np.float32) for quantiles in learned["quantiles"]]
        self._owner = np.repeat(np.arange(len(edges)), [max(len(e) - 1, 0) for e in edges])
        self._lower = np.concatenate([e[:-1] for e in edges] or [[]]).astype(np.float32)
        self._width = np.concatenate([np.diff(e) for e in edges] or [[]]).astype(np.float32)
        keys, places = [], []
        for name, values in learned["categories"].items():
            keys += [f"{name}={value}" for value in values]
            places += range(len(values))
        if keys:
            entries = tf.lookup.KeyValueTensorInitializer(keys, tf.constant(places, tf.int64))
            self._places = tf.lookup.StaticHashTable(entries, default_value=UNKNOWN)

    @property
    def description(self) -> str:
        """What each column was taken for, in words."""
        categories = self.learned["categories"].items()
        said = {
            "numbers": self.learned["numbers"],
            "dates": self.learned["dates"],
            "categories": [f"{name} ({len(values)})" for name, values in categories],
            "left out, having no two frequent values:": self.learned["ignored"],
        }
        return "; ".join(f"{kind} {', '.join(names)}" for kind, names in said.items() if names)

    @property
    def missing(self) -> dict[str, float | str]:
        """What a client sends for each column where its value is missing."""
        return {
            name: math.nan if spec.dtype == tf.float32 else ""
            for name, spec in self.signature.items()
        }

    @property
    def signature(self) -> dict[str, tf.TensorSpec]:
        numbers = dict.fromkeys(self.learned["numbers"], tf.float32)
        texts = dict.fromkeys((*self.learned["dates"], *self.learned["categories"]), tf.string)
        return {name: tf.TensorSpec([None], kind) for name, kind in (numbers | texts).items()}

    def features(self, batch: dict) -> dict:
        """Columns → ``numbers`` float32 [batch, n], NaN where missing, ``categories`` int32."""
        numbers = _numbers(batch, self.learned["numbers"], self.learned["dates"])
        categories = tf.zeros([tf.shape(numbers)[0], 0], tf.int32)
        if names := list(self.learned["categories"]):
            values = tf.strings.strip(tf.stack([batch[name] for name in names], axis=1))
            keys = tf.constant([f"{name}=" for name in names]) + values
            categories = tf.cast(self._places.lookup(keys), tf.int32)
        return {"numbers": numbers, "categories": categories}

    def model_inputs(self, features: dict) -> dict:
        """``columns`` float32 [batch, num_features]."""
        return {"columns": tf.concat([self.plain(features), self._encoded(features)], axis=1)}

    def plain(self, features: dict) -> tf.Tensor:
        """[batch, …] standardized numbers, marks of missing ones and one-hot categories."""
        numbers, categories = features["numbers"], features["categories"]
        missing = tf.math.is_nan(numbers)
        scaled = tf.where(missing, 0.0, (numbers - self._mean) / self._deviation)
        marks = tf.cast(tf.gather(missing, self._sometimes_missing, axis=1), tf.float32)
        one_hot = [
            tf.one_hot(categories[:, place], len(values))
            for place, values in enumerate(self.learned["categories"].values())
        ]
        return tf.concat([scaled, marks, *one_hot], axis=1)

    def _encoded(self, features: dict) -> tf.Tensor:
        """[batch, pieces of all numbers]"""
        values = tf.gather(features["numbers"], self._owner, axis=1)
        shares = tf.clip_by_value((values - self._lower) / self._width, 0.0, 1.0)
        return tf.where(tf.math.is_nan(values), 0.0, shares)

    def model_arguments(self) -> dict:
        marks = len(self._sometimes_missing)
        one_hot = sum(len(values) for values in self.learned["categories"].values())
        return {"num_features": len(self._mean) + marks + one_hot + len(self._owner)}

    @property
    def trackables(self) -> list:
        return [self._places] if self.learned["categories"] else []

    def save(self, folder: pathlib.Path) -> None:
        text = json.dumps(self.learned, indent=1, ensure_ascii=False)
        (folder / LEARNED_FILE).write_text(text, encoding="utf-8")

    def restore(self, folder: pathlib.Path) -> None:
        self._hold(json.loads((folder / LEARNED_FILE).read_text(encoding="utf-8")))


class NumberTable(TablePreprocessor):
    """A table with a number to predict.

    Args:
        target_scale: what the network learns, always standardized: the target itself, or its
            logarithm, where it is skewed and errors count in percent.
        columns: options of ``TablePreprocessor``.
    """

    def __init__(self, *, target_scale: Literal["linear", "log"] = "linear", **columns) -> None:
        super().__init__(**columns)
        self.target_scale = target_scale

    def _learn(self, columns: dict[str, np.ndarray], texts: dict[str, collections.Counter]) -> dict:
        target = columns["target"].astype(float)
        if self.target_scale == "log":
            if target.min() <= 0:
                raise UserError(
                    f"--preprocess.target_scale log needs targets above 0, one is {target.min():g}"
                )
            target = np.log(target)
        scale = {
            "target_mean": float(target.mean()),
            "target_deviation": float(target.std()) or 1.0,
        }
        return super()._learn(columns, texts) | scale

    def target(self, batch: dict):
        """``target`` [batch] → the standardized target, float32 [batch]."""
        target = batch["target"]
        if self.target_scale == "log":
            message = "a target is not above 0, which --preprocess.target_scale log needs"
            target = tf.math.log(checked(target, tf.reduce_all(target > 0), message))
        return (target - self.learned["target_mean"]) / self.learned["target_deviation"]

    def answer(self, response: dict, inputs: dict) -> dict:
        """``value`` [batch], standardized → ``value`` in the target's unit."""
        value = response["value"] * self.learned["target_deviation"] + self.learned["target_mean"]
        return {"value": tf.exp(value) if self.target_scale == "log" else value}


class LabelTable(TablePreprocessor):
    """A table with a class to predict."""

    supplies: ClassVar[tuple[str, ...]] = ("num_features", "num_classes")

    @property
    def labels(self) -> Sequence[str]:
        return self.learned.get("labels", ())

    def _learn(self, columns: dict[str, np.ndarray], texts: dict[str, collections.Counter]) -> dict:
        labels = sort_labels(label.decode() for label in texts["label"])
        if len(labels) < 2:
            raise UserError(f"all training examples are of one class, {labels[0]!r}")
        return super()._learn(columns, texts) | {"labels": labels}

    def target(self, batch: dict):
        return class_indices(batch["label"], self.labels)

    def answer(self, response: dict, inputs: dict) -> dict:
        return named_classes(response, self.labels)

    def model_arguments(self) -> dict:
        return super().model_arguments() | {"num_classes": len(self.labels)}


def _numbers(table: dict, numbers: Sequence[str], dates: Sequence[str]) -> tf.Tensor:
    """float32 [rows, numbers and three for each date], NaN where they are missing."""
    columns = [tf.convert_to_tensor(table[name]) for name in numbers]
    for name in dates:
        columns += _date(tf.convert_to_tensor(table[name]))
    if not columns:
        return tf.zeros([tf.shape(next(iter(table.values())))[0], 0])
    return tf.stack(columns, axis=1)


def _date(text: tf.Tensor) -> list[tf.Tensor]:
    """[rows] texts → time in years, sine and cosine of the place in the year, [rows] each."""
    valid = tf.strings.regex_full_match(text, DATE)
    digits = tf.strings.regex_replace(text, DATE, r"\1\2\3")
    digits = tf.where(valid, digits, "20000101")

    def number(start: int, length: int) -> tf.Tensor:
        return tf.strings.to_number(tf.strings.substr(digits, start, length), tf.int32)

    # Days of the proleptic Gregorian calendar, years beginning in March (Howard Hinnant,
    # https://howardhinnant.github.io/date_algorithms.html#days_from_civil).
    month = (number(4, 2) + 9) % 12
    year = number(0, 4) - tf.cast(month >= 10, tf.int32)
    day = (153 * month + 2) // 5 + number(6, 2) - 1
    days = 365 * year + year // 4 - year // 100 + year // 400 + day
    time = tf.cast(days, tf.float32) / YEAR
    angle = 2 * math.pi * tf.cast(day, tf.float32) / YEAR
    return [tf.where(valid, part, math.nan) for part in (time, tf.sin(angle), tf.cos(angle))]
