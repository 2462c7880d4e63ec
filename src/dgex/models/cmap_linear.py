"""The linear model of the Connectivity Map.

Source: Subramanian et al., "A next generation connectivity map", Cell 2017.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from dgex.errors import UsageError
from dgex.models.base import Model
from dgex.models.linear import OLS

if TYPE_CHECKING:
    from dgex.config import TrainConfig
    from dgex.data.dataset import Dataset

LOWEST, HIGHEST = 0.0, 15.0
"""Bounds of inferred log2 expression."""


class CMapLinear(Model):
    """CMap's linear model: takes and gives log2 expression, not z-scores.

    Examples
    --------
    >>> weights = {"weight_lt": np.array([[2.0, -1.0]]), "intercept_t": np.array([1.0, 3.0])}
    >>> model = CMapLinear.from_arrays(weights, {})
    >>> model.predict(np.array([[4.0], [8.0]]))
    array([[ 9.,  0.],
           [15.,  0.]], dtype=float32)
    """

    kind = "cmap"

    def __init__(self) -> None:
        self.weight_lt = np.empty((0, 0), dtype=np.float32)
        self.intercept_t = np.empty(0, dtype=np.float32)

    @property
    def n_landmarks(self) -> int:
        """Number of landmarks it takes."""
        return len(self.weight_lt)

    @property
    def n_targets(self) -> int:
        """Number of targets it infers."""
        return len(self.intercept_t)

    def fit(self, dataset: Dataset, config: TrainConfig) -> None:
        """Refuse: the model is read, not trained.

        Raises
        ------
        UsageError
            Always.
        """
        raise UsageError("A cmap model is read with dgex import-cmap. Train the model ols instead.")

    def arrays(self) -> dict[str, np.ndarray]:
        """Arrays ``weight_lt``, shape (l, t), and ``intercept_t``, shape (t,)."""
        return {"weight_lt": self.weight_lt, "intercept_t": self.intercept_t}

    def settings(self) -> dict[str, Any]:
        """Nothing: the arrays say all."""
        return {}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> Self:
        """Undo `arrays` and `settings`."""
        weights = OLS.from_arrays(arrays, settings)
        model = cls()
        model.weight_lt, model.intercept_t = weights.weight_lt, weights.intercept_t
        return model

    def _predict_block(self, x_bl: np.ndarray, y_bt: np.ndarray) -> None:
        np.matmul(x_bl, self.weight_lt, out=y_bt, casting="same_kind")
        y_bt += self.intercept_t
        np.clip(y_bt, LOWEST, HIGHEST, out=y_bt)
