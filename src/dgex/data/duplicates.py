"""Exact near-duplicate profiles: every pair closer than a distance is found, and no other.

D-GEX searched within 100 k-means clusters and so missed pairs that fall into two clusters. Here
profiles are projected on a few orthonormal directions, which never lengthens a distance: pairs
that are far apart in the projection need no second look, and the few others are measured in full.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd

from dgex import progress
from dgex.blocks import map_blocks
from dgex.data.formats.reader import Matrix
from dgex.data.scan import Transform

N_DIRECTIONS = 64
_SAMPLE = 1024
_VERIFY_PAIRS = 512


def near_duplicates(
    matrix: Matrix,
    threshold: float,
    complete_g: np.ndarray | None = None,
    transform: Transform | None = None,
) -> pd.DataFrame:
    """Profiles closer than `threshold` to an earlier one.

    As in D-GEX, of every pair below the distance the later profile goes, so that no pair below it
    is left.

    Parameters
    ----------
    matrix
        Profiles of g genes or probe sets; read in blocks.
    threshold
        Euclidean distance over the genes or probe sets of `complete_g`, in the units of the data.
    complete_g
        Which columns to use: those without missing values. All, where not given.
    transform
        Applied to every block first (log2, for instance).

    Returns
    -------
    pandas.DataFrame
        One row per profile to remove, ascending: ``row``, the ``earlier`` row it is close to and
        their ``distance``.

    Examples
    --------
    >>> import anndata, numpy as np
    >>> from dgex.data.matrix import open_matrix
    >>> x = np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 0.5]])
    >>> near_duplicates(open_matrix(anndata.AnnData(x)), threshold=1.0)
       row  earlier  distance
    0    2        0       0.5
    """
    n, g = matrix.shape
    columns = np.arange(g) if complete_g is None else np.flatnonzero(complete_g)

    def prepared(x_bg: np.ndarray) -> np.ndarray:
        values = x_bg[:, columns]
        return values if transform is None else transform(values)

    if threshold <= 0 or n < 2 or len(columns) == 0:
        return _table([], [], [])
    centre_g, basis_gk = _directions(prepared(matrix.take(_spread(n))))
    p_nk = np.empty((n, basis_gk.shape[1]), dtype=np.float32)
    length_n = np.empty(n)

    def project(block: tuple[int, np.ndarray]) -> tuple[int, np.ndarray, np.ndarray]:
        start, x_bg = block
        centred = prepared(x_bg) - centre_g
        return start, centred.astype(np.float32) @ basis_gk, np.linalg.norm(centred, axis=1)

    for start, projected, lengths in map_blocks(project, matrix.blocks()):
        p_nk[start : start + len(projected)] = projected
        length_n[start : start + len(projected)] = lengths
        progress.report("searching for duplicates", start + len(projected), n)
    # float32 rounding of the projection grows with the profile's length and the number of genes.
    slack_n = 1e-6 * length_n * max(1.0, np.log2(len(columns)))
    found: dict[int, tuple[int, float]] = {}
    for later, earlier in _close_pairs(p_nk, slack_n, threshold):
        unknown = ~np.isin(later, list(found))
        found |= _verify(matrix, prepared, later[unknown], earlier[unknown], threshold)
    rows = sorted(found)
    return _table(rows, [found[row][0] for row in rows], [found[row][1] for row in rows])


def _spread(n: int) -> np.ndarray:
    return np.unique(np.linspace(0, n - 1, min(n, _SAMPLE)).astype(np.intp))


def _directions(sample_sg: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre (median) and principal directions of some profiles, from their small Gram matrix."""
    # One profile of absurd values must neither move the centre nor be all that directions show.
    centre_g = np.median(sample_sg, axis=0).astype(np.float64)
    centred = sample_sg - centre_g
    lengths = np.linalg.norm(centred, axis=1)
    if lengths.any():
        centred = centred[lengths <= 10 * np.median(lengths[lengths > 0])]
    values, vectors = np.linalg.eigh(centred @ centred.T)
    leading = [i for i in np.argsort(values)[::-1][:N_DIRECTIONS] if values[i] > 1e-9 * values[-1]]
    if not leading:
        return centre_g, np.eye(centred.shape[1], 1, dtype=np.float32)
    basis_gk, _ = np.linalg.qr(centred.T @ vectors[:, leading])
    return centre_g, basis_gk.astype(np.float32)


