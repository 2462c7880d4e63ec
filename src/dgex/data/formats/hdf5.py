"""What GCTX and h5ad share: opening HDF5, reading rows, writing rows."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
import pandas as pd

from dgex.data.formats.checks import content_kind
from dgex.data.formats.journal import Journal
from dgex.errors import DataError, UsageError

log = logging.getLogger("dgex")

# Rows that share a chunk with rows read before need no second decompression.
CACHE_BYTES = 64 * 2**20
CHUNK_BYTES = 4 * 2**20
# Written rows go to the disk, and leave the memory of the system's cache, this much at a time.
SYNC_BYTES = 32 * 2**20


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


class Hdf5Output:
    """An HDF5 file being written, one matrix of it row by row.

    HDF5 cannot close a file that the disk does not take, and then complains until the
    process ends. So its writes go through this object: after the first error they are only
    pretended, HDF5 closes in peace, and the error is raised as what it is, an OSError.

    An uncompressed matrix is one stretch of bytes whose place is fixed before the first row
    comes; HDF5 is closed then and the rows are written as plain bytes. With a journal of an
    earlier attempt the file is opened where that one stopped: `rows_done` is not 0.
    """

    def __init__(self, path: Path, journal: Journal | None = None) -> None:
        self._error: OSError | None = None
        self._failed = False
        self._not_synced = 0
        self._journal = journal
        self._offset, self.rows_done = (journal and journal.read()) or (0, 0)
        self._raw: BinaryIO = open(path, "r+b" if self.rows_done else "w+b")  # noqa: SIM115
        if self.rows_done:
            self._plain = True
            return
        self.file = h5py.File(self, "w", rdcc_nbytes=CACHE_BYTES, rdcc_nslots=20011)

    def create(
        self, name: str, shape: tuple[int, int], dtype: Any, compression: str | None
    ) -> h5py.Dataset:
        """Make the matrix dataset, uncompressed or with "gzip"."""
        if compression not in (None, "gzip"):
            raise UsageError(f"Compression is gzip or none, not {compression}.")
        self._plain = compression is None
        if compression == "gzip":
            rows = max(1, CHUNK_BYTES // (np.dtype(dtype).itemsize * shape[1]))
            chunks = (min(rows, shape[0]), shape[1])
            self._dataset = self.file.create_dataset(
                name, shape, dtype, chunks=chunks, compression="gzip", shuffle=True
            )
        else:
            plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            plan.set_layout(h5py.h5d.CONTIGUOUS)
            plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
            kind = h5py.h5t.py_create(np.dtype(dtype))
            group = self.file.require_group(name.rpartition("/")[0] or "/")
            space = h5py.h5s.create_simple(shape)
            last = name.rpartition("/")[2].encode()
            self._dataset = h5py.Dataset(h5py.h5d.create(group.id, last, kind, space, plan))
        return self._dataset

    def begin(self) -> None:
        """Call when everything but the matrix is in the file."""
        if self._plain:
            self._offset = self._dataset.id.get_offset()
            self.file.close()
            self._raise()
            self._raw.seek(self._offset)

    def go_on(self, row_bytes: int) -> None:
        """Call instead of `create` and `begin` where `rows_done` is not 0."""
        self._raw.seek(self._offset + self.rows_done * row_bytes)

    def write_rows(self, x_bg: np.ndarray) -> None:
        """Add rows, already of the matrix' type and in C order."""
        if self._plain:
            self._raw.write(x_bg.data)
        else:
            self._dataset[self.rows_done : self.rows_done + len(x_bg)] = x_bg
            self._raise()
        self.rows_done += len(x_bg)
        if self._journal is not None:
            self._raw.flush()
            self._not_synced += x_bg.nbytes
            if self._not_synced >= SYNC_BYTES:
                self._sync()
            self._journal.write(offset=self._offset, rows=self.rows_done)

    def _sync(self) -> None:
        """Bring the rows to the disk, and free the memory that they were cached in.

        A file larger than the memory would push all else out of it, and a system that has to find
        fresh memory for every page writes several times slower.
        """
        os.fsync(self._raw.fileno())
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._raw.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        self._not_synced = 0

    def close(self) -> None:
        """Close the file.

        Raises
        ------
        OSError
            The disk did not take all of it.
        """
        if hasattr(self, "file"):
            self.file.close()
        self._raw.close()
        self._raise()

    def _raise(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _try(self, action: Callable[[], object]) -> None:
        if not self._failed:
            try:
                action()
            except OSError as error:
                self._error, self._failed = error, True

    # What h5py asks of a file object.

    def seek(self, place: int, whence: int = 0) -> int:
        """Go to a place in the file, or pretend to: on the way a buffer may go to a full disk."""
        self._try(lambda: self._raw.seek(place, whence))
        return place

    def tell(self) -> int:
        """Tell the place in the file."""
        return self._raw.tell()

    def read(self, size: int = -1) -> bytes:
        """Read from the place in the file; after an error there is nothing."""
        content: list[bytes] = []
        self._try(lambda: content.append(self._raw.read(size)))
        return b"".join(content)

    def readinto(self, buffer: memoryview) -> int:
        """Read; what was written only in pretence reads as zeros."""
        content = self.read(len(buffer))
        buffer[:] = content.ljust(len(buffer), b"\0")
        return len(buffer)

    def write(self, buffer: memoryview) -> int:
        """Write, or pretend to after an error."""
        self._try(lambda: self._raw.write(buffer))
        return len(buffer)

    def truncate(self, size: int) -> int:
        """Set the file's length, or pretend to after an error."""
        self._try(lambda: self._raw.truncate(size))
        return size

    def flush(self) -> None:
        """Hand over what is buffered, or pretend to after an error."""
        self._try(self._raw.flush)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
