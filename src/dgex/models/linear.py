"""Closed-form models: the training mean, least squares, and ridge regression."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from dgex.config import RIDGE_PENALTIES
from dgex.models.base import BLOCK_ROWS, Model
from dgex.models.choice import choice_rows, warn_at_edge
from dgex.models.gram import Gram, gram
from dgex.progress import track

if TYPE_CHECKING:
    from dgex.config import TrainConfig
    from dgex.data.dataset import Dataset, ProfileSet

log = logging.getLogger("dgex")


class MeanModel(Model):
    """Infers every target as its training mean, whatever the landmarks.

    Examples
    --------
    >>> model = MeanModel.from_arrays({"mean_t": np.array([0.5, 2.0])}, {"n_landmarks": 3})
    >>> model.predict(np.zeros((1, 3)))
    array([[0.5, 2. ]], dtype=float32)
    """

    kind = "mean"

    def __init__(self) -> None:
        self.mean_t = np.empty(0, dtype=np.float32)
        self._n_landmarks = 0

    @property
    def n_landmarks(self) -> int:
        """Number of landmarks it takes, and leaves unused."""
        return self._n_landmarks

    @property
    def n_targets(self) -> int:
        """Number of targets it infers."""
        return len(self.mean_t)

    def fit(self, dataset: Dataset, config: TrainConfig) -> None:
        """Take the means over the training profiles."""
        self.mean_t = training_mean(dataset)
        self._n_landmarks = len(dataset.landmarks)

    def arrays(self) -> dict[str, np.ndarray]:
        """Array ``mean_t``, shape (t,)."""
        return {"mean_t": self.mean_t}

    def settings(self) -> dict[str, Any]:
        """``n_landmarks``."""
        return {"n_landmarks": self._n_landmarks}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> Self:
        """Undo `arrays` and `settings`."""
        model = cls()
        model.mean_t = arrays["mean_t"]
        model._n_landmarks = int(settings["n_landmarks"])
        if model.mean_t.ndim != 1:
            raise ValueError(f"mean_t has shape {model.mean_t.shape}")
        return model

    def _predict_block(self, x_bl: np.ndarray, y_bt: np.ndarray) -> None:
        y_bt[:] = self.mean_t


class OLS(Model):
    """Least squares with an intercept, exact, for all targets at once.

    With fewer training profiles than landmarks, or landmarks that depend on each other, many
    weights fit equally well: the smallest ones (minimum norm) are taken, and a warning says so.
    """

    kind = "ols"

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
        """Solve the normal equations of the training profiles."""
        sums = training_gram(dataset)
        value_l, vector_ll = np.linalg.eigh(sums.xx_ll)
        # Rounding leaves eigenvalues of this size where the truth is 0.
        cut_off = max(sums.n, len(value_l)) * np.finfo(np.float64).eps * max(value_l[-1], 0.0)
        kept_l = value_l > cut_off
        if not kept_l.all():
            log.warning(
                "%d training profiles determine %d of %d directions of the landmarks: OLS takes "
                "the least-squares solution of minimum norm; ridge is likely to infer better.",
                sums.n,
                kept_l.sum(),
                len(kept_l),
            )
        vector_lk, value_k = vector_ll[:, kept_l], value_l[kept_l]
        weight_lt = (vector_lk / value_k) @ (vector_lk.T @ sums.xy_lt)
        self._set_weights(weight_lt, sums)

    def _set_weights(self, weight_lt: np.ndarray, sums: Gram) -> None:
        self.weight_lt = weight_lt.astype(np.float32)
        self.intercept_t = (sums.mean_t - sums.mean_l @ weight_lt).astype(np.float32)

    def arrays(self) -> dict[str, np.ndarray]:
        """Arrays ``weight_lt``, shape (l, t), and ``intercept_t``, shape (t,)."""
        return {"weight_lt": self.weight_lt, "intercept_t": self.intercept_t}

    def settings(self) -> dict[str, Any]:
        """Nothing: the arrays say all."""
        return {}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> Self:
        """Undo `arrays` and `settings`."""
        model = cls()
        model.weight_lt, model.intercept_t = arrays["weight_lt"], arrays["intercept_t"]
        if model.weight_lt.ndim != 2 or model.intercept_t.shape != model.weight_lt.shape[1:]:
            raise ValueError(
                f"weight_lt {model.weight_lt.shape} and intercept_t {model.intercept_t.shape} "
                "do not fit each other"
            )
        return model

    def _predict_block(self, x_bl: np.ndarray, y_bt: np.ndarray) -> None:
        np.matmul(x_bl, self.weight_lt, out=y_bt, casting="same_kind")
        y_bt += self.intercept_t


class Penalised(OLS):
    """A linear model with one penalty for all targets, chosen on the validation profiles.

    Attributes
    ----------
    penalty
        The chosen one.
    validation_mae
        Penalty tried, from small to large, to its MAE on the validation profiles, in standardised
        units, averaged over the measured targets; on `dgex.models.choice.CHOICE_PROFILES` of
        them, drawn by the seed, if there are more.
    """

    def __init__(self) -> None:
        super().__init__()
        self.penalty = float("nan")
        self.validation_mae: dict[float, float] = {}

    def _choose(self, penalties: Sequence[float], mae_p: Sequence[float]) -> int:
        """Keep the penalty of the lowest MAE; its place among `penalties`, which are sorted."""
        best = int(np.argmin(mae_p))
        self.penalty = penalties[best]
        self.validation_mae = dict(zip(penalties, mae_p, strict=True))
        log.info("%s: penalty %g, validation MAE %.4f", self.kind, self.penalty, mae_p[best])
        warn_at_edge(f"{self.kind} penalty", f"--model {self.kind} --penalties", penalties, best)
        return best

    def settings(self) -> dict[str, Any]:
        """``penalty``, and the ``validation_mae`` of every one of the ``penalties`` tried."""
        return {
            "penalty": self.penalty,
            "penalties": list(self.validation_mae),
            "validation_mae": list(self.validation_mae.values()),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> Self:
        """Undo `arrays` and `settings`."""
        model = super().from_arrays(arrays, settings)
        model.penalty = float(settings["penalty"])
        model.validation_mae = dict(
            zip(settings["penalties"], settings["validation_mae"], strict=True)
        )
        return model


class Ridge(Penalised):
    """Least squares with a penalty on the squared weights, the same for all targets.

    The penalty is a multiple of the number of training profiles n: the sum of squared errors
    plus ``penalty * n`` times the sum of squared weights is made smallest; the intercept is not
    penalised.
    """

    kind = "ridge"

    def fit(self, dataset: Dataset, config: TrainConfig) -> None:
        """Solve for every penalty at once and keep the best on validation.

        Raises
        ------
        DataError
            There are no validation profiles to choose on.
        """
        rows = choice_rows(dataset, config.seed)
        sums = training_gram(dataset)
        value_l, vector_ll = np.linalg.eigh(sums.xx_ll)
        # In the coordinates of the eigenvectors a penalty only divides each row.
        turned_lt = vector_ll.T @ sums.xy_lt
        penalties = sorted(set(config.penalties or RIDGE_PENALTIES))
        scale_pl = [1.0 / (value_l.clip(0.0) + penalty * sums.n) for penalty in penalties]
        validation = dataset["validation"]
        mae_p = _mae_of_scales(validation, rows, sums, vector_ll, turned_lt, scale_pl)
        best = self._choose(penalties, mae_p.tolist())
        self._set_weights((vector_ll * scale_pl[best]) @ turned_lt, sums)

    def refit(self, dataset: Dataset) -> None:
        """Learn again with the penalty that `fit` chose."""
        sums = training_gram(dataset)
        penalised_ll = sums.xx_ll + self.penalty * sums.n * np.eye(len(sums.xx_ll))
        self._set_weights(np.linalg.solve(penalised_ll, sums.xy_lt), sums)


def training_mean(dataset: Dataset) -> np.ndarray:
    """Means of the targets over the training profiles, standardised units, float32, (t,)."""
    train = dataset["train"]
    sum_t = np.zeros(len(dataset.targets))
    for _, _, y_bt in train.blocks(BLOCK_ROWS):
        sum_t += y_bt.sum(axis=0, dtype=np.float64)
    return (sum_t / train.n).astype(np.float32)


def training_gram(dataset: Dataset, *, double: bool = False) -> Gram:
    """Sums of squares and products over the training profiles.

    They are kept with the Dataset: `ols`, `ridge` and `lasso` take one pass together.

    Parameters
    ----------
    dataset
        The Dataset.
    double
        Take all products in double precision, whatever the number of profiles.
    """
    name = "sums in double precision" if double else "sums"
    if name not in dataset.learned:
        train = dataset["train"]
        n_landmarks, n_targets = len(dataset.landmarks), len(dataset.targets)
        blocks = track(train.blocks(BLOCK_ROWS), "products", math.ceil(train.n / BLOCK_ROWS))
        dataset.learned[name] = gram(blocks, n_landmarks, n_targets, train.n, double=double)
    sums: Gram = dataset.learned[name]
    return sums


def _mae_of_scales(
    validation: ProfileSet,
    rows: np.ndarray,
    sums: Gram,
    vector_ll: np.ndarray,
    turned_lt: np.ndarray,
    scale_pl: list[np.ndarray],
) -> np.ndarray:
    """Validation MAE of each row of `scale_pl`, the factors on the turned products."""
    turned_lt = turned_lt.astype(np.float32)
    mean_t = sums.mean_t.astype(np.float32)
    error_pt = np.zeros((len(scale_pl), len(mean_t)))
    for start in range(0, len(rows), BLOCK_ROWS):
        block = rows[start : start + BLOCK_ROWS]
        x_turned_bl = (validation.x_nl[block] - sums.mean_l) @ vector_ll
        y_centred_bt = validation.y_nt[block] - mean_t
        for error_t, scale_l in zip(error_pt, scale_pl, strict=True):
            difference_bt = (x_turned_bl * scale_l).astype(np.float32) @ turned_lt
            difference_bt -= y_centred_bt
            error_t += np.abs(difference_bt, out=difference_bt).sum(axis=0, dtype=np.float64)
    present_t = np.asarray(validation.present_t, dtype=bool)
    return np.asarray(error_pt[:, present_t].mean(axis=1) / len(rows))
