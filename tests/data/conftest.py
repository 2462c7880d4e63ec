"""Small cohorts for tests of what prepare does."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData


def _cohort(n: int = 40, n_landmarks: int = 4, n_targets: int = 7, seed: int = 0) -> AnnData:
    """Log2 expression with shared factors; genes L0.. are landmarks, T0.. are not."""
    rng = np.random.default_rng(seed)
    g = n_landmarks + n_targets
    x_ng = 8 + rng.normal(size=(n, 3)) @ rng.normal(size=(3, g)) + rng.normal(size=(n, g))
    ids = [f"L{i}" for i in range(n_landmarks)] + [f"T{i}" for i in range(n_targets)]
    return AnnData(
        x_ng,
        obs=pd.DataFrame({"study": [f"S{i % 8}" for i in range(n)]}, [f"p{i}" for i in range(n)]),
        var=pd.DataFrame({"landmark": [name[0] == "L" for name in ids]}, index=ids),
    )


@pytest.fixture
def cohort() -> Callable[..., AnnData]:
    """Maker of small cohorts: ``cohort(n, n_landmarks, n_targets, seed)``."""
    return _cohort
