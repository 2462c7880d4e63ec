"""Nearest training profiles, and what all models have in common that keep training profiles."""

from __future__ import annotations

import logging
import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from dgex.errors import UsageError, name_list
from dgex.models.base import BLOCK_ROWS, Model
from dgex.models.choice import choice_rows, warn_at_edge
from dgex.progress import report

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from dgex.config import TrainConfig
    from dgex.data.dataset import Dataset, ProfileSet

log = logging.getLogger("dgex")

DISTANCES = ("euclidean", "correlation")
POWERS = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0)
"""A neighbour weighs as one over this power of its distance; 0 is the plain mean."""

CHOICE_PROFILES = 1000
"""Validation profiles, at most, on which distance, power and number are chosen."""

SEARCH_ROWS = 4096
"""Training profiles whose distances are in memory together."""

ZERO = 1e-12
"""Squared distances below this share of the two squared lengths are what rounding left of 0."""


class ProfilesModel(Model):
    """A model that infers a profile as a weighted sum of the targets of training profiles.

    It keeps these profiles: in memory, when it is read from its directory; of the Dataset's
    files, while it is fitted.

    Attributes
    ----------
    x_nl, y_nt
        Their landmarks and targets in standardised units, float32.
    """

    def __init__(self) -> None:
        self.x_nl = np.empty((0, 0), dtype=np.float32)
        self.y_nt = np.empty((0, 0), dtype=np.float32)

    @property
    def n_landmarks(self) -> int:
        """Number of landmarks it takes."""
        return self.x_nl.shape[1]

    @property
    def n_targets(self) -> int:
        """Number of targets it infers."""
        return self.y_nt.shape[1]

    def arrays(self) -> dict[str, np.ndarray]:
        """Arrays ``x_nl``, shape (n, l), and ``y_nt``, shape (n, t)."""
        return {"x_nl": self.x_nl, "y_nt": self.y_nt}

    @classmethod
    @abstractmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> Self:
        """Undo `arrays`, and leave `settings` to the kinds of model."""
        model = cls()
        model.x_nl, model.y_nt = x_nl, y_nt = arrays["x_nl"], arrays["y_nt"]
        if x_nl.ndim != 2 or y_nt.ndim != 2 or len(x_nl) != len(y_nt) or len(x_nl) == 0:
            raise ValueError(f"x_nl {x_nl.shape} and y_nt {y_nt.shape} do not fit each other")
        for name, array in (("x_nl", x_nl), ("y_nt", y_nt)):
            if array.dtype != np.float32:
                raise TypeError(f"{name} is of type {array.dtype}")
        return model


