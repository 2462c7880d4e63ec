"""GCTX: the HDF5 format of the Connectivity Map.

``/0/DATA/0/matrix`` has shape (samples, genes). ``/0/META/COL`` holds one dataset for each
field of the sample table, ``/0/META/ROW`` of the gene table; the field ``id`` holds the ids.
A missing entry of a table is -666.

Source: Enache et al., "The GCTx format and cmap{Py, R, M, J} packages", Bioinformatics 2019.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd

from dgex.data.formats.hdf5 import Hdf5Output, RowReader, field_names, is_number_matrix, open_hdf5
from dgex.data.formats.reader import Matrix
from dgex.data.formats.writer import MatrixWriter
from dgex.errors import DataError

MATRIX = "/0/DATA/0/matrix"
SAMPLES = "/0/META/COL"
GENES = "/0/META/ROW"
MISSING = -666


class GctxMatrix(Matrix):
    """A GCTX file, open for reading.

    Raises
    ------
    DataError
        The file is not HDF5, is cut off, or does not follow the layout.
    """

    def __init__(self, path: Path) -> None:
        file = open_hdf5(path, "GCTX")
        try:
            matrix = file.get(MATRIX)
            if not is_number_matrix(matrix):
                raise DataError(
                    f"{path} is not a GCTX file: it is HDF5 without a number matrix at {MATRIX}."
                )
            n, g = matrix.shape
            obs = read_fields(file, SAMPLES, n, path)
            var = read_fields(file, GENES, g, path)
            rows = matrix.chunks[0] if matrix.chunks else 1
            super().__init__(path, "GCTX", obs, var, matrix.dtype, chunk_rows=rows)
        except BaseException:
            file.close()
            raise
        self._dataset = matrix
        self._reader = RowReader(file, path)

    def _read(self, start: int, stop: int) -> np.ndarray:
        return self._reader.read(self._dataset, start, stop)

    def close(self) -> None:
        """Close the file."""
        self._reader.close()


class GctxWriter(MatrixWriter):
    """Writes a GCTX file, whole or not at all; see `create_matrix`.

    The field ``id`` holds the ids, so a column of that name is left out if it repeats them
    and is renamed if it does not.
    """

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
        self._out = Hdf5Output(partials[0], self.journal)
        if self._goes_on(self._out):
            return
        file = self._out.file
        file.attrs["version"] = np.bytes_(b"GCTX1.0")
        file.attrs["src"] = self.path.name
        simulated = [table["simulated"] for table in (self.obs, self.var) if "simulated" in table]
        if simulated:
            said = pd.concat(simulated).dropna().astype(str).unique()
            file.attrs["simulated"] = ", ".join([text for text in said if text][:5])
        write_fields(file, SAMPLES, self.obs, self.path)
        write_fields(file, GENES, self.var, self.path)
        shape = (len(self.obs), len(self.var))
        self._out.create(MATRIX, shape, self.dtype, self._compression)
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


def read_fields(file: h5py.File, group_name: str, length: int, path: Path) -> pd.DataFrame:
    """Read the sample or gene table of a GCTX file.

    Returns
    -------
    table
        Ids as index; -666 and "-666" are missing values.

    Raises
    ------
    DataError
        There is no field ``id``, or a field is not of the matrix' length.
    """
    group = file.get(group_name)
    if not isinstance(group, h5py.Group) or not isinstance(group.get("id"), h5py.Dataset):
        raise DataError(f"{path} is not a GCTX file: it has no ids at {group_name}/id.")
    columns: dict[str, Any] = {}
    for name, item in group.items():
        if not isinstance(item, h5py.Dataset) or item.shape != (length,):
            shape = getattr(item, "shape", "a group")
            raise DataError(
                f"{path}: {group_name}/{name} should hold {length} entries, as the matrix does, "
                f"and is {shape}."
            )
        columns[name] = _field_values(item, is_id=name == "id")
    ids = columns.pop("id")
    return pd.DataFrame(columns, index=pd.Index(ids, dtype=object))


def write_fields(file: h5py.File, group_name: str, table: pd.DataFrame, path: Path) -> None:
    """Write the sample or gene table of a GCTX file: numbers as numbers, the rest as text."""
    group = file.create_group(group_name)
    group.create_dataset("id", data=_as_bytes(table.index.tolist()))
    for name, field in field_names(table, "id", path).items():
        group.create_dataset(field, data=_field_array(table[name]))


def _field_values(item: h5py.Dataset, *, is_id: bool) -> Any:
    values = item[:]
    if values.dtype.kind in "SO":
        text = [_text(value) for value in values]
        if is_id:
            return text
        return np.array([np.nan if t in ("-666", "-666.0") else t for t in text], dtype=object)
    if is_id:
        return [str(int(v)) if float(v).is_integer() else str(v) for v in values.tolist()]
    if values.dtype.kind in "iuf" and np.any(values == MISSING):
        return np.where(values == MISSING, np.nan, values)
    return values


def _field_array(column: pd.Series[Any]) -> np.ndarray:
    missing = column.isna().to_numpy()
    if pd.api.types.is_bool_dtype(column.dtype) and not missing.any():
        return column.to_numpy(dtype=bool)
    if pd.api.types.is_integer_dtype(column.dtype) and not missing.any():
        kind = "uint64" if pd.api.types.is_unsigned_integer_dtype(column.dtype) else "int64"
        return column.to_numpy(dtype=kind)
    if pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype):
        kind = "float32" if column.dtype == np.float32 else "float64"
        values = column.to_numpy(dtype=kind, na_value=np.nan)
        return np.where(missing, np.array(MISSING, dtype=kind), values)
    return _as_bytes(column.astype(object).where(~missing, MISSING).tolist())


def _as_bytes(values: list[Any]) -> np.ndarray:
    encoded = [str(value).encode("utf-8") for value in values]
    width = max(1, max(map(len, encoded)))
    return np.array(encoded, dtype=f"S{width}")


def _text(value: Any) -> str:
    if not isinstance(value, bytes):
        return str(value)
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")
