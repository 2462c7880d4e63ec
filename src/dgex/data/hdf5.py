"""What GCTX and h5ad share: opening HDF5, reading rows, writing rows."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
import pandas as pd

from dgex.data.checks import content_kind
from dgex.errors import DataError, UsageError

log = logging.getLogger("dgex")

# Rows that share a chunk with rows read before need no second decompression.
CACHE_BYTES = 64 * 2**20
CHUNK_BYTES = 4 * 2**20


def open_hdf5(path: Path, format_name: str) -> h5py.File:
    """Open an HDF5 file for reading.

    Raises
    ------
    DataError
        The file is not HDF5, or it is cut off.
    """
    if not h5py.is_hdf5(path):
        raise DataError(f"{path} is not a {format_name} file: it is {content_kind(path)}.")
    try:
        return h5py.File(path, "r", rdcc_nbytes=CACHE_BYTES, rdcc_nslots=20011)
    except OSError as error:
        raise DataError(f"{path} is damaged or cut off ({_one_line(error)}).") from error


def is_number_matrix(item: Any) -> bool:
    """Whether an HDF5 item is a two-dimensional dataset of real numbers."""
    return isinstance(item, h5py.Dataset) and item.ndim == 2 and item.dtype.kind in "fiub"


def field_names(table: pd.DataFrame, reserved: str, path: Path) -> dict[str, str]:
    """Names under which a table's columns can be written, by column.

    A column called `reserved` that only repeats the ids is left out; other names that HDF5
    or the format cannot take are changed, which is logged.

    Raises
    ------
    DataError
        Two columns would get the same name.
    """
    names: dict[str, str] = {}
    for name in table.columns:
        field = name.replace("/", "_").replace("\0", "_")
        if field == reserved:
            if table[name].astype(str).tolist() == table.index.tolist():
                continue
            field = f"{reserved}_column"
        if field in ("", "."):
            field = "_"
        if field != name:
            log.warning("%s: column %r is written as %r", path, name, field)
        if field in names.values():
            raise DataError(f"{path}: two columns would be written as {field!r}. Rename one.")
        names[name] = field
    return names


class RowReader:
    """Reads rows of one open HDF5 file, which stays within the process that opened it."""

    def __init__(self, file: h5py.File, path: Path) -> None:
        self._file = file
        self._path = path
        self._process = os.getpid()

    def read(self, dataset: h5py.Dataset, start: int, stop: int) -> np.ndarray:
        """Entries `start` to `stop` along the first axis of `dataset`."""
        if os.getpid() != self._process:
            raise UsageError(
                f"{self._path} was opened in another process. Open it again in this one."
            )
        try:
            values: np.ndarray = dataset[start:stop]
        except OSError as error:
            raise DataError(f"{self._path} is damaged ({_one_line(error)}).") from error
        return values

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class RowWriter:
    """Writes the rows of a matrix dataset in an HDF5 file that is otherwise complete.

    Without compression the dataset is one stretch of bytes whose place is fixed before the
    first row comes, and the rows are written there as plain bytes: a full disk is then an
    ordinary error, and cannot damage HDF5's own bookkeeping.
    """

    def __init__(
        self,
        file: h5py.File,
        name: str,
        shape: tuple[int, int],
        dtype: Any,
        compression: str | None,
    ) -> None:
        self._file: h5py.File | None = file
        self._raw: BinaryIO | None = None
        self._row = 0
        if compression is None:
            plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            plan.set_layout(h5py.h5d.CONTIGUOUS)
            plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
            kind = h5py.h5t.py_create(np.dtype(dtype))
            space = h5py.h5s.create_simple(shape)
            links = h5py.h5p.create(h5py.h5p.LINK_CREATE)
            links.set_create_intermediate_group(True)
            made = h5py.h5d.create(file.id, name.encode(), kind, space, plan, links)
            self.dataset = h5py.Dataset(made)
        elif compression == "gzip":
            rows = max(1, CHUNK_BYTES // (np.dtype(dtype).itemsize * shape[1]))
            self.dataset = file.create_dataset(
                name,
                shape,
                dtype,
                chunks=(min(rows, shape[0]), shape[1]),
                compression="gzip",
                compression_opts=4,
                shuffle=True,
            )
        else:
            raise UsageError(f"Compression is gzip or none, not {compression}.")
        self._compressed = compression is not None

    def begin(self) -> None:
        """Call when everything but the matrix is in the file."""
        if self._compressed or self._file is None:
            return
        offset, path = self.dataset.id.get_offset(), self._file.filename
        self._file.close()
        self._file = None
        self._raw = open(path, "r+b")  # noqa: SIM115 - stays open until close()
        self._raw.seek(offset)

    def write(self, x_bg: np.ndarray) -> None:
        """Add rows, already of the dataset's type and in C order."""
        if self._raw is not None:
            self._raw.write(x_bg.data)
        else:
            self.dataset[self._row : self._row + len(x_bg)] = x_bg
        self._row += len(x_bg)

    def close(self) -> None:
        """Close the file."""
        raw, self._raw = self._raw, None
        file, self._file = self._file, None
        if raw is not None:
            raw.close()
        if file is not None:
            file.close()


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
