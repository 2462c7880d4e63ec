"""The lasso for all targets at once, from the sums of squares and products alone."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
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

TOLERANCE = 1e-8
"""Duality gap, as a share of half the target's variance, at which a target is solved.

The gap is never less than half the mean squared difference between the training predictions and
those of the exact solution, so the two differ by at most 1e-4 standard deviations of the target
(root mean square).
"""

CHOICE_TOLERANCE = 1e-5
"""The same while penalties are compared: within 0.003 standard deviations."""

MAX_ROUNDS = 2000
"""Rounds after which a target is left as it is, with a warning."""

SWEEPS = 5
"""Passes over all landmarks in a round; the next round starts from their extrapolation."""

LEAPS, STRIDES = 10, 40
"""Linear systems, at most, that are solved for a target at the end of a round, of each sort."""

BLOCK_TARGETS = 1024
"""Targets worked on together; their weights should fit in the processor's cache."""

BLOCK_LANDMARKS = 64
"""Landmarks whose gradients are taken by one matrix product."""


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

        Raises
        ------
        DataError
            There are no validation profiles to choose on.
        """
        rows = choice_rows(dataset, config.seed)
        sums = training_gram(dataset)
        penalties = sorted(set(config.penalties or LASSO_PENALTIES))
        weight_lt = np.zeros_like(sums.xy_lt)
        best_lt, mae_of = weight_lt, dict[float, float]()
        for penalty in reversed(penalties):
            descend(sums, penalty, weight_lt, CHOICE_TOLERANCE)
            self._set_weights(weight_lt, sums)
            mae_of[penalty] = choice_mae(self.predict, dataset["validation"], rows)
            log.info(
                "lasso: penalty %g, %.1f of %d weights per target, validation MAE %.4f",
                penalty,
                np.count_nonzero(weight_lt) / max(len(sums.mean_t), 1),
                len(weight_lt),
                mae_of[penalty],
            )
            if mae_of[penalty] == min(mae_of.values()):
                best_lt = weight_lt.copy()
        self._choose(penalties, [mae_of[penalty] for penalty in penalties])
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

    Coordinate descent: landmark after landmark takes the weight that is best given all others,
    for a block of targets at once. Every `SWEEPS` passes the weights are extrapolated (Anderson),
    target by target, and the extrapolation is kept where it lowers the objective. Where few
    weights are not 0, the linear system that they obey at the minimum is solved instead, again
    with other weights if their signs say so (primal-dual active sets). A target is solved when
    its duality gap is at most `tolerance` of half its variance; a warning says how many are not
    after `MAX_ROUNDS`.

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
    Bertrand Q, Massias M. Anderson acceleration of coordinate descent. AISTATS 2021.
    Hintermüller M, Ito K, Kunisch K. The primal-dual active set strategy as a semismooth Newton
    method. SIAM J. Optim. 2003;13:865–888.

    Examples
    --------
    >>> from dgex.models.gram import gram
    >>> x_nl, y_nt = np.array([[1.0], [-1.0]]), np.array([[3.0], [-3.0]])
    >>> weight_lt = np.zeros((1, 1))
    >>> descend(gram([(0, x_nl, y_nt)], 1, 1, 2), 0.5, weight_lt)
    >>> weight_lt
    array([[2.5]])
    """
    from threadpoolctl import threadpool_limits

    n_targets = weight_lt.shape[1]
    # Everything is in sums over profiles rather than means, which saves copies of the products.
    threshold = penalty * sums.n
    allowed_t = 0.5 * tolerance * sums.yy_t
    what = f"lasso at penalty {penalty:g}"
    open_t = np.arange(n_targets)
    gap_t = np.empty(n_targets)
    report(what, 0, n_targets)

    def one_round(work: tuple[int, np.ndarray]) -> None:
        number, block = work
        problem = _Problem(
            sums.xx_ll, sums.xy_lt[:, block], sums.yy_t[block], threshold, allowed_t[block]
        )
        weight_lb = weight_lt[:, block]
        gap_t[block] = problem.round(number, weight_lb)
        weight_lt[:, block] = weight_lb

    # One target block per thread: the steps between the matrix products run in parallel too.
    with threadpool_limits(1):
        for number in range(1, MAX_ROUNDS + 1):
            starts = range(0, len(open_t), BLOCK_TARGETS)
            work = [(number, open_t[start : start + BLOCK_TARGETS]) for start in starts]
            for _ in map_blocks(one_round, work):
                pass
            # Solved targets leave, so that later rounds cost only what is left.
            open_t = open_t[gap_t[open_t] > allowed_t[open_t]]
            report(what, n_targets - len(open_t), n_targets)
            if len(open_t) == 0:
                return
    worst = float(np.sqrt(2 * gap_t[open_t] / sums.yy_t[open_t]).max())
    log.warning(
        "lasso at penalty %g: %d of %d targets are not solved to the last digit; their training "
        "predictions are within %.1g standard deviations of the solution.",
        penalty,
        len(open_t),
        n_targets,
        worst,
    )


