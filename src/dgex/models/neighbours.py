"""Nearest landmarks: KNN-GE of the D-GEX paper."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from dgex.errors import UsageError, name_list
from dgex.models.base import BLOCK_ROWS, Model
from dgex.models.choice import choice_rows, warn_at_edge
from dgex.models.gram import Gram
from dgex.models.linear import training_gram

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from dgex.config import TrainConfig
    from dgex.data.dataset import Dataset, ProfileSet

log = logging.getLogger("dgex")


class GeneKNN(Model):
    """Infers a target as the mean of the landmarks that are nearest to it.

    Near means a small Euclidean distance between the values of the two genes over the training
    profiles, standardised. Of landmarks equally near the first in the panel is taken.

    Attributes
    ----------
    neighbour_tk
        Places in the panel of each target's landmarks, nearest first, (t, k).
    validation_mae
        Number of neighbours tried to its MAE on the validation profiles, in standardised units,
        averaged over the measured targets; on `dgex.models.choice.CHOICE_PROFILES` of them, drawn
        by the seed, if there are more.

    Source: Chen et al. 2016, section 2.3.3.

    Examples
    --------
    >>> arrays = {"neighbour_tk": np.array([[0, 1], [2, 1]])}
    >>> settings = {"k": 2, "n_landmarks": 3, "neighbours": [2], "validation_mae": [0.5]}
    >>> GeneKNN.from_arrays(arrays, settings).predict(np.array([[1.0, 3.0, 7.0]]))
    array([[2., 5.]], dtype=float32)
    """

    kind = "gene-knn"

    def __init__(self) -> None:
        self.neighbour_tk = np.empty((0, 0), dtype=np.int32)
        self.validation_mae: dict[int, float] = {}
        self._n_landmarks = 0
        self._mean_tl: csr_array | None = None

    @property
    def n_landmarks(self) -> int:
        """Number of landmarks it takes."""
        return self._n_landmarks

    @property
    def n_targets(self) -> int:
        """Number of targets it infers."""
        return len(self.neighbour_tk)

    def fit(self, dataset: Dataset, config: TrainConfig) -> None:
        """Find the nearest landmarks and keep as many of them as are best on validation.

        Raises
        ------
        UsageError
            Every number of neighbours to try is above the number of landmarks.
        DataError
            There are no validation profiles to choose on.
        """
        rows = choice_rows(dataset, config.seed)
        n_landmarks = len(dataset.landmarks)
        tried = sorted({k for k in config.neighbours if k <= n_landmarks})
        too_many = sorted(set(config.neighbours) - set(tried))
        if not tried:
            raise UsageError(
                f"--neighbours {name_list(too_many)}: more than the {n_landmarks} landmarks of "
                f"{dataset.name}. Try fewer."
            )
        if too_many:
            log.info(
                "gene-knn: %s neighbours left out, there are %d landmarks",
                name_list(too_many),
                n_landmarks,
            )
        # In double precision: where a target is all but a landmark, what is left of the float32
        # products after the subtraction is their rounding.
        distance_lt = squared_distances(training_gram(dataset, double=True))
        order_lt = np.argsort(distance_lt, axis=0, kind="stable")
        order_tk = np.ascontiguousarray(order_lt[: tried[-1]].T, dtype=np.int32)
        mae_k = _mae_of_numbers(dataset["validation"], rows, order_tk, tried)
        best = int(np.argmin(mae_k))
        log.info("gene-knn: %d neighbours, validation MAE %.4f", tried[best], mae_k[best])
        warn_at_edge("number of neighbours", "--neighbours", tried, best, (1, n_landmarks))
        self.neighbour_tk = np.ascontiguousarray(order_tk[:, : tried[best]])
        self.validation_mae = dict(zip(tried, mae_k, strict=True))
        self._n_landmarks = n_landmarks
        self._mean_tl = None

    def refit(self, dataset: Dataset) -> None:
        """Find the nearest landmarks again, as many as `fit` chose."""
        k = self.neighbour_tk.shape[1]
        distance_lt = squared_distances(training_gram(dataset, double=True))
        order_lt = np.argsort(distance_lt, axis=0, kind="stable")
        self.neighbour_tk = np.ascontiguousarray(order_lt[:k].T, dtype=np.int32)
        self._mean_tl = None

    def arrays(self) -> dict[str, np.ndarray]:
        """Array ``neighbour_tk``, shape (t, k)."""
        return {"neighbour_tk": self.neighbour_tk}

    def settings(self) -> dict[str, Any]:
        """``k``, ``n_landmarks``, and the ``validation_mae`` of all ``neighbours`` tried."""
        return {
            "k": self.neighbour_tk.shape[1],
            "n_landmarks": self._n_landmarks,
            "neighbours": list(self.validation_mae),
            "validation_mae": list(self.validation_mae.values()),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> Self:
        """Undo `arrays` and `settings`."""
        model = cls()
        model.neighbour_tk = neighbour_tk = arrays["neighbour_tk"]
        model._n_landmarks = int(settings["n_landmarks"])
        model.validation_mae = dict(
            zip(settings["neighbours"], settings["validation_mae"], strict=True)
        )
        if neighbour_tk.ndim != 2 or neighbour_tk.shape[1] != settings["k"]:
            raise ValueError(f"neighbour_tk has shape {neighbour_tk.shape}")
        if neighbour_tk.dtype.kind != "i":
            raise TypeError(f"neighbour_tk is of type {neighbour_tk.dtype}")
        if neighbour_tk.size and not 0 <= neighbour_tk.min() <= neighbour_tk.max() < (
            model._n_landmarks
        ):
            raise ValueError(f"neighbour_tk is not within {model._n_landmarks} landmarks")
        return model

    def _predict_block(self, x_bl: np.ndarray, y_bt: np.ndarray) -> None:
        if self._mean_tl is None:
            share = 1.0 / self.neighbour_tk.shape[1]
            self._mean_tl = _sparse(self.neighbour_tk, self._n_landmarks) * np.float32(share)
        y_bt[:] = (self._mean_tl @ x_bl.T).T


def squared_distances(sums: Gram) -> np.ndarray:
    """Squared Euclidean distances of landmarks and targets over profiles, (l, t), float64.

    Examples
    --------
    >>> from dgex.models.gram import gram
    >>> x_nl, y_nt = np.array([[1.0], [3.0]]), np.array([[1.0, 2.0], [0.0, 5.0]])
    >>> squared_distances(gram([(0, x_nl, y_nt)], 1, 2, 2))
    array([[9., 5.]])
    """
    # The sums are of centred values; what the two means differ by comes on top.
    distance_lt = sums.n * (sums.mean_l[:, None] - sums.mean_t) ** 2
    distance_lt += np.diagonal(sums.xx_ll)[:, None] + sums.yy_t
    distance_lt -= 2 * sums.xy_lt
    return np.maximum(distance_lt, 0.0, out=distance_lt)


def _mae_of_numbers(
    validation: ProfileSet, rows: np.ndarray, order_tk: np.ndarray, numbers: list[int]
) -> list[float]:
    """Validation MAE of the means of so many nearest landmarks, in standardised units."""
    n_landmarks = validation.x_nl.shape[1]
    # The sum of the nearest ten is that of the nearest five and five more.
    edges = [0, *numbers]
    added = [_sparse(order_tk[:, start:stop], n_landmarks) for start, stop in pairwise(edges)]
    error_kt = np.zeros((len(numbers), len(order_tk)))
    for start in range(0, len(rows), BLOCK_ROWS):
        block = rows[start : start + BLOCK_ROWS]
        x_lb = np.ascontiguousarray(validation.x_nl[block].T)
        y_tb = np.ascontiguousarray(validation.y_nt[block].T)
        sum_tb = np.zeros_like(y_tb)
        for error_t, number, added_tl in zip(error_kt, numbers, added, strict=True):
            sum_tb += added_tl @ x_lb
            difference_tb = sum_tb / np.float32(number)
            difference_tb -= y_tb
            error_t += np.abs(difference_tb, out=difference_tb).sum(axis=1, dtype=np.float64)
    present_t = np.asarray(validation.present_t, dtype=bool)
    return [float(error_t[present_t].mean() / len(rows)) for error_t in error_kt]


def _sparse(neighbour_tk: np.ndarray, n_landmarks: int) -> csr_array:
    """Matrix (t, l) of float32 that is 1 at the neighbours of each target."""
    from scipy.sparse import csr_array

    n_targets, k = neighbour_tk.shape
    starts = np.arange(n_targets + 1) * k
    ones = np.ones(neighbour_tk.size, dtype=np.float32)
    return csr_array((ones, neighbour_tk.ravel(), starts), shape=(n_targets, n_landmarks))
