"""A Dataset of the paper's size, made up in memory, for benchmarks of training."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

N_LANDMARKS, N_TARGETS = 943, 9520
PROFILES = {"train": 88_807, "validation": 11_101, "test": 11_101, "gtex": 2_921, "1000g": 462}
BLOCK = 2048


class Profiles:
    """A set whose targets follow from its landmarks through tanh units, with noise."""

    def __init__(self, n: int, weights: tuple[np.ndarray, np.ndarray], seed: int) -> None:
        self.n = n
        self.x_nl = np.empty((n, N_LANDMARKS), dtype=np.float32)
        self.y_nt = np.empty((n, N_TARGETS), dtype=np.float32)
        self.present_t = np.ones(N_TARGETS, dtype=bool)
        rng = np.random.default_rng(seed)
        for start in range(0, n, BLOCK):
            x_bl, y_bt = self.x_nl[start : start + BLOCK], self.y_nt[start : start + BLOCK]
            rng.standard_normal(dtype=np.float32, out=x_bl)
            rng.standard_normal(dtype=np.float32, out=y_bt)
            y_bt *= 0.6
            y_bt += np.tanh(x_bl @ weights[0]) @ weights[1]

    def blocks(self, rows: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Blocks of rows, as of a set of a Dataset."""
        for start in range(0, self.n, rows):
            yield start, self.x_nl[start : start + rows], self.y_nt[start : start + rows]


class Rehearsal:
    """What training asks of a Dataset, `scale` times the paper's numbers of profiles."""

    def __init__(self, scale: float, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        hidden = 64
        weights = (
            rng.standard_normal((N_LANDMARKS, hidden), dtype=np.float32) * N_LANDMARKS**-0.5,
            rng.standard_normal((hidden, N_TARGETS), dtype=np.float32) * 1.3 * hidden**-0.5,
        )
        self.landmarks = pd.DataFrame(index=pd.RangeIndex(N_LANDMARKS))
        self.targets = pd.DataFrame(index=pd.RangeIndex(N_TARGETS))
        self.sets = list(PROFILES)
        self.fingerprint = f"rehearsal {scale} {seed}"
        self._profiles = {
            name: Profiles(max(20, round(n * scale)), weights, seed + 1 + i)
            for i, (name, n) in enumerate(PROFILES.items())
        }

    def __getitem__(self, name: str) -> Profiles:
        return self._profiles[name]
