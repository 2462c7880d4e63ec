"""Means, standard errors and tests of the accuracy benchmark, as pure functions.

All take a table of profiles with columns `seed`, `profile`, `group` and `mae`, the profile's mean
absolute error over the genes: a row per profile and seed of the split in which it was held out. A
profile of an external set is there under every seed, a patient in as many tests as it fell into.

    python -m doctest benchmarks/accuracy_statistics.py
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import wilcoxon


def mean_and_error(profiles: pd.DataFrame) -> tuple[float, float]:
    """MAE over all profiles, and its standard error over groups; NaN with fewer than two groups.

    A group's profiles, and those of several seeds, are not independent of one another: the error
    is that of a mean over clusters of unequal size, as a ratio of sums (Cochran, Sampling
    Techniques, 1977).

    Examples
    --------
    >>> groups = {"group": ["a", "a", "b", "c"], "mae": [0.1, 0.3, 0.2, 0.6]}
    >>> mae, error = mean_and_error(pd.DataFrame(groups))
    >>> round(mae, 4), round(error, 4)
    (0.3, 0.1146)

    With one profile a group it is the usual standard error of a mean.

    >>> one_each = pd.DataFrame({"group": list("abcd"), "mae": [0.1, 0.3, 0.2, 0.6]})
    >>> bool(np.isclose(mean_and_error(one_each)[1], one_each["mae"].sem()))
    True
    """
    mae = float(profiles["mae"].mean())
    # The sum over a group of its profiles' distances from the mean.
    total_g = (profiles["mae"] - mae).groupby(profiles["group"]).sum()
    n_groups = len(total_g)
    if n_groups < 2:
        return mae, float("nan")
    variance = n_groups / (n_groups - 1) * float(np.square(total_g).sum())
    return mae, float(np.sqrt(variance)) / len(profiles)


def group_differences(profiles: pd.DataFrame, reference: pd.DataFrame) -> pd.Series:
    """Mean difference of MAE to a reference per group; a group of several seeds counts once.

    Raises
    ------
    ValueError
        The two do not hold the same profiles under the same seeds.

    Examples
    --------
    >>> model = pd.DataFrame({"seed": [0, 1, 0], "profile": ["p", "p", "q"],
    ...                       "group": ["a", "a", "b"], "mae": [0.2, 0.4, 0.5]})
    >>> group_differences(model, model.assign(mae=[0.3, 0.4, 0.4])).round(6).tolist()
    [-0.05, 0.1]
    """
    keys = ["seed", "profile"]
    both = profiles.merge(reference, on=keys, suffixes=("", "_reference"), validate="one_to_one")
    if not len(both) == len(profiles) == len(reference):
        raise ValueError(
            f"{len(profiles)} and {len(reference)} profiles, of which {len(both)} are the same."
        )
    return (both["mae"] - both["mae_reference"]).groupby(both["group"]).mean()


def paired_p(profiles: pd.DataFrame, reference: pd.DataFrame) -> float:
    """Two-sided p of Wilcoxon's signed-rank test of the differences of the groups.

    NaN where no group differs.

    Examples
    --------
    >>> model = pd.DataFrame({"seed": 0, "profile": list("pqrstu"), "group": list("abcdef"),
    ...                       "mae": [0.2, 0.4, 0.5, 0.1, 0.3, 0.6]})
    >>> worse = model.assign(mae=model["mae"] + [0.01, 0.02, 0.03, 0.04, 0.05, 0.06])
    >>> paired_p(model, worse), paired_p(model, model)
    (0.03125, nan)
    """
    difference_g = group_differences(profiles, reference).to_numpy()
    # Differences of rounding are none: scores are kept with six digits.
    difference_g = difference_g[np.abs(difference_g) > 1e-6]
    if len(difference_g) == 0:
        return float("nan")
    return float(wilcoxon(difference_g).pvalue)


def pooled(value_st: np.ndarray, n_s: np.ndarray) -> np.ndarray:
    """Mean per gene over the seeds, each weighing as many profiles as it holds out.

    Examples
    --------
    >>> pooled(np.array([[0.2, 0.4], [0.5, 0.1]]), np.array([100, 200])).round(6).tolist()
    [0.4, 0.2]
    """
    return np.asarray(np.average(value_st, axis=0, weights=n_s))
