"""Tables in CSV files: any columns, one of which is to be predicted.

``--data_dir`` is a file or a folder of ``.csv`` and ``.tsv`` files (``.gz`` or not) with one header
in common. Where a file's name says training, validation or test, that is its split; a split that is
missing is cut off the rest by a hash of the rows, equal rows together.

What kind a column is of decide the rows of the training split. It holds numbers if all that is
there reads as a number and none begins with a needless zero (01234 is a zip code), else text. A
number of ``0`` or ``NA`` can mean anything; what is missing is written as one of ``MISSING``.
"""

from __future__ import annotations

import array
import collections
import csv
import dataclasses
import functools
import gzip
import hashlib
import logging
import pathlib
import re
from collections.abc import Iterator, Sequence

import numpy as np

from pipelines.engine.application import UserError, choose, listed
from pipelines.sources.files import accept, data_path
from pipelines.sources.splits import complete, split_in_name
from pipelines.sources.table import Table

MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "?")
SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
TAKEN = ("split", "group", "target", "label")  # names of fields that are no columns
ALMOST_ALL = 0.95  # of a column's values that are numbers: are the others slips?
ROWS = 20_000  # that are read before they become arrays

log = logging.getLogger(__name__)


class CsvFiles(Table):
    """Rows of CSV files with a number to predict.

    A column is named as in the header, with underscores for all that is no letter or digit, so that
    it can be an option's name. Left out are columns without a name, one called ``id``, and
    those without a value in the training split. A row's ``id`` is its file and line.

    Args:
        data_dir: a file, or a folder of files.
        target: the column to predict, by its name in the header.
        ignore: further columns to leave out, separated by commas.
        text: columns of numbers that are names, separated by commas.
        numbers: columns that hold numbers whatever else stands in some of their rows, which count
            as damaged; separated by commas.
        separator: between two cells; by default a tab in ``.tsv`` files, else a comma.
        held_out: the share of the rows for each of validation and test, where the files have none.
        strict: refuse the data if a row is damaged, instead of leaving it out.
    """

    place = "files"
    licence = "the user's own"
    citation = "the user's own"

    def __init__(
        self,
        *,
        data_dir: str | None = None,
        target: str | None = None,
        ignore: str | None = None,
        text: str | None = None,
        numbers: str | None = None,
        separator: str | None = None,
        held_out: float = 0.1,
        strict: bool = False,
    ):
        if not 0 < held_out < 0.5:
            raise UserError(f"--source.held_out must lie between 0 and 0.5, not be {held_out}")
        if separator is not None and len(separator) != 1:
            raise UserError(f"--source.separator must be one character, not {separator!r}")
        self.data_dir = data_dir
        self.target = target
        self.ignore = listed(ignore)
        self.text = listed(text)
        self.numbers = listed(numbers)
        self.separator = separator
        self.held_out = held_out
        self.strict = strict

    @functools.cached_property
    def columns(self) -> dict[str, np.ndarray]:
        path = data_path(self.data_dir, "CSV files")
        files = [path] if path.is_file() else find_tables(path)
        rows = Rows(files, self.separator)
        names = self._names(rows.header)
        rows.read(names)
        if not rows.digests:
            raise UserError(f"{path}: no file has a usable row; {'; '.join(rows.skipped[:3])}")
        # Each class in equal shares: a rare one shall not be missing in training.
        strata = rows.column(self.truth).tolist() if self.truth == "label" else None
        split = complete(rows.official, rows.digests, strata=strata, held_out=self.held_out)
        split = np.array(split, "S")
        table = {"id": rows.take("id"), "split": split}
        usable = np.ones(len(split), bool)
        for name, header in names.items():
            found = rows.take(name)
            if name == self.truth:
                values, good = self._truth(found, header)
            else:
                values, good = self._column(found, split == b"train", name, header)
            if values is None:
                log.warning("column %s is empty in the training split and left out", header)
                continue
            for row in np.flatnonzero(~good & usable):
                said = found[row].decode() or "nothing"
                rows.skipped.append(f"{table['id'][row].decode()}: {header} is {said}")
            usable &= good
            table[name] = values
        self.skipped = accept(rows.skipped, self.strict)
        if usable.all():
            return table
        return {name: values[usable] for name, values in table.items()}

    def _names(self, header: Sequence[str]) -> dict[str, str]:
        """The columns that are read, by name, with what the header calls them."""
        if self.target is None:
            raise UserError(
                f"which column is to be predicted? --source.target; there is: {', '.join(header)}"
            )
        known = {alike: cell for cell in header for alike in (cell, as_name(cell))}
        for cell in (self.target, *self.ignore, *self.text, *self.numbers):
            choose("column", cell, known)
        target, ignored = known[self.target], {known[cell] for cell in self.ignore}
        names = {self.truth: target}
        for cell in header:
            if cell == target or cell in ignored or as_name(cell) in ("", "id"):
                continue
            if as_name(cell) in (*names, *TAKEN):
                raise UserError(
                    f"column {cell!r} would be called {as_name(cell)}, which is taken; rename it, "
                    f"or leave it out with --source.ignore"
                )
            names[as_name(cell)] = cell
        return names

    def _truth(self, values: np.ndarray, header: str) -> tuple[np.ndarray, np.ndarray]:
        numbers, good = as_numbers(values)
        if not good.any():
            raise UserError(f"--source.target {header} holds no number")
        return numbers, good

    def _column(
        self, values: np.ndarray, training: np.ndarray, name: str, header: str
    ) -> tuple[np.ndarray | None, np.ndarray]:
        """The values as what they are, or None, and which of them can be that."""
        missing = values == b""
        if missing[training].all():
            return None, missing
        if name not in self.text and header not in self.text:
            numbers, good = as_numbers(values)
            there = training & ~missing
            share = good[there].mean()
            if share == 1 or name in self.numbers or header in self.numbers:
                return numbers, good | missing
            if share >= ALMOST_ALL:
                first = values[there & ~good][0].decode()
                log.warning(
                    "column %s is read as text, because of values such as %r; with "
                    "--source.numbers %s its other rows count as damaged",
                    *(header, first, name),
                )
        return values, np.ones(len(values), bool)


