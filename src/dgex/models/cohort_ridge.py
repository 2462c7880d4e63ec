"""Ridge regression for profiles of a new cohort, which are standardised by their own moments.

A cohort of another platform or study that is standardised by its own moments shows only how its
profiles differ from one another. A ridge fitted to the z-scores of a whole compendium has learned
mostly how tissues and studies differ. Here the training profiles are centred and scaled within
their cohorts, and the cohorts' means count for less, by a factor `between`.

The weights are solved anew for every new cohort, whose landmarks say two things of it
(`dgex.models.likeness`). Landmarks that are noisy there count for less: errors in variables
(Fuller, Measurement Error Models, 1987). Training cohorts that are like it count for more.

All choices are made by leaving out one training cohort after the other, each standardised by its
own moments as a new one would be.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from dgex import progress
from dgex.config import COHORT_PENALTIES
from dgex.errors import DataError
from dgex.models.base import Model
from dgex.models.calibrate import Calibration, calibrate
from dgex.models.choice import warn_at_edge
from dgex.models.cohorts import LEAST_COHORTS, Cohorts, training_cohorts
from dgex.models.left_out import Columns, LeftOut, scored_rows
from dgex.models.likeness import Adaptation, adapt

if TYPE_CHECKING:
    from dgex.config import TrainConfig
    from dgex.data.dataset import Dataset, ProfileSet

log = logging.getLogger("dgex")

BETWEEN = (0.0, 0.2, 0.4, 0.7, 1.0)
"""Factors on the cohorts' means that are tried."""

LEAST_LEFT_OUT = 15
"""Profiles of a cohort from which it is left out once, to choose and to calibrate by."""

LARGEST_LEFT_OUT = 5000
"""Profiles of a cohort above which it is not left out where there are others: it would have to be
held in memory once more."""

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
"""Profiles of a new cohort from which the model is adapted to it. With 8, 10, 14 or 20 profiles
of a left-out cohort the reliability of landmarks lowered the error on both compendia tried, with 5
it made no difference. Moments of few profiles shrunk towards those of training raised it."""


