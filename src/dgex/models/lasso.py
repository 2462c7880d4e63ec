"""The lasso for all targets at once, from the sums of squares and products alone."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from dgex.blocks import map_blocks
from dgex.config import LASSO_PENALTIES
from dgex.models.choice import choice_mae, choice_rows
from dgex.models.gram import Gram
from dgex.models.linear import Penalised, training_gram
from dgex.progress import report

if TYPE_CHECKING:
    from dgex.config import TrainConfig
    from dgex.data.dataset import Dataset

log = logging.getLogger("dgex")

TOLERANCE = 1e-10
"""Duality gap, as a share of half the target's variance, at which a target is solved.

The gap is never less than half the mean squared difference between the training predictions and
those of the exact solution, so the two differ by at most 1e-5 standard deviations of the target
(root mean square).
"""

CHOICE_TOLERANCE = 1e-5
"""The same while penalties are compared: within 0.003 standard deviations."""

ENOUGH = 1.01
"""Smaller penalties are not tried once the validation MAE is this multiple of the lowest."""

ROUND = 10
"""Iterations between two looks at the gap."""

MAX_ROUNDS = 1000
"""Rounds after which a target is left as it is, with a warning."""

BLOCK_TARGETS = 256
"""Targets worked on together; their weights should fit in the processor's cache."""

OVER_RELAXATION = 1.6
"""How far an iteration goes; 1 is the plain method, 2 the limit."""


class Lasso(Penalised):
    """Least squares with a penalty on the absolute weights, the same for all targets.

    The sum of squared errors over ``2 n`` (n training profiles) plus ``penalty`` times the sum of
    absolute weights is made smallest; the intercept is not penalised. This is the objective of
    scikit-learn's ``Lasso(alpha=penalty)``.
    """

    kind = "lasso"

    def fit(self, dataset: Dataset, config: TrainConfig) -> None:
        """Solve for the penalties from large to small and keep the best on validation.

        Each solution is the start of the next; the best one is brought to the full precision.
        Once the MAE is 1 % above the lowest, the smaller penalties are left out: they overfit
        more, and take longest.

        Raises
        ------
        DataError
            There are no validation profiles to choose on.
        """
        rows = choice_rows(dataset, config.seed)
        sums = training_gram(dataset)
        penalties = sorted(set(config.penalties or LASSO_PENALTIES), reverse=True)
        weight_lt = np.zeros_like(sums.xy_lt)
        best_lt, mae_of = weight_lt, dict[float, float]()
        for penalty in penalties:
            descend(sums, penalty, weight_lt, CHOICE_TOLERANCE)
            self._set_weights(weight_lt, sums)
            mae = choice_mae(self.predict, dataset["validation"], rows)
            mae_of[penalty] = mae
            log.info(
                "lasso: penalty %g, %.1f of %d weights per target, validation MAE %.4f",
                penalty,
                np.count_nonzero(weight_lt) / max(len(sums.mean_t), 1),
                len(weight_lt),
                mae,
            )
            if mae == min(mae_of.values()):
                best_lt = weight_lt.copy()
            elif mae > ENOUGH * min(mae_of.values()):
                break
        left_out = penalties[len(mae_of) :]
        if left_out:
            names = ", ".join(f"{penalty:g}" for penalty in left_out)
            log.info("lasso: the validation MAE rises; not tried: %s", names)
        tried = sorted(mae_of)
        self._choose(tried, [mae_of[penalty] for penalty in tried])
        descend(sums, self.penalty, best_lt)
        self._set_weights(best_lt, sums)

    def refit(self, dataset: Dataset) -> None:
        """Learn again with the penalty that `fit` chose."""
        sums = training_gram(dataset)
        weight_lt = np.zeros_like(sums.xy_lt)
        descend(sums, self.penalty, weight_lt)
        self._set_weights(weight_lt, sums)


def descend(
    sums: Gram, penalty: float, weight_lt: np.ndarray, tolerance: float = TOLERANCE
) -> None:
    """Bring weights to the minimum of the lasso's objective, in place.

    The alternating direction method of multipliers, over-relaxed, for a block of targets at once:
    one product with a fixed matrix and a few passes over the weights per iteration. A target is
    solved when its duality gap is at most `tolerance` of half its variance; a warning says how
    many are not after `MAX_ROUNDS`.

    Parameters
    ----------
    sums
        Sums of squares and products of the training profiles.
    penalty
        Factor on the sum of absolute weights.
    weight_lt
        Weights to start from, float64, shape (l, t).
    tolerance
        See `TOLERANCE`.

    References
    ----------
    Boyd S, Parikh N, Chu E, Peleato B, Eckstein J. Distributed optimization and statistical
    learning via the alternating direction method of multipliers. Foundations and Trends in
    Machine Learning 2011;3:1–122, sections 3.4 and 6.4.

    Examples
    --------
    >>> from dgex.models.gram import gram
    >>> x_nl, y_nt = np.array([[1.0], [-1.0]]), np.array([[3.0], [-3.0]])
    >>> weight_lt = np.zeros((1, 1))
    >>> descend(gram([(0, x_nl, y_nt)], 1, 1, 2), 0.5, weight_lt)
    >>> weight_lt.round(4)
    array([[2.5]])
    """
    what = f"lasso at penalty {penalty:g}"
    n_targets = weight_lt.shape[1]
    report(what, 0, n_targets)
    off_t = solve(
        Products(sums.xx_ll),
        penalty * sums.n,
        sums.xy_lt,
        sums.yy_t,
        weight_lt,
        tolerance,
        lambda done: report(what, done, n_targets),
    )
    if off_t.any():
        log.warning(
            "%s: %d of %d targets are not solved to the last digit; their "
            "training predictions are within %.1g standard deviations of the solution.",
            what,
            np.count_nonzero(off_t),
            n_targets,
            off_t.max(),
        )