class LabelledCsvFiles(CsvFiles):
    """Rows of CSV files with a class to predict."""

    truth = "label"

    def _truth(self, values: np.ndarray, header: str) -> tuple[np.ndarray, np.ndarray]:
        return values, values != b""


@dataclasses.dataclass(frozen=True)
class Digests(Sequence[str]):
    """Hashes in hexadecimal, kept as numbers: eight bytes a row, where there may be millions."""

    numbers: array.array

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, row: int) -> str:
        return f"{self.numbers[row]:016x}"


@dataclasses.dataclass
class Rows:
    """The rows of files, as they are written.

    Attributes:
        files: with one header in common.
        separator: between cells; None: as the file's name says.
        official: for each row the split that its file's name tells, or None.
        digests: for each row a hash of all its cells, equal for equal rows.
        skipped: what was left out, "file, line: reason".
    """

    files: Sequence[pathlib.Path]
    separator: str | None
    official: list[str | None] = dataclasses.field(default_factory=list)
    digests: Digests = dataclasses.field(default_factory=lambda: Digests(array.array("Q")))
    skipped: list[str] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        self._pieces: dict[str, list[np.ndarray]] = collections.defaultdict(list)

    @functools.cached_property
    def header(self) -> list[str]:
        """The names in the first line, which all files have in common.

        Raises:
            UserError: if there are no names, or others in another file.
        """
        headers = {}
        for file in self.files:
            cells = next(self._cells(file), (0, None))[1]
            if cells is None:
                raise UserError(f"{file}: the first line must name the columns")
            headers[file] = cells
        first, header = next(iter(headers.items()))
        for file, other in headers.items():
            if other != header:
                raise UserError(f"{file} has other columns than {first}; give one of them alone")
        named = [cell for cell in header if cell]
        if not named or as_numbers(np.array([cell.encode() for cell in named]))[1].any():
            raise UserError(f"{first}: the first line must name the columns, not be {header}")
        twice = [cell for cell, count in collections.Counter(named).items() if count > 1]
        if twice:
            raise UserError(f"{first}: two columns are called {twice[0]!r}")
        return header

    def read(self, names: dict[str, str]) -> None:
        """Reads the columns ``names``, by what the header calls them."""
        places = {name: self.header.index(cell) for name, cell in names.items()}
        for file in self.files:
            split = split_in_name(file.name.split(".")[0])
            rows: list[list[str]] = []
            lines: list[int] = []
            reader = self._cells(file)
            next(reader)
            for line, cells in reader:
                if cells is None or len(cells) != len(self.header):
                    said = f"{len(cells)} cells instead of {len(self.header)}" if cells else None
                    self.skipped.append(f"{file}, line {line}: {said or 'cannot be read as CSV'}")
                    continue
                rows.append(cells)
                lines.append(line)
                if len(rows) == ROWS:
                    self._keep(file, places, rows, lines)
                    rows, lines = [], []
            self._keep(file, places, rows, lines)
            self.official += [split] * (len(self.digests) - len(self.official))

    def column(self, name: str) -> np.ndarray:
        """[rows] bytes, without blanks around them, empty where they are missing."""
        return np.concatenate(self._pieces[name])

    def take(self, name: str) -> np.ndarray:
        """As ``column``, once: what is read is not kept any longer."""
        return np.concatenate(self._pieces.pop(name))

    def _keep(
        self,
        file: pathlib.Path,
        places: dict[str, int],
        rows: Sequence[Sequence[str]],
        lines: Sequence[int],
    ) -> None:
        for cells in rows:
            digest = hashlib.blake2b("\x1f".join(cells).encode(), digest_size=8)
            self.digests.numbers.append(int.from_bytes(digest.digest(), "big"))
        for name, place in places.items():
            cells = (cells[place] for cells in rows)
            piece = [b"" if cell in MISSING else cell.encode() for cell in cells]
            self._pieces[name].append(np.array(piece, "S"))
        self._pieces["id"].append(np.array([f"{file.name}:{n}".encode() for n in lines], "S"))

    def _cells(self, file: pathlib.Path) -> Iterator[tuple[int, list[str] | None]]:
        """The line where each row begins, and its cells; None for one that cannot be read."""
        by_name = "\t" if ".tsv" in file.suffixes else ","
        opener = gzip.open if file.suffix == ".gz" else open
        # What is no UTF-8 becomes what cannot be encoded again.
        text = {"encoding": "utf-8-sig", "errors": "surrogateescape", "newline": ""}
        with opener(file, "rt", **text) as stream:
            reader = csv.reader(stream, delimiter=self.separator or by_name)
            while True:
                line = reader.line_num + 1
                try:
                    cells = [cell.strip() for cell in next(reader)]
                    "".join(cells).encode()
                except StopIteration:
                    return
                except (csv.Error, UnicodeEncodeError):
                    yield line, None
                except (OSError, EOFError) as error:
                    raise UserError(f"{file}: cannot be read ({error})") from error
                else:
                    if any(cells):
                        yield line, cells