class CohortRidge(Model):
    """Ridge for profiles of a new cohort; see the module.

    Cost of learning: for every cohort left out (40 at most) the products of all training landmarks
    eight times, and for every penalty a system of l equations and the products of its 150 profiles
    at most with the training profiles (20,000 at most), for 1,024 targets with every value of
    `between` and for all with the chosen one, and once more to calibrate. Memory: twice the
    training profiles, and twice those of all cohorts that are scored (6,000 at most). The Model
    holds the training profiles.

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
        none = np.empty((0, 0), dtype=np.float32)
        self.cohorts = Cohorts(none, none, np.empty(0, dtype=np.int32), none, none)
        self.penalty_t = np.empty(0, dtype=np.float32)
        self.calibration = Calibration(np.empty((1, 0)), np.empty((1, 0)))
        self.column = ""
        self.seed = 0
        self.between = float("nan")
        self.penalties: tuple[float, ...] = ()
        self.left_out_mae: dict[float, float] = {}
        self.mae = float("nan")
        self._weight_lt: np.ndarray | None = None

    @property
    def n_landmarks(self) -> int:
        """Number of landmarks it takes."""
        return self.cohorts.x_nl.shape[1]

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
        left_out = self._read(dataset, config.cohort_column)
        n_targets = left_out.cohorts.y_nt.shape[1]
        some = np.arange(0, n_targets, -(-n_targets // CHOICE_TARGETS))
        error_fpt = np.zeros((len(BETWEEN), len(self.penalties), len(some)))
        for one in left_out.each("choosing", some):
            for error_pt, between in zip(error_fpt, BETWEEN, strict=True):
                _add_errors(error_pt, one, between, self.penalties)
        mae_f = error_fpt.min(axis=1).mean(axis=1) / left_out.n_scored
        self.left_out_mae = dict(zip(BETWEEN, mae_f.tolist(), strict=True))
        self.between = BETWEEN[int(np.argmin(mae_f))]
        error_pt = np.zeros((len(self.penalties), n_targets))
        for one in left_out.each("choosing penalties"):
            _add_errors(error_pt, one, self.between, self.penalties)
        common_p = error_pt.mean(axis=1)
        chosen_t = (error_pt + COMMON_SHARE * common_p[:, None]).argmin(axis=0)
        self.penalty_t = np.array(self.penalties, dtype=np.float32)[chosen_t]
        best = int(np.argmin(common_p))
        warn_at_edge("penalty of most targets", "--penalties", self.penalties, best)
        self._learn(left_out)

    def refit(self, dataset: Dataset) -> None:
        """Learn again with the factor and the penalties that `fit` chose, and calibrate anew."""
        self._learn(self._read(dataset, self.column))

    def _read(self, dataset: Dataset, column: str | None) -> _LeftOutCohorts:
        train = dataset["train"]
        self.column, rows = training_cohorts(train, column, dataset.name)
        chosen = self._left_out(rows, dataset.name)
        return _LeftOutCohorts(Cohorts.of(train, rows), train, rows, chosen)

    def _left_out(self, rows: list[np.ndarray], name: str) -> np.ndarray:
        """Which cohorts are left out once."""
        n_c = np.array([len(one) for one in rows])
        large = np.flatnonzero(n_c >= LEAST_LEFT_OUT)
        if len(large) < LEAST_COHORTS:
            raise DataError(
                f"{name} has {len(large)} cohorts of at least {LEAST_LEFT_OUT} training profiles; "
                f"{LEAST_COHORTS} are needed to choose by. Name another column with "
                "--cohort-column, or train for the same studies (--for same-studies)."
            )
        bounded = large[n_c[large] <= LARGEST_LEFT_OUT]
        if len(bounded) >= LEAST_COHORTS:
            large = bounded
        if len(large) > MOST_LEFT_OUT:
            rng = np.random.default_rng(self.seed)
            large = np.sort(rng.choice(large, MOST_LEFT_OUT, replace=False))
        return large

    def _learn(self, left_out: _LeftOutCohorts) -> None:
        """Take the profiles of all cohorts, and the calibration from leaving some out."""
        targets = [np.flatnonzero(self.penalty_t == one) for one in self._used_penalties()]
        first = 0
        guess_nt = np.empty((left_out.n_scored, len(self.penalty_t)), dtype=np.float32)
        y_nt = np.empty_like(guess_nt)
        for one in left_out.each("calibrating"):
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
            len(left_out.chosen),
            self.mae,
        )
        self.cohorts = left_out.cohorts
        self._weight_lt = None

    def _used_penalties(self) -> list[float]:
        return [float(one) for one in np.unique(self.penalty_t)]

    def for_cohort(self, blocks: Iterable[np.ndarray], present_l: np.ndarray) -> Self:
        """The same adapted to one cohort.

        Training cohorts that are like it count for more, landmarks that are noisy there for less,
        absent ones for nothing. With fewer than `RELIABLE_FROM` profiles all training cohorts and
        all measured landmarks count as in training.

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
        cohorts = self.cohorts.of_landmarks(present_l)
        if n < RELIABLE_FROM:
            found = _unadapted(cohorts)
            note = (
                f"{n} profiles are too few to tell which training cohorts they are like and which "
                f"landmarks are noisy there ({RELIABLE_FROM} are needed)."
            )
        else:
            own_ll = own_ll / n - np.outer(sum_l / n, sum_l / n)
            found = adapt(cohorts, cohorts.weight_c, own_ll[np.ix_(present_l, present_l)])
            reliability = float(np.median(1.0 / (1.0 + found.noise_l)))
            note = (
                f"Adapted to these {n} profiles by their landmarks: median reliability "
                f"{reliability:.2f} (1: they agree with one another as well as in training); the "
                "training cohorts, weighed by likeness, are as many as "
                f"{_effective(cohorts, found.weight_c):.1f} of equal weight "
                f"({_effective(cohorts, cohorts.weight_c):.1f} before)."
            )
        log.info("%s", note)
        adapted = copy.copy(self)
        adapted.cohort_note = note
        adapted._weight_lt = np.zeros((self.n_landmarks, self.n_targets), dtype=np.float32)
        adapted._weight_lt[present_l] = self._solve(cohorts, found)
        return adapted

    def _solve(self, cohorts: Cohorts, adapted: Adaptation) -> np.ndarray:
        """Weights of the landmarks that `cohorts` has, (l, t), float32."""
        from scipy.linalg import cho_factor, cho_solve

        mean_cl, mean_ct = cohorts.between(adapted.weight_c)
        xx_ll = cohorts.within(adapted.weight_c) + self.between**2 * (mean_cl.T @ mean_cl)
        share_n = cohorts.share_n(adapted.weight_c)
        xy_lt = (cohorts.x_nl * share_n[:, None]).T @ cohorts.y_nt
        xy_lt += self.between**2 * (mean_cl.T @ mean_ct)
        for penalty in self._used_penalties():
            chosen_t = np.flatnonzero(self.penalty_t == np.float32(penalty))
            factor = cho_factor(xx_ll + np.diag(penalty + adapted.noise_l))
            xy_lt[:, chosen_t] = cho_solve(factor, xy_lt[:, chosen_t])
        return xy_lt

    def arrays(self) -> dict[str, np.ndarray]:
        """Arrays of the training cohorts, ``penalty_t`` and those to calibrate by."""
        return self.cohorts.arrays() | {"penalty_t": self.penalty_t} | self.calibration.arrays()

    def settings(self) -> dict[str, Any]:
        """What was chosen, from what, and the ``left_out_mae`` of every one of ``factors``."""
        return {
            "cohort_column": self.column,
            "cohorts": len(self.cohorts.n_c),
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
        model.cohorts, model.penalty_t = Cohorts.from_arrays(arrays), arrays["penalty_t"]
        if model.penalty_t.shape != model.cohorts.y_nt.shape[1:]:
            raise ValueError(f"penalty_t has shape {model.penalty_t.shape}")
        if not (model.penalty_t > 0).all():
            raise ValueError("a penalty is not above 0")
        model.calibration = Calibration.from_arrays(arrays, len(model.penalty_t))
        model.column = str(settings["cohort_column"])
        model.between, model.seed = float(settings["between"]), int(settings["seed"])
        model.mae = float(settings["mae_of_left_out_cohorts"])
        model.penalties = tuple(settings["penalties"])
        model.left_out_mae = dict(zip(settings["factors"], settings["left_out_mae"], strict=True))
        return model

    def _predict_block(self, x_bl: np.ndarray, y_bt: np.ndarray) -> None:
        if self._weight_lt is None:
            self._weight_lt = self._solve(self.cohorts, _unadapted(self.cohorts))
        y_bt[:] = self.calibration(x_bl @ self._weight_lt)


@dataclass(frozen=True)
class _LeftOutCohorts:
    """The cohorts that are left out, one after the other; `known` keeps what stays the same."""

    cohorts: Cohorts
    train: ProfileSet
    rows: list[np.ndarray]
    chosen: np.ndarray
    known: dict[int, Adaptation] = field(default_factory=dict)

    @property
    def n_scored(self) -> int:
        """Profiles of them that are scored."""
        return sum(len(scored_rows(len(self.rows[c]))) for c in self.chosen)

    def each(self, what: str, chosen_t: Columns = slice(None)) -> Iterator[LeftOut]:
        """Leave out one after the other, with all targets or some."""
        cohorts = self.cohorts if isinstance(chosen_t, slice) else self.cohorts.of_targets(chosen_t)
        n = len(self.chosen)
        for c in progress.track(self.chosen.tolist(), f"{what} by left-out cohorts", n):
            known = self.known.get(c)
            one = LeftOut(cohorts, c, self.train, self.rows[c], chosen_t=chosen_t, adapted=known)
            self.known[c] = one.adapted
            yield one


def _unadapted(cohorts: Cohorts) -> Adaptation:
    """All training cohorts and landmarks count as they do without a new cohort."""
    return Adaptation(cohorts.weight_c, np.zeros(cohorts.x_nl.shape[1]))


def _effective(cohorts: Cohorts, weight_c: np.ndarray) -> float:
    """How many cohorts of equal weight are as unequal as these."""
    total_c = weight_c * cohorts.n_c
    return float(total_c.sum() ** 2 / np.square(total_c).sum())


def _add_errors(
    error_pt: np.ndarray, one: LeftOut, between: float, penalties: Sequence[float]
) -> None:
    """Add the absolute errors of a left-out cohort, summed over its profiles."""
    guesses = one.guesses(between, penalties, [slice(None)] * len(penalties))
    for error_t, guess_nt in zip(error_pt, guesses, strict=True):
        guess_nt -= one.y_nt
        error_t += np.abs(guess_nt, out=guess_nt).sum(axis=0, dtype=np.float64)