@dataclass(frozen=True)
class _Problem:
    """The lasso of a block of targets; gaps and objectives are n times those of scikit-learn."""

    xx_ll: np.ndarray
    xy_lb: np.ndarray
    yy_b: np.ndarray
    threshold: float
    allowed_b: np.ndarray

    def round(self, number: int, weight_lb: np.ndarray) -> np.ndarray:
        """Bring the weights nearer to the solution; the gap of every target."""
        before_lb = weight_lb.copy()
        points, steps = [], []
        for _ in range(SWEEPS):
            self.sweep(weight_lb)
            points.append(weight_lb.copy())
            steps.append(weight_lb - before_lb)
            before_lb = points[-1]
        gap_b, objective_b = self.gap_and_objective(weight_lb)
        unsolved = np.flatnonzero(gap_b > self.allowed_b)
        # The third power of the number of weights is what a linear system costs. For 100 weights
        # it is worth its cost from the start, for more once as much has been spent on sweeps.
        if number & (number - 1) == 0:
            most = 100 * number**0.5
            few = np.count_nonzero(weight_lb[:, unsolved], axis=0) <= most
            for target in unsolved[few]:
                gap_b[target] = self.leap(target, gap_b[target], weight_lb[:, target])
                if gap_b[target] > self.allowed_b[target]:
                    gap_b[target] = self.stride(target, weight_lb[:, target])
            unsolved = np.flatnonzero(gap_b > self.allowed_b)
        if len(unsolved):
            shares_bs = _anderson_shares([step_lb[:, unsolved] for step_lb in steps])
            far_lb = np.zeros((len(weight_lb), len(unsolved)))
            for point_lb, share_b in zip(points, shares_bs.T, strict=True):
                far_lb += point_lb[:, unsolved] * share_b
            rest = replace(self, xy_lb=self.xy_lb[:, unsolved], yy_b=self.yy_b[unsolved])
            better = rest.gap_and_objective(far_lb)[1] < objective_b[unsolved]
            weight_lb[:, unsolved[better]] = far_lb[:, better]
        return gap_b

    def sweep(self, weight_lb: np.ndarray) -> None:
        """Bring one landmark after the other to its best weight, for all targets."""
        n_landmarks, n_targets = weight_lb.shape
        change_sb = np.empty((BLOCK_LANDMARKS, n_targets))
        new_b, clipped_b = np.empty(n_targets), np.empty(n_targets)
        for start in range(0, n_landmarks, BLOCK_LANDMARKS):
            stop = min(start + BLOCK_LANDMARKS, n_landmarks)
            gradient_sb = self.xy_lb[start:stop] - self.xx_ll[start:stop] @ weight_lb
            for place, landmark in enumerate(range(start, stop)):
                square = self.xx_ll[landmark, landmark]
                old_b = weight_lb[landmark]
                if square <= 0:  # a landmark with one value in all profiles
                    change_sb[place] = -old_b
                    old_b[:] = 0
                    continue
                # The gradient of the block's start, less what has changed since then.
                np.matmul(self.xx_ll[landmark, start:landmark], change_sb[:place], out=new_b)
                np.subtract(gradient_sb[place], new_b, out=new_b)
                new_b += np.multiply(old_b, square, out=clipped_b)
                np.clip(new_b, -self.threshold, self.threshold, out=clipped_b)
                new_b -= clipped_b
                new_b /= square
                np.subtract(new_b, old_b, out=change_sb[place])
                old_b[:] = new_b

    def gap_and_objective(self, weight_lb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Duality gap and objective of each target.

        The dual point is the residual, shrunk until no landmark's product with it is above the
        threshold.
        """
        gradient_lb = self.xy_lb - self.xx_ll @ weight_lb
        explained_b = np.einsum("lb,lb->b", self.xy_lb, weight_lb)
        # |y - Xw|² = y·y - w·X'y - w·(X'y - X'Xw)
        residual_b = self.yy_b - explained_b - np.einsum("lb,lb->b", gradient_lb, weight_lb)
        objective_b = 0.5 * residual_b + self.threshold * np.abs(weight_lb).sum(axis=0)
        steepest_b = np.abs(gradient_lb, out=gradient_lb).max(axis=0)
        shrink_b = self.threshold / np.maximum(steepest_b, self.threshold)
        dual_b = shrink_b * (self.yy_b - explained_b) - 0.5 * shrink_b**2 * residual_b
        return objective_b - dual_b, objective_b

    def leap(self, target: int, gap: float, weight_l: np.ndarray) -> float:
        """Solve one target by the linear system of the weights that are not 0; its gap.

        The weights, and the gap given, stay where that does not succeed: signs may go on changing.
        """
        xy_l, threshold = self.xy_lb[:, target], self.threshold
        square_l = np.diagonal(self.xx_ll)
        # At the minimum a landmark has a weight exactly where this is beyond the threshold.
        pull_l = square_l * weight_l + xy_l - self.xx_ll @ weight_l
        fewest, sign_l = len(weight_l) + 1, np.zeros(len(weight_l))
        problem = replace(self, xy_lb=xy_l[:, None], yy_b=self.yy_b[target : target + 1])
        for _ in range(LEAPS):
            before_l, sign_l = sign_l, np.sign(pull_l) * (np.abs(pull_l) > threshold)
            changed = int(np.count_nonzero(before_l != sign_l))
            if changed >= fewest:
                return gap
            fewest = changed
            there = np.flatnonzero(sign_l)
            xx_kl = self.xx_ll.take(there, axis=0)
            try:
                weight_k = np.linalg.solve(
                    xx_kl.take(there, axis=1), xy_l[there] - threshold * sign_l[there]
                )
            except np.linalg.LinAlgError:
                return gap
            pull_l = xy_l - weight_k @ xx_kl
            # Of landmarks that depend on each other the solution is rounding, and no solution.
            rest_k = pull_l[there] - threshold * sign_l[there]
            if np.abs(rest_k).max(initial=0.0) > 1e-6 * threshold:
                return gap
            pull_l[there] += square_l[there] * weight_k
            if np.array_equal(np.sign(pull_l) * (np.abs(pull_l) > threshold), sign_l):
                found_l1 = np.zeros((len(weight_l), 1))
                found_l1[there, 0] = weight_k
                found_gap = float(problem.gap_and_objective(found_l1)[0][0])
                if found_gap < gap:
                    weight_l[:] = found_l1[:, 0]
                    return found_gap
                return gap
        return gap

    def stride(self, target: int, weight_l: np.ndarray) -> float:
        """Lower the objective of one target by Newton steps among the weights not 0; its gap.

        A step ends where the objective is lowest along it, so that weights may become 0 or change
        their sign. Where no weight can be improved, the landmark that asks for one the most gets
        one. It is slower than `leap`, but never lost: no set of weights comes twice.
        """
        xy_l, threshold = self.xy_lb[:, target], self.threshold
        there = np.flatnonzero(weight_l)
        sign_k = np.sign(weight_l[there])
        for _ in range(STRIDES):
            xx_kl = self.xx_ll.take(there, axis=0)
            gradient_l = xy_l - weight_l[there] @ xx_kl
            rest_k = gradient_l[there] - threshold * sign_k
            if np.abs(rest_k).max(initial=0.0) <= 1e-9 * threshold:
                steepness_l = np.abs(gradient_l)
                steepness_l[there] = 0.0
                steepest = int(steepness_l.argmax())
                if steepness_l[steepest] <= threshold * (1 + 1e-9):
                    break
                there = np.append(there, steepest)
                sign_k = np.append(sign_k, np.sign(gradient_l[steepest]))
                continue
            xx_kk = xx_kl.take(there, axis=1)
            step_k = np.linalg.solve(
                # More landmarks than profiles can depend on each other.
                xx_kk + 1e-10 * np.trace(xx_kk) / len(there) * np.eye(len(there)),
                rest_k,
            )
            weight_k = _lowest(weight_l[there], step_k, rest_k, xx_kk, threshold)
            weight_l[there] = weight_k
            there, sign_k = there[weight_k != 0], np.sign(weight_k[weight_k != 0])
        block = slice(target, target + 1)
        problem = replace(self, xy_lb=self.xy_lb[:, block], yy_b=self.yy_b[block])
        return float(problem.gap_and_objective(weight_l[:, None])[0][0])


def _lowest(
    weight_k: np.ndarray,
    step_k: np.ndarray,
    rest_k: np.ndarray,
    xx_kk: np.ndarray,
    threshold: float,
) -> np.ndarray:
    """Weights where the objective is lowest on the way of a step.

    On the way its slope rises evenly, and by a jump wherever a weight passes 0.
    """
    slope, curvature = -float(rest_k @ step_k), float(step_k @ xx_kk @ step_k)
    passes = np.flatnonzero(weight_k * step_k < 0)
    at = -weight_k[passes] / step_k[passes]
    order = np.argsort(at)
    passes, at = passes[order], at[order]
    jumps = np.cumsum(2 * threshold * np.abs(step_k[passes]))
    after = slope + curvature * at + jumps
    first = int(np.searchsorted(after, 0.0))
    slope += jumps[first - 1] if first else 0.0
    if first < len(at) and slope + curvature * at[first] < 0:
        moved_k = weight_k + at[first] * step_k
        moved_k[passes[first]] = 0.0
        return moved_k
    return weight_k - slope / curvature * step_k


def _anderson_shares(steps: list[np.ndarray]) -> np.ndarray:
    """Shares of the last points in their extrapolation, (b, points); they add up to 1.

    With these shares the steps (l, b) that led to the points all but cancel out.
    """
    n_steps, n_targets = len(steps), steps[0].shape[1]
    products_bss = np.empty((n_targets, n_steps, n_steps))
    for i, one_lb in enumerate(steps):
        for j, other_lb in enumerate(steps[: i + 1]):
            product_b = np.einsum("lb,lb->b", one_lb, other_lb)
            products_bss[:, i, j] = products_bss[:, j, i] = product_b
    # Late steps are all but parallel; the addition keeps the solution within bounds.
    size_b = np.trace(products_bss, axis1=1, axis2=2)
    size_b[size_b == 0] = 1.0
    products_bss /= size_b[:, None, None]
    products_bss += 1e-12 * np.eye(n_steps)
    share_bs = np.linalg.solve(products_bss, np.ones((n_targets, n_steps, 1)))[:, :, 0]
    return np.asarray(share_bs / share_bs.sum(axis=1, keepdims=True))
