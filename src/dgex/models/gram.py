"""Sums of squares and products of a Dataset in one streaming pass: all that linear models need."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

DOUBLE_BELOW = 8
"""Profiles per landmark below which the products with targets are taken in double precision."""


@dataclass(frozen=True)
class Gram:
    """Moments of landmarks and targets over n profiles, all float64.

    Attributes
    ----------
    n
        Number of profiles.
    mean_l, mean_t
        Means of landmarks (l,) and targets (t,).
    xx_ll
        Products of centred landmarks summed over profiles, (l, l).
    xy_lt
        Products of centred landmarks and centred targets summed over profiles, (l, t).
    yy_t
        Squares of centred targets summed over profiles, (t,).
    """

    n: int
    mean_l: np.ndarray
    mean_t: np.ndarray
    xx_ll: np.ndarray
    xy_lt: np.ndarray
    yy_t: np.ndarray


def gram(
    blocks: Iterable[tuple[int, np.ndarray, np.ndarray]],
    n_landmarks: int,
    n_targets: int,
    n: int,
    *,
    double: bool = False,
) -> Gram:
    """Sum squares and products over blocks of profiles.

    Every block is moved by the means of the first one before it is multiplied: products of
    values far from 0 would lose in float32 the digits that their centring is made of. With few
    profiles per landmark the normal equations magnify the rounding of float32, and the products
    cost little, so they are taken in float64 there.

    Parameters
    ----------
    blocks
        First row, landmarks (b, l) and targets (b, t) of each block.
    n_landmarks, n_targets
        Their numbers, l and t.
    n
        Number of profiles that the blocks will hold; decides the precision.
    double
        Take the products with targets in float64 whatever the number of profiles.

    Examples
    --------
    >>> x_nl, y_nt = np.array([[1.0], [3.0]]), np.array([[10.0], [30.0]])
    >>> sums = gram([(0, x_nl, y_nt)], 1, 1, 2)
    >>> sums.mean_l, sums.xx_ll, sums.xy_lt
    (array([2.]), array([[2.]]), array([[20.]]))
    """
    few = n < DOUBLE_BELOW * n_landmarks
    product_type = np.float64 if double or few else np.float32
    shift_l, shift_t = np.zeros(n_landmarks), np.zeros(n_targets)
    sum_l, sum_t, yy_t = np.zeros(n_landmarks), np.zeros(n_targets), np.zeros(n_targets)
    xx_ll = np.zeros((n_landmarks, n_landmarks))
    xy_lt = np.zeros((n_landmarks, n_targets))
    n_seen = 0
    for _, x_bl, y_bt in blocks:
        if n_seen == 0:
            shift_l = x_bl.mean(axis=0, dtype=np.float64)
            # Any shift near the mean will do; a number of the product's type is subtracted from
            # float32 values without a detour and is known exactly afterwards.
            shift_t = y_bt.mean(axis=0, dtype=np.float64).astype(product_type)
        moved_bl = x_bl - shift_l
        moved_bt = np.subtract(y_bt, shift_t, dtype=product_type)
        sum_l += moved_bl.sum(axis=0)
        sum_t += moved_bt.sum(axis=0, dtype=np.float64)
        xx_ll += moved_bl.T @ moved_bl
        xy_lt += moved_bl.astype(product_type, copy=False).T @ moved_bt
        yy_t += np.einsum("bt,bt->t", moved_bt, moved_bt)
        n_seen += len(x_bl)
    rest_l, rest_t = sum_l / max(n_seen, 1), sum_t / max(n_seen, 1)
    return Gram(
        n=n_seen,
        mean_l=shift_l + rest_l,
        mean_t=shift_t + rest_t,
        xx_ll=xx_ll - n_seen * np.outer(rest_l, rest_l),
        xy_lt=xy_lt - n_seen * np.outer(rest_l, rest_t),
        yy_t=np.maximum(yy_t - n_seen * rest_t**2, 0.0),
    )
