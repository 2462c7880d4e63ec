"""Expression matrices of any supported format behind one interface.

Samples are rows, genes are columns, whatever the file's own way round. A matrix is read
and written in blocks of rows, so that its size on disk does not matter.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pandas as pd

from dgex.data.formats.checks import ENDINGS, GZIP_ENDINGS, matrix_ending
from dgex.data.formats.reader import Matrix
from dgex.data.formats.writer import MatrixWriter
from dgex.errors import DataError, UsageError, name_list

if TYPE_CHECKING:
    from anndata import AnnData

ORIENTATIONS = ("genes-by-samples", "samples-by-genes")


def open_matrix(source: str | Path | AnnData, *, orientation: str | None = None) -> Matrix:
    """Open an expression matrix; the name's ending tells the format.

    Parameters
    ----------
    source
        A file (.gctx, .gct, .h5ad, .tsv, .txt, .csv, .parquet, .npy; .gct and text also
        with .gz), or an AnnData object, which is read in place.
    orientation
        "genes-by-samples" or "samples-by-genes" for TSV, CSV and parquet, which do not say;
        None guesses from the ids and logs the guess.

    Raises
    ------
    DataError
        The file is missing, empty, damaged, of an unknown ending, or not what its name
        says; ids are empty or not unique; text stands in the place of a number.
    UsageError
        `orientation` is unknown, or given for a format that says itself.

    Examples
    --------
    >>> import anndata, numpy, pandas
    >>> table = anndata.AnnData(
    ...     numpy.array([[1.0, 2.0], [3.0, 4.0]]),
    ...     obs=pandas.DataFrame(index=["s1", "s2"]),
    ...     var=pandas.DataFrame(index=["TP53", "MYC"]),
    ... )
    >>> with open_matrix(table) as matrix:
    ...     print(matrix.shape, matrix.rows(1, 2))
    (2, 2) [[3. 4.]]
    """
    if orientation is not None and orientation not in ORIENTATIONS:
        raise UsageError(f"--orientation is {' or '.join(ORIENTATIONS)}, not {orientation}.")
    if not isinstance(source, (str, Path)):
        from dgex.data.formats.h5ad import AnnDataMatrix

        _refuse_orientation(orientation, "An AnnData object")
        return AnnDataMatrix(source)
    path = Path(source)
    if not path.exists():
        raise DataError(f"{path} does not exist.")
    if path.is_dir():
        raise DataError(f"{path} is a folder, not an expression matrix.")
    ending = matrix_ending(path)
    if ending is None:
        raise DataError(_unknown_ending(path))
    if ending == ".parquet":
        from dgex.data.formats.parquet import open_parquet

        return open_parquet(path, orientation)
    if ending in (".tsv", ".txt", ".csv"):
        from dgex.data.formats.text import open_text

        return open_text(path, orientation)
    _refuse_orientation(orientation, f"{path}: a {ending} file")
    if ending == ".gctx":
        from dgex.data.formats.gctx import GctxMatrix

        return GctxMatrix(path)
    if ending == ".gct":
        from dgex.data.formats.gct import open_gct

        return open_gct(path)
    if ending == ".h5ad":
        from dgex.data.formats.h5ad import open_h5ad

        return open_h5ad(path)
    from dgex.data.formats.npy import NpyMatrix

    return NpyMatrix(path)


def create_matrix(
    path: str | Path,
    obs: pd.DataFrame,
    var: pd.DataFrame,
    *,
    dtype: str = "float32",
    overwrite: bool = False,
    compression: Literal["gzip"] | None = None,
    version: str | None = None,
    orientation: str | None = None,
    resume_key: str | None = None,
) -> MatrixWriter:
    """Begin a matrix file; the name's ending tells the format.

    Parameters
    ----------
    path
        Ends in .gctx, .gct, .h5ad, .tsv, .txt, .csv, .parquet or .npy; .gct and text may
        have .gz after it.
    obs, var
        Tables of samples and of genes, ids in the index.
    dtype
        "float32" or "float64".
    overwrite
        Replace a file of that name.
    compression
        "gzip" for GCTX and h5ad.
    version
        "1.2" or "1.3" for GCT; 1.3 by default.
    orientation
        For TSV and CSV (genes-by-samples by default) and parquet (samples-by-genes by
        default).
    resume_key
        For GCTX and h5ad without compression: text that says what the file is made from and
        how. The partial file of an interrupted attempt is then kept, and a later writer of the
        same key goes on after its `rows_done`.

    Raises
    ------
    UsageError
        The ending is unknown, the file exists, or an option does not fit the format.
    DataError
        Ids are empty or not unique, or there are no rows or no columns.

    Examples
    --------
    >>> import numpy, pandas, tempfile
    >>> obs = pandas.DataFrame(index=["s1", "s2"])
    >>> var = pandas.DataFrame({"symbol": ["TP53"]}, index=["7157"])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with create_matrix(f"{folder}/small.gctx", obs, var) as out:
    ...         out.write(numpy.array([[1.5], [2.5]]))
    ...     with open_matrix(f"{folder}/small.gctx") as matrix:
    ...         print(matrix.rows(0, 2).ravel(), matrix.var.loc["7157", "symbol"])
    [1.5 2.5] TP53
    """
    path = Path(path)
    ending = matrix_ending(path)
    if ending is None:
        raise UsageError(_unknown_ending(path))
    options = {"compression": compression, "version": version, "orientation": orientation}
    options["resume_key"] = resume_key
    given = {name: value for name, value in options.items() if value is not None}
    writer: Callable[..., MatrixWriter]
    if ending == ".gctx":
        from dgex.data.formats.gctx import GctxWriter

        writer = GctxWriter
    elif ending == ".gct":
        from dgex.data.formats.gct import GctWriter

        writer = GctWriter
    elif ending == ".h5ad":
        from dgex.data.formats.h5ad import H5adWriter

        writer = H5adWriter
    elif ending == ".parquet":
        from dgex.data.formats.parquet import ParquetWriter

        writer = ParquetWriter
    elif ending == ".npy":
        from dgex.data.formats.npy import NpyWriter

        writer = NpyWriter
    else:
        from dgex.data.formats.text import TextWriter

        writer = TextWriter
    takes = {
        ".gctx": {"compression", "resume_key"},
        ".h5ad": {"compression", "resume_key"},
        ".gct": {"version"},
        ".npy": set(),
    }.get(ending, {"orientation"})
    if wrong := sorted(set(given) - takes):
        raise UsageError(f"{path}: a {ending} file takes no {name_list(wrong)}.")
    return writer(path, obs, var, dtype=dtype, overwrite=overwrite, **given)


def _refuse_orientation(orientation: str | None, what: str) -> None:
    if orientation is not None:
        raise UsageError(
            f"{what} says itself which way round it is; --orientation is for TSV, CSV and parquet."
        )


def _unknown_ending(path: Path) -> str:
    return (
        f"{path} has no ending of a matrix format. Known are {' '.join(ENDINGS)}, "
        f"and {' '.join(GZIP_ENDINGS)} with .gz after it."
    )
