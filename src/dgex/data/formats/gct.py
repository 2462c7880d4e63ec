"""GCT, the text format of GenePattern (1.2) and of the Connectivity Map (1.3).

Genes are rows. Version 1.2 has one field of the gene table, Description; version 1.3 has
any number, and above the data the fields of the sample table, one a line. A missing entry
of a table is -666.

Source: GenePattern file format guide; https://clue.io/connectopedia/gct_format.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from dgex.data.formats.cells import (
    LineReader,
    TextOutput,
    block_lines,
    infer_column,
    metadata_cells,
    number_cells,
    parse_rows,
    refuse_line_ends,
    row_table,
    split_line,
)
from dgex.data.formats.reader import Matrix
from dgex.data.formats.spool import Spool, SpooledMatrix
from dgex.data.formats.writer import MatrixWriter
from dgex.errors import DataError, UsageError, name_list

log = logging.getLogger("dgex")

MISSING = "-666"


def open_gct(path: Path) -> Matrix:
    """Open a GCT file, version 1.2 or 1.3, gzipped or not.

    Raises
    ------
    DataError
        The file does not begin as GCT does, its dimensions do not agree with its content, a
        line has too many or too few fields, or a data cell is no number.
    """
    with LineReader(path, "GCT") as reader:
        version = decode_version(reader.line(), path)
        genes, samples, gene_fields, sample_fields = _dimensions(reader.line(), version, path)
        if not genes or not samples:
            raise DataError(f"{path} is empty: it holds {samples} samples and {genes} genes.")
        head = 1 + gene_fields
        header = split_line(reader.line(), "\t", quoted=False)
        while len(header) > head + samples and not header[-1]:
            header.pop()
        if len(header) != head + samples:
            raise DataError(
                f"{path}: line 2 declares {samples} samples, but line 3 has {len(header)} fields "
                f"instead of {head + samples}."
            )
        names = header[head:]
        obs = _sample_table(reader, sample_fields, head, names, path)
        with Spool(samples, np.float64, turned=True) as spool:
            heads: list[list[str]] = []
            for number, lines in reader.chunks():
                cells, x = parse_rows(
                    path, number, lines, names, head=head, delimiter="\t", quoted=False
                )
                heads += cells
                spool.append(x)
            if len(heads) != genes:
                raise DataError(
                    f"{path}: line 2 declares {genes} genes, but {len(heads)} rows follow."
                )
            fields = ["description"] if version == "1.2" else header[1:head]
            var = row_table(path, fields, heads)
            return SpooledMatrix(path, f"GCT {version}", obs, var, spool)


class GctWriter(MatrixWriter):
    """Writes a GCT file, whole or not at all; see `create_matrix`.

    Version 1.3 holds both tables. Version 1.2 holds of them only the gene column called
    ``description``; what is left out is logged.
    """

    def __init__(
        self,
        path: Path,
        obs: pd.DataFrame,
        var: pd.DataFrame,
        *,
        dtype: str = "float32",
        overwrite: bool = False,
        version: str = "1.3",
    ) -> None:
        super().__init__(path, obs, var, dtype=dtype, overwrite=overwrite)
        if version not in ("1.2", "1.3"):
            raise UsageError(f"GCT is written as version 1.2 or 1.3, not {version}.")
        self._version = version
        for table in (self.obs, self.var):
            refuse_line_ends([*table.index, *table.columns], path)
        if version == "1.2":
            lost = [*self.obs.columns, *self.var.columns.drop("description", errors="ignore")]
            if lost:
                log.warning("%s: GCT 1.2 has no place for %s", path, name_list(lost))
        self._output = TextOutput(path)
        self._spool = Spool(len(self.var), self.dtype, turned=True)

    def _open(self, partials: list[Path]) -> None:
        self._output.open(partials[0])

    def _write(self, x_bg: np.ndarray) -> None:
        self._spool.append(x_bg)

    def _finish(self) -> None:
        n, g = len(self.obs), len(self.var)
        if self._version == "1.2":
            heads = [_description(self.var)]
            top = [["#1.2"], [str(g), str(n)], ["Name", "Description", *self.obs.index]]
        else:
            heads = [metadata_cells(self.var[name], MISSING) for name in self.var.columns]
            filler = [MISSING] * len(heads)
            top = [["#1.3"], [str(d) for d in (g, n, len(heads), len(self.obs.columns))]]
            top.append(["id", *self.var.columns, *self.obs.index])
            top += [
                [name, *filler, *metadata_cells(self.obs[name], MISSING)]
                for name in self.obs.columns
            ]
        for line in top:
            self._output.line("\t".join(line))
        lines = zip(self.var.index, *heads, strict=True)
        for start in range(0, g, step := block_lines(n)):
            x_gn = self._spool.read(start, min(start + step, g))
            for cells in number_cells(x_gn):
                self._output.line("\t".join((*next(lines), *cells)))
        self._close()

    def _close(self) -> None:
        self._output.close()
        self._spool.close()


def decode_version(line: bytes, path: Path) -> str:
    """The version that the first line of a GCT file states."""
    text = line.decode("latin-1").strip()
    if text not in ("#1.2", "#1.3"):
        raise DataError(
            f"{path} is not a GCT file: it begins with {text[:40]!r} instead of #1.2 or #1.3."
        )
    return text[1:]


def _dimensions(line: bytes, version: str, path: Path) -> tuple[int, int, int, int]:
    """Genes, samples, gene fields and sample fields, as line 2 declares them."""
    numbers = line.decode("latin-1").split()
    wanted = 2 if version == "1.2" else 4
    if len(numbers) != wanted or not all(number.isdecimal() for number in numbers):
        raise DataError(
            f"{path}: line 2 of GCT {version} holds {wanted} whole numbers (its dimensions), "
            f"not {' '.join(numbers)[:40]!r}."
        )
    genes, samples, *fields = (int(number) for number in numbers)
    gene_fields, sample_fields = fields or (1, 0)
    return genes, samples, gene_fields, sample_fields


def _sample_table(
    reader: LineReader, fields: int, head: int, names: Sequence[str], path: Path
) -> pd.DataFrame:
    columns: dict[str, np.ndarray] = {}
    for place in range(fields):
        cells = split_line(reader.line(), "\t", quoted=False)
        while len(cells) > head + len(names) and not cells[-1]:
            cells.pop()
        if len(cells) != head + len(names):
            raise DataError(
                f"{path}: line {place + 4} has {len(cells)} fields, the header {head + len(names)}."
            )
        columns[cells[0]] = infer_column(cells[head:])
    if len(columns) != fields:
        raise DataError(f"{path}: two of its {fields} sample fields have one name. Rename one.")
    return pd.DataFrame(columns, index=list(names))


def _description(var: pd.DataFrame) -> list[str]:
    if "description" in var.columns:
        return metadata_cells(var["description"], MISSING)
    return [MISSING] * len(var)
