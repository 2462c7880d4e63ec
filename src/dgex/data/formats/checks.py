"""What is checked of every matrix file: its name, its first bytes, its ids, its values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import DTypeLike

from dgex.errors import DataError, name_list

ENDINGS = (".gctx", ".gct", ".h5ad", ".tsv", ".txt", ".csv", ".parquet", ".npy")
GZIP_ENDINGS = (".gct", ".tsv", ".txt", ".csv")

_SIGNATURES = {
    b"\x89HDF\r\n\x1a\n": "an HDF5 file",
    b"\x1f\x8b": "a gzip file",
    b"PAR1": "a parquet file",
    b"\x93NUMPY": "a NumPy array",
    b"PK\x03\x04": "a zip archive (a spreadsheet?)",
    b"#1.2": "a GCT text file",
    b"#1.3": "a GCT text file",
}


def matrix_ending(path: Path) -> str | None:
    """The format's ending of a file name, without .gz; None where it is no matrix's.

    Examples
    --------
    >>> matrix_ending(Path("GSE1.GCT.gz")), matrix_ending(Path("notes.docx"))
    ('.gct', None)
    """
    name = path.name.lower()
    endings: tuple[str, ...] = ENDINGS
    if name.endswith(".gz"):
        name, endings = name.removesuffix(".gz"), GZIP_ENDINGS
    return next((ending for ending in endings if name.endswith(ending)), None)


def block_dtype(stored: DTypeLike) -> np.dtype:
    """Type of the blocks read from values of type `stored`: float32 for float32, else float64.

    Examples
    --------
    >>> import numpy
    >>> block_dtype(">f4"), block_dtype(numpy.int16)
    (dtype('float32'), dtype('float64'))
    """
    # Compared in native byte order: files may hold the other one.
    native = np.dtype(stored).newbyteorder("=")
    return np.dtype(np.float32 if native == np.float32 else np.float64)


def content_kind(path: Path) -> str:
    """What the first bytes of a file say it is, in words, for messages."""
    with open(path, "rb") as handle:
        head = handle.read(4096)
    if not head:
        return "an empty file"
    for signature, kind in _SIGNATURES.items():
        if head.startswith(signature):
            return kind
    return "binary data" if b"\0" in head else "plain text"


def clean_table(table: pd.DataFrame, axis: str, path: Path) -> pd.DataFrame:
    """A copy of `table` whose index holds unique, non-empty strings and is called `axis`.

    Raises
    ------
    DataError
        Ids are empty or duplicated.
    """
    gone = pd.isna(table.index)
    ids = ["" if gone[row] else str(name) for row, name in enumerate(table.index)]
    empty = [str(row + 1) for row, name in enumerate(ids) if not name.strip()]
    if empty:
        raise DataError(
            f"{path}: {len(empty)} of {len(ids)} {axis} ids are empty (number {name_list(empty)} "
            f"in the file's order). Give every {axis} an id."
        )
    broken = [repr(name) for name in ids if "\0" in name]
    if broken:
        raise DataError(f"{path}: {axis} ids hold NUL bytes ({name_list(broken)}). Rename them.")
    index = pd.Index(ids, dtype=object, name=axis)
    if not index.is_unique:
        twice = index[index.duplicated()].unique()
        raise DataError(
            f"{path}: {len(twice)} {axis} ids occur more than once ({name_list(twice)}). "
            f"Make the {axis} ids unique."
        )
    clean = table.copy()
    clean.index = index
    names = [str(name) for name in clean.columns]
    if len(set(names)) != len(names):
        twice_named = sorted({name for name in names if names.count(name) > 1})
        raise DataError(
            f"{path}: {axis} columns occur more than once ({name_list(twice_named)}). Rename them."
        )
    clean.columns = pd.Index(names, dtype=object)
    return clean


def refuse_infinite(x_bg: np.ndarray, samples: pd.Index, genes: pd.Index, path: Path) -> None:
    """Raise DataError naming the first infinite value of a block."""
    # A finite sum has no infinite term: for most blocks one pass is enough.
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(np.sum(x_bg)):
            return
    row_col = np.argwhere(np.isinf(x_bg))
    if len(row_col):
        row, col = row_col[0]
        raise DataError(
            f"{path}: the value of sample {samples[row]}, gene {genes[col]} is infinite "
            f"({len(row_col)} such values in this block). Make it a number or NA."
        )
