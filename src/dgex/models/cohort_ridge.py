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
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from dgex import progress
from dgex.config import COHORT_PENALTIES
from dgex.errors import DataError
from dgex.models.base import Model
from dgex.models.calibrate import Calibration, calibrate
from dgex.models.choice import warn_at_edge
from dgex.models.cohorts import LEAST_COHORTS, Cohorts, training_cohorts
from dgex.models.left_out import LeftOut, Products, noise, products_within, scored_rows

if TYPE_CHECKING:
    from dgex.config import TrainConfig
    from dgex.data.dataset import Dataset

log = logging.getLogger("dgex")

BETWEEN = (0.0, 0.2, 0.4, 0.7, 1.0)
"""Factors on the cohorts' means that are tried."""

LEAST_LEFT_OUT = 15
"""Profiles of a cohort from which it is left out once, to choose and to calibrate by."""

LARGEST_LEFT_OUT = 5000
"""Profiles of a cohort above which it is not left out where there are others: it would have to be
held in memory."""

MOST_LEFT_OUT = 40
"""Cohorts left out at most, drawn by the seed from more."""

CHOICE_TARGETS = 1024
"""Targets, evenly spaced, on which `between` is chosen."""

COMMON_SHARE = 0.5
"""What the error of all targets counts for in a target's choice of a penalty. Chosen on the other
cohorts, penalties of single targets alone were no better than one for all on one of two compendia;
with this share they were better on both."""

CALIBRATED_SHARE = 0.75
"""Share of the calibration that is applied. Learned on four fifths of the left-out cohorts and
scored on the rest it was the best of 0, 0.25, 0.5, 0.75 and 1 on both compendia tried."""

RELIABLE_FROM = 10
"""Profiles of a new cohort from which the reliability of its landmarks is taken from them. With 8,
10, 14 or 20 profiles of a left-out cohort it lowered the error on both compendia tried, with 5 it
made no difference. Moments of few profiles shrunk towards those of training raised it."""


