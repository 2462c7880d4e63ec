"""Ridge regression for profiles of a new cohort, which are standardised by their own moments.

A cohort of another platform or study that is standardised by its own moments shows only how its
profiles differ from one another. A ridge fitted to the z-scores of a whole compendium has learned
mostly how tissues and studies differ. Here the training profiles are centred and scaled within
their cohorts, and the cohorts' means count for less, by a factor `between`.

Not every landmark measures on another platform what it measures on the training one. Where the
others no longer foretell a landmark in the new cohort as they did in training, it is noisy there,
and it counts for less: errors in variables (Fuller, Measurement Error Models, 1987), the noise
taken from the cohort's own landmarks.

All choices are made by leaving out one training cohort after the other, each standardised by its
own moments as a new one would be.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from dgex import progress
from dgex.config import COHORT_PENALTIES
from dgex.errors import DataError
from dgex.models.base import Model
from dgex.models.calibrate import Calibration, calibrate
from dgex.models.choice import warn_at_edge
from dgex.models.cohorts import LEAST_COHORTS, Cohorts, own_moments, training_cohorts

if TYPE_CHECKING:
    from dgex.config import TrainConfig
    from dgex.data.dataset import Dataset

log = logging.getLogger("dgex")

BETWEEN = (0.0, 0.2, 0.4, 0.7)
"""Factors on the cohorts' means that are tried."""

LEAST_LEFT_OUT = 15
"""Profiles of a cohort from which it is left out once, to choose and to calibrate by."""

MOST_LEFT_OUT = 40
"""Cohorts left out at most, drawn by the seed from more."""

MOST_PROFILES = 150
"""Profiles of a left-out cohort that are scored at most, evenly spaced."""

CHOICE_TARGETS = 1024
"""Targets, evenly spaced, on which `between` is chosen."""

RELIABLE_FROM = 20
"""Profiles of a new cohort from which the reliability of its landmarks is taken from them."""

RELIABILITY_PENALTY = 0.6
LEAST_RELIABILITY = 0.05


@dataclass(frozen=True)
class Products:
    """Products over training profiles within and between cohorts, summed.

    Attributes
    ----------
    n
        Number of profiles.
    xx_ll, xy_lt
        Within cohorts: landmarks with landmarks (l, l), with targets (l, t).
    """

    n: int
    xx_ll: np.ndarray
    xy_lt: np.ndarray


class LeftOut:
    """Guesses of one cohort from all others, each time the products without that cohort's.

    Parameters
    ----------
    cohorts
        All cohorts.
    products
        Their products within cohorts.
    c
        The cohort to leave out.
    """

    def __init__(self, cohorts: Cohorts, products: Products, c: int) -> None:
        self._cohorts, self._products, self._c = cohorts, products, c
        train, rows = cohorts.train, cohorts.rows[c]
        blocks = [(x_bl, y_bt) for x_bl, y_bt in cohorts.blocks(c)]
        self._x_nl = np.concatenate([x_bl for x_bl, _ in blocks])
        self._within_nt = np.concatenate([y_bt for _, y_bt in blocks])
        self._n_rest = products.n - len(rows)
        scored = np.array(_scored(len(rows)))
        z_nl = own_moments(train.x_nl[rows])
        self._own_ll = z_nl.T @ z_nl / len(rows)
        self._z_nl = z_nl[scored].astype(np.float64)
        self.y_nt = own_moments(train.y_nt[rows])[scored]

    def guesses(
        self, between: float, penalties: Sequence[float], targets: Sequence[np.ndarray]
    ) -> Iterator[np.ndarray]:
        """Guesses (n, t) of the chosen targets of each penalty, by a penalty and its targets."""
        from scipy.linalg import cho_factor, cho_solve

        xx_ll = self._products.xx_ll - self._x_nl.T @ self._x_nl
        mean_cl, mean_ct = self._cohorts.between(self._c)
        xx_ll += between**2 * (mean_cl.T @ mean_cl)
        xx_ll /= self._n_rest
        noise_l = 1.0 / reliability(xx_ll, self._own_ll) - 1.0
        for penalty, chosen_t in zip(penalties, targets, strict=True):
            factor = cho_factor(xx_ll + np.diag(penalty + noise_l), check_finite=False)
            weight_nl = cho_solve(factor, self._z_nl.T, check_finite=False).T / self._n_rest
            weight_nl = weight_nl.astype(np.float32)
            guess_nt = weight_nl @ self._products.xy_lt[:, chosen_t]
            guess_nt -= (weight_nl @ self._x_nl.T) @ self._within_nt[:, chosen_t]
            guess_nt += (between**2 * (weight_nl @ mean_cl.T)) @ mean_ct[:, chosen_t]
            yield guess_nt


