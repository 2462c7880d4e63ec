"""The cohorts of a compendium: which there are, and their profiles standardised within them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

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


def training_cohorts(train: ProfileSet, column: str | None, name: str) -> tuple[str, Cohorts]:
    """The cohorts of the training profiles, and the column they come from.

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
    return chosen, Cohorts.of(train, list(rows.values()))


@dataclass(frozen=True)
class Cohorts:
    """Cohorts of training profiles with their moments; c runs over cohorts.

    Standard deviations are shrunk: a cohort's variance is averaged with the pooled one within
    cohorts, which counts for `SD_PRIOR` profiles.

    Attributes
    ----------
    train
        The profiles, in units of the whole compendium.
    rows
        Rows of each cohort, ascending.
    mean_cl, mean_ct
        Means, shapes (c, l) and (c, t), float32.
    sd_cl, sd_ct
        Shrunk standard deviations, plus the offset of all standardisation here.
    """

    train: ProfileSet
    rows: list[np.ndarray]
    mean_cl: np.ndarray
    mean_ct: np.ndarray
    sd_cl: np.ndarray
    sd_ct: np.ndarray

    @classmethod
    def of(cls, train: ProfileSet, rows: list[np.ndarray]) -> Cohorts:
        """Take the moments, in one pass over the profiles of the cohorts."""
        n_landmarks, n_targets = train.x_nl.shape[1], train.y_nt.shape[1]
        mean_cg = np.empty((len(rows), n_landmarks + n_targets))
        square_cg = np.empty_like(mean_cg)
        for c, one in enumerate(rows):
            sum_g = np.zeros(mean_cg.shape[1])
            for block in _pieces(one):
                sum_g[:n_landmarks] += train.x_nl[block].sum(axis=0, dtype=np.float64)
                sum_g[n_landmarks:] += train.y_nt[block].sum(axis=0, dtype=np.float64)
            mean_cg[c] = sum_g / len(one)
            mean_l, mean_t = np.split(mean_cg[c].astype(np.float32), [n_landmarks])
            square_g = np.zeros_like(sum_g)
            for block in _pieces(one):
                x_bl, y_bt = train.x_nl[block] - mean_l, train.y_nt[block] - mean_t
                square_g[:n_landmarks] += np.square(x_bl, out=x_bl).sum(axis=0, dtype=np.float64)
                square_g[n_landmarks:] += np.square(y_bt, out=y_bt).sum(axis=0, dtype=np.float64)
            square_cg[c] = square_g
        n_c = np.array([len(one) for one in rows], dtype=float)
        pooled_g = square_cg.sum(axis=0) / (n_c.sum() - len(rows))
        square_cg += SD_PRIOR * pooled_g
        square_cg /= (n_c + SD_PRIOR)[:, None]
        sd_cg = (np.sqrt(square_cg, out=square_cg) + SD_OFFSET).astype(np.float32)
        mean_cg = mean_cg.astype(np.float32)
        return cls(
            train,
            rows,
            mean_cg[:, :n_landmarks],
            mean_cg[:, n_landmarks:],
            sd_cg[:, :n_landmarks],
            sd_cg[:, n_landmarks:],
        )

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def n_c(self) -> np.ndarray:
        """Profiles of each cohort, shape (c,)."""
        return np.array([len(one) for one in self.rows])

    @property
    def weight_c(self) -> np.ndarray:
        """What a profile of each cohort counts for, 1 in the mean over profiles, shape (c,)."""
        weight_c = self.n_c.astype(np.float64) ** WEIGHT_POWER
        return np.asarray(weight_c * (self.n_c.sum() / (weight_c @ self.n_c)))

    def blocks(self, c: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Landmarks and clipped targets of a cohort within it, (b, l) and (b, t), float32.

        Both are multiplied by the root of the cohort's weight, for products of the two.
        """
        root = np.float32(np.sqrt(self.weight_c[c]))
        for block in _pieces(self.rows[c]):
            x_bl = self.train.x_nl[block] - self.mean_cl[c]
            x_bl *= root / self.sd_cl[c]
            y_bt = self.train.y_nt[block] - self.mean_ct[c]
            y_bt /= self.sd_ct[c]
            np.clip(y_bt, -CLIP, CLIP, out=y_bt)
            y_bt *= root
            yield x_bl, y_bt

    def between(self, left_out: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Means of the cohorts around their mean, times the root of their profiles' weights.

        Parameters
        ----------
        left_out
            A cohort that does not count.

        Returns
        -------
        tuple
            Of landmarks (c, l) and targets (c, t): their products with one another are the
            products of the cohorts' means summed over profiles by their weights.
        """
        kept = np.arange(len(self)) != (-1 if left_out is None else left_out)
        n_c = (self.weight_c * self.n_c)[kept]
        parts = []
        for mean_cg in (self.mean_cl[kept], self.mean_ct[kept]):
            centre_g = n_c @ mean_cg / n_c.sum()
            parts.append(((mean_cg - centre_g) * np.sqrt(n_c)[:, None]).astype(np.float32))
        return parts[0], parts[1]


def _pieces(rows: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), BLOCK_ROWS):
        yield rows[start : start + BLOCK_ROWS]


def own_moments(x_ng: np.ndarray) -> np.ndarray:
    """Profiles standardised by their own moments, float32, as a new cohort is.

    Examples
    --------
    >>> own_moments(np.array([[1.0], [3.0]])).round(2).ravel()
    array([-1.,  1.], dtype=float32)
    """
    # Centred in float32 and summed in double: exact enough, in half the memory.
    z_ng = (x_ng - x_ng.mean(axis=0, dtype=np.float64).astype(np.float32)).astype(np.float32)
    square_g = np.zeros(z_ng.shape[1])
    for z_bg in np.array_split(z_ng, -(-len(z_ng) // BLOCK_ROWS)):
        square_g += np.square(z_bg, dtype=np.float64).sum(axis=0)
    z_ng /= (np.sqrt(square_g / len(z_ng)) + SD_OFFSET).astype(np.float32)
    return z_ng
