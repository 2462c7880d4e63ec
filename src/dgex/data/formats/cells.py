"""The cells of text tables: lines, numbers and metadata, both ways.

GCT, TSV and CSV stand on this. Lines are read a few megabytes at a time.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import pandas as pd

from dgex.data.formats.checks import content_kind
from dgex.errors import DataError, name_list

CHUNK_BYTES = 8 * 2**20
BLOCK_NUMBERS = 2**20
MISSING_NUMBERS = ("", "NA", "NaN", "nan")
MISSING_METADATA = frozenset({*MISSING_NUMBERS, "N/A", "-666", "-666.0"})

# Before 3.1 pandas parsed numbers only nearly right unless told; since then it warns if told.
_RELEASE = tuple(int(part) for part in pd.__version__.split(".")[:2])
_EXACT: dict[str, Any] = {} if _RELEASE >= (3, 1) else {"float_precision": "round_trip"}

# No leading zeros: "007" names something, it counts nothing.
_WHOLE = re.compile(r"[+-]?(0|[1-9]\d*)")
_REAL = re.compile(r"[+-]?((0|[1-9]\d*)(\.\d*)?|\.\d+)([eE][+-]?\d+)?")


class LineReader:
    """Reads a text file, gzipped or not, line by line and then in chunks of lines.

    Raises
    ------
    DataError
        The content is no text, or gzip where the name does not say so, or the reverse, or
        the gzip data are cut off.
    """

    def __init__(self, path: Path, format_name: str) -> None:
        kind = content_kind(path)
        zipped = path.name.lower().endswith(".gz")
        text = kind in ("plain text", "a GCT text file")
        if zipped and kind != "a gzip file":
            raise DataError(f"{path} is not gzipped, as its name says: it is {kind}.")
        if not zipped and not text:
            raise DataError(f"{path} is not a {format_name} file: it is {kind}.")
        self._path = path
        opener: Callable[[Path, str], Any] = gzip.open if zipped else open
        self._handle: IO[bytes] = opener(path, "rb")
        self._number = 0

    def line(self) -> bytes:
        """Read the next line; the end of the file gives an empty one.

        Raises
        ------
        DataError
            The line holds bytes that no text holds.
        """
        try:
            raw = self._handle.readline()
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise self._damaged(error) from error
        if self._number == 0:
            raw = raw.removeprefix(b"\xef\xbb\xbf")  # the mark Excel puts before UTF-8
        self._number += 1
        line = raw.rstrip(b"\r\n")
        if b"\0" in line or b"\r" in line:
            raise DataError(
                f"{self._path}: line {self._number} is not text with Unix or Windows line ends. "
                "Save the file again as UTF-8 text."
            )
        return line

    def chunks(self) -> Iterator[tuple[int, list[bytes]]]:
        """The rest of the file: number of each chunk's first line, and its lines."""
        while True:
            try:
                lines = self._handle.readlines(CHUNK_BYTES)
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise self._damaged(error) from error
            if not lines:
                return
            yield self._number + 1, [line.rstrip(b"\r\n") for line in lines]
            self._number += len(lines)

    def _damaged(self, error: Exception) -> DataError:
        return DataError(f"{self._path} is damaged or cut off: {error}.")

    def __enter__(self) -> LineReader:
        return self

    def __exit__(self, *error: object) -> None:
        self._handle.close()


class TextOutput:
    """A text file being written, gzipped where its final name says so."""

    def __init__(self, path: Path) -> None:
        self._zipped = path.name.lower().endswith(".gz")
        self._files = contextlib.ExitStack()
        self._out: IO[bytes] | None = None

    def open(self, partial: Path) -> None:
        """Begin the file under a temporary name."""
        self._out = self._files.enter_context(partial.open("wb"))
        if self._zipped:
            # Neither name nor time goes in: the same content gives the same bytes.
            zipped = gzip.GzipFile("", "wb", compresslevel=6, fileobj=self._out, mtime=0)
            self._out = cast(IO[bytes], self._files.enter_context(zipped))

    def line(self, text: str) -> None:
        """Write one line."""
        if self._out is None:
            raise ValueError("the file is not open")
        self._out.write(text.encode() + b"\n")

    def close(self) -> None:
        """Close the file."""
        self._out = None
        self._files.close()