class Products:
    """Products of the columns of a matrix with each other, as the solver needs them."""

    def __init__(self, xx_ll: np.ndarray) -> None:
        self.square_l = np.diagonal(xx_ll)
        self._xx_ll = xx_ll
        self._value_l, self._vector_ll = np.linalg.eigh(xx_ll)

    def times(self, weight_lb: np.ndarray) -> np.ndarray:
        """The products times some weights."""
        return self._xx_ll @ weight_lb

    def smoother(self, balance: float) -> Callable[[np.ndarray], np.ndarray]:
        """What multiplies by `balance` times the inverse of the products plus `balance`."""
        shrink_l = balance / (self._value_l.clip(0.0) + balance)
        near_ll = (self._vector_ll * shrink_l) @ self._vector_ll.T
        return near_ll.__matmul__


class ThinProducts(Products):
    """The same for a matrix with few rows, without ever making all products of its columns.

    Parameters
    ----------
    x_rl
        The matrix, float64, shape (rows, l).

    Examples
    --------
    >>> x_rl = np.array([[1.0, 2.0, 0.0]])
    >>> ThinProducts(x_rl).times(np.array([[1.0], [0.0], [0.0]])).ravel()
    array([1., 2., 0.])
    """

    def __init__(self, x_rl: np.ndarray) -> None:
        self.square_l = np.einsum("rl,rl->l", x_rl, x_rl)
        self._x_rl = x_rl
        value_r, vector_rr = np.linalg.eigh(x_rl @ x_rl.T)
        # Directions of rounding only; they would not come out orthogonal.
        kept_r = value_r > len(x_rl) * np.finfo(np.float64).eps * max(value_r[-1], 0.0)
        self._value_k = value_r[kept_r]
        self._vector_lk = x_rl.T @ (vector_rr[:, kept_r] / np.sqrt(self._value_k))

    def times(self, weight_lb: np.ndarray) -> np.ndarray:
        """The products times some weights."""
        return self._x_rl.T @ (self._x_rl @ weight_lb)

    def smoother(self, balance: float) -> Callable[[np.ndarray], np.ndarray]:
        """What multiplies by `balance` times the inverse of the products plus `balance`."""
        taken_k1 = (self._value_k / (self._value_k + balance))[:, None]
        vector_lk = self._vector_lk
        return lambda x_lb: x_lb - vector_lk @ (taken_k1 * (vector_lk.T @ x_lb))


def solve(
    products: Products,
    threshold: float,
    xy_lt: np.ndarray,
    yy_t: np.ndarray,
    weight_lt: np.ndarray,
    tolerance: float = TOLERANCE,
    on_block: Callable[[int], None] = lambda done: None,
) -> np.ndarray:
    """Bring weights to the minimum of the lasso's objective, in place; see `descend`.

    Parameters
    ----------
    products
        Those of the landmarks, summed over profiles.
    threshold
        The penalty times the number of profiles.
    xy_lt, yy_t
        Products of landmarks and targets (l, t) and squares of targets (t,), summed over profiles.
    weight_lt
        Weights to start from, float64, shape (l, t).
    tolerance
        See `TOLERANCE`.
    on_block
        Called after every block with the number of targets done.

    Returns
    -------
    numpy.ndarray
        0 where a target is solved, or else how far its training predictions may be from the
        solution, in standard deviations of the target, shape (t,).

    Examples
    --------
    >>> weight_lt, one = np.zeros((1, 1)), np.ones((1, 1))
    >>> solve(Products(2 * one), 1.0, 6 * one, np.array([18.0]), weight_lt)
    array([0.])
    >>> weight_lt.round(4)
    array([[2.5]])
    """
    from threadpoolctl import threadpool_limits

    n_targets = weight_lt.shape[1]
    problem = _Problem(products, threshold)
    allowed_t = 0.5 * tolerance * yy_t
    gap_t = np.empty(n_targets)

    def solve_block(block: slice) -> int:
        weight_lb = np.ascontiguousarray(weight_lt[:, block])
        xy_lb, yy_b = np.ascontiguousarray(xy_lt[:, block]), yy_t[block]
        gap_t[block] = problem.solve(xy_lb, yy_b, weight_lb, allowed_t[block])
        weight_lt[:, block] = weight_lb
        return min(block.stop, n_targets)

    blocks = [slice(at, at + BLOCK_TARGETS) for at in range(0, n_targets, BLOCK_TARGETS)]
    # One block per thread: the steps between the matrix products run in parallel too.
    with threadpool_limits(1):
        for done in map_blocks(solve_block, blocks):
            on_block(done)
    off_t = np.zeros(n_targets)
    unsolved = gap_t > allowed_t
    off_t[unsolved] = np.sqrt(2 * gap_t[unsolved] / yy_t[unsolved])
    return off_t


