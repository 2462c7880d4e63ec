"""Errors and correlations per gene, gathered block by block.

Shapes: `y_bt` and `y_hat_bt` are (b profiles of a block, t targets), in standardised units
(z-score); what is reported per gene has shape (t,). All sums are float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dgex.errors import DataError

FloatArray = NDArray[np.float64]

# Columns worked on at once: a block of 1,024 profiles then needs 16 MB for each temporary.
_COLUMNS = 2048


@dataclass(frozen=True)
class GeneScores:
    """Scores per gene over `n` profiles; every array has shape (t,).

    `mae_t` and `rmse_t` are in the units of the expression given (standardised units);
    `r_t` is Pearson's correlation, NaN where the gene or its prediction is constant.
    """

    n: int
    mae_t: FloatArray
    rmse_t: FloatArray
    r_t: FloatArray


@dataclass(frozen=True)
class Summary:
    """Scores of one model on one set, over all its genes.

    `mae` is the mean over genes of the gene's MAE and `mae_sd` the standard deviation of the
    genes' MAE (divisor t): the "±" of Chen et al. 2016, Tables 1 and 2. `rmse` is the root of
    the mean, over genes and profiles, of the squared error. `median_r` is the median over the
    genes whose r exists, NaN where none does.
    """

    mae: float
    mae_sd: float
    rmse: float
    median_r: float


class GeneErrors:
    """Gathers the errors of `n_targets` genes over row blocks.

    The result does not depend on how the profiles are cut into blocks, beyond float64 rounding.
    Pearson's r comes from centred moments, merged pairwise (Chan, Golub and LeVeque 1983).

    Parameters
    ----------
    n_targets
        Number of genes, t.

    Examples
    --------
    >>> errors = GeneErrors(2)
    >>> errors.update(np.array([[0.0, 1.0], [1.0, 1.0]]), np.array([[0.5, 1.0], [1.5, 2.0]]))
    >>> errors.update(np.array([[2.0, 1.0]]), np.array([[2.5, 3.0]]))
    >>> scores = errors.scores()
    >>> scores.n, scores.mae_t.tolist(), scores.r_t.round(6).tolist()
    (3, [0.5, 1.0], [1.0, nan])
    """

    def __init__(self, n_targets: int) -> None:
        self.n = 0
        self._absolute_t = np.zeros(n_targets)
        self._squared_t = np.zeros(n_targets)
        self._shift_t = np.zeros(n_targets)
        self._shift_hat_t = np.zeros(n_targets)
        self._mean_t = np.zeros(n_targets)
        self._mean_hat_t = np.zeros(n_targets)
        self._moment_t = np.zeros(n_targets)
        self._moment_hat_t = np.zeros(n_targets)
        self._comoment_t = np.zeros(n_targets)

    def update(self, y_bt: NDArray[np.floating], y_hat_bt: NDArray[np.floating]) -> None:
        """Add a block of profiles: measured `y_bt` and predicted `y_hat_bt`, both (b, t).

        Raises
        ------
        DataError
            The two shapes differ, or are not (any number, t).
        """
        n_targets = len(self._absolute_t)
        if y_bt.shape != y_hat_bt.shape or y_bt.ndim != 2 or y_bt.shape[1] != n_targets:
            raise DataError(
                f"Measured values of shape {y_bt.shape} and predictions of shape {y_hat_bt.shape} "
                f"cannot be compared: both must be (profiles, {n_targets} targets)."
            )
        if len(y_bt) == 0:
            return
        if self.n == 0:
            # Measured from the first profile, a constant gene has moments of exactly zero.
            self._shift_t[:] = y_bt[0]
            self._shift_hat_t[:] = y_hat_bt[0]
        for start in range(0, n_targets, _COLUMNS):
            self._add(slice(start, start + _COLUMNS), y_bt, y_hat_bt)
        self.n += len(y_bt)

    def _add(self, t: slice, y_bt: NDArray[np.floating], y_hat_bt: NDArray[np.floating]) -> None:
        y = y_bt[:, t].astype(np.float64)
        y_hat = y_hat_bt[:, t].astype(np.float64)
        error = y - y_hat
        self._absolute_t[t] += np.abs(error).sum(axis=0)
        self._squared_t[t] += np.square(error).sum(axis=0)

        y -= self._shift_t[t]
        y_hat -= self._shift_hat_t[t]
        mean, mean_hat = y.mean(axis=0), y_hat.mean(axis=0)
        y -= mean
        y_hat -= mean_hat
        n_block, n_both = len(y), self.n + len(y)
        delta, delta_hat = mean - self._mean_t[t], mean_hat - self._mean_hat_t[t]
        weight = self.n * n_block / n_both
        self._moment_t[t] += np.square(y).sum(axis=0) + weight * delta * delta
        self._moment_hat_t[t] += np.square(y_hat).sum(axis=0) + weight * delta_hat * delta_hat
        self._comoment_t[t] += (y * y_hat).sum(axis=0) + weight * delta * delta_hat
        self._mean_t[t] += delta * (n_block / n_both)
        self._mean_hat_t[t] += delta_hat * (n_block / n_both)

    def scores(self) -> GeneScores:
        """Scores per gene of all profiles seen.

        Raises
        ------
        DataError
            No profile was seen.
        """
        if self.n == 0:
            raise DataError("There is no profile to score. Give a set with at least one profile.")
        spread_t = np.sqrt(self._moment_t) * np.sqrt(self._moment_hat_t)
        r_t = np.full(len(spread_t), np.nan)
        np.divide(self._comoment_t, spread_t, out=r_t, where=spread_t > 0)
        return GeneScores(
            n=self.n,
            mae_t=self._absolute_t / self.n,
            rmse_t=np.sqrt(self._squared_t / self.n),
            r_t=np.clip(r_t, -1.0, 1.0),
        )


def summary(scores: GeneScores) -> Summary:
    """Mean MAE ± its standard deviation over genes, RMSE and median r.

    The RMSE is the root of the mean over genes and profiles of the squared error; it is not
    the mean of the genes' RMSE, which is never larger. Every gene counts the same profiles, so
    it follows from the genes' mean squared errors.

    Raises
    ------
    DataError
        There is no gene.

    Examples
    --------
    >>> nan = float("nan")
    >>> summary(GeneScores(3, np.array([0.5, 1.0]), np.array([0.6, 0.8]), np.array([0.9, nan])))
    Summary(mae=0.75, mae_sd=0.25, rmse=0.7071067811865476, median_r=0.9)
    """
    if len(scores.mae_t) == 0:
        raise DataError("There is no target to score. Give a set that measures some targets.")
    known_r = scores.r_t[~np.isnan(scores.r_t)]
    return Summary(
        mae=float(scores.mae_t.mean()),
        mae_sd=float(scores.mae_t.std(ddof=0)),
        rmse=float(np.sqrt(np.square(scores.rmse_t).mean())),
        median_r=float(np.median(known_r)) if len(known_r) else float("nan"),
    )


def improvement(mae: float, mae_reference: float) -> float:
    """How much lower `mae` is than `mae_reference`, in percent; negative where it is higher.

    NaN where the reference is 0, of which nothing is a percentage.

    Examples
    --------
    >>> improvement(0.375, 0.5)
    25.0
    """
    if mae_reference == 0:
        return float("nan")
    return 100.0 * (mae_reference - mae) / mae_reference


def win_rate(mae_t: FloatArray, mae_reference_t: FloatArray) -> float:
    """Share of genes, 0 to 1, whose MAE is strictly lower than the reference's.

    Raises
    ------
    DataError
        The two do not hold the same number of genes, or hold none.

    Examples
    --------
    >>> win_rate(np.array([0.1, 0.5, 0.9, 0.2]), np.array([0.2, 0.5, 0.8, 0.3]))
    0.5
    """
    if mae_t.shape != mae_reference_t.shape or mae_t.size == 0:
        raise DataError(
            f"{mae_t.size} and {mae_reference_t.size} genes cannot be compared one by one. "
            "Score both models on the same set."
        )
    return float(np.mean(mae_t < mae_reference_t))
