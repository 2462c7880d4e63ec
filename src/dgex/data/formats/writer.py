"""A matrix file being written: what all formats share."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
import pandas as pd

from dgex.data.formats.checks import clean_table, refuse_infinite
from dgex.data.formats.journal import Journal
from dgex.errors import DataError, UsageError
from dgex.files import refuse_existing, whole_file

if TYPE_CHECKING:
    from dgex.data.formats.hdf5 import Hdf5Output


class MatrixWriter(ABC):
    """A matrix file being written: a context manager that takes blocks of rows in order.

    The file gets its name when the context is left and every row has arrived; after any
    error nothing is left of it. An interruption (Ctrl-C, a kill) leaves the partial file of a
    matrix that has a `resume_key`.
    """

    def __init__(
        self,
        path: Path,
        obs: pd.DataFrame,
        var: pd.DataFrame,
        *,
        dtype: str,
        overwrite: bool,
        resume_key: str | None = None,
    ) -> None:
        self.path = path
        if len(obs) == 0 or len(var) == 0:
            raise DataError(
                f"{path} would be empty: {len(obs)} samples and {len(var)} genes were given."
            )
        self.obs = clean_table(obs, "sample", path)
        self.var = clean_table(var, "gene", path)
        if dtype not in ("float32", "float64"):
            raise UsageError(f"A matrix is written as float32 or float64, not {dtype}.")
        self.dtype = np.dtype(dtype)
        self.overwrite = overwrite
        self._written = 0
        self.journal = None if resume_key is None else Journal(path, resume_key)
        self._context: contextlib.AbstractContextManager[Self] | None = None
        for name in self._names():
            refuse_existing(name, overwrite)

    @property
    def rows_done(self) -> int:
        """Rows that are in the file, also those of an earlier, interrupted attempt."""
        return self._written

    def _goes_on(self, out: Hdf5Output) -> bool:
        """Go on where an earlier attempt at the same file stopped, if there was one."""
        self._written = out.rows_done
        if out.rows_done:
            out.go_on(len(self.var) * self.dtype.itemsize)
        return out.rows_done > 0

    def _names(self) -> list[Path]:
        """Every file that is written, the matrix first."""
        return [self.path]

    @abstractmethod
    def _open(self, partials: list[Path]) -> None:
        """Begin the files, under the temporary names of `_names`."""

    @abstractmethod
    def _write(self, x_bg: np.ndarray) -> None:
        """Add one block of rows, already checked and of the right type."""

    def _finish(self) -> None:  # noqa: B027 - most formats have nothing to add
        """Complete the files; called when every row has arrived."""

    @abstractmethod
    def _close(self) -> None:
        """Let go of the files, on success and on failure; may be called when half open."""

    def write(self, x_bg: np.ndarray) -> None:
        """Add the next rows.

        Parameters
        ----------
        x_bg
            Shape (b, g); NaN is a missing value.

        Raises
        ------
        DataError
            The block has another width than the gene table, there are more rows than
            samples, or a value is infinite.
        """
        if self._context is None:
            raise UsageError(f"{self.path} is not open: use `with create_matrix(...) as out`.")
        block = np.asarray(x_bg)
        n, g = len(self.obs), len(self.var)
        if block.ndim != 2 or block.shape[1] != g:
            raise DataError(f"{self.path}: a block of shape {block.shape} came for {g} genes.")
        stop = self._written + len(block)
        if stop > n:
            raise DataError(f"{self.path}: {stop} rows came for {n} samples.")
        with np.errstate(over="ignore"):  # a float64 beyond float32 becomes inf, refused below
            block = np.ascontiguousarray(block, dtype=self.dtype)
        refuse_infinite(block, self.obs.index[self._written : stop], self.var.index, self.path)
        self._write(block)
        self._written = stop

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Self]:
        with contextlib.ExitStack() as stack:
            # The matrix itself comes last, so that a full disk is told with its name.
            partials = [
                stack.enter_context(
                    whole_file(
                        name, overwrite=self.overwrite, keep_partial=self.journal is not None
                    )
                )
                for name in reversed(self._names())
            ][::-1]
            try:
                self._open(partials)
                yield self
                if self._written != len(self.obs):
                    raise DataError(
                        f"{self.path} was not kept: {self._written} of {len(self.obs)} rows came."
                    )
                self._finish()
            except BaseException as error:
                # Only what was interrupted after some rows is worth going on with.
                with contextlib.suppress(OSError):
                    self._close()
                begun = self.journal is not None and self.journal.read() is not None
                if self.journal is not None and (isinstance(error, Exception) or not begun):
                    self.journal.remove()
                raise
            finally:
                self._close()
        if self.journal is not None:
            self.journal.finish()

    def __enter__(self) -> Self:
        self._context = self._writing()
        return self._context.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        context, self._context = self._context, None
        return None if context is None else context.__exit__(kind, error, traceback)
