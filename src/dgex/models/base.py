"""What every Model can do: infer targets from landmarks, and be taken apart into arrays."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from dgex.errors import DataError, UsageError

if TYPE_CHECKING:
    from dgex.config import TrainConfig
    from dgex.data.dataset import Dataset, ProfileSet

BLOCK_ROWS = 1024


class Model(ABC):
    """Infers targets from landmarks, both in standardised units.

    A new Model knows nothing: `fit` it, or make one `from_arrays`.
    """

    kind: ClassVar[str]

    for_new_cohorts: ClassVar[bool] = False
    """Whether it takes profiles of a new cohort, standardised by its own moments, and no others."""

    @property
    @abstractmethod
    def n_landmarks(self) -> int:
        """Number of landmarks it takes; 0 before it is fitted."""

    @property
    @abstractmethod
    def n_targets(self) -> int:
        """Number of targets it infers; 0 before it is fitted."""

    @abstractmethod
    def fit(self, dataset: Dataset, config: TrainConfig) -> None:
        """Learn from the training profiles of `dataset`."""

    def refit(self, dataset: Dataset) -> None:
        """Learn again from the training profiles of `dataset`.

        What `fit` chose on validation is kept: these profiles may be among those learned from.

        Raises
        ------
        UsageError
            A model of this kind cannot.
        """
        raise UsageError(f"--train-on: not for a model of kind {self.kind}. Leave it out.")

    @abstractmethod
    def arrays(self) -> dict[str, np.ndarray]:
        """All that was learned, by name."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """What is not an array, ready for JSON."""

    @classmethod
    @abstractmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> Self:
        """Undo `arrays` and `settings`.

        Raises
        ------
        KeyError, TypeError, ValueError
            They do not make a model of this kind.
        """

    @abstractmethod
    def _predict_block(self, x_bl: np.ndarray, y_bt: np.ndarray) -> None:
        """Write the targets of a float32 block of profiles into `y_bt`."""

    def for_cohort(self, blocks: Iterable[np.ndarray], present_l: np.ndarray) -> Model:
        """What infers the profiles of one cohort (a file, an external set): this model itself.

        Models that learn from the cohort's landmarks override it; others leave `blocks` unread.

        Parameters
        ----------
        blocks
            Landmarks of the whole cohort, in the units of `predict`, (b, l) each.
        present_l
            Which landmarks were measured, shape (l,).
        """
        return self

    cohort_note = ""
    """What there is to say of the cohort for which `for_cohort` made it."""

    def predict(self, x_nl: np.ndarray, y_nt: np.ndarray | None = None) -> np.ndarray:
        """Inferred targets of profiles, in blocks, so that memory beside the result is bounded.

        Parameters
        ----------
        x_nl
            Landmarks in standardised units, shape (n, l), any number of profiles.
        y_nt
            Where to write the targets, float32, shape (n, t); a new array where not given.

        Returns
        -------
        numpy.ndarray
            Targets in standardised units, float32, shape (n, t).

        Raises
        ------
        UsageError
            The model has not been fitted.
        DataError
            `x_nl` does not have one column per landmark.

        Examples
        --------
        >>> from dgex.models.linear import OLS
        >>> weights = {"weight_lt": np.array([[2.0], [0.0]]), "intercept_t": np.array([1.0])}
        >>> OLS.from_arrays(weights, {}).predict(np.array([[3.0, 5.0]]))
        array([[7.]], dtype=float32)
        """
        if self.n_targets == 0:
            raise UsageError(f"This {self.kind} model has not learned anything yet. Fit it first.")
        if x_nl.ndim != 2 or x_nl.shape[1] != self.n_landmarks:
            raise DataError(
                f"Profiles of shape {x_nl.shape} do not fit a {self.kind} model of "
                f"{self.n_landmarks} landmarks. Align them to the Model's panel."
            )
        shape = len(x_nl), self.n_targets
        if y_nt is None:
            y_nt = np.empty(shape, dtype=np.float32)
        elif y_nt.shape != shape or y_nt.dtype != np.float32:
            raise DataError(f"Targets of shape {shape} do not go into {y_nt.shape} {y_nt.dtype}.")
        for start in range(0, len(x_nl), BLOCK_ROWS):
            block = slice(start, start + BLOCK_ROWS)
            self._predict_block(np.asarray(x_nl[block], dtype=np.float32), y_nt[block])
        return y_nt


def set_mae(predict: Callable[[np.ndarray], np.ndarray], profiles: ProfileSet) -> float:
    """Mean absolute error over the profiles and measured targets of a set, in standardised units.

    NaN where the set has no profiles.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> y_nt = np.array([[1.0, np.nan], [3.0, np.nan]])
    >>> profiles = SimpleNamespace(n=2, present_t=np.array([True, False]),
    ...                            blocks=lambda rows: iter([(0, y_nt, y_nt)]))
    >>> set_mae(np.zeros_like, profiles)
    2.0
    """
    present_t = np.asarray(profiles.present_t, dtype=bool)
    if profiles.n == 0 or not present_t.any():
        return float("nan")
    # One sum per target, so that whatever stands in for absent targets stays in its column.
    error_t = np.zeros(len(present_t))
    for _, x_bl, y_bt in profiles.blocks(BLOCK_ROWS):
        difference_bt = predict(x_bl) - y_bt
        error_t += np.abs(difference_bt, out=difference_bt).sum(axis=0, dtype=np.float64)
    return float(error_t[present_t].mean() / profiles.n)