def as_name(cell: str) -> str:
    """What a header calls a column, as something that can be an option's name."""
    name = re.sub(r"\W+", "_", cell).strip("_")
    return f"column_{name}" if name[:1].isdigit() else name


def as_numbers(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[rows] bytes → [rows] float32, NaN where they are no number, and where they are one."""
    there = np.where(values == b"", b"nan", values)
    try:
        numbers = there.astype(float)  # in one go, the usual case
    except ValueError:
        numbers = np.array([_as_number(value) for value in there.tolist()], float)
    letters = there.astype(f"S{max(2, there.dtype.itemsize)}").view("S1").reshape(len(there), -1)
    zeros = (letters[:, 0] == b"0") & (letters[:, 1] >= b"0") & (letters[:, 1] <= b"9")
    numbers[zeros | ~np.isfinite(numbers)] = np.nan
    return numbers.astype(np.float32), np.isfinite(numbers)


def _as_number(value: bytes) -> float:
    try:
        return float(value)
    except ValueError:
        return np.nan


def find_tables(folder: pathlib.Path) -> list[pathlib.Path]:
    files = [path for path in sorted(folder.iterdir()) if path.name.lower().endswith(SUFFIXES)]
    if not files:
        raise UserError(f"{folder}: there is no .csv or .tsv file")
    return files