def _close_pairs(
    p_nk: np.ndarray, slack_n: np.ndarray, threshold: float
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs closer than `threshold` in the projection, as (later rows, earlier rows).

    Each row's place may be wrong by its slack. Rows are sorted along the first direction by the
    least place they may have, so that only a window after each needs a look.
    """
    order = np.argsort(p_nk[:, 0] - slack_n, kind="stable")
    sorted_nk, slack_n = p_nk[order].astype(np.float64), slack_n[order]
    least_n, greatest_n = sorted_nk[:, 0] - slack_n, sorted_nk[:, 0] + slack_n
    ends = np.searchsorted(least_n, greatest_n + threshold, side="right")
    for start, stop in _windows(ends):
        end = ends[start:stop].max()
        window_wk = sorted_nk[start:end]
        left_bk = window_wk[: stop - start]
        squared = (
            (left_bk**2).sum(axis=1)[:, None]
            + (window_wk**2).sum(axis=1)[None, :]
            - 2 * left_bk @ window_wk.T
        )
        nearest = threshold + slack_n[start:stop, None] + slack_n[None, start:end]
        i, j = np.nonzero(squared < nearest**2)
        i, j = i[j > i], j[j > i]
        if len(i):
            a, b = order[start + i], order[start + j]
            yield np.maximum(a, b), np.minimum(a, b)


def _windows(ends: np.ndarray) -> Iterator[tuple[int, int]]:
    """Row ranges whose tables of pairs stay below about eight million entries."""
    n, start = len(ends), 0
    while start < n:
        stop = min(start + 1024, n)
        while stop - start > 1 and (stop - start) * (ends[start:stop].max() - start) > 2**23:
            stop = start + (stop - start) // 2
        yield start, stop
        start = stop


def _verify(
    matrix: Matrix,
    prepared: Transform,
    later: np.ndarray,
    earlier: np.ndarray,
    threshold: float,
) -> dict[int, tuple[int, float]]:
    """Measure candidate pairs in float64 over all columns; one true pair per later row is enough.

    Pairs are taken in rounds, one candidate of each row that has none yet.
    """
    by_row = np.lexsort((earlier, later))
    later, earlier = later[by_row], earlier[by_row]
    found: dict[int, tuple[int, float]] = {}
    while len(later):
        _, turn = np.unique(later, return_index=True)
        for start in range(0, len(turn), _VERIFY_PAIRS):
            pairs = turn[start : start + _VERIFY_PAIRS]
            rows = np.unique(np.concatenate([later[pairs], earlier[pairs]]))
            x_rg = prepared(matrix.take(rows))
            for pair in pairs:
                a, b = np.searchsorted(rows, [later[pair], earlier[pair]])
                # For one vector np.linalg.norm would wake threads that take longer than the sum.
                step_g = x_rg[a].astype(np.float64) - x_rg[b]
                distance = math.sqrt(float(np.square(step_g).sum()))
                if distance < threshold:
                    found[int(later[pair])] = (int(earlier[pair]), distance)
        rest = ~np.isin(later, list(found))
        rest[turn] = False
        later, earlier = later[rest], earlier[rest]
    return found


def _table(rows: list[int], earlier: list[int], distances: list[float]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "row": np.array(rows, dtype=np.intp),
            "earlier": np.array(earlier, dtype=np.intp),
            "distance": np.array(distances, dtype=np.float64),
        }
    )
