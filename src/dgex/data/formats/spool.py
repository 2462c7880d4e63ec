"""A matrix on its way through that need not fit in memory, and may be turned round.

Text with genes in rows brings all samples of one gene; models want all genes of one
sample. The spool takes the one and gives the other.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd

from dgex.data.formats.reader import Matrix
from dgex.errors import DataError, UsageError

MEMORY_BYTES = 128 * 2**20
SLAB_BYTES = 32 * 2**20


class Spool:
    """Takes rows in order, then gives them back in blocks: as rows, or as columns.

    Up to about `memory_bytes` (128 MB) it lives in memory; what is larger goes, whole, to a
    nameless temporary file (in the folder that TMPDIR names), which the system removes by
    itself.

    Parameters
    ----------
    width
        Length of every row.
    dtype
        Number type.
    turned
        Give columns instead of rows.
    memory_bytes
        Size from which on the file is used.

    Examples
    --------
    >>> import numpy
    >>> spool = Spool(3, "float64", turned=True)
    >>> spool.append(numpy.array([[1, 2, 3]]))
    >>> spool.append(numpy.array([[4, 5, 6]]))
    >>> spool.read(1, 3)
    array([[2., 5.],
           [3., 6.]])
    """

    def __init__(
        self, width: int, dtype: Any, *, turned: bool, memory_bytes: int | None = None
    ) -> None:
        self._width = width
        self.dtype = np.dtype(dtype)
        self._turned = turned
        self._memory_bytes = MEMORY_BYTES if memory_bytes is None else memory_bytes
        self._slab_rows = max(1, SLAB_BYTES // max(1, width * self.dtype.itemsize))
        self._pending: list[np.ndarray] = []
        self._pending_rows = 0
        self._slabs: list[np.ndarray] = []
        self._starts = [0]  # first row of every slab, and the number of rows in all of them
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        # What is built within `with` goes on using the spool, unless it came to nothing.
        if kind is not None:
            self.close()

    @property
    def length(self) -> int:
        """Number of rows taken so far."""
        return self._starts[-1] + self._pending_rows

    def append(self, x: np.ndarray) -> None:
        """Take the next rows, shape (any, width).

        Raises
        ------
        DataError
            The temporary folder is full.
        """
        if x.ndim != 2 or x.shape[1] != self._width:
            raise UsageError(f"A spool of width {self._width} was given shape {x.shape}.")
        # Thick rows that come one by one are put together, so that reading finds few pieces.
        for start in range(0, len(x), self._slab_rows):
            piece = np.array(x[start : start + self._slab_rows], dtype=self.dtype)
            if self._pending_rows + len(piece) > self._slab_rows:
                self._store()
            self._pending.append(piece)
            self._pending_rows += len(piece)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Rows `start` to `stop`; if turned, columns, shape (stop - start, length)."""
        self._store()
        if self._turned:
            out = np.empty((stop - start, self.length), dtype=self.dtype)
            for slab in range(len(self._starts) - 1):
                first, last = self._starts[slab], self._starts[slab + 1]
                out[:, first:last] = self._part(slab, start, stop)
            return out
        out = np.empty((stop - start, self._width), dtype=self.dtype)
        for slab in range(len(self._starts) - 1):
            first, last = max(start, self._starts[slab]), min(stop, self._starts[slab + 1])
            if first < last:
                offset = self._starts[slab]
                out[first - start : last - start] = self._part(slab, first - offset, last - offset)
        return out

    def close(self) -> None:
        """Free the memory or the file."""
        self._slabs, self._pending = [], []
        if self._file is not None:
            self._file.close()

    def _store(self) -> None:
        """Make one slab of the pending rows; a turned slab lies turned, so that reads are long."""
        if not self._pending:
            return
        slab = self._pending[0] if len(self._pending) == 1 else np.concatenate(self._pending)
        self._pending = []
        self._starts.append(self._starts[-1] + len(slab))
        self._pending_rows = 0
        slab = np.ascontiguousarray(slab.T if self._turned else slab)
        size = self._starts[-1] * self._width * self.dtype.itemsize
        try:
            if self._file is None and size > self._memory_bytes:
                self._file = tempfile.TemporaryFile(prefix="dgex-")  # noqa: SIM115
                for earlier in self._slabs:
                    self._file.write(earlier.data)
                self._slabs = []
            if self._file is None:
                self._slabs.append(slab)
            else:
                self._file.write(slab.data)
        except OSError as error:
            raise DataError(
                f"The temporary folder {tempfile.gettempdir()} could not take {size >> 20} MB "
                f"({error.strerror}). Free some space or let TMPDIR name a larger disk."
            ) from error

    def _part(self, slab: int, start: int, stop: int) -> np.ndarray:
        """Lines `start` to `stop` of one slab as it lies."""
        if self._file is None:
            return self._slabs[slab][start:stop]
        rows = self._starts[slab + 1] - self._starts[slab]
        line = rows if self._turned else self._width
        out = np.empty((stop - start, line), dtype=self.dtype)
        offset = self._starts[slab] * self._width + start * line
        self._file.seek(offset * self.dtype.itemsize)
        self._file.readinto(out.reshape(-1).view(np.uint8).data)  # type: ignore[attr-defined]
        return out


class SpooledMatrix(Matrix):
    """A matrix that was read whole into a spool."""

    def __init__(
        self, path: Path, format: str, obs: pd.DataFrame, var: pd.DataFrame, spool: Spool
    ) -> None:
        super().__init__(path, format, obs, var, spool.dtype)
        self._spool = spool

    def _read(self, start: int, stop: int) -> np.ndarray:
        return self._spool.read(start, stop)

    def close(self) -> None:
        """Free the memory or the temporary file."""
        self._spool.close()