def block_lines(width: int) -> int:
    """How many lines of `width` numbers to make text of at a time."""
    return max(1, BLOCK_NUMBERS // width)


def split_line(line: bytes, delimiter: str, *, quoted: bool) -> list[str]:
    """The cells of one line; with `quoted`, double quotes may enclose a cell.

    Examples
    --------
    >>> split_line(b'"TP53, human",1.5', ",", quoted=True)
    ['TP53, human', '1.5']
    """
    text = decode(line)
    if quoted and '"' in text:
        return next(csv.reader([text], delimiter=delimiter))
    return text.split(delimiter)


def parse_rows(
    path: Path,
    first_number: int,
    lines: Iterable[bytes],
    columns: Sequence[str],
    *,
    head: int,
    delimiter: str,
    quoted: bool,
) -> tuple[list[list[str]], np.ndarray]:
    """Parse lines that start with `head` cells of text and go on with numbers.

    Parameters
    ----------
    path, first_number
        Where the lines stand, for messages.
    columns
        Names of the number columns.
    quoted
        Double quotes may enclose a cell.

    Returns
    -------
    heads, x
        The text cells of every line, and its numbers, shape (lines, columns), float64.

    Raises
    ------
    DataError
        A line has another number of cells, or a cell is no number.
    """
    mark = delimiter.encode()
    expected = head + len(columns)
    heads: list[list[str]] = []
    tails: list[bytes] = []
    for number, line in enumerate(lines, start=first_number):
        if not line:
            continue
        if quoted and b'"' in line:
            cells = split_line(line, delimiter, quoted=True)
            extra = len(cells) - expected
            start, tail = cells[:head], "\n".join(cells[head:]).encode()
        else:
            extra = line.count(mark) + 1 - expected
            while extra > 0 and line.endswith(mark):  # spreadsheets pad lines with delimiters
                line, extra = line[:-1], extra - 1
            *first_cells, rest = line.split(mark, head)
            start, tail = [decode(cell) for cell in first_cells], rest.replace(mark, b"\n")
        if extra != 0:
            raise DataError(
                f"{path}: line {number} has {expected + extra} fields, the header {expected}."
            )
        heads.append(start)
        tails.append(tail)
    if not tails:
        return [], np.empty((0, len(columns)))
    try:
        values = parse_numbers(b"\n".join(tails))
        if len(values) != len(tails) * len(columns):
            raise ValueError("cells with line ends inside")
    except ValueError:
        row, column, text = _first_bad(tails)
        raise DataError(
            f"{path}: row {heads[row][0]}, column {columns[column]} holds {text!r}, which is "
            "not a number. A missing value is an empty cell, NA or NaN."
        ) from None
    return heads, values.reshape(len(tails), len(columns))


def parse_numbers(cells: bytes) -> np.ndarray:
    r"""Parse numbers, one a line, exactly (to the nearest float64).

    Examples
    --------
    >>> parse_numbers(b"1.5\nNA\n-2e3")
    array([ 1.5e+00,      nan, -2.0e+03])
    """
    # One long column is parsed many times faster than a wide table. With the number at its end it
    # is never one of True and False only, which would be taken for 1 and 0.
    parsed = pd.read_csv(
        io.BytesIO(cells + b"\n0\n"),
        header=None,
        names=["cell"],
        dtype=np.float64,
        sep="\x01",
        quoting=csv.QUOTE_NONE,
        na_values=list(MISSING_NUMBERS),
        keep_default_na=False,
        skip_blank_lines=False,
        **_EXACT,
        encoding="latin-1",
        engine="c",
    )
    values: np.ndarray = parsed["cell"].to_numpy()[:-1]
    return values


def number_cells(x: np.ndarray) -> list[list[str]]:
    """Shortest text of every number that reads back as the same number of its type.

    Examples
    --------
    >>> import numpy
    >>> number_cells(numpy.array([[0.1, numpy.nan]], dtype="float32"))
    [['0.1', 'NaN']]
    """
    if x.dtype == np.float64:
        rows = [[repr(value) for value in row] for row in x.tolist()]
    else:
        rows = x.astype("U32").tolist()
    if np.isnan(x).any():
        rows = [["NaN" if cell == "nan" else cell for cell in row] for row in rows]
    return rows


def infer_column(cells: Sequence[str]) -> np.ndarray:
    """Give a metadata column its type.

    Whole numbers become int64 and numbers float64, if every cell that is not missing is one
    and none has a leading zero, as identifiers have. All else stays text. Missing are empty
    cells, NA, NaN, N/A and -666.

    Examples
    --------
    >>> infer_column(["3", "10"]), infer_column(["3", "-666"]), infer_column(["007", "8"])
    (array([ 3, 10]), array([ 3., nan]), array(['007', '8'], dtype=object))
    """
    kinds = {_kind(cell) for cell in set(cells)}
    missing = "missing" in kinds
    if kinds == {"whole"}:
        return np.array([int(cell) for cell in cells], dtype=np.int64)
    if "text" in kinds:
        return np.array([np.nan if c in MISSING_METADATA else c for c in cells], dtype=object)
    return np.array(
        [np.nan if missing and c in MISSING_METADATA else float(c) for c in cells], dtype=np.float64
    )


def row_table(path: Path, fields: Sequence[str], heads: Sequence[Sequence[str]]) -> pd.DataFrame:
    """The table of what stands before the numbers: id, then `fields`.

    Raises
    ------
    DataError
        Two fields have one name.
    """
    twice = [field for field, count in Counter(fields).items() if count > 1]
    if twice:
        raise DataError(f"{path}: columns occur more than once ({name_list(twice)}). Rename them.")
    columns = {
        field: infer_column([cells[place] for cells in heads])
        for place, field in enumerate(fields, start=1)
    }
    return pd.DataFrame(columns, index=pd.Index([cells[0] for cells in heads], dtype=object))


def looks_numeric(cells: Iterable[str]) -> bool | None:
    """Whether most cells are numbers; None where all are missing."""
    kinds = [_kind(cell) for cell in cells if cell not in MISSING_METADATA]
    return None if not kinds else kinds.count("text") * 2 <= len(kinds)


def metadata_cells(column: pd.Series[Any], missing: str) -> list[str]:
    """Text of a metadata column, on one line and without tabs.

    Parameters
    ----------
    missing
        What is written for a missing entry.
    """
    return [
        missing if gone else one_cell(str(value))
        for value, gone in zip(column.astype(object).tolist(), column.isna(), strict=True)
    ]


def one_cell(text: str) -> str:
    """`text` with blanks in the place of tabs and line ends, which would break a table."""
    return re.sub(r"[\t\r\n\0]+", " ", text)


def refuse_line_ends(ids: Iterable[str], path: Path) -> None:
    """Raise DataError where an id cannot stand in a text table."""
    broken = [name for name in ids if one_cell(name) != name]
    if broken:
        raise DataError(
            f"{path}: {len(broken)} ids hold a tab or a line end ({name_list(map(repr, broken))}). "
            "Rename them."
        )


def decode(raw: bytes) -> str:
    """UTF-8, or Latin-1 where it is not UTF-8."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _kind(cell: str) -> str:
    if cell in MISSING_METADATA:
        return "missing"
    if _WHOLE.fullmatch(cell):
        return "whole" if -(2**63) <= int(cell) < 2**63 else "text"
    return "real" if _REAL.fullmatch(cell) else "text"


def _first_bad(tails: list[bytes]) -> tuple[int, int, str]:
    """Row, column and text of the first cell that the number parser refuses."""
    for row, tail in enumerate(tails):
        if _refused(tail):
            cells = tail.split(b"\n")
            column = next(i for i, cell in enumerate(cells) if _refused(cell))
            return row, column, decode(cells[column])
    raise ValueError("every cell is a number")


def _refused(cells: bytes) -> bool:
    try:
        parse_numbers(cells)
    except ValueError:
        return True
    return False