class _Problem:
    """What all targets share. Gaps and objectives are n times those of scikit-learn.

    Sums over profiles rather than means save copies of the products.
    """

    def __init__(self, products: Products, threshold: float) -> None:
        self.products = products
        self.threshold = threshold

    def solve(
        self, xy_lb: np.ndarray, yy_b: np.ndarray, weight_lb: np.ndarray, allowed_b: np.ndarray
    ) -> np.ndarray:
        """Bring the weights of a block of targets to the solution, in place; their gaps."""
        square_l = self.products.square_l
        # A landmark or target with one value in all profiles has no weights.
        weight_lb[square_l <= 0] = 0.0
        weight_lb[:, yy_b <= 0] = 0.0
        pull_lb = np.clip(xy_lb - self.products.times(weight_lb), -self.threshold, self.threshold)
        gap_b = self.gap(xy_lb, yy_b, weight_lb)
        # The threshold over the size of a common weight, 1/20 in standardised units.
        balance = 20 * self.threshold * float(np.sqrt(square_l.mean() / (yy_b.mean() or 1.0)))
        smooth = None
        for number in range(1, MAX_ROUNDS + 1):
            # Only what is not solved yet.
            open_b = np.flatnonzero(gap_b > allowed_b)
            if len(open_b) == 0:
                break
            if smooth is None:
                smooth = self.products.smoother(balance)
            xy_lo = xy_lb[:, open_b]
            weight_lo, pull_lo, factor = self.round(
                xy_lo, weight_lb[:, open_b], pull_lb[:, open_b], balance, smooth
            )
            weight_lb[:, open_b], pull_lb[:, open_b] = weight_lo, pull_lo
            gap_b[open_b] = self.gap(xy_lo, yy_b[open_b], weight_lo)
            # Ever more rarely: only with a balance that stays is the method sure to arrive.
            if number & (number - 1) == 0 and not 0.5 < factor < 2:
                balance *= factor
                smooth = None
        return gap_b

    def round(
        self,
        xy_lo: np.ndarray,
        weight_lo: np.ndarray,
        pull_lo: np.ndarray,
        balance: float,
        smooth: Callable[[np.ndarray], np.ndarray],
    ) -> tuple[np.ndarray, np.ndarray, float]:
        """Weights, their pulls, and the factor on the balance after some iterations.

        There are two sets of weights, sparse ones and smooth ones that fit the products; in the
        end they agree. The pull of a landmark is its product with the residual at the solution.
        The balance weighs moving the sparse weights against their agreement.
        """
        most = self.threshold / balance
        target_lo = xy_lo / balance
        state_lo = weight_lo + pull_lo / balance
        held_lo = np.clip(state_lo, -most, most)
        for _ in range(ROUND):
            before_lo = state_lo - held_lo
            smooth_lo = smooth(before_lo - held_lo + target_lo)
            state_lo += OVER_RELAXATION * (smooth_lo - before_lo)
            np.clip(state_lo, -most, most, out=held_lo)
        weight_lo = state_lo - held_lo
        apart = _norm(smooth_lo - weight_lo) / max(_norm(smooth_lo), _norm(weight_lo))
        moved = _norm(weight_lo - before_lo) / _norm(held_lo)
        factor = float(np.clip(np.sqrt(apart / moved), 0.1, 10)) if apart * moved > 0 else 1.0
        return weight_lo, held_lo * balance, factor

    def gap(self, xy_lb: np.ndarray, yy_b: np.ndarray, weight_lb: np.ndarray) -> np.ndarray:
        """Duality gap of each target.

        The dual point is the residual, shrunk until no landmark's product with it is above the
        threshold.
        """
        gradient_lb = xy_lb - self.products.times(weight_lb)
        explained_b = np.einsum("lb,lb->b", xy_lb, weight_lb)
        # |y - Xw|² = y·y - w·X'y - w·(X'y - X'Xw)
        residual_b = yy_b - explained_b - np.einsum("lb,lb->b", gradient_lb, weight_lb)
        objective_b = 0.5 * residual_b + self.threshold * np.abs(weight_lb).sum(axis=0)
        steepest_b = np.abs(gradient_lb, out=gradient_lb).max(axis=0)
        shrink_b = self.threshold / np.maximum(steepest_b, self.threshold)
        dual_b = shrink_b * (yy_b - explained_b) - 0.5 * shrink_b**2 * residual_b
        return np.asarray(objective_b - dual_b)


def _norm(weight_lo: np.ndarray) -> float:
    return float(np.linalg.norm(weight_lo))
