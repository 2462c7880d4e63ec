"""The compendium's passes: ranks and reference, moments, and the standardised sets.

The profiles are read once. Their ranks, which with the reference are all that quantile
normalisation keeps of them, go to a temporary file of two bytes a value.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from dgex import progress
from dgex.blocks import map_blocks
from dgex.data.dataset import RowFile
from dgex.data.formats.reader import Matrix
from dgex.data.genes import Alignment
from dgex.data.normalise import (
    Moments,
    QuantileReference,
    average_rank_index,
    reference_values,
    standardise,
)
from dgex.data.scan import Transform

_BLOCK_BYTES = 16 * 2**20


class Compendium:
    """Profiles of one matrix that are kept, as values of the genes that are used.

    Parameters
    ----------
    matrix
        The expression file.
    genes
        Where the genes are in it; every gene is present.
    kept_n
        Which profiles are used, shape (n of the file,).
    learned_n
        On which of the kept profiles everything is learned, shape (kept,).
    transform
        Applied to the values first (log2 or nothing).
    folder
        Folder for the temporary file.
    """

    def __init__(
        self,
        matrix: Matrix,
        genes: Alignment,
        kept_n: np.ndarray,
        learned_n: np.ndarray,
        transform: Transform,
        folder: Path,
    ) -> None:
        self._matrix = matrix
        self._genes = genes
        self._kept_n = kept_n
        self._learned_n = learned_n
        self._transform = transform
        self._n = int(kept_n.sum())
        self._g = len(genes.starts)
        self._ranks_path = folder / "ranks.tmp"
        self._rank_type = np.uint16 if self._g <= 2**16 else np.uint32

    def _gene_blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """First kept row and gene values (float64, NaN missing) of every block."""

        def gene_values(block: tuple[int, np.ndarray]) -> np.ndarray:
            start, x_bp = block
            kept_b = self._kept_n[start : start + len(x_bp)]
            return self._genes.gene_values(self._transform(x_bp[kept_b]))

        row = 0
        for values_bg in map_blocks(gene_values, self._matrix.blocks()):
            yield row, values_bg
            row += len(values_bg)

    def training_means(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean over the profiles learned from, and number of missing values, of every gene."""
        moments = Moments(self._g)
        n_missing_g = np.zeros(self._g, dtype=np.int64)
        for row, values_bg in self._gene_blocks():
            n_missing_g += np.isnan(values_bg).sum(axis=0)
            moments.add(values_bg[self._learned_n[row : row + len(values_bg)]])
            progress.report("averaging genes", row + len(values_bg), self._n)
        mean_g = np.where(moments.n_g > 0, moments.mean_g, np.nan)
        return mean_g, n_missing_g

    def rank(self, fill_g: np.ndarray | None) -> np.ndarray:
        """Rank all profiles into the temporary file.

        Parameters
        ----------
        fill_g
            Values for missing ones, shape (g,); None where none is missing.

        Returns
        -------
        numpy.ndarray
            The quantile reference of the profiles learned from, ascending, shape (g,).
        """
        reference = QuantileReference(self._g)

        def ranked(block: tuple[int, np.ndarray]) -> tuple[int, np.ndarray, QuantileReference]:
            row, values_bg = block
            if fill_g is not None:
                values_bg = np.where(np.isnan(values_bg), fill_g, values_bg)
            partial = QuantileReference(self._g)
            index_bg = average_rank_index(
                values_bg,
                reference=partial,
                learned_b=self._learned_n[row : row + len(values_bg)],
                dtype=self._rank_type,
            )
            return row, index_bg, partial

        with open(self._ranks_path, "wb") as handle:
            for row, index_bg, partial in map_blocks(ranked, self._gene_blocks()):
                handle.write(index_bg.data)
                reference.merge(partial)
                progress.report("ranking", row + len(index_bg), self._n)
        return reference.values_g

    def _rank_blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        block_rows = max(1, _BLOCK_BYTES // (8 * self._g))
        with open(self._ranks_path, "rb") as handle:
            for row in range(0, self._n, block_rows):
                count = min(block_rows, self._n - row) * self._g
                ranks = np.fromfile(handle, dtype=self._rank_type, count=count)
                yield row, ranks.reshape(-1, self._g)

    def moments(self, reference_g: np.ndarray) -> Moments:
        """Moments of the quantile-normalised profiles learned from."""

        def block_moments(block: tuple[int, np.ndarray]) -> tuple[int, Moments]:
            row, index_bg = block
            learned_b = self._learned_n[row : row + len(index_bg)]
            values_bg = reference_values(reference_g, index_bg[learned_b])
            return row + len(index_bg), Moments.of(values_bg)

        moments = Moments(self._g)
        for done, partial in map_blocks(block_moments, self._rank_blocks()):
            moments.merge(partial)
            progress.report("taking moments", done, self._n)
        return moments

    def write_sets(
        self,
        folders: dict[str, Path],
        split_n: np.ndarray,
        reference_g: np.ndarray,
        mean_g: np.ndarray,
        sd_g: np.ndarray,
        n_landmarks: int,
    ) -> np.ndarray:
        """Write every split's standardised landmarks and targets.

        Returns
        -------
        numpy.ndarray
            Correlation of the landmarks over train, float32, shape (l, l).
        """

        def standardised(block: tuple[int, np.ndarray]) -> tuple[int, np.ndarray]:
            row, index_bg = block
            return row, standardise(reference_values(reference_g, index_bg), mean_g, sd_g)

        products_ll = np.zeros((n_landmarks, n_landmarks))
        sums_l = np.zeros(n_landmarks)
        with ExitStack() as stack:
            files = {}
            for name, folder in folders.items():
                n_rows = int((split_n == name).sum())
                folder.mkdir(parents=True, exist_ok=True)
                x_file = RowFile(folder / "x_nl.npy", n_rows, n_landmarks)
                y_file = RowFile(folder / "y_nt.npy", n_rows, self._g - n_landmarks)
                files[name] = stack.enter_context(x_file), stack.enter_context(y_file)
            for row, z_bg in map_blocks(standardised, self._rank_blocks()):
                split_b = split_n[row : row + len(z_bg)]
                for name, (x_file, y_file) in files.items():
                    rows_bg = z_bg[split_b == name]
                    x_file.write(rows_bg[:, :n_landmarks])
                    y_file.write(rows_bg[:, n_landmarks:])
                x_bl = z_bg[split_b == "train", :n_landmarks]
                products_ll += x_bl.T @ x_bl
                sums_l += x_bl.sum(axis=0, dtype=np.float64)
                progress.report("writing sets", row + len(z_bg), self._n)
        self._ranks_path.unlink()
        n_train = int((split_n == "train").sum())
        covariance_ll = products_ll / n_train - np.outer(sums_l, sums_l) / n_train**2
        sd_l = np.sqrt(np.maximum(np.diag(covariance_ll), 1e-12))
        return (covariance_ll / np.outer(sd_l, sd_l)).astype(np.float32)
