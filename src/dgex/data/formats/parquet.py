"""Parquet tables, as pandas and R's arrow write them; needs pyarrow.

One column holds ids: the pandas index, or else the first column of text. The other columns
of text, and numeric ones with a name such as "length" or "entrez", describe the rows; the
remaining ones are numbers. A file of this module says itself which way round it lies.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd

from dgex.data.formats.checks import content_kind
from dgex.data.formats.orientation import (
    ANNOTATIONS,
    GENES_BY_SAMPLES,
    SAMPLES_BY_GENES,
    choose_orientation,
)
from dgex.data.formats.reader import BLOCK_BYTES, Matrix
from dgex.data.formats.spool import Spool, SpooledMatrix
from dgex.data.formats.writer import MatrixWriter
from dgex.errors import DataError, UsageError, name_list

log = logging.getLogger("dgex")

OWN_KEY = b"dgex"  # in the file's key-value metadata: orientation and describing columns
READ_BYTES = 32 * 2**20


def open_parquet(path: Path, orientation: str | None = None) -> Matrix:
    """Open a parquet table.

    Parameters
    ----------
    orientation
        "genes-by-samples" or "samples-by-genes"; None takes what the file says, or guesses
        and logs the guess.

    Raises
    ------
    DataError
        The file is not parquet, is damaged, or has no ids or no numbers.
    UsageError
        pyarrow is not installed.
    """
    arrow, parquet = _pyarrow()
    if content_kind(path) != "a parquet file":
        raise DataError(f"{path} is not a parquet file: it is {content_kind(path)}.")
    try:
        with parquet.ParquetFile(path) as file:
            width, n_rows = len(file.schema_arrow), file.metadata.num_rows
        # Every column keeps a buffer while batches are read: small ones for wide tables.
        buffer = min(2**20, max(4096, BLOCK_BYTES // max(1, width)))
        with parquet.ParquetFile(path, pre_buffer=False, buffer_size=buffer) as file:
            return _read(path, file, n_rows, orientation)
    except (arrow.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path} is damaged or cut off ({reason}).") from error


def _read(path: Path, file: Any, n_rows: int, orientation: str | None) -> Matrix:
    import pyarrow.types as kinds

    schema = file.schema_arrow
    own = json.loads((schema.metadata or {}).get(OWN_KEY, b"{}"))
    id_name = _id_column(path, schema)
    numbers = [f.name for f in schema if kinds.is_floating(f.type) or kinds.is_integer(f.type)]
    described = own.get(
        "describing",
        [name for name in schema.names if name not in numbers or name.lower() in ANNOTATIONS],
    )
    described = [name for name in described if name != id_name]
    names = [name for name in numbers if name not in described and name != id_name]
    if not names or not n_rows:
        raise DataError(f"{path} is empty: {n_rows} rows and {len(names)} columns of numbers.")
    is_float32 = all(kinds.is_float32(schema.field(name).type) for name in names)
    ids = [str(one) for one in file.read(columns=[id_name]).column(0).to_pylist()]
    if orientation is None:
        orientation = choose_orientation(
            own.get("orientation"), names, ids[:1000], lambda: n_rows, path
        )
    turned = orientation == GENES_BY_SAMPLES
    dtype = np.float32 if is_float32 else np.float64
    with Spool(len(names), dtype, turned=turned) as spool:
        step = max(1, READ_BYTES // (8 * len(names)))
        for batch in file.iter_batches(batch_size=step, columns=names):
            columns = [column.to_numpy(zero_copy_only=False) for column in batch.columns]
            spool.append(np.column_stack(columns))
        table = pd.DataFrame(
            {name: file.read(columns=[name]).column(0).to_pandas() for name in described}
        ).set_axis(pd.Index(ids, dtype=object))
        plain = pd.DataFrame(index=pd.Index(names, dtype=object))
        obs, var = (plain, table) if turned else (table, plain)
        return SpooledMatrix(path, "parquet", obs, var, spool)


class ParquetWriter(MatrixWriter):
    """Writes a parquet table, whole or not at all; see `create_matrix`.

    A row of the file is a sample, or with ``orientation="genes-by-samples"`` a gene. The
    columns that describe these rows are kept; those of the other table have no place, and
    are logged.
    """

    def __init__(
        self,
        path: Path,
        obs: pd.DataFrame,
        var: pd.DataFrame,
        *,
        dtype: str = "float32",
        overwrite: bool = False,
        orientation: str = SAMPLES_BY_GENES,
    ) -> None:
        super().__init__(path, obs, var, dtype=dtype, overwrite=overwrite)
        if orientation not in (GENES_BY_SAMPLES, SAMPLES_BY_GENES):
            raise UsageError(
                f"--orientation is {GENES_BY_SAMPLES} or {SAMPLES_BY_GENES}, not {orientation}."
            )
        _pyarrow()
        turned = orientation == GENES_BY_SAMPLES
        self._along, across = (self.var, self.obs) if turned else (self.obs, self.var)
        self._across = across.index
        if len(across.columns):
            log.warning("%s: the table has no place for %s", path, name_list(across.columns))
        names = [str(self._along.index.name), *self._along.columns, *self._across]
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise DataError(f"{path}: two columns would be called {name_list(twice)}. Rename them.")
        self._own = {"orientation": orientation, "describing": list(self._along.columns)}
        self._spool = Spool(len(self.var), self.dtype, turned=turned)
        self._out: Any = None

    def _open(self, partials: list[Path]) -> None:
        arrow, parquet = _pyarrow()
        self._columns = {name: _arrow_column(self._along[name]) for name in self._along.columns}
        kind = arrow.from_numpy_dtype(self.dtype)
        id_name = str(self._along.index.name)
        fields = [(id_name, arrow.string())]
        fields += [(name, column.type) for name, column in self._columns.items()]
        fields += [(name, kind) for name in self._across]
        index = {"name": id_name, "field_name": id_name, "metadata": None}
        index |= {"pandas_type": "unicode", "numpy_type": "object"}
        pandas = {"index_columns": [id_name], "columns": [index], "column_indexes": []}
        self._schema = arrow.schema(
            fields,
            metadata={
                b"pandas": json.dumps(pandas).encode(),
                OWN_KEY: json.dumps(self._own).encode(),
            },
        )
        self._out = parquet.ParquetWriter(partials[0], self._schema)

    def _write(self, x_bg: np.ndarray) -> None:
        self._spool.append(x_bg)

    def _finish(self) -> None:
        for start, stop in self._groups():
            x = np.asfortranarray(self._spool.read(start, stop))
            arrays = [_arrow_text(self._along.index[start:stop])]
            arrays += [column[start:stop] for column in self._columns.values()]
            arrays += [_pyarrow()[0].array(x[:, place]) for place in range(x.shape[1])]
            self._out.write_table(_pyarrow()[0].Table.from_arrays(arrays, schema=self._schema))
        self._close()

    def _groups(self) -> Iterator[tuple[int, int]]:
        step = max(1, BLOCK_BYTES // (len(self._across) * self.dtype.itemsize))
        for start in range(0, len(self._along), step):
            yield start, min(start + step, len(self._along))

    def _close(self) -> None:
        out, self._out = self._out, None
        if out is not None:
            out.close()
        self._spool.close()


def _pyarrow() -> tuple[ModuleType, ModuleType]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UsageError(
            "Parquet files need pyarrow: pip install 'dgex-torch[parquet]'."
        ) from error
    return pyarrow, pyarrow.parquet


def _id_column(path: Path, schema: Any) -> str:
    import pyarrow.types as kinds

    for name in (schema.pandas_metadata or {}).get("index_columns", []):
        if isinstance(name, str) and name in schema.names:
            return name
    for field in schema:
        if kinds.is_string(field.type) or kinds.is_large_string(field.type):
            return str(field.name)
    raise DataError(f"{path} has no column of ids: neither a pandas index nor a column of text.")


def _arrow_column(column: pd.Series[Any]) -> Any:
    import pyarrow

    if pd.api.types.is_numeric_dtype(column.dtype):
        return pyarrow.array(column, from_pandas=True)
    return _arrow_text(column.astype(object))


def _arrow_text(values: Any) -> Any:
    import pyarrow

    text = [None if pd.isna(value) else str(value) for value in values]
    return pyarrow.array(text, type=pyarrow.string())