class CohortRidge(Model):
    """Ridge for profiles of a new cohort; see the module.

    Cost of learning: one pass over the profiles for the products; then for every cohort left out
    (40 at most) and every penalty a system of l equations and the product of its 150 profiles at
    most with (l, t), for 1,024 targets with every value of `between` and for all with the chosen
    one, and once more to calibrate: 20 s on one core with 1,300 profiles of 27 cohorts, 941
    landmarks and 8,844 targets. Memory: three matrices (l, t), a few times the targets of the
    largest left-out cohort, and twice those of all the profiles that are scored (6,000 at most).

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
        self.within_ll = np.empty((0, 0), dtype=np.float32)
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
        noise_l: dict[int, np.ndarray] = {}
        for one in _each_left_out(cohorts, products, left_out, "choosing", noise_l):
            for error_pt, between in zip(error_fpt, BETWEEN, strict=True):
                _add_errors(error_pt, one, between, self.penalties, some)
        n = self._n_scored(cohorts, left_out)
        mae_f = error_fpt.min(axis=1).mean(axis=1) / n
        self.left_out_mae = dict(zip(BETWEEN, mae_f.tolist(), strict=True))
        self.between = BETWEEN[int(np.argmin(mae_f))]
        every = np.arange(products.xy_lt.shape[1])
        error_pt = np.zeros((len(self.penalties), len(every)))
        for one in _each_left_out(cohorts, products, left_out, "choosing penalties", noise_l):
            _add_errors(error_pt, one, self.between, self.penalties, every)
        common_p = error_pt.mean(axis=1)
        chosen_t = (error_pt + COMMON_SHARE * common_p[:, None]).argmin(axis=0)
        self.penalty_t = np.array(self.penalties, dtype=np.float32)[chosen_t]
        best = int(np.argmin(common_p))
        warn_at_edge("penalty of most targets", "--penalties", self.penalties, best)
        self._learn(cohorts, products, left_out, noise_l)

    def refit(self, dataset: Dataset) -> None:
        """Learn again with the factor and the penalties that `fit` chose, and calibrate anew."""
        _, cohorts = training_cohorts(dataset["train"], self.column, dataset.name)
        left_out = self._left_out(cohorts, dataset.name)
        self._learn(cohorts, products_within(cohorts), left_out, {})

    def _left_out(self, cohorts: Cohorts, name: str) -> np.ndarray:
        """Which cohorts are left out once."""
        large = np.flatnonzero(cohorts.n_c >= LEAST_LEFT_OUT)
        if len(large) < LEAST_COHORTS:
            raise DataError(
                f"{name} has {len(large)} cohorts of at least {LEAST_LEFT_OUT} training profiles; "
                f"{LEAST_COHORTS} are needed to choose by. Name another column with "
                "--cohort-column, or train for the same studies (--for same-studies)."
            )
        bounded = large[cohorts.n_c[large] <= LARGEST_LEFT_OUT]
        if len(bounded) >= LEAST_COHORTS:
            large = bounded
        if len(large) > MOST_LEFT_OUT:
            rng = np.random.default_rng(self.seed)
            large = np.sort(rng.choice(large, MOST_LEFT_OUT, replace=False))
        return large

    def _n_scored(self, cohorts: Cohorts, left_out: np.ndarray) -> int:
        return sum(len(scored_rows(int(n))) for n in cohorts.n_c[left_out])

    def _learn(
        self,
        cohorts: Cohorts,
        products: Products,
        left_out: np.ndarray,
        noise_l: dict[int, np.ndarray],
    ) -> None:
        """Take the products of all cohorts, and the calibration from leaving some out."""
        targets = [np.flatnonzero(self.penalty_t == one) for one in self._used_penalties()]
        n, first = self._n_scored(cohorts, left_out), 0
        guess_nt = np.empty((n, len(self.penalty_t)), dtype=np.float32)
        y_nt = np.empty_like(guess_nt)
        for one in _each_left_out(cohorts, products, left_out, "calibrating", noise_l):
            rows = slice(first, first + len(one.y_nt))
            y_nt[rows] = one.y_nt
            guesses = one.guesses(self.between, self._used_penalties(), targets)
            for chosen_t, guess_bt in zip(targets, guesses, strict=True):
                guess_nt[rows, chosen_t] = guess_bt
            first = rows.stop
        learned = calibrate(guess_nt, y_nt)
        self.calibration = Calibration(learned.guess_kt, CALIBRATED_SHARE * learned.added_kt)
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
        self.within_ll = (products.xx_ll / products.n).astype(np.float32)
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
            note = (
                f"{n} profiles are too few to tell which landmarks are noisy there "
                f"({RELIABLE_FROM} are needed)."
            )
        else:
            own_ll = own_ll / n - np.outer(sum_l / n, sum_l / n)
            there = np.ix_(present_l, present_l)
            noise_l[present_l] = noise(self.within_ll[there].astype(np.float64), own_ll[there])
            reliability = float(np.median(1.0 / (1.0 + noise_l[present_l])))
            note = (
                f"Landmarks weighed by how well they agree with one another over {n} profiles: "
                f"median reliability {reliability:.2f} (1: as well as in training)."
            )
        log.info("%s", note)
        adapted = copy.copy(self)
        adapted.cohort_note = note
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
        """Arrays ``xx_ll``, ``within_ll``, ``xy_lt``, ``penalty_t`` and those to calibrate by."""
        products = {"xx_ll": self.xx_ll, "within_ll": self.within_ll, "xy_lt": self.xy_lt}
        return products | {"penalty_t": self.penalty_t} | self.calibration.arrays()

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
        model.within_ll, model.penalty_t = arrays["within_ll"], arrays["penalty_t"]
        if model.within_ll.shape != model.xx_ll.shape:
            raise ValueError(f"within_ll has shape {model.within_ll.shape}")
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
    cohorts: Cohorts,
    products: Products,
    left_out: np.ndarray,
    what: str,
    noise_l: dict[int, np.ndarray],
) -> Iterator[LeftOut]:
    """Leave out one cohort after the other; `noise_l` keeps what does not change, by cohort."""
    for c in progress.track(left_out.tolist(), f"{what} by left-out cohorts", len(left_out)):
        one = LeftOut(cohorts, products, c, noise_l.get(c))
        noise_l[c] = one.noise_l
        yield one


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
