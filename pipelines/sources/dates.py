"""Dates as people write them in twelve languages → ISO 8601, from the locale data of Babel.

"Monday, April 4, 2005", "4 avril 2005", "mán 4 apr. 2005" … → "2005-04-04". The forms are those of
the Unicode CLDR: medium, long, full, and the skeletons with and without a weekday; some examples
are in lower case or without commas and the points of abbreviations. Left out are years of two
digits and all-digit dates with strokes or hyphens, day or month first (4/3/2005 is one day in
London and another in New York); 3.4.2005, day first wherever it is written, and 2005-04-03 stay.
"""

from __future__ import annotations

import datetime
import functools
import re
from collections.abc import Mapping, Sequence

import numpy as np

from pipelines.engine.application import UserError
from pipelines.sources.splits import SPLITS, cut
from pipelines.sources.string_rows import StringRows

LOCALES = ("en", "en_GB", "de", "fr", "es", "it", "pt", "nl", "sv", "da", "nb", "fi", "pl")
FIRST, LAST = datetime.date(1950, 1, 1), datetime.date(2050, 12, 31)
DAY_SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}

ALIKE = {
    "y": lambda day: datetime.date(day.year, 1, 1),
    "M": lambda day: datetime.date(2000, day.month, 1),
    "L": lambda day: datetime.date(2000, day.month, 1),
    "d": lambda day: datetime.date(2000, 1, day.day),
    "E": lambda day: datetime.date.fromordinal(1 + day.weekday()),
    "c": lambda day: datetime.date.fromordinal(1 + day.weekday()),
}
"""By the letter of a field, one day for all days on which the field reads the same."""

SKELETONS = ("yMMMd", "yMMMEd", "yMMMMd", "yMMMMEEEEd", "yMd", "yMEd")

WRITINGS = {
    "as printed": lambda text: text,
    "lower case": lambda text: text.lower(),
    "no commas or points": lambda text: re.sub(r"(?<=[^\W\d])\.|,", "", text),
}
WRITING_SHARES = (0.6, 0.2, 0.2)


class Dates(StringRows):
    """Examples drawn from a seed: a day, a locale, a form and a way of writing.

    Every day from 1950 to 2050 belongs to one split, so that a day of the test split occurs in no
    other, whatever the language.

    Args:
        train_size: number of training examples.
        validation_size: number of validation examples.
        test_size: number of test examples.
        seed: of the split of the days and of what is drawn.
    """

    place = "built in"
    licence = "Unicode License v3 (CLDR's locale data), BSD-3-Clause (Babel)"
    citation = "Unicode Common Locale Data Repository, https://cldr.unicode.org, as packed by Babel"
    columns = ("id", "source", "target", "group", "locale")

    def __init__(
        self,
        *,
        train_size: int = 36_000,
        validation_size: int = 2_000,
        test_size: int = 2_000,
        seed: int = 0,
    ):
        if min(train_size, validation_size, test_size) < 1 or seed < 0:
            raise UserError("the dates need sizes of at least 1 and a seed of at least 0")
        self.sizes = dict(zip(SPLITS, (train_size, validation_size, test_size), strict=True))
        self.seed = seed

    def rows(self, split: str) -> list[tuple[str, ...]]:
        days, size = days_of(self.seed)[split], self.sizes[split]
        draw = np.random.default_rng([self.seed, SPLITS.index(split)])
        # As few repetitions of a day as the size permits.
        order = np.concatenate([draw.permutation(len(days)) for _ in range(-(-size // len(days)))])
        locales = draw.choice(LOCALES, size).tolist()
        choices = draw.random(size).tolist()
        writings = draw.choice(list(WRITINGS), size, p=WRITING_SHARES).tolist()
        rows = []
        for number, locale in enumerate(locales):
            day = days[order[number]]
            available = forms(locale)
            form = available[int(choices[number] * len(available))]
            text = WRITINGS[writings[number]](write(day, form, locale))
            iso = day.isoformat()
            rows.append((f"dates/{split}/{number:06d}", text, iso, iso, locale))
        return rows


def days_of(seed: int) -> Mapping[str, Sequence[datetime.date]]:
    """The days of each split."""
    days = [FIRST + datetime.timedelta(number) for number in range((LAST - FIRST).days + 1)]
    splits: dict[str, list[datetime.date]] = {split: [] for split in SPLITS}
    parts = cut([f"{seed}/{day}" for day in days], DAY_SHARES)
    for day, split in zip(days, parts, strict=True):
        splits[split].append(day)
    return splits


@functools.cache
def forms(locale: str) -> tuple[str, ...]:
    """CLDR's patterns for whole dates in ``locale`` that leave no doubt about the day."""
    from babel import Locale

    data = Locale.parse(locale)
    patterns = [data.date_formats[length].pattern for length in ("medium", "long", "full", "short")]
    patterns += [
        data.datetime_skeletons[name].pattern
        for name in SKELETONS
        if name in data.datetime_skeletons
    ]
    return tuple(pattern for pattern in dict.fromkeys(patterns) if _is_certain(pattern))


def _is_certain(pattern: str) -> bool:
    """Whether the year has four digits, and day and month cannot be taken for one another."""
    template, fields = _parse(pattern)
    spelled = any(field[0] in "ML" and len(field) > 2 for field in fields)
    dotted = "." in template and not set("/-") & set(template)
    return "yy" not in fields and (spelled or dotted or fields[0] == "y")


@functools.cache
def _parse(pattern: str) -> tuple[str, tuple[str, ...]]:
    """A pattern as a format string with a gap for each field, and the fields, such as MMMM."""
    from babel.dates import tokenize_pattern

    tokens = tokenize_pattern(pattern)
    template = "".join("{}" if kind == "field" else value for kind, value in tokens)
    return template, tuple(letter * n for letter, n in (v for kind, v in tokens if kind == "field"))


def write(day: datetime.date, pattern: str, locale: str) -> str:
    """What ``babel.dates.format_date`` writes, put together from words that it wrote before."""
    template, fields = _parse(pattern)
    return template.format(*(_word(ALIKE[field[0]](day), field, locale) for field in fields))


@functools.cache
def _word(day: datetime.date, field: str, locale: str) -> str:
    from babel.dates import format_date

    return format_date(day, field, locale)
