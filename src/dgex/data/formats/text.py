"""Tables of text: TSV, CSV, and the layout of the 1000 Genomes expression files.

A table has a header line and an id column. Leading columns that hold text describe the
rows; the columns after them are numbers.
"""

from __future__ import annotations

import csv
import io
import itertools
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from dgex.data.formats.cells import (
    LineReader,
    TextOutput,
    block_lines,
    metadata_cells,
    number_cells,
    parse_rows,
    refuse_line_ends,
    row_table,
    split_line,
)
from dgex.data.formats.checks import matrix_ending
from dgex.data.formats.orientation import (
    GENES_BY_SAMPLES,
    SAMPLES_BY_GENES,
    choose_orientation,
    is_annotation,
)
from dgex.data.formats.reader import Matrix
from dgex.data.formats.spool import Spool, SpooledMatrix
from dgex.data.formats.writer import MatrixWriter
from dgex.errors import DataError, UsageError, name_list

log = logging.getLogger("dgex")

THOUSAND_GENOMES = ["TargetID", "Gene_Symbol", "Chr", "Coord"]
LOOK_ROWS = 100  # rows that decide which leading columns are numbers


def open_text(path: Path, orientation: str | None = None) -> Matrix:
    """Open a TSV or CSV file, gzipped or not, or one of the 1000 Genomes layout.

    Parameters
    ----------
    orientation
        "genes-by-samples" or "samples-by-genes"; None guesses and logs the guess.

    Raises
    ------
    DataError
        The file is no text table, a line has too many or too few fields, or a data cell is
        no number.
    """
    with LineReader(path, "text") as reader:
        line = _header_line(reader, path)
        delimiter = _delimiter(line, path)
        header = split_line(line, delimiter, quoted=True)
        chunks = reader.chunks()
        first = next(chunks, None)
        if first is None:
            raise DataError(f"{path} is empty: no row follows the header line.")
        look = [split_line(line, delimiter, quoted=True) for line in first[1][:LOOK_ROWS] if line]
        if look and len(look[0]) == len(header) + 1:
            header = ["", *header]  # R writes no name for the id column
        head = _leading(header, look)
        names = header[head:]
        if not names:
            raise DataError(f"{path} has no column of numbers.")
        format_name, orientation = _format(path, header, delimiter, orientation)
        if orientation is None:
            ids = [cells[0] for cells in look]
            orientation = choose_orientation(None, names, ids, lambda: _count_rows(path), path)
        if head > 1:
            log.info("%s: columns %s describe the rows", path, name_list(header[1:head]))
        turned = orientation == GENES_BY_SAMPLES
        with Spool(len(names), np.float64, turned=turned) as spool:
            heads: list[list[str]] = []
            for number, lines in itertools.chain([first], chunks):
                cells, x = parse_rows(
                    path, number, lines, names, head=head, delimiter=delimiter, quoted=True
                )
                heads += cells
                spool.append(x)
            described = row_table(path, header[1:head], heads)
            plain = pd.DataFrame(index=pd.Index(names, dtype=object))
            obs, var = (plain, described) if turned else (described, plain)
            return SpooledMatrix(path, format_name, obs, var, spool)


