"""Choosing a setting of a model by its error on the validation profiles."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from dgex.errors import DataError
from dgex.models.base import BLOCK_ROWS

if TYPE_CHECKING:
    from dgex.data.dataset import Dataset, ProfileSet

log = logging.getLogger("dgex")

CHOICE_PROFILES = 5000
"""Validation profiles, at most, on which a setting is chosen; drawn by the seed from more."""


def choice_rows(dataset: Dataset, seed: int, most: int | None = None) -> np.ndarray:
    """Rows of the validation profiles to choose on, sorted, at most so many (`CHOICE_PROFILES`).

    Raises
    ------
    DataError
        There are none.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> choice_rows({"validation": SimpleNamespace(n=3)}, seed=0)
    array([0, 1, 2])
    """
    n = dataset["validation"].n
    if n == 0:
        raise DataError(
            f"{dataset.name} has no validation profiles to choose on. "
            "Prepare it with a validation share above 0."
        )
    most = most or CHOICE_PROFILES
    if n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, most, replace=False))


def choice_mae(
    predict: Callable[[np.ndarray], np.ndarray], validation: ProfileSet, rows: np.ndarray
) -> float:
    """Mean absolute error over some rows and the measured targets, in standardised units.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> y_nt = np.array([[1.0, 9.0], [3.0, 9.0], [7.0, 9.0]])
    >>> profiles = SimpleNamespace(x_nl=y_nt, y_nt=y_nt, present_t=np.array([True, False]))
    >>> choice_mae(np.zeros_like, profiles, np.array([0, 2]))
    4.0
    """
    error_t = np.zeros(len(validation.present_t))
    for start in range(0, len(rows), BLOCK_ROWS):
        block = rows[start : start + BLOCK_ROWS]
        difference_bt = predict(validation.x_nl[block]) - validation.y_nt[block]
        error_t += np.abs(difference_bt, out=difference_bt).sum(axis=0, dtype=np.float64)
    return float(error_t[np.asarray(validation.present_t, dtype=bool)].mean() / len(rows))


def warn_at_edge(
    what: str, option: str, values: Sequence[float], best: int, bounds: Sequence[float] = ()
) -> None:
    """Warn where the best of the values tried is the first or the last of them.

    Parameters
    ----------
    what
        What was chosen, for people.
    option
        The option that gives other values.
    values
        Those tried, from small to large.
    best
        Place of the best.
    bounds
        Values beyond which there is nothing to try.
    """
    if len(values) == 1 or best not in (0, len(values) - 1) or values[best] in bounds:
        return
    edge, others = ("smallest", "smaller") if best == 0 else ("largest", "larger")
    log.warning(
        "The best %s, %g, is the %s of those tried: the best may lie beyond. Try %s ones with %s.",
        what,
        values[best],
        edge,
        others,
        option,
    )
