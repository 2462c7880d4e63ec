"""An open expression matrix: what all formats share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pandas as pd

from dgex.data.formats.checks import block_dtype, clean_table, refuse_infinite
from dgex.errors import DataError, UsageError

BLOCK_BYTES = 64 * 2**20


class Matrix(ABC):
    """An open expression matrix, read-only, of shape (n samples, g genes).

    Attributes
    ----------
    path
        The file, or a name such as ``<AnnData>``.
    format
        "GCTX", "GCT 1.2", "GCT 1.3", "h5ad", "TSV", "CSV", "1000 Genomes text",
        "parquet", "npy" or "AnnData".
    obs, var
        Tables of samples and of genes; the index holds the ids, which are unique strings.
    dtype
        float32 where the file holds float32, else float64.
    """

    def __init__(
        self,
        path: Path,
        format: str,
        obs: pd.DataFrame,
        var: pd.DataFrame,
        dtype: Any,
        *,
        chunk_rows: int = 1,
    ) -> None:
        self.path = path
        self.format = format
        if len(obs) == 0 or len(var) == 0:
            raise DataError(
                f"{path} is empty: it holds {len(obs)} samples and {len(var)} genes. "
                "At least one of each is needed."
            )
        self.obs = clean_table(obs, "sample", path)
        self.var = clean_table(var, "gene", path)
        self.dtype = block_dtype(dtype)
        self.chunk_rows = max(1, chunk_rows)

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of samples and of genes."""
        return len(self.obs), len(self.var)

    @property
    def block_rows(self) -> int:
        """Rows of a block where nothing else is asked for."""
        row_bytes = self.dtype.itemsize * len(self.var)
        return max(1, BLOCK_BYTES // (row_bytes * self.chunk_rows)) * self.chunk_rows

    @abstractmethod
    def _read(self, start: int, stop: int) -> np.ndarray:
        """Rows `start` to `stop`, of any number type."""

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Read rows `start` to `stop`.

        Returns
        -------
        x_bg
            Shape (stop - start, g); NaN is a missing value.

        Raises
        ------
        DataError
            A value is infinite, or the file is damaged.
        IndexError
            The rows are not within the matrix.
        """
        if not 0 <= start <= stop <= len(self.obs):
            raise IndexError(f"rows {start} to {stop} of a matrix with {len(self.obs)}")
        x_bg = np.ascontiguousarray(self._read(start, stop), dtype=self.dtype)
        refuse_infinite(x_bg, self.obs.index[start:stop], self.var.index, self.path)
        return x_bg

    def take(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Read the rows with these indices, which must be sorted.

        Returns
        -------
        x_bg
            Shape (number of indices, g); NaN is a missing value.
        """
        rows_b = np.asarray(indices, dtype=np.int64)
        if np.any(np.diff(rows_b) < 0):
            raise IndexError("row indices must be sorted")
        x_bg = np.empty((len(rows_b), len(self.var)), dtype=self.dtype)
        # One read serves neighbours and all rows that share an HDF5 chunk.
        apart = (np.diff(rows_b // self.chunk_rows) != 0) & (np.diff(rows_b) != 1)
        for group in np.split(np.arange(len(rows_b)), np.flatnonzero(apart) + 1):
            if len(group):
                first, last = int(rows_b[group[0]]), int(rows_b[group[-1]])
                x_bg[group] = self.rows(first, last + 1)[rows_b[group] - first]
        return x_bg

    def blocks(
        self, block_rows: int | None = None, *, first_row: int = 0
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Read the matrix from a row on, one block of rows at a time.

        Parameters
        ----------
        block_rows
            Rows of a block. By default about 64 MB, whole HDF5 chunks at a time.
        first_row
            Where to begin.

        Yields
        ------
        start, x_bg
            Index of the block's first row, and its values.
        """
        if block_rows is None:
            block_rows = self.block_rows
        if block_rows < 1:
            raise UsageError(f"A block needs at least one row, not {block_rows}.")
        for start in range(first_row, len(self.obs), block_rows):
            yield start, self.rows(start, min(start + block_rows, len(self.obs)))

    def close(self) -> None:  # noqa: B027 - some matrices hold nothing open
        """Let go of the file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        n, g = self.shape
        return f"<{self.format} matrix {self.path}: {n} samples, {g} genes, {self.dtype}>"
