"""The cohorts of a compendium: which there are, and their profiles standardised within them.

c runs over cohorts, n over the profiles of all of them, cohort after cohort.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import pandas as pd

from dgex.data.normalise import SD_OFFSET
from dgex.errors import DataError, UsageError, name_list
from dgex.models.base import BLOCK_ROWS

if TYPE_CHECKING:
    from dgex.data.dataset import ProfileSet

log = logging.getLogger("dgex")

LEAST_PROFILES = 5
"""Profiles of a cohort below which its own moments say too little, and it is left out."""

LEAST_COHORTS = 3
LEAST_COVERED = 0.8
"""Share of the profiles that the cohorts of a column must hold for it to be taken unasked."""

MOST_PROFILES = 20_000
"""Profiles of all cohorts together that are learned from at most, which bounds memory and time."""

LEAST_SHARE = 30
"""Profiles that are left of a large cohort at least, so that its moments are still its own."""

SD_PRIOR = 5.0
"""Profiles that the pooled standard deviation within cohorts counts for in that of a cohort."""

WEIGHT_POWER = -0.25
"""A profile counts for this power of the number of profiles of its cohort, so that a few large
cohorts do not decide all. By leave-one-cohort-out the best of 0, -0.25, -0.5 and -0.75 on two
compendia: 0.4 % better than 0 where a few cohorts hold most profiles, as good elsewhere."""

CLIP = 2.5
"""Standardised targets further out are brought here: the tails of small cohorts are heavy, and a
squared loss would learn little else. By leave-one-cohort-out 2 and 3 are no better."""


def cohort_rows(obs: pd.DataFrame, column: str) -> dict[str, np.ndarray]:
    """Rows of every cohort of enough profiles, by its name; profiles without one are in none.

    Examples
    --------
    >>> obs = pd.DataFrame({"study": ["a"] * 5 + ["b", ""]})
    >>> cohort_rows(obs, "study")
    {'a': array([0, 1, 2, 3, 4])}
    """
    names = obs[column].astype(str)
    groups = pd.Series(np.arange(len(obs))).groupby(names.to_numpy(), sort=True)
    return {
        str(name): rows.to_numpy()
        for name, rows in groups
        if len(rows) >= LEAST_PROFILES and str(name)
    }


def find_column(obs: pd.DataFrame) -> str:
    """The column of the sample table whose values are the most cohorts that cover the profiles.

    Raises
    ------
    UsageError
        There is none.

    Examples
    --------
    >>> obs = pd.DataFrame({"study": list("aaaaabbbbbccccc"), "sex": list("mf" * 7) + ["m"]})
    >>> find_column(obs)
    'study'
    """
    found: dict[str, int] = {}
    for column in obs.columns:
        rows = cohort_rows(obs, column)
        covered = sum(len(one) for one in rows.values()) / len(obs)
        if len(rows) >= LEAST_COHORTS and covered >= LEAST_COVERED:
            found[str(column)] = len(rows)
    if not found:
        has = f"has {name_list(obs.columns, 20)}" if len(obs.columns) else "has no columns"
        raise UsageError(
            f"No column of the sample table makes {LEAST_COHORTS} cohorts of {LEAST_PROFILES} "
            f"profiles that hold {LEAST_COVERED:.0%} of the training profiles; it {has}. Name one "
            "with --cohort-column, or prepare the Dataset with --obs."
        )
    return max(found, key=lambda column: found[column])


def training_cohorts(
    train: ProfileSet, column: str | None, name: str
) -> tuple[str, list[np.ndarray]]:
    """The column that makes cohorts of the training profiles, and the rows of each cohort.

    Of more than `MOST_PROFILES` those that `bounded_rows` takes.

    Parameters
    ----------
    train
        The training profiles.
    column
        Column of their sample table; found where None, and the log says which.
    name
        Name of the Dataset, for errors.

    Raises
    ------
    UsageError
        There is no such column, or none can be found.
    DataError
        It makes too few cohorts.
    """
    obs = train.obs
    chosen = find_column(obs) if column is None else column
    if chosen not in obs.columns:
        has = f"has {name_list(obs.columns, 20)}" if len(obs.columns) else "has none"
        raise UsageError(f"--cohort-column {chosen}: no such column; {name} {has}.")
    rows = cohort_rows(obs, chosen)
    if len(rows) < LEAST_COHORTS:
        raise DataError(
            f"Column {chosen} of {name} makes {len(rows)} cohorts of at least {LEAST_PROFILES} "
            f"training profiles; {LEAST_COHORTS} are needed. Name another with --cohort-column, or "
            "train for the same studies (--for same-studies)."
        )
    n = sum(len(one) for one in rows.values())
    log.info(
        "%d cohorts of at least %d profiles (%d of %d) by column %s (--cohort-column).",
        len(rows),
        LEAST_PROFILES,
        n,
        train.n,
        chosen,
    )
    bounded = bounded_rows(list(rows.values()), MOST_PROFILES)
    n_kept = sum(len(one) for one in bounded)
    if n_kept < n:
        log.info(
            "%d profiles of %d of them are learned from, evenly spaced in the largest.",
            n_kept,
            len(bounded),
        )
    return chosen, bounded


def bounded_rows(rows: list[np.ndarray], most: int) -> list[np.ndarray]:
    """Rows of cohorts of which no more than `most` are left.

    The largest cohorts give evenly spaced ones, all as many, but `LEAST_SHARE` at least; where that
    is still too much, cohorts are drawn, always the same.

    Examples
    --------
    >>> [len(one) for one in bounded_rows([np.arange(500), np.arange(60), np.arange(300)], 400)]
    [170, 60, 170]
    """
    n_left, share = most, max((len(one) for one in rows), default=0)
    for place, n in enumerate(sorted(len(one) for one in rows)):
        if n * (len(rows) - place) > n_left:
            share = max(n_left // (len(rows) - place), LEAST_SHARE)
            break
        n_left -= n
    cut = [
        one if len(one) <= share else one[np.linspace(0, len(one) - 1, share).round().astype(int)]
        for one in rows
    ]
    order = np.random.default_rng(0).permutation(len(cut))
    fit = np.cumsum([len(cut[c]) for c in order]) <= most
    return [cut[c] for c in np.sort(order[fit])]


@dataclass(frozen=True)
class Cohorts:
    """Training profiles standardised within their cohorts, and the cohorts' means.

    Standard deviations are shrunk: a cohort's variance is averaged with the pooled one within
    cohorts, which counts for `SD_PRIOR` profiles.

    Attributes
    ----------
    x_nl, y_nt
        Landmarks and targets, targets clipped, float32.
    n_c
        Profiles of each cohort.
    mean_cl, mean_ct
        Means, in units of the whole compendium, float32.
    """

    x_nl: np.ndarray
    y_nt: np.ndarray
    n_c: np.ndarray
    mean_cl: np.ndarray
    mean_ct: np.ndarray

    @classmethod
    def of(cls, train: ProfileSet, rows: list[np.ndarray]) -> Cohorts:
        """Standardise the profiles of the cohorts, rows of `train`."""
        n_c = np.array([len(one) for one in rows])
        x_nl, mean_cl = _within(train.x_nl, rows)
        y_nt, mean_ct = _within(train.y_nt, rows)
        np.clip(y_nt, -CLIP, CLIP, out=y_nt)
        return cls(x_nl, y_nt, n_c, mean_cl, mean_ct)

    def of_targets(self, chosen_t: np.ndarray) -> Cohorts:
        """The same with some of the targets."""
        return dataclasses.replace(
            self, y_nt=self.y_nt[:, chosen_t], mean_ct=self.mean_ct[:, chosen_t]
        )

    def of_landmarks(self, chosen_l: np.ndarray) -> Cohorts:
        """The same with some of the landmarks."""
        return dataclasses.replace(
            self, x_nl=self.x_nl[:, chosen_l], mean_cl=self.mean_cl[:, chosen_l]
        )

    @property
    def weight_c(self) -> np.ndarray:
        """What a profile of each cohort counts for where nothing else is known, shape (c,)."""
        return np.asarray(self.n_c.astype(np.float64) ** WEIGHT_POWER)

    def part(self, c: int) -> np.ndarray:
        """Landmarks of one cohort, a view of shape (n, l)."""
        first = int(self.n_c[:c].sum())
        return self.x_nl[first : first + int(self.n_c[c])]

    def share_n(self, weight_c: np.ndarray) -> np.ndarray:
        """What each profile counts for, 1 all together, float32, shape (n,)."""
        share_c = weight_c / (weight_c @ self.n_c)
        return np.repeat(share_c.astype(np.float32), self.n_c)

    def within(self, weight_c: np.ndarray) -> np.ndarray:
        """Mean products of landmarks within cohorts, by the weights of profiles, (l, l)."""
        x_nl = self.x_nl * np.sqrt(self.share_n(weight_c))[:, None]
        return (x_nl.T @ x_nl).astype(np.float64)

    def between(self, weight_c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Means of the cohorts around their mean, times the root of what they count for.

        Returns
        -------
        tuple
            Of landmarks (c, l) and targets (c, t): their products with one another are the
            products of the cohorts' means, averaged over profiles by their weights.
        """
        share_c = weight_c * self.n_c / (weight_c @ self.n_c)
        root_c = np.sqrt(share_c)[:, None]
        landmarks, targets = (
            ((mean_cg - share_c @ mean_cg) * root_c).astype(np.float32)
            for mean_cg in (self.mean_cl, self.mean_ct)
        )
        return landmarks, targets

    def arrays(self) -> dict[str, np.ndarray]:
        """All arrays by their names, ``n_c`` as int32."""
        arrays = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return arrays | {"n_c": self.n_c.astype(np.int32)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        """Undo `arrays`.

        Raises
        ------
        KeyError, ValueError
            They do not belong together.
        """
        made = cls(*(arrays[field.name] for field in dataclasses.fields(cls)))
        shapes = {name: array.shape for name, array in made.arrays().items()}
        if made.x_nl.ndim != 2 or made.y_nt.ndim != 2:
            raise ValueError(f"profiles of cohorts have shapes {shapes}")
        (n, n_landmarks), n_targets, n_cohorts = made.x_nl.shape, made.y_nt.shape[1], len(made.n_c)
        expected = {
            "x_nl": (n, n_landmarks),
            "y_nt": (n, n_targets),
            "n_c": (n_cohorts,),
            "mean_cl": (n_cohorts, n_landmarks),
            "mean_ct": (n_cohorts, n_targets),
        }
        if made.n_c.dtype.kind != "i" or (made.n_c < 1).any():
            raise ValueError("a cohort has a number of profiles that is not a whole number above 0")
        if shapes != expected or made.n_c.sum() != n:
            raise ValueError(f"cohorts of {made.n_c.sum()} profiles in all have shapes {shapes}")
        return made


def _within(values: np.ndarray, rows: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Values of all cohorts, centred and scaled within them, and the cohorts' means."""
    n_c = np.array([len(one) for one in rows])
    out_ng = np.empty((n_c.sum(), values.shape[1]), dtype=np.float32)
    mean_cg = np.empty((len(rows), values.shape[1]), dtype=np.float32)
    square_cg = np.empty((len(rows), values.shape[1]))
    parts = np.split(out_ng, np.cumsum(n_c)[:-1])
    for part_ng, one, mean_g, square_g in zip(parts, rows, mean_cg, square_cg, strict=True):
        part_ng[:] = values[one]
        mean_g[:] = part_ng.mean(axis=0, dtype=np.float64)
        part_ng -= mean_g
        square_g[:] = _sum_of_squares(part_ng)
    pooled_g = square_cg.sum(axis=0) / (n_c.sum() - len(rows))
    for part_ng, square_g, n in zip(parts, square_cg, n_c, strict=True):
        variance_g = (square_g + SD_PRIOR * pooled_g) / (n + SD_PRIOR)
        part_ng /= (np.sqrt(variance_g) + SD_OFFSET).astype(np.float32)
    return out_ng, mean_cg


def _sum_of_squares(x_ng: np.ndarray) -> np.ndarray:
    """Sum of squares of every column, in double precision, block by block."""
    square_g = np.zeros(x_ng.shape[1])
    for start in range(0, len(x_ng), BLOCK_ROWS):
        square_g += np.square(x_ng[start : start + BLOCK_ROWS], dtype=np.float64).sum(axis=0)
    return square_g


def own_moments(x_ng: np.ndarray) -> np.ndarray:
    """Profiles standardised by their own moments, float32, as a new cohort is.

    Examples
    --------
    >>> own_moments(np.array([[1.0], [3.0]])).round(2).ravel()
    array([-1.,  1.], dtype=float32)
    """
    # Centred in float32 and summed in double: exact enough, in half the memory.
    z_ng = (x_ng - x_ng.mean(axis=0, dtype=np.float64).astype(np.float32)).astype(np.float32)
    z_ng /= (np.sqrt(_sum_of_squares(z_ng) / len(z_ng)) + SD_OFFSET).astype(np.float32)
    return z_ng
