"""NumPy arrays: NAME.npy with NAME.samples.txt and NAME.genes.txt, one id a line."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import IO

import numpy as np
import pandas as pd

from dgex.data.formats.cells import refuse_line_ends
from dgex.data.formats.checks import content_kind
from dgex.data.formats.reader import Matrix
from dgex.data.formats.writer import MatrixWriter
from dgex.errors import DataError, name_list

log = logging.getLogger("dgex")


def id_path(path: Path, axis: str) -> Path:
    """The id list of an array.

    Examples
    --------
    >>> id_path(Path("liver.npy"), "genes").name
    'liver.genes.txt'
    """
    return path.with_name(f"{path.name[: -len('.npy')]}.{axis}.txt")


class NpyMatrix(Matrix):
    """A two-dimensional array of floats and its two id lists; rows are read when asked for.

    Raises
    ------
    DataError
        The file is no such array, is cut off, or an id list is missing or of wrong length.
    """

    def __init__(self, path: Path) -> None:
        if content_kind(path) != "a NumPy array":
            raise DataError(f"{path} is not a NumPy array: it is {content_kind(path)}.")
        self._file: IO[bytes] = path.open("rb")
        try:
            shape, dtype = self._header(path)
            tables = [_read_ids(path, "samples", shape[0]), _read_ids(path, "genes", shape[1])]
            super().__init__(path, "npy", tables[0], tables[1], dtype)
        except BaseException:
            self._file.close()
            raise
        self._stored = dtype

    def _header(self, path: Path) -> tuple[tuple[int, ...], np.dtype]:
        try:
            version = np.lib.format.read_magic(self._file)
            if version == (1, 0):
                shape, by_column, dtype = np.lib.format.read_array_header_1_0(self._file)
            else:
                shape, by_column, dtype = np.lib.format.read_array_header_2_0(self._file)
        except ValueError as error:
            raise DataError(f"{path} is damaged: its NumPy header is unreadable.") from error
        if len(shape) != 2 or dtype.kind not in "fiub":
            raise DataError(
                f"{path} holds an array of shape {shape} and type {dtype}; "
                "a matrix of numbers, samples in rows, is needed."
            )
        if by_column and min(shape) > 1:
            raise DataError(
                f"{path} is stored column by column (Fortran order). Save "
                "np.ascontiguousarray(x) instead."
            )
        self._offset = self._file.tell()
        size = path.stat().st_size - self._offset
        if size < shape[0] * shape[1] * dtype.itemsize:
            raise DataError(f"{path} is cut off: {size} bytes of values for shape {shape}.")
        return shape, dtype

    def _read(self, start: int, stop: int) -> np.ndarray:
        g = self.shape[1]
        self._file.seek(self._offset + start * g * self._stored.itemsize)
        values = np.fromfile(self._file, self._stored, (stop - start) * g)
        return values.reshape(stop - start, g)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class NpyWriter(MatrixWriter):
    """Writes an array and its two id lists, all or nothing; see `create_matrix`.

    Other columns of the tables have no place; what is left out is logged.
    """

    def __init__(
        self,
        path: Path,
        obs: pd.DataFrame,
        var: pd.DataFrame,
        *,
        dtype: str = "float32",
        overwrite: bool = False,
    ) -> None:
        super().__init__(path, obs, var, dtype=dtype, overwrite=overwrite)
        refuse_line_ends([*self.obs.index, *self.var.index], path)
        lost = [*self.obs.columns, *self.var.columns]
        if lost:
            log.warning("%s: an array with id lists has no place for %s", path, name_list(lost))
        self._file: IO[bytes] | None = None

    def _names(self) -> list[Path]:
        return [self.path, id_path(self.path, "samples"), id_path(self.path, "genes")]

    def _open(self, partials: list[Path]) -> None:
        for table, name in zip((self.obs, self.var), partials[1:], strict=True):
            name.write_text("".join(f"{one}\n" for one in table.index), "utf-8")
        self._file = partials[0].open("wb")
        header = {
            "descr": np.lib.format.dtype_to_descr(self.dtype),
            "fortran_order": False,
            "shape": (len(self.obs), len(self.var)),
        }
        np.lib.format.write_array_header_1_0(self._file, header)

    def _write(self, x_bg: np.ndarray) -> None:
        assert self._file is not None  # _open has run: `write` refuses otherwise
        self._file.write(x_bg.data)

    def _finish(self) -> None:
        self._close()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()


def _read_ids(path: Path, axis: str, length: int) -> pd.DataFrame:
    name = id_path(path, axis)
    if not name.is_file():
        raise DataError(f"{path} needs its {axis} beside it: {name} does not exist.")
    try:
        ids = name.read_text("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{name} is not UTF-8 text.") from error
    if ids[-1] == "":
        ids.pop()
    if len(ids) != length:
        raise DataError(f"{name} holds {len(ids)} ids, but {path} has {length} {axis}.")
    return pd.DataFrame(index=pd.Index([one.removesuffix("\r") for one in ids], dtype=object))