class SampleKNN(ProfilesModel):
    """Infers a profile as the mean of the training profiles nearest to it over the landmarks.

    Near means a small Euclidean distance, or a small correlation distance: the Euclidean distance
    of profiles brought to mean 0 and length 1, which is sqrt(2 - 2 r). A neighbour weighs as one
    over a power of its distance, all the same at power 0; neighbours at distance 0 share the
    weight. Distance, power and number of neighbours are those with the lowest validation MAE.

    The search is exact, in double precision, and goes over all training profiles for every
    profile: the time to infer one grows with their number, as does the size of the Model.

    Attributes
    ----------
    k, distance, power
        What was chosen.
    validation_mae
        Distance, power and number of neighbours tried to the MAE on the validation profiles, in
        standardised units, averaged over the measured targets; on `CHOICE_PROFILES` of them, drawn
        by the seed, if there are more.

    Source: the nearest neighbours of Cover T, Hart P, *IEEE Transactions on Information Theory*
    1967;13:21–27; weights by distance of Shepard D, *Proc. 23rd ACM National Conference* 1968,
    517–524.

    Examples
    --------
    >>> arrays = {"x_nl": np.array([[0.0], [1.0], [9.0]], np.float32),
    ...           "y_nt": np.array([[10.0], [20.0], [90.0]], np.float32)}
    >>> settings = {"k": 2, "distance": "euclidean", "power": 0.0, "tried": []}
    >>> SampleKNN.from_arrays(arrays, settings).predict(np.array([[0.4]]))
    array([[15.]], dtype=float32)
    """

    kind = "sample-knn"

    def __init__(self) -> None:
        super().__init__()
        self.k = 0
        self.distance = DISTANCES[0]
        self.power = 0.0
        self.validation_mae: dict[tuple[str, float, int], float] = {}

    def fit(self, dataset: Dataset, config: TrainConfig) -> None:
        """Keep the training profiles, and what is best on validation.

        Raises
        ------
        UsageError
            Every number of neighbours to try is above the number of training profiles.
        DataError
            There are no validation profiles to choose on.
        """
        rows = choice_rows(dataset, config.seed, CHOICE_PROFILES)
        n = dataset["train"].n
        numbers = sorted({k for k in config.neighbours if k <= n})
        too_many = sorted(set(config.neighbours) - set(numbers))
        if not numbers:
            raise UsageError(
                f"--neighbours {name_list(too_many)}: more than the {n} training profiles of "
                f"{dataset.name}. Try fewer."
            )
        if too_many:
            log.info(
                "sample-knn: %s neighbours left out, there are %d training profiles",
                name_list(too_many),
                n,
            )
        self.refit(dataset)
        self.validation_mae = self._mae_of_choices(dataset["validation"], rows, numbers)
        best = min(self.validation_mae, key=lambda choice: self.validation_mae[choice])
        self.distance, self.power, self.k = best
        log.info(
            "sample-knn: %d neighbours by %s distance, weights by its power -%g, "
            "validation MAE %.4f",
            self.k,
            self.distance,
            self.power,
            self.validation_mae[best],
        )
        place = numbers.index(self.k)
        warn_at_edge("number of neighbours", "--neighbours", numbers, place, (1, n))

    def refit(self, dataset: Dataset) -> None:
        """Keep the training profiles; distance, power and number stay those that `fit` chose."""
        train = dataset["train"]
        # The files themselves unless some targets only are learned: a copy may not fit in memory.
        self.x_nl, self.y_nt = train.x_nl, np.ascontiguousarray(train.y_nt)

    def settings(self) -> dict[str, Any]:
        """``k``, ``distance``, ``power``, and all ``tried``: the same three and their MAE."""
        return {
            "k": self.k,
            "distance": self.distance,
            "power": self.power,
            "tried": [
                [k, distance, power, mae]
                for (distance, power, k), mae in self.validation_mae.items()
            ],
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> Self:
        """Undo `arrays` and `settings`."""
        model = super().from_arrays(arrays, settings)
        model.k, model.distance = int(settings["k"]), str(settings["distance"])
        model.power = float(settings["power"])
        model.validation_mae = {
            (distance, power, k): mae for k, distance, power, mae in settings["tried"]
        }
        if not 1 <= model.k <= len(model.x_nl):
            raise ValueError(f"{model.k} neighbours of {len(model.x_nl)} profiles")
        if model.distance not in DISTANCES:
            raise ValueError(f"unknown distance {model.distance}")
        if not 0 <= model.power < math.inf:
            raise ValueError(f"power is {model.power}")
        return model

    def _predict_block(self, x_bl: np.ndarray, y_bt: np.ndarray) -> None:
        place_bk, distance_bk = nearest(self.x_nl, x_bl, self.k, self.distance)
        weight_bk = _weights(distance_bk, self.power)
        weight_bk /= weight_bk.sum(axis=1, keepdims=True)
        y_bt[:] = _sparse(place_bk, weight_bk, len(self.x_nl)) @ self.y_nt

    def _mae_of_choices(
        self, validation: ProfileSet, rows: np.ndarray, numbers: list[int]
    ) -> dict[tuple[str, float, int], float]:
        """Validation MAE of every distance, power and number of neighbours."""
        present_t = np.asarray(validation.present_t, dtype=bool)
        error = dict.fromkeys(
            [(name, power, k) for name in DISTANCES for power in POWERS for k in numbers], 0.0
        )
        done, steps = 0, len(DISTANCES) * len(rows)
        for distance in DISTANCES:
            for start in range(0, len(rows), BLOCK_ROWS):
                block = rows[start : start + BLOCK_ROWS]
                y_bt = validation.y_nt[block]
                found = nearest(self.x_nl, validation.x_nl[block], numbers[-1], distance)
                for power in POWERS:
                    means = self._means(*found, power, numbers)
                    for k, mean_bt in zip(numbers, means, strict=True):
                        difference_bt = np.abs(mean_bt - y_bt)[:, present_t]
                        error[distance, power, k] += float(difference_bt.sum(dtype=np.float64))
                done += len(block)
                report("neighbours", done, steps)
        count = len(rows) * present_t.sum()
        return {choice: one / count for choice, one in error.items()}

    def _means(
        self, place_bk: np.ndarray, distance_bk: np.ndarray, power: float, numbers: Sequence[int]
    ) -> Any:
        """Yield the weighted means of the targets over so many nearest profiles."""
        weight_bk = _weights(distance_bk, power)
        sum_bt = np.zeros((len(place_bk), self.n_targets), dtype=np.float32)
        # The sum of the nearest ten is that of the nearest five and five more.
        for start, stop in pairwise([0, *numbers]):
            added = place_bk[:, start:stop], weight_bk[:, start:stop]
            sum_bt += _sparse(*added, len(self.x_nl)) @ self.y_nt
            yield sum_bt / weight_bk[:, :stop].sum(axis=1, keepdims=True).astype(np.float32)


def nearest(
    x_nl: np.ndarray, x_bl: np.ndarray, k: int, distance: str
) -> tuple[np.ndarray, np.ndarray]:
    """Places (b, k) among n profiles of the k nearest to each of b, and their distances.

    Parameters
    ----------
    x_nl
        Profiles to search, k or more.
    x_bl
        Profiles to find neighbours of.
    k
        Number of neighbours.
    distance
        ``euclidean`` or ``correlation``; see `SampleKNN`.

    Examples
    --------
    >>> x_nl = np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])
    >>> place_bk, distance_bk = nearest(x_nl, np.zeros((1, 2)), 2, "euclidean")
    >>> place_bk.tolist(), distance_bk.tolist()
    ([[0, 2]], [[0.0, 1.0]])
    """
    x_bl = _ready(x_bl, distance)
    square_b1 = np.einsum("bl,bl->b", x_bl, x_bl)[:, None]
    place_bk = np.empty((len(x_bl), 0), dtype=np.intp)
    found_bk = np.empty((len(x_bl), 0))
    for start in range(0, len(x_nl), SEARCH_ROWS):
        x_ml = _ready(x_nl[start : start + SEARCH_ROWS], distance)
        square_m = np.einsum("ml,ml->m", x_ml, x_ml)
        square_bm = x_bl @ x_ml.T
        square_bm *= -2
        square_bm += square_m
        # Those of this block first: they are many more than were found before.
        near_bk = _smallest(square_bm, k)
        length_bk = square_b1 + square_m[near_bk]
        square_bk = np.take_along_axis(square_bm, near_bk, axis=1) + square_b1
        square_bk[square_bk < ZERO * length_bk] = 0.0
        found_bk = np.hstack([found_bk, square_bk])
        place_bk = np.hstack([place_bk, near_bk + start])
        kept_bk = _smallest(found_bk, k)
        found_bk = np.take_along_axis(found_bk, kept_bk, axis=1)
        place_bk = np.take_along_axis(place_bk, kept_bk, axis=1)
    order_bk = np.lexsort((place_bk, found_bk), axis=1)
    distance_bk = np.sqrt(np.take_along_axis(found_bk, order_bk, axis=1))
    return np.take_along_axis(place_bk, order_bk, axis=1), distance_bk


def _smallest(value_bm: np.ndarray, k: int) -> np.ndarray:
    """Places (b, k) of the k smallest of each row, in any order; of all where there are fewer."""
    if value_bm.shape[1] <= k:
        return np.broadcast_to(np.arange(value_bm.shape[1]), value_bm.shape)
    return np.argpartition(value_bm, k - 1, axis=1)[:, :k]


def _ready(x_bl: np.ndarray, distance: str) -> np.ndarray:
    """Profiles in float64, such that the distance is the Euclidean one."""
    ready_bl = np.asarray(x_bl, dtype=np.float64)
    if distance == "euclidean":
        return ready_bl
    ready_bl = ready_bl - ready_bl.mean(axis=1, keepdims=True)
    length_b1 = np.linalg.norm(ready_bl, axis=1, keepdims=True)
    # A profile of one value in all landmarks correlates with none.
    return np.divide(ready_bl, length_b1, out=ready_bl, where=length_b1 > 0)


def _weights(distance_bk: np.ndarray, power: float) -> np.ndarray:
    """Weights of neighbours, the nearest first, whose own is 1."""
    nearest_b1 = distance_bk[:, :1]
    # As shares of the smallest distance, so that no power of them overflows.
    share_bk = (distance_bk == 0).astype(np.float64)
    np.divide(nearest_b1, distance_bk, out=share_bk, where=distance_bk > 0)
    return share_bk**power


def _sparse(place_bk: np.ndarray, weight_bk: np.ndarray, n: int) -> csr_array:
    """Matrix (b, n) of float32 with the weights of the neighbours."""
    from scipy.sparse import csr_array

    b, k = place_bk.shape
    starts = np.arange(b + 1) * k
    weights = weight_bk.astype(np.float32).ravel()
    return csr_array((weights, place_bk.ravel(), starts), shape=(b, n))