class TextWriter(MatrixWriter):
    """Writes a TSV or CSV file, whole or not at all; see `create_matrix`.

    A row of the file is a gene, or with ``orientation="samples-by-genes"`` a sample. Such a
    file has room for the ids of both tables and, in leading columns, for what describes its
    rows in words; numbers there would be read as data. Hence only columns of text, and of
    such names as "length" or "entrez", are written; what is left out is logged. Blanks stand
    in the place of tabs and line ends.
    """

    def __init__(
        self,
        path: Path,
        obs: pd.DataFrame,
        var: pd.DataFrame,
        *,
        dtype: str = "float32",
        overwrite: bool = False,
        orientation: str = GENES_BY_SAMPLES,
    ) -> None:
        super().__init__(path, obs, var, dtype=dtype, overwrite=overwrite)
        if orientation not in (GENES_BY_SAMPLES, SAMPLES_BY_GENES):
            raise UsageError(
                f"--orientation is {GENES_BY_SAMPLES} or {SAMPLES_BY_GENES}, not {orientation}."
            )
        self._turned = orientation == GENES_BY_SAMPLES
        self._comma = matrix_ending(path) == ".csv"
        along, across = (self.var, self.obs) if self._turned else (self.obs, self.var)
        refuse_line_ends([*along.index, *across.index, *along.columns], path)
        self._heads = annotation_cells(along)
        lost = [*across.columns, *along.columns.drop(list(self._heads))]
        if lost:
            log.warning("%s: a text table has no place for %s", path, name_list(lost))
        self._along, self._across = along, across
        self._output = TextOutput(path)
        self._spool = Spool(len(self.var), self.dtype, turned=True)

    def _open(self, partials: list[Path]) -> None:
        self._output.open(partials[0])
        name = "gene" if self._turned else "sample"
        self._output.line(self._joined([name, *self._heads, *self._across.index], []))
        self._lines = self._rows()

    def _write(self, x_bg: np.ndarray) -> None:
        if self._turned:
            self._spool.append(x_bg)
        else:
            self._put(x_bg)

    def _finish(self) -> None:
        if self._turned:
            g = len(self.var)
            for start in range(0, g, step := block_lines(len(self.obs))):
                self._put(self._spool.read(start, min(start + step, g)))
        self._close()

    def _close(self) -> None:
        self._output.close()
        self._spool.close()

    def _put(self, x: np.ndarray) -> None:
        for cells in number_cells(x):
            self._output.line(self._joined(next(self._lines), cells))

    def _rows(self) -> Iterator[list[str]]:
        for cells in zip(self._along.index, *self._heads.values(), strict=True):
            yield list(cells)

    def _joined(self, head: list[str], numbers: list[str]) -> str:
        delimiter = "," if self._comma else "\t"
        if any(delimiter in cell or '"' in cell for cell in head):
            quoted = io.StringIO()
            csv.writer(quoted, delimiter=delimiter, lineterminator="").writerow(head)
            return delimiter.join([quoted.getvalue(), *numbers])
        return delimiter.join([*head, *numbers])


def annotation_cells(table: pd.DataFrame) -> dict[str, list[str]]:
    """The text of those columns of a table that a reader takes for descriptions of its rows."""
    cells = {name: metadata_cells(table[name], "") for name in table.columns}
    return {
        name: column
        for name, column in cells.items()
        if is_annotation(name, column[:LOOK_ROWS]) and any(column)
    }


def _delimiter(line: bytes, path: Path) -> str:
    tabs, commas = line.count(b"\t"), line.count(b",")
    if not tabs and not commas:
        raise DataError(f"{path} has one column only: its header line holds neither tab nor comma.")
    if matrix_ending(path) == ".csv":
        return "," if commas else "\t"
    return "\t" if tabs else ","


def _leading(header: list[str], look: list[list[str]]) -> int:
    """Number of leading columns that are no data, the ids' among them."""
    if header[: len(THOUSAND_GENOMES)] == THOUSAND_GENOMES:
        return len(THOUSAND_GENOMES)
    head = 1
    while head < len(header) and is_annotation(
        header[head], [cells[head] for cells in look if head < len(cells)]
    ):
        head += 1
    return head


def _format(
    path: Path, header: list[str], delimiter: str, orientation: str | None
) -> tuple[str, str | None]:
    """Name of the format, and the orientation where the format or the user fixes it."""
    if header[: len(THOUSAND_GENOMES)] != THOUSAND_GENOMES:
        return ("CSV" if delimiter == "," else "TSV"), orientation
    if orientation == SAMPLES_BY_GENES:
        raise UsageError(f"{path} has the 1000 Genomes layout, which is {GENES_BY_SAMPLES}.")
    return "1000 Genomes text", GENES_BY_SAMPLES


def _header_line(reader: LineReader, path: Path) -> bytes:
    line = reader.line()
    if line.startswith((b"#1.2", b"#1.3")):
        raise DataError(f"{path} is a GCT file. Let its name end in .gct.")
    while line.startswith(b"#"):
        line = reader.line()
    return line


def _count_rows(path: Path) -> int:
    with LineReader(path, "text") as reader:
        _header_line(reader, path)
        return sum(1 for _, lines in reader.chunks() for line in lines if line)