def reliability(xx_ll: np.ndarray, own_ll: np.ndarray) -> np.ndarray:
    """How well each landmark of a cohort agrees with the others, relative to training.

    Every landmark is guessed from all others by ridge regression on the training profiles; the
    correlation of the guess with what was measured, in the cohort, is divided by that in training.

    Parameters
    ----------
    xx_ll
        Mean products of the training landmarks, shape (l, l).
    own_ll
        Mean products of the cohort's landmarks, centred, shape (l, l).

    Returns
    -------
    numpy.ndarray
        From `LEAST_RELIABILITY` to 1, shape (l,).

    Examples
    --------
    >>> alike_ll = np.array([[1.0, 0.8], [0.8, 1.0]])
    >>> reliability(alike_ll, alike_ll), reliability(alike_ll, np.eye(2))
    (array([1., 1.]), array([0.05, 0.05]))
    """
    inverse_ll = np.linalg.inv(xx_ll + RELIABILITY_PENALTY * np.eye(len(xx_ll)))
    there_l = _agreement(inverse_ll, own_ll)
    in_training_l = _agreement(inverse_ll, xx_ll)
    return np.clip(there_l / np.maximum(in_training_l, 0.1), LEAST_RELIABILITY, 1.0)


def _agreement(inverse_ll: np.ndarray, products_ll: np.ndarray) -> np.ndarray:
    """Correlation of each landmark with its guess from the others, from products alone.

    The guess of landmark j is x_j minus column j of x · inverse divided by inverse_jj (the
    shortcut of leave-one-out for one column in place of one row).
    """
    scale_l = np.diag(inverse_ll)
    variance_l = np.diag(products_ll)
    turned_ll = products_ll @ inverse_ll
    with_l = np.diag(turned_ll) / scale_l
    squared_l = np.einsum("ij,ij->j", inverse_ll, turned_ll) / scale_l**2
    guess_variance_l = np.maximum(variance_l - 2.0 * with_l + squared_l, 0.0)
    spread_l = np.sqrt(guess_variance_l * variance_l)
    agreement_l = np.zeros(len(scale_l))
    np.divide(variance_l - with_l, spread_l, out=agreement_l, where=spread_l > 1e-12)
    return agreement_l


def products_within(cohorts: Cohorts) -> Products:
    """Products of landmarks and targets within cohorts, in one pass.

    Landmarks are centred within their cohort, so that it makes no difference that clipped targets
    are not.
    """
    n_landmarks, n_targets = cohorts.mean_cl.shape[1], cohorts.mean_ct.shape[1]
    xx_ll = np.zeros((n_landmarks, n_landmarks))
    xy_lt = np.zeros((n_landmarks, n_targets))
    for c in progress.track(range(len(cohorts)), "products within cohorts", len(cohorts)):
        for x_bl, y_bt in cohorts.blocks(c):
            xx_ll += x_bl.T @ x_bl
            xy_lt += x_bl.T @ y_bt
    return Products(int(cohorts.n_c.sum()), xx_ll, xy_lt.astype(np.float32))


