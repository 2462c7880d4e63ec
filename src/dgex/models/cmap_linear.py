"""The linear model of the Connectivity Map.

Source: Subramanian et al., "A next generation connectivity map", Cell 2017.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dgex.errors import UsageError
from dgex.models.linear import OLS

if TYPE_CHECKING:
    from dgex.config import TrainConfig
    from dgex.data.dataset import Dataset

LOWEST, HIGHEST = 0.0, 15.0
"""Bounds of inferred log2 expression."""


class CMapLinear(OLS):
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

    def fit(self, dataset: Dataset, config: TrainConfig) -> None:
        """Refuse: the model is read, not trained.

        Raises
        ------
        UsageError
            Always.
        """
        raise UsageError("A cmap model is read with dgex import-cmap. Train the model ols instead.")

    def _predict_block(self, x_bl: np.ndarray, y_bt: np.ndarray) -> None:
        super()._predict_block(x_bl, y_bt)
        np.clip(y_bt, LOWEST, HIGHEST, out=y_bt)
