"""By whose moments a set is standardised, and the same set by the others.

Everything needed is in the Dataset: z-scores, the moments they were made by and those of training.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from dgex.data.normalise import SD_OFFSET
from dgex.data.split import SPLITS

if TYPE_CHECKING:
    from dgex.config import Moments
    from dgex.data.dataset import Dataset, ProfileSet
    from dgex.data.preprocess import Preprocessor


@dataclass(frozen=True)
class Restandardised:
    """A set of a Dataset with its genes standardised by other moments.

    Values that were missing in a profile stay at the mean that they were given.

    Attributes
    ----------
    stored
        The set as it is in the Dataset.
    preprocessor
        Training moments, and how absent landmarks are filled.
    scale_g, shift_g
        What a z-score is multiplied by, and what is then added; landmarks, then targets; 0 for
        absent genes.
    moments
        Whose the new ones are.
    """

    stored: ProfileSet
    preprocessor: Preprocessor
    scale_g: np.ndarray
    shift_g: np.ndarray
    moments: Moments

    @property
    def n(self) -> int:
        """Number of profiles."""
        return self.stored.n

    @property
    def present_l(self) -> np.ndarray:
        """Which landmarks were measured, shape (l,)."""
        return self.stored.present_l

    @property
    def present_t(self) -> np.ndarray:
        """Which targets were measured, shape (t,)."""
        return self.stored.present_t

    def blocks(self, rows: int = 1024) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Yield (first row, landmarks, targets) for row blocks, as arrays in memory."""
        n_landmarks, absent_l = self.stored.n_landmarks, ~self.present_l
        # Absent landmarks were set to 0, or inferred from the others, as `prepare` was asked to.
        infer = bool(absent_l.any() and self.stored.x_nl[:, absent_l].any())
        scale_l, scale_t = np.split(self.scale_g, [n_landmarks])
        shift_l, shift_t = np.split(self.shift_g, [n_landmarks])
        for start, x_bl, y_bt in self.stored.blocks(rows):
            x_bl = (x_bl * scale_l + shift_l).astype(np.float32)
            if infer:
                x_bl = self.preprocessor.infer_landmarks(x_bl, ~absent_l)
            yield start, x_bl, (y_bt * scale_t + shift_t).astype(np.float32)


def moments_of(dataset: Dataset, name: str) -> Moments:
    """Whose moments the profiles of a set are standardised by.

    External sets of a Dataset that was given as z-scores count as standardised by their own.

    Examples
    --------
    >>> moments_of({}, "test")
    'training'
    """
    if name in SPLITS:
        return "training"
    known = dataset.preprocessor
    if not known.knows_expression:
        return "own"
    genes = dataset[name].genes
    present_g = genes["present"].to_numpy(bool)
    n = len(present_g)
    mean_g, sd_g = genes["mean"].to_numpy(float), genes["sd"].to_numpy(float)
    same = np.allclose(mean_g[present_g], known.mean_g[:n][present_g], rtol=1e-9, atol=1e-9)
    same = same and np.allclose(sd_g[present_g], known.sd_g[:n][present_g], rtol=1e-9, atol=1e-9)
    return "training" if same else "own"


def standardisations(
    dataset: Dataset, name: str
) -> dict[Literal["own", "training"], ProfileSet | Restandardised]:
    """A set by the moments it was prepared with, and by the others where that can be done.

    Splits of the compendium have the training moments only; so does a set of one profile. A
    Dataset that was given as z-scores has no other moments than its sets came with.
    """
    one, moments = dataset[name], moments_of(dataset, name)
    if name in SPLITS or not dataset.preprocessor.knows_expression:
        return {moments: one}
    if moments == "own":
        return {"own": one, "training": _by_training(dataset, one)}
    if one.n < 2:
        return {"training": one}
    return {"own": _by_own(dataset, one), "training": one}


def _by_training(dataset: Dataset, one: ProfileSet) -> Restandardised:
    known, genes = dataset.preprocessor, one.genes
    n = len(genes)
    mean_g, sd_g = genes["mean"].to_numpy(float), genes["sd"].to_numpy(float)
    to_g = known.sd_g[:n] + SD_OFFSET
    return _of_present(
        dataset, one, (sd_g + SD_OFFSET) / to_g, (mean_g - known.mean_g[:n]) / to_g, "training"
    )


def _by_own(dataset: Dataset, one: ProfileSet) -> Restandardised:
    n_genes = len(one.present_l) + len(one.present_t)
    sum_g, square_g = np.zeros(n_genes), np.zeros(n_genes)
    for _, x_bl, y_bt in one.blocks():
        sum_g += np.concatenate([x_bl, y_bt], axis=1).sum(axis=0, dtype=np.float64)
    mean_g = sum_g / one.n
    for _, x_bl, y_bt in one.blocks():
        z_bg = np.concatenate([x_bl, y_bt], axis=1) - mean_g
        square_g += np.square(z_bg, out=z_bg).sum(axis=0)
    unit_g = dataset.preprocessor.sd_g[:n_genes] + SD_OFFSET
    scale_g = unit_g / (np.sqrt(square_g / one.n) * unit_g + SD_OFFSET)
    return _of_present(dataset, one, scale_g, -mean_g * scale_g, "own")


def _of_present(
    dataset: Dataset,
    one: ProfileSet,
    scale_g: np.ndarray,
    shift_g: np.ndarray,
    moments: Moments,
) -> Restandardised:
    present_g = np.concatenate([one.present_l, one.present_t])
    scale_g, shift_g = np.where(present_g, scale_g, 0.0), np.where(present_g, shift_g, 0.0)
    return Restandardised(one, dataset.preprocessor, scale_g, shift_g, moments)
