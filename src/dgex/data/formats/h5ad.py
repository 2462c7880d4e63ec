"""h5ad, the file format of AnnData, and AnnData objects in memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pandas as pd

from dgex.data.formats.checks import block_dtype
from dgex.data.formats.hdf5 import Hdf5Output, RowReader, field_names, is_number_matrix, open_hdf5
from dgex.data.formats.reader import BLOCK_BYTES, Matrix
from dgex.data.formats.spool import Spool, SpooledMatrix
from dgex.data.formats.writer import MatrixWriter
from dgex.errors import DataError, UsageError

if TYPE_CHECKING:
    from anndata import AnnData


class AnnDataMatrix(Matrix):
    """An AnnData object in memory, or backed by its file, read in place.

    Raises
    ------
    UsageError
        The object is not an AnnData.
    DataError
        It has no X, or its names are not unique.
    """

    def __init__(self, adata: AnnData) -> None:
        import anndata

        if not isinstance(adata, anndata.AnnData):
            raise UsageError(f"Expected a path or an AnnData object, not {type(adata).__name__}.")
        path = Path("<AnnData>")
        # A view would copy all its values only to say their type.
        x = (adata[:1] if adata.is_view else adata).X
        if x is None:
            raise DataError("The AnnData object has no X.")
        super().__init__(path, "AnnData", adata.obs, adata.var, x.dtype)
        self._adata = adata

    def _read(self, start: int, stop: int) -> np.ndarray:
        adata = self._adata
        x = adata[start:stop].X if adata.is_view else adata.X[start:stop]
        x = x.toarray() if hasattr(x, "toarray") else x
        # A copy, so that a caller who works on a block in place does not change the object.
        return np.array(x)


class DenseMatrix(Matrix):
    """An h5ad file whose X is dense."""

    def __init__(self, path: Path, file: h5py.File, obs: pd.DataFrame, var: pd.DataFrame) -> None:
        self._dataset = file["X"]
        self._reader = RowReader(file, path)
        rows = self._dataset.chunks[0] if self._dataset.chunks else 1
        _check_shape(path, self._dataset.shape, obs, var)
        super().__init__(path, "h5ad", obs, var, self._dataset.dtype, chunk_rows=rows)

    def _read(self, start: int, stop: int) -> np.ndarray:
        return self._reader.read(self._dataset, start, stop)

    def close(self) -> None:
        """Close the file."""
        self._reader.close()


class SparseMatrix(Matrix):
    """An h5ad file whose X is sparse and lies sample by sample (CSR)."""

    def __init__(self, path: Path, file: h5py.File, obs: pd.DataFrame, var: pd.DataFrame) -> None:
        self._x = SparseLines(path, file)
        _check_shape(path, (self._x.lines, self._x.width), obs, var)
        super().__init__(path, "h5ad", obs, var, self._x.dtype)

    def _read(self, start: int, stop: int) -> np.ndarray:
        return self._x.read(start, stop)

    def close(self) -> None:
        """Close the file."""
        self._x.close()


class SparseLines:
    """The lines of a sparse X as they lie: samples where it is CSR, genes where it is CSC."""

    def __init__(self, path: Path, file: h5py.File) -> None:
        self._path = path
        self._reader = RowReader(file, path)
        group = file["X"]
        self._values, self._columns = group["data"], group["indices"]
        self.dtype = self._values.dtype
        n, g = (int(length) for length in group.attrs["shape"])
        self.by_gene = group.attrs["encoding-type"] == "csc_matrix"
        self.lines, self.width = (g, n) if self.by_gene else (n, g)
        self._starts = self._reader.read(group["indptr"], 0, len(group["indptr"]))
        fits = len(self._starts) == self.lines + 1 and self._starts[-1] == len(self._values)
        if not fits or np.any(np.diff(self._starts) < 0):
            raise DataError(f"{path} is damaged: X/indptr does not fit X/data.")

    def read(self, start: int, stop: int) -> np.ndarray:
        """Lines `start` to `stop`, dense, shape (stop - start, width)."""
        first, last = int(self._starts[start]), int(self._starts[stop])
        values = self._reader.read(self._values, first, last)
        columns = self._reader.read(self._columns, first, last)
        if len(columns) and not 0 <= columns.min() <= columns.max() < self.width:
            raise DataError(f"{self._path} is damaged: X/indices lie outside the matrix.")
        lengths = np.diff(self._starts[start : stop + 1])
        x = np.zeros((stop - start, self.width), dtype=self.dtype)
        # Entries given twice add up, as they do in scipy.
        np.add.at(x, (np.repeat(np.arange(stop - start), lengths), columns), values)
        return x

    def turned(self) -> Spool:
        """All lines, turned round."""
        with Spool(self.width, block_dtype(self.dtype), turned=True) as spool:
            step = max(1, BLOCK_BYTES // 2 // (self.width * self.dtype.itemsize))
            for start in range(0, self.lines, step):
                spool.append(self.read(start, min(start + step, self.lines)))
            return spool

    def close(self) -> None:
        """Close the file."""
        self._reader.close()


class H5adWriter(MatrixWriter):
    """Writes an h5ad file with a dense X, whole or not at all; see `create_matrix`."""

    def __init__(
        self,
        path: Path,
        obs: pd.DataFrame,
        var: pd.DataFrame,
        *,
        dtype: str = "float32",
        overwrite: bool = False,
        compression: str | None = None,
        resume_key: str | None = None,
    ) -> None:
        super().__init__(path, obs, var, dtype=dtype, overwrite=overwrite, resume_key=resume_key)
        self._compression = compression
        self._out: Hdf5Output | None = None

    def _open(self, partials: list[Path]) -> None:
        from anndata.io import write_elem

        self._out = Hdf5Output(partials[0], self.journal)
        if self._goes_on(self._out):
            return
        file = self._out.file
        file.attrs["encoding-type"] = "anndata"
        file.attrs["encoding-version"] = "0.1.0"
        with _plain_strings():
            write_elem(file, "obs", plain_table(self.obs, self.path))
            write_elem(file, "var", plain_table(self.var, self.path))
            for name in ("layers", "obsm", "obsp", "uns", "varm", "varp"):
                write_elem(file, name, {})
        x = self._out.create("X", (len(self.obs), len(self.var)), self.dtype, self._compression)
        x.attrs["encoding-type"] = "array"
        x.attrs["encoding-version"] = "0.2.0"
        self._out.begin()

    def _write(self, x_bg: np.ndarray) -> None:
        assert self._out is not None  # _open has run: `write` refuses otherwise
        self._out.write_rows(x_bg)

    def _finish(self) -> None:
        self._close()

    def _close(self) -> None:
        out, self._out = self._out, None
        if out is not None:
            out.close()


def open_h5ad(path: Path) -> Matrix:
    """Open an h5ad file for reading; only its X, obs and var are looked at.

    Raises
    ------
    DataError
        The file is not HDF5, is cut off, or has no X, obs or var as AnnData writes them.
    """
    from anndata.io import read_elem

    file = open_hdf5(path, "h5ad")
    try:
        for name in ("obs", "var"):
            if not isinstance(file.get(name), h5py.Group):
                raise DataError(
                    f"{path} is not an h5ad file of today: it has no {name} table. "
                    "Files of anndata before 0.7 need to be opened and saved with a newer one."
                )
        x = file.get("X")
        encoding = x.attrs.get("encoding-type") if isinstance(x, h5py.Group) else None
        if not is_number_matrix(x) and encoding not in ("csr_matrix", "csc_matrix"):
            raise DataError(f"{path} has no X that is a matrix of numbers, dense, CSR or CSC.")
        try:
            obs, var = read_elem(file["obs"]), read_elem(file["var"])
        except Exception as error:
            # anndata and h5py raise many kinds here; all mean that the tables are unreadable.
            reason = " ".join(str(error).split())
            raise DataError(f"{path}: obs or var could not be read ({reason}).") from error
        if encoding is None:
            return DenseMatrix(path, file, obs, var)
        if encoding == "csr_matrix":
            return SparseMatrix(path, file, obs, var)
        lines = SparseLines(path, file)
        _check_shape(path, (lines.width, lines.lines), obs, var)
        with lines.turned() as spool:
            matrix = SpooledMatrix(path, "h5ad", obs, var, spool)
        lines.close()
        return matrix
    except BaseException:
        file.close()
        raise


def plain_table(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """A copy of a table in the types that every reader of h5ad knows, R's among them.

    Text becomes plain strings, or a categorical where entries are missing; nullable numbers
    become numpy numbers.
    """
    names = field_names(table, "_index", path)
    columns = {field: _plain_column(table[name]) for name, field in names.items()}
    return pd.DataFrame(columns, index=table.index.rename(None))


def _plain_column(column: pd.Series[Any]) -> Any:
    missing = column.isna().to_numpy()
    if isinstance(column.dtype, pd.CategoricalDtype):
        names = pd.Index([str(name) for name in column.cat.categories], dtype=object)
        return pd.Categorical.from_codes(
            column.cat.codes.to_numpy(), categories=names, ordered=column.cat.ordered
        )
    if pd.api.types.is_bool_dtype(column.dtype) and not missing.any():
        return column.to_numpy(dtype=bool)
    if pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype):
        if isinstance(column.dtype, np.dtype):
            return column.to_numpy()
        whole = pd.api.types.is_integer_dtype(column.dtype) and not missing.any()
        return column.to_numpy(dtype="int64" if whole else "float64", **_fill(whole))
    text = [
        None if pd.isna(value) else str(value).replace("\0", "") for value in column.astype(object)
    ]
    if not missing.any():
        return pd.Series(text, dtype=object, index=column.index)
    names = pd.Index(sorted({value for value in text if value is not None}), dtype=object)
    return pd.Categorical(text, categories=names)


def _fill(whole: bool) -> dict[str, Any]:
    return {} if whole else {"na_value": np.nan}


@contextlib.contextmanager
def _plain_strings() -> Iterator[None]:
    import anndata

    # anndata 0.13 would write strings in a form that R cannot read.
    if hasattr(anndata.settings, "allow_write_nullable_strings"):
        with anndata.settings.override(allow_write_nullable_strings=False):
            yield
    else:
        yield


def _check_shape(path: Path, shape: tuple[int, ...], obs: pd.DataFrame, var: pd.DataFrame) -> None:
    if shape != (len(obs), len(var)):
        raise DataError(
            f"{path} is damaged: X has shape {shape}, obs {len(obs)} rows and var {len(var)} rows."
        )
