"""Gene identifiers: reading gene lists, and finding a panel's genes in a file.

A gene table has one row per gene, indexed by the gene's id, and four columns of identifiers:
``symbol``, ``ensembl`` (without version), ``entrez`` and ``probes`` (probe sets joined by
commas). An identifier that is not known is an empty string.
"""

from __future__ import annotations

import csv
import gzip
import logging
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from dgex.errors import DataError, UsageError, name_list

log = logging.getLogger("dgex")

KINDS = ("symbol", "ensembl", "entrez", "probes")

_COLUMN_KIND = {
    "symbol": "symbol",
    "gene_symbol": "symbol",
    "pr_gene_symbol": "symbol",
    "hgnc_symbol": "symbol",
    "hugo_symbol": "symbol",
    "gene_name": "symbol",
    "external_gene_name": "symbol",
    "feature_name": "symbol",
    "ensembl": "ensembl",
    "ensembl_id": "ensembl",
    "ensembl_gene_id": "ensembl",
    "entrez": "entrez",
    "entrez_id": "entrez",
    "entrezid": "entrez",
    "entrez_gene_id": "entrez",
    "pr_gene_id": "entrez",
    "ncbi_gene_id": "entrez",
    "probes": "probes",
    "probe_id": "probes",
    "probeset": "probes",
    "probe_set": "probes",
    "pr_id": "probes",
}
_ID_HEADERS = {"gene", "gene_id", "id", "rid"}
_PATTERNS = {
    "ensembl": re.compile(r"ENS[A-Z]*G\d{6,}(\.\d+)?"),
    "probes": re.compile(r".+_at(,.+_at)*"),
    "entrez": re.compile(r"\d+"),
}
_VERSION = re.compile(r"\.\d+$")
_MISSING = {"", "-666", "nan", "NaN", "NA", "---"}


def identifier_kind(values: Sequence[str]) -> str:
    """The kind of identifier that most of `values` look like; ``symbol`` if no other.

    Examples
    --------
    >>> identifier_kind(["ENSG00000141510.17", "ENSG00000136997"])
    'ensembl'
    >>> identifier_kind(["201746_at", "AFFX-BioB-5_at"])
    'probes'
    >>> identifier_kind(["TP53", "MYC"])
    'symbol'
    """
    sample = [value for value in list(values)[:2000] if value not in _MISSING]
    for kind, pattern in _PATTERNS.items():
        matched = sum(pattern.fullmatch(value) is not None for value in sample)
        if sample and matched >= 0.8 * len(sample):
            return kind
    return "symbol"


def without_version(ensembl: str) -> str:
    """An Ensembl gene id without its version suffix.

    Examples
    --------
    >>> without_version("ENSG00000141510.17")
    'ENSG00000141510'
    """
    return _VERSION.sub("", ensembl)


def _clean(values: pd.Series | pd.Index, kind: str) -> list[str]:
    texts = []
    for value in values:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        text = "" if value is None or value != value else str(value).strip()
        text = "" if text in _MISSING else text
        texts.append(without_version(text) if kind == "ensembl" else text)
    return texts


def gene_table(var: pd.DataFrame) -> pd.DataFrame:
    """Gene table of a file: its ids and whatever identifier columns it has.

    Parameters
    ----------
    var
        The file's own table of genes, indexed by gene id.

    Examples
    --------
    >>> var = pd.DataFrame({"pr_gene_symbol": ["TP53"]}, index=["201746_at"])
    >>> gene_table(var).iloc[0].to_dict()
    {'symbol': 'TP53', 'ensembl': '', 'entrez': '', 'probes': '201746_at'}
    """
    ids = [str(gene) for gene in var.index]
    table = pd.DataFrame("", index=pd.Index(ids, name="gene"), columns=list(KINDS), dtype=object)
    kind = identifier_kind(ids)
    table[kind] = _clean(var.index, kind)
    for column in var.columns:
        kind = _COLUMN_KIND.get(str(column).lower(), "")
        if kind and (table[kind] == "").all():
            table[kind] = _clean(var[column], kind)
    return table


def read_genes(source: str | Path | Sequence[str], var: pd.DataFrame) -> pd.DataFrame:
    """Gene table of a list of landmarks or targets.

    Parameters
    ----------
    source
        ``var:COLUMN``: genes of the expression file for which that column is true. A matrix file
        (GCT, GCTX, h5ad): its genes. A text file: one id a line; D-GEX's map (symbol, Ensembl id,
        comma-separated probe sets, no header); or a table with a header that names identifier
        columns such as ``symbol``, ``pr_gene_symbol``, ``ensembl``, ``entrez`` or ``pr_id``.
        Or a sequence of ids.
    var
        Gene table of the expression file itself.

    Raises
    ------
    DataError
        The file is empty, holds a gene twice, or is not a list of genes.
    UsageError
        The file or the column does not exist.
    """
    if not isinstance(source, (str, Path)):
        return _distinct(gene_table(pd.DataFrame(index=list(source))), "The list of genes")
    text = str(source)
    if text.startswith("var:"):
        return _genes_by_column(text.removeprefix("var:"), var)
    path = Path(source)
    if not path.is_file():
        raise UsageError(f"{path}: no such file. Name a gene list, a GCT or GCTX, or var:COLUMN.")
    name = path.name.lower()
    if name.endswith((".gct", ".gct.gz", ".gctx", ".h5ad")):
        from dgex.data.matrix import open_matrix

        with open_matrix(path) as matrix:
            return gene_table(matrix.var)
    return _distinct(_read_gene_text(path), str(path))


