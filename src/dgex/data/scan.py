"""One pass over a matrix that finds what must be known before anything is learned from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dgex import progress
from dgex.data.formats.reader import Matrix
from dgex.errors import DataError, name_list

LINEAR_ABOVE = 50.0
"""log2 expression stays below about 20; a matrix with values above this is on a linear scale."""

GREATEST = 1e36
"""Values beyond this are no expression; their squares are no numbers in single precision."""


@dataclass(frozen=True)
class Scan:
    """What a pass over the values found; p runs over the matrix's columns.

    Attributes
    ----------
    n_missing_p
        Missing values of each column.
    low_p, high_p
        Least and greatest measured value of each column; NaN where all are missing.
    """

    n_missing_p: np.ndarray
    low_p: np.ndarray
    high_p: np.ndarray

    @property
    def looks_linear(self) -> bool:
        """Whether the values look like TPM or counts rather than log2 expression."""
        return bool(np.nanmin(self.low_p) >= 0 and np.nanmax(self.high_p) > LINEAR_ABOVE)

    @property
    def constant_p(self) -> np.ndarray:
        """Which columns have at most one distinct value."""
        return ~(self.low_p < self.high_p)


def scan(matrix: Matrix) -> Scan:
    """Count missing values and find the range of every column.

    Raises
    ------
    DataError
        A profile has no measured value.

    Examples
    --------
    >>> import anndata
    >>> from dgex.data.matrix import open_matrix
    >>> found = scan(open_matrix(anndata.AnnData(np.array([[1.0, np.nan], [1.0, 90.0]]))))
    >>> found.n_missing_p.tolist(), found.constant_p.tolist(), found.looks_linear
    ([0, 1], [True, True], True)
    """
    n, g = matrix.shape
    n_missing_p = np.zeros(g, dtype=np.int64)
    low_p = np.full(g, np.nan)
    high_p = np.full(g, np.nan)
    empty: list[str] = []
    for start, x_bp in matrix.blocks():
        missing_bp = np.isnan(x_bp)
        n_missing_p += missing_bp.sum(axis=0)
        low_p = np.fmin(low_p, np.fmin.reduce(x_bp, axis=0))
        high_p = np.fmax(high_p, np.fmax.reduce(x_bp, axis=0))
        empty += list(matrix.obs.index[start : start + len(x_bp)][missing_bp.all(axis=1)])
        progress.report("scanning", start + len(x_bp), n)
    if empty:
        raise DataError(
            f"{len(empty)} profiles of {matrix.path} have no measured value ({name_list(empty)}). "
            "Remove them from the file."
        )
    return Scan(n_missing_p, low_p, high_p)


Transform = Callable[[np.ndarray], np.ndarray]


def choose_scale(found: Scan, log2: str, note: Callable[[str], None]) -> Transform:
    """Decide whether values are taken as log2(x + 1) or as they are.

    Parameters
    ----------
    found
        The range of the values.
    log2
        ``yes``, ``no``, or ``auto``: where they look linear.
    note
        Takes a sentence if they are transformed.

    Returns
    -------
    Callable
        The transform of a block.

    Raises
    ------
    DataError
        log2 is asked for and a value is negative, or values not to be logged are beyond 1e36.

    Examples
    --------
    >>> tpm = Scan(np.array([0]), np.array([0.0]), np.array([1023.0]))
    >>> choose_scale(tpm, "auto", note=print)(np.array([[7.0]]))
    Values are taken as log2(x + 1): the greatest, 1023, is no log2 expression.
    array([[3.]])
    """
    low, high = float(np.nanmin(found.low_p)), float(np.nanmax(found.high_p))
    if log2 == "no" or (log2 == "auto" and not found.looks_linear):
        if max(-low, high) > GREATEST:
            raise DataError(
                f"Values from {low:g} to {high:g} are no expression. Mend the file, or pass "
                "--log2 yes if they are linear."
            )
        return _unchanged
    if low < 0:
        raise DataError(
            f"--log2 yes: the least value is {low:g}, and log2(x + 1) needs values from 0 on."
        )
    reason = "as asked" if log2 == "yes" else f"the greatest, {high:g}, is no log2 expression"
    note(f"Values are taken as log2(x + 1): {reason}.")
    return log2_of


def log2_of(x_bg: np.ndarray) -> np.ndarray:
    """log2(x + 1), the usual scale of TPM and counts."""
    return np.log2(x_bg + 1)


def _unchanged(x_bg: np.ndarray) -> np.ndarray:
    return x_bg