class CohortRidge(Model):
    """Ridge for profiles of a new cohort; see the module.

    Cost of learning: one pass over the profiles for the products; then for every cohort left out
    (40 at most) and every penalty a system of l equations and the product of its 150 profiles at
    most with (l, t), for a ninth of the targets with every value of `between` and for all with the
    chosen one, and once more to calibrate. Memory: three matrices (l, t) and the targets of the
    largest left-out cohort, and of all those that are scored.

    Attributes
    ----------
    between
        Factor on the cohorts' means.
    penalties
        Those tried, ascending, relative to the number of profiles.
    left_out_mae
        The lowest error over the left-out cohorts with each factor of `BETWEEN`, every target with
        its best penalty, in standard deviations within the cohort.
    mae
        The error over the left-out cohorts with what was chosen, before calibration.
    """

    kind = "cohort-ridge"
    for_new_cohorts = True

    def __init__(self) -> None:
        self.xx_ll = np.empty((0, 0), dtype=np.float32)
        self.xy_lt = np.empty((0, 0), dtype=np.float32)
        self.penalty_t = np.empty(0, dtype=np.float32)
        self.calibration = Calibration(np.empty((1, 0)), np.empty((1, 0)))
        self.column = ""
        self.n_cohorts = 0
        self.seed = 0
        self.between = float("nan")
        self.penalties: tuple[float, ...] = ()
        self.left_out_mae: dict[float, float] = {}
        self.mae = float("nan")
        self._weight_lt: np.ndarray | None = None

    @property
    def n_landmarks(self) -> int:
        """Number of landmarks it takes."""
        return len(self.xx_ll)

    @property
    def n_targets(self) -> int:
        """Number of targets it infers."""
        return len(self.penalty_t)

    def fit(self, dataset: Dataset, config: TrainConfig) -> None:
        """Choose `between` and a penalty per target by leaving out cohorts, and calibrate.

        Raises
        ------
        UsageError, DataError
            No column makes cohorts, or too few.
        """
        self.seed = config.seed
        self.penalties = tuple(sorted(set(config.penalties or COHORT_PENALTIES)))
        self.column, cohorts = training_cohorts(
            dataset["train"], config.cohort_column, dataset.name
        )
        products = products_within(cohorts)
        left_out = self._left_out(cohorts, dataset.name)
        some = np.arange(0, products.xy_lt.shape[1], -(-products.xy_lt.shape[1] // CHOICE_TARGETS))
        error_fpt = np.zeros((len(BETWEEN), len(self.penalties), len(some)))
        for one in _each_left_out(cohorts, products, left_out, "choosing"):
            for error_pt, between in zip(error_fpt, BETWEEN, strict=True):
                _add_errors(error_pt, one, between, self.penalties, some)
        n = self._n_scored(cohorts, left_out)
        mae_f = error_fpt.min(axis=1).mean(axis=1) / n
        self.left_out_mae = dict(zip(BETWEEN, mae_f.tolist(), strict=True))
        self.between = BETWEEN[int(np.argmin(mae_f))]
        every = np.arange(products.xy_lt.shape[1])
        error_pt = np.zeros((len(self.penalties), len(every)))
        for one in _each_left_out(cohorts, products, left_out, "choosing penalties"):
            _add_errors(error_pt, one, self.between, self.penalties, every)
        self.penalty_t = np.array(self.penalties, dtype=np.float32)[error_pt.argmin(axis=0)]
        best = int(np.argmin(error_pt.mean(axis=1)))
        warn_at_edge("penalty of most targets", "--penalties", self.penalties, best)
        self._learn(cohorts, products, left_out)

    def refit(self, dataset: Dataset) -> None:
        """Learn again with the factor and the penalties that `fit` chose, and calibrate anew."""
        _, cohorts = training_cohorts(dataset["train"], self.column, dataset.name)
        self._learn(cohorts, products_within(cohorts), self._left_out(cohorts, dataset.name))

    def _left_out(self, cohorts: Cohorts, name: str) -> np.ndarray:
        """Which cohorts are left out once."""
        large = np.flatnonzero(cohorts.n_c >= LEAST_LEFT_OUT)
        if len(large) < LEAST_COHORTS:
            raise DataError(
                f"{name} has {len(large)} cohorts of at least {LEAST_LEFT_OUT} training profiles; "
                f"{LEAST_COHORTS} are needed to choose by. Name another column with "
                "--cohort-column, or train for the same studies (--for same-studies)."
            )
        if len(large) > MOST_LEFT_OUT:
            rng = np.random.default_rng(self.seed)
            large = np.sort(rng.choice(large, MOST_LEFT_OUT, replace=False))
        return large

    def _n_scored(self, cohorts: Cohorts, left_out: np.ndarray) -> int:
        return sum(len(_scored(int(n))) for n in cohorts.n_c[left_out])

    def _learn(self, cohorts: Cohorts, products: Products, left_out: np.ndarray) -> None:
        """Take the products of all cohorts, and the calibration from leaving some out."""
        targets = [np.flatnonzero(self.penalty_t == one) for one in self._used_penalties()]
        n, first = self._n_scored(cohorts, left_out), 0
        guess_nt = np.empty((n, len(self.penalty_t)), dtype=np.float32)
        y_nt = np.empty_like(guess_nt)
        for one in _each_left_out(cohorts, products, left_out, "calibrating"):
            rows = slice(first, first + len(one.y_nt))
            y_nt[rows] = one.y_nt
            guesses = one.guesses(self.between, self._used_penalties(), targets)
            for chosen_t, guess_bt in zip(targets, guesses, strict=True):
                guess_nt[rows, chosen_t] = guess_bt
            first = rows.stop
        self.calibration = calibrate(guess_nt, y_nt)
        self.mae = float(np.abs(np.subtract(guess_nt, y_nt, out=y_nt), out=y_nt).mean())
        log.info(
            "%s: cohorts' means by %g, MAE over %d left-out cohorts %.4f before calibration.",
            self.kind,
            self.between,
            len(left_out),
            self.mae,
        )
        mean_cl, mean_ct = cohorts.between()
        self.xx_ll = products.xx_ll + self.between**2 * (mean_cl.T @ mean_cl)
        self.xx_ll = (self.xx_ll / products.n).astype(np.float32)
        self.xy_lt = products.xy_lt + self.between**2 * (mean_cl.T @ mean_ct)
        self.xy_lt /= products.n
        self.n_cohorts = len(cohorts)
        self._weight_lt = None

    def _used_penalties(self) -> list[float]:
        return [float(one) for one in np.unique(self.penalty_t)]

    def for_cohort(self, blocks: Iterable[np.ndarray], present_l: np.ndarray) -> Self:
        """The same for one cohort: less of the landmarks that are noisy there, none of absent ones.

        With fewer than `RELIABLE_FROM` profiles all measured landmarks count as in training.

        Parameters
        ----------
        blocks
            Landmarks of the whole cohort, standardised by its own moments, (b, l) each.
        present_l
            Which landmarks were measured, shape (l,).
        """
        n, sum_l = 0, np.zeros(self.n_landmarks)
        own_ll = np.zeros((self.n_landmarks, self.n_landmarks))
        for x_bl in blocks:
            own_ll += x_bl.T @ x_bl
            sum_l += x_bl.sum(axis=0, dtype=np.float64)
            n += len(x_bl)
        noise_l = np.zeros(self.n_landmarks)
        if n < RELIABLE_FROM:
            log.info(
                "%d profiles are too few to tell which landmarks are noisy there (%d are needed).",
                n,
                RELIABLE_FROM,
            )
        else:
            own_ll = own_ll / n - np.outer(sum_l / n, sum_l / n)
            there = np.ix_(present_l, present_l)
            xx_ll = self.xx_ll.astype(np.float64)
            noise_l[present_l] = 1.0 / reliability(xx_ll[there], own_ll[there]) - 1.0
            log.info(
                "Landmarks weighed by how well they agree with one another over %d profiles: "
                "median reliability %.2f.",
                n,
                float(np.median(1.0 / (1.0 + noise_l[present_l]))),
            )
        adapted = copy.copy(self)
        adapted._weight_lt = self._solve(noise_l, present_l)
        return adapted

    def _solve(self, noise_l: np.ndarray, present_l: np.ndarray) -> np.ndarray:
        """Weights (l, t), float32, given what noise is added to each landmark's variance."""
        from scipy.linalg import cho_factor, cho_solve

        known_ll = self.xx_ll[np.ix_(present_l, present_l)].astype(np.float64)
        weight_lt = np.zeros_like(self.xy_lt)
        for penalty in self._used_penalties():
            chosen_t = np.flatnonzero(self.penalty_t == np.float32(penalty))
            factor = cho_factor(known_ll + np.diag(penalty + noise_l[present_l]))
            cross_lt = self.xy_lt[np.ix_(present_l, chosen_t)]
            weight_lt[np.ix_(present_l, chosen_t)] = cho_solve(factor, cross_lt)
        return weight_lt

    def arrays(self) -> dict[str, np.ndarray]:
        """Arrays ``xx_ll``, ``xy_lt``, ``penalty_t``, ``guess_kt`` and ``added_kt``."""
        products = {"xx_ll": self.xx_ll, "xy_lt": self.xy_lt, "penalty_t": self.penalty_t}
        return products | self.calibration.arrays()

    def settings(self) -> dict[str, Any]:
        """What was chosen, from what, and the ``left_out_mae`` of every one of ``factors``."""
        return {
            "cohort_column": self.column,
            "cohorts": self.n_cohorts,
            "between": self.between,
            "mae_of_left_out_cohorts": self.mae,
            "seed": self.seed,
            "penalties": list(self.penalties),
            "factors": list(self.left_out_mae),
            "left_out_mae": list(self.left_out_mae.values()),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> Self:
        """Undo `arrays` and `settings`."""
        model = cls()
        model.xx_ll, model.xy_lt = arrays["xx_ll"], arrays["xy_lt"]
        model.penalty_t = arrays["penalty_t"]
        if model.penalty_t.ndim != 1 or model.xx_ll.shape != (len(model.xx_ll),) * 2:
            raise ValueError(f"xx_ll {model.xx_ll.shape}, penalty_t {model.penalty_t.shape}")
        if model.xy_lt.shape != (len(model.xx_ll), len(model.penalty_t)):
            raise ValueError(f"xy_lt has shape {model.xy_lt.shape}")
        if not (model.penalty_t > 0).all():
            raise ValueError("a penalty is not above 0")
        model.calibration = Calibration.from_arrays(arrays, len(model.penalty_t))
        model.column, model.n_cohorts = str(settings["cohort_column"]), int(settings["cohorts"])
        model.between, model.seed = float(settings["between"]), int(settings["seed"])
        model.mae = float(settings["mae_of_left_out_cohorts"])
        model.penalties = tuple(settings["penalties"])
        model.left_out_mae = dict(zip(settings["factors"], settings["left_out_mae"], strict=True))
        return model

    def _predict_block(self, x_bl: np.ndarray, y_bt: np.ndarray) -> None:
        if self._weight_lt is None:
            everywhere = np.ones(self.n_landmarks, dtype=bool)
            self._weight_lt = self._solve(np.zeros(self.n_landmarks), everywhere)
        y_bt[:] = self.calibration(x_bl @ self._weight_lt)


def _each_left_out(
    cohorts: Cohorts, products: Products, left_out: np.ndarray, what: str
) -> Iterator[LeftOut]:
    for c in progress.track(left_out, f"{what} by left-out cohorts", len(left_out)):
        yield LeftOut(cohorts, products, int(c))


def _add_errors(
    error_pt: np.ndarray,
    one: LeftOut,
    between: float,
    penalties: Sequence[float],
    chosen_t: np.ndarray,
) -> None:
    """Add the absolute errors of a left-out cohort, summed over its profiles."""
    guesses = one.guesses(between, penalties, [chosen_t] * len(penalties))
    y_nt = one.y_nt[:, chosen_t]
    for error_t, guess_nt in zip(error_pt, guesses, strict=True):
        guess_nt -= y_nt
        error_t += np.abs(guess_nt, out=guess_nt).sum(axis=0, dtype=np.float64)


def _scored(n: int) -> range:
    """Which profiles of a left-out cohort of `n` are scored: all, or evenly spaced ones."""
    return range(0, n, -(-n // MOST_PROFILES))