def _distinct(table: pd.DataFrame, source: str) -> pd.DataFrame:
    n_empty = int((table.index.str.strip() == "").sum())
    if n_empty:
        raise DataError(f"{source} has {n_empty} lines without an id. Give every gene one.")
    doubled = table.index[table.index.duplicated()].unique()
    if len(doubled):
        raise DataError(
            f"{source} names {len(doubled)} genes more than once ({name_list(doubled)}). "
            "Keep one line per gene."
        )
    return table


def _genes_by_column(column: str, var: pd.DataFrame) -> pd.DataFrame:
    if column not in var.columns:
        raise UsageError(
            f"var:{column}: the expression file's gene table has no such column; "
            f"it has {name_list(var.columns) or 'none'}."
        )
    flags = var[column]
    truthy = flags.astype(str).str.lower().isin({"true", "1", "1.0", "yes"}).to_numpy()
    if not truthy.any():
        raise DataError(f"var:{column} is true for no gene, so it names no landmarks or targets.")
    return gene_table(var[truthy])


def _read_gene_text(path: Path) -> pd.DataFrame:
    opener = gzip.open if path.name.lower().endswith(".gz") else open
    try:
        with opener(path, "rt", encoding="utf-8-sig") as handle:
            if path.name.lower().removesuffix(".gz").endswith(".csv"):
                cells = list(csv.reader(handle, strict=True))
            else:
                cells = [line.rstrip("\n").split("\t") for line in handle]
    except (OSError, EOFError, zlib.error, csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a text file of genes ({error}).") from error
    rows = [[cell.strip() for cell in row] for row in cells]
    rows = [row for row in rows if any(row)]
    if not rows:
        raise DataError(f"{path} is empty: it names no gene.")
    header = [cell.lower() for cell in rows[0]]
    if header[0] in _ID_HEADERS or any(cell in _COLUMN_KIND for cell in header):
        return _table_with_header(path, header, rows[1:])
    first = [row[0] for row in rows]
    if len(rows[0]) >= 3 and identifier_kind([row[1] for row in rows if len(row) > 1]) == "ensembl":
        short = [row[0] for row in rows if len(row) < 3]
        if short:
            raise DataError(
                f"{path}: {len(short)} lines ({name_list(short)}) have fewer cells than symbol, "
                "Ensembl id and probe sets, separated by tabs."
            )
        frame = pd.DataFrame(
            {"symbol": first, "probes": [row[2] for row in rows]}, index=[row[1] for row in rows]
        )
        return gene_table(frame)
    if len(rows[0]) > 1:
        raise DataError(
            f"{path} has {len(rows[0])} columns but no header that names one as gene identifiers "
            "(symbol, ensembl, entrez, pr_id, …). Add a header, or give one id a line."
        )
    return gene_table(pd.DataFrame(index=first))


def _table_with_header(path: Path, header: list[str], rows: list[list[str]]) -> pd.DataFrame:
    named = [cell for cell in header if cell]
    doubled = sorted({cell for cell in named if named.count(cell) > 1})
    if doubled:
        raise DataError(f"{path} has columns of the same name: {name_list(doubled)}. Rename one.")
    if not rows:
        raise DataError(f"{path} has a header and no line below it: it names no gene.")
    width = len(header)
    frame = pd.DataFrame(
        [(row + [""] * width)[:width] for row in rows], columns=header, dtype=object
    )
    # The ids are the first column, unless that is a rank, a description or the like.
    known = [cell for cell in header if cell in _COLUMN_KIND]
    ids = header[0] if header[0] in _ID_HEADERS or not known else known[0]
    return gene_table(frame.set_index(ids, drop=False))


@dataclass(frozen=True)
class Alignment:
    """Where the genes of a gene table are in a matrix.

    Attributes
    ----------
    column, kind
        Column of the matrix's gene table (``id`` for the ids themselves) and the kind of
        identifier by which genes were matched.
    present_g
        Whether the gene is in the matrix, shape (g,).
    members
        Matrix columns of the present genes, one gene after another.
    starts
        Where in `members` each present gene begins, shape (number of present genes,).
    """

    column: str
    kind: str
    present_g: np.ndarray
    members: np.ndarray
    starts: np.ndarray

    def __post_init__(self) -> None:
        counts = np.diff(np.append(self.starts, len(self.members)))
        object.__setattr__(self, "_counts", counts)

    def only(self, keep_g: np.ndarray) -> Alignment:
        """The same for some of the present genes, shape (number of present genes,)."""
        counts = self.__dict__["_counts"]
        starts = np.concatenate([[0], np.cumsum(counts[keep_g])[:-1]]).astype(np.intp)
        present_g = np.ones(int(keep_g.sum()), dtype=bool)
        members = self.members[np.repeat(keep_g, counts)]
        return Alignment(self.column, self.kind, present_g, members, starts)

    def gene_values(self, x_bp: np.ndarray) -> np.ndarray:
        """Mean over each present gene's columns, float64, shape (b, present genes).

        A gene is missing (NaN) in a profile where any of its columns is: a mean over other
        probe sets than usual would shift the gene.
        """
        counts = self.__dict__["_counts"]
        values = x_bp[:, self.members].astype(np.float64)
        if len(counts) == len(self.members):
            return values
        return np.add.reduceat(values, self.starts, axis=1) / counts


def align(
    genes: pd.DataFrame, var: pd.DataFrame, source: str, id_column: str | None = None
) -> Alignment:
    """Find the genes of a gene table in a matrix, by the identifier that finds the most.

    Several probe sets, or several rows of one symbol or Entrez id, are averaged; of several
    versions of one Ensembl id the first is taken, as D-GEX does.

    Parameters
    ----------
    genes
        Gene table (see the module's description).
    var
        The matrix's table of genes.
    source
        Name of the matrix, for messages.
    id_column
        Column of `var` to match by, instead of trying all.

    Raises
    ------
    DataError
        No gene is found.
    UsageError
        `id_column` is not a column of `var`.

    Examples
    --------
    >>> genes = pd.DataFrame({"symbol": ["B", "A"], "ensembl": "", "entrez": "", "probes": ""},
    ...                      index=["b", "a"])
    >>> found = align(genes, pd.DataFrame(index=["A", "B", "C"]), "example")
    >>> found.members.tolist(), found.kind
    ([1, 0], 'symbol')
    """
    if id_column is not None and id_column not in var.columns:
        raise UsageError(
            f"--id-column {id_column}: {source} has no such column in its gene table; "
            f"it has {name_list(var.columns) or 'none'}."
        )
    candidates = _identifier_columns(var, id_column)
    best: tuple[int, str, str, list[list[int]]] | None = None
    for column, values in candidates:
        for kind in ("id", *KINDS):
            wanted = _wanted(genes, kind)
            # The id NA is an id like any other; in the other columns it says that none is known.
            exact = column == "id" and kind == "id"
            names = [str(name) for name in values] if exact else _clean(values, kind)
            found = _find(wanted, names, kind)
            n_found = sum(bool(columns) for columns in found)
            if best is None or n_found > best[0]:
                best = (n_found, column, kind, found)
    if best is None or best[0] == 0:
        raise DataError(
            f"None of the {len(genes)} genes asked for is in {source} (they look like "
            f"{name_list(genes.index, 3)}; the file's ids like {name_list(var.index, 3)}). "
            "Name the column of identifiers with --id-column, or check the species, the panel and, "
            "for a text table, its --orientation."
        )
    _, column, kind, found = best
    present_g = np.array([bool(columns) for columns in found])
    sizes = [len(columns) for columns in found if columns]
    members = np.array([i for columns in found for i in columns], dtype=np.intp)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.intp)
    return Alignment(column, kind, present_g, members, starts)


def _identifier_columns(
    var: pd.DataFrame, id_column: str | None
) -> list[tuple[str, pd.Series | pd.Index]]:
    if id_column is not None:
        return [(id_column, var[id_column])]
    named = [(str(c), var[c]) for c in var.columns if str(c).lower() in _COLUMN_KIND]
    return [("id", var.index), *named]


def _wanted(genes: pd.DataFrame, kind: str) -> list[list[str]]:
    if kind == "id":
        return [[str(gene)] for gene in genes.index]
    split = kind == "probes"
    return [[part.strip() for part in text.split(",")] if split else [text] for text in genes[kind]]


def _find(wanted: list[list[str]], ids: list[str], kind: str) -> list[list[int]]:
    where: dict[str, list[int]] = {}
    for index, name in enumerate(ids):
        if name:
            where.setdefault(name, []).append(index)
    found = []
    for names in wanted:
        columns = [index for name in names for index in where.get(name, [])]
        found.append(columns[:1] if kind == "ensembl" else columns)
    return found


def same_gene(genes: pd.DataFrame, others: pd.DataFrame) -> np.ndarray:
    """Which of `genes` are among `others`, by symbol, Ensembl id or Entrez id; shape (g,).

    Examples
    --------
    >>> columns = {"ensembl": "", "entrez": "", "probes": ""}
    >>> a = pd.DataFrame({"symbol": ["TP53", "MYC"], **columns})
    >>> same_gene(a, a.iloc[:1]).tolist()
    [True, False]
    """
    same = np.zeros(len(genes), dtype=bool)
    for kind in ("symbol", "ensembl", "entrez"):
        known = set(others[kind]) - {""}
        same |= genes[kind].isin(known).to_numpy()
    return same
