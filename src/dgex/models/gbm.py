"""Gradient-boosted trees for the principal components of the targets; needs lightgbm."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from dgex.errors import DataError, UsageError
from dgex.models.base import BLOCK_ROWS, Model
from dgex.models.choice import choice_rows
from dgex.progress import report

if TYPE_CHECKING:
    from dgex.config import TrainConfig
    from dgex.data.dataset import Dataset, ProfileSet

log = logging.getLogger("dgex")

MOST_COMPONENTS = 100
"""Principal components of the targets that are learned at most."""

MOST_ROUNDS = 300
"""Trees of a component at most."""

PATIENCE = 20
"""Trees without a lower validation error, after which a component has enough."""

LANDMARK_COMPONENTS = 100
"""Principal components of the landmarks that the trees may split on, beside the landmarks."""

PCA_PROFILES = 3000
"""Training profiles, at most, that principal components are taken from, drawn by the seed."""

ROUNDING = 1e-10
"""Share of the strongest component's variance below which one is taken for rounding."""

CHOICE_PROFILES = 1000
"""Validation profiles, at most, on which rounds and components are chosen."""

FEW_PROFILES = 10_000
"""Training profiles up to which trees are grown by one thread: more would wait for each other."""

TREES = {
    "objective": "regression",
    "learning_rate": 0.05,
    "num_leaves": 7,
    "min_data_in_leaf": 20,
    "feature_fraction": 0.2,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "max_bin": 63,
    # The same trees again, whatever the number of threads.
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}
"""What lightgbm is told; the seed and the number of threads come on top."""


class GBM(Model):
    """Infers the leading principal components of the targets, each by gradient-boosted trees.

    The trees see the landmarks and their leading principal components, because a split of one
    variable after the other is a poor way to a sum of many. A component has as many trees as
    lower its error on validation, and as many components are kept as lower the MAE there.

    Attributes
    ----------
    vector_lk
        Directions of the landmarks' components, shape (l, k).
    mean_t, loading_ct
        Training means of the targets, and the directions of their components, shape (c, t).
    rounds
        Number of trees of each component.
    validation_mae
        The MAE on the validation profiles with one component, two, and so on, in standardised
        units, averaged over the measured targets; on `CHOICE_PROFILES` of them, drawn by the seed,
        if there are more.

    Source: Ke G, Meng Q, Finley T, et al. LightGBM: a highly efficient gradient boosting decision
    tree. *Advances in Neural Information Processing Systems* 2017;30:3146–3154.
    """

    kind = "gbm"

    def __init__(self) -> None:
        self.vector_lk = np.empty((0, 0), dtype=np.float32)
        self.mean_t = np.empty(0, dtype=np.float32)
        self.loading_ct = np.empty((0, 0), dtype=np.float32)
        self.rounds: list[int] = []
        self.validation_mae: list[float] = []
        self._boosters: list[Any] = []
        self._seed = 0

    @property
    def n_landmarks(self) -> int:
        """Number of landmarks it takes."""
        return len(self.vector_lk)

    @property
    def n_targets(self) -> int:
        """Number of targets it infers."""
        return len(self.mean_t)

    def fit(self, dataset: Dataset, config: TrainConfig) -> None:
        """Learn one component after the other, each until validation has enough.

        Raises
        ------
        UsageError
            lightgbm is not installed.
        DataError
            There are no validation profiles to choose on, or no target varies.
        """
        lightgbm = _lightgbm()
        rows = choice_rows(dataset, config.seed, CHOICE_PROFILES)
        self._seed = config.seed
        score_cn = self._take_components(dataset)
        if len(self.loading_ct) == 0:
            raise DataError(
                f"The targets of {dataset.name} do not vary over its training profiles, so there "
                "is nothing to learn. Train the model mean."
            )
        validation = dataset["validation"]
        y_bt = validation.y_nt[rows]
        present_t = np.asarray(validation.present_t, dtype=bool)
        score_cb = self.loading_ct @ (y_bt - self.mean_t).T
        parameters = self._parameters(dataset["train"].n)
        table = self._table(dataset["train"].x_nl)
        seen = lightgbm.Dataset(table, params=parameters, free_raw_data=False)
        x_bf = self._table(validation.x_nl[rows])
        unseen = lightgbm.Dataset(x_bf, reference=seen, params=parameters, free_raw_data=False)
        inferred_bt = np.tile(self.mean_t, (len(rows), 1))
        self._boosters, self.rounds, self.validation_mae = [], [], []
        for component, loading_t in enumerate(self.loading_ct):
            report("components", component, len(self.loading_ct))
            seen.set_label(score_cn[component])
            unseen.set_label(score_cb[component])
            booster = lightgbm.train(
                parameters,
                seen,
                MOST_ROUNDS,
                valid_sets=[unseen],
                callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False)],
            )
            self._keep(booster, booster.best_iteration)
            inferred_bt += np.outer(booster.predict(x_bf), loading_t).astype(np.float32)
            error_bt = np.abs(inferred_bt - y_bt)[:, present_t]
            self.validation_mae.append(float(error_bt.mean(dtype=np.float64)))
        report("components", len(self.loading_ct), len(self.loading_ct))
        n = int(np.argmin(self.validation_mae)) + 1
        self.loading_ct = self.loading_ct[:n]
        self.rounds, self._boosters = self.rounds[:n], self._boosters[:n]
        log.info(
            "gbm: %d components of %g trees on average, validation MAE %.4f",
            n,
            np.mean(self.rounds),
            self.validation_mae[n - 1],
        )

    def refit(self, dataset: Dataset) -> None:
        """Learn as many components again, each with as many trees as `fit` chose."""
        lightgbm = _lightgbm()
        rounds = self.rounds
        score_cn = self._take_components(dataset)[: len(rounds)]
        self.loading_ct = self.loading_ct[: len(rounds)]
        parameters = self._parameters(dataset["train"].n)
        table = self._table(dataset["train"].x_nl)
        seen = lightgbm.Dataset(table, params=parameters, free_raw_data=False)
        self._boosters, self.rounds = [], []
        for component, number in enumerate(rounds):
            report("components", component, len(rounds))
            seen.set_label(score_cn[component])
            self._keep(lightgbm.train(parameters, seen, number), number)
        report("components", len(rounds), len(rounds))

    def _parameters(self, n: int) -> dict[str, Any]:
        # 0: as many threads as there are cores.
        return TREES | {"seed": self._seed, "num_threads": 1 if n <= FEW_PROFILES else 0}

    def _keep(self, booster: Any, rounds: int) -> None:
        # Through its text: what is inferred now is then what the saved Model infers.
        text = booster.model_to_string(num_iteration=rounds)
        self._boosters.append(_lightgbm().Booster(model_str=text))
        self.rounds.append(rounds)

    def _take_components(self, dataset: Dataset) -> np.ndarray:
        """Set means and directions, and give the scores of the training profiles, (c, n)."""
        train = dataset["train"]
        rng = np.random.default_rng(self._seed)
        drawn = np.arange(train.n)
        if train.n > PCA_PROFILES:
            drawn = np.sort(rng.choice(train.n, PCA_PROFILES, replace=False))
        self.vector_lk = directions(train.x_nl[drawn], LANDMARK_COMPONENTS).T.astype(np.float32)
        y_bt = train.y_nt[drawn]
        self.mean_t = y_bt.mean(axis=0, dtype=np.float64).astype(np.float32)
        self.loading_ct = directions(y_bt, MOST_COMPONENTS).astype(np.float32)
        return _scores(train, self.mean_t, self.loading_ct)

    def _table(self, x_bl: np.ndarray) -> np.ndarray:
        """What the trees split on: landmarks and their components."""
        # In double precision: the last digit, which depends on how many profiles are multiplied
        # together, could send a profile down another branch.
        component_bk = np.asarray(x_bl, dtype=np.float64) @ self.vector_lk
        return np.hstack([x_bl, component_bk.astype(np.float32)])

    def arrays(self) -> dict[str, np.ndarray]:
        """Arrays ``vector_lk``, ``mean_t``, ``loading_ct``, and lightgbm's text of all trees.

        The text is in ``trees``, bytes, one component after the other, ``length_c`` bytes each;
        ``sha256`` is its digest.
        """
        texts = [booster.model_to_string().encode() for booster in self._boosters]
        trees = b"".join(texts)
        return {
            "vector_lk": np.ascontiguousarray(self.vector_lk),
            "mean_t": self.mean_t,
            "loading_ct": self.loading_ct,
            "trees": np.frombuffer(trees, dtype=np.uint8),
            "length_c": np.array([len(text) for text in texts], dtype=np.int64),
            "sha256": np.frombuffer(hashlib.sha256(trees).digest(), dtype=np.uint8),
        }

    def settings(self) -> dict[str, Any]:
        """Number of ``components``, ``rounds`` of each, and ``validation_mae`` after each."""
        return {
            "components": len(self.rounds),
            "rounds": self.rounds,
            "validation_mae": self.validation_mae,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> Self:
        """Undo `arrays` and `settings`.

        Raises
        ------
        UsageError
            lightgbm is not installed.
        KeyError, TypeError, ValueError
            They do not make a model of this kind.
        """
        lightgbm = _lightgbm()
        model = cls()
        model.vector_lk, model.mean_t = arrays["vector_lk"], arrays["mean_t"]
        model.loading_ct, length_c = arrays["loading_ct"], arrays["length_c"]
        model.rounds = [int(number) for number in settings["rounds"]]
        model.validation_mae = list(settings["validation_mae"])
        expected = (len(model.rounds), len(model.mean_t))
        if model.vector_lk.ndim != 2 or model.loading_ct.shape != expected or 0 in expected:
            raise ValueError(
                f"vector_lk {model.vector_lk.shape}, loading_ct {model.loading_ct.shape}, mean_t "
                f"{model.mean_t.shape} and {len(model.rounds)} rounds do not fit each other"
            )
        trees, start = arrays["trees"].tobytes(), 0
        # Before lightgbm reads it: some damage would end the process rather than raise an error.
        if hashlib.sha256(trees).digest() != arrays["sha256"].tobytes():
            raise ValueError("the text of the trees is damaged")
        if len(length_c) != len(model.rounds) or length_c.sum() != len(trees):
            raise ValueError(f"trees hold {len(trees)} bytes, not {length_c.sum()}")
        for length in length_c.tolist():
            booster = lightgbm.Booster(model_str=trees[start : start + length].decode())
            if booster.num_feature() != sum(model.vector_lk.shape):
                raise ValueError(f"trees of {booster.num_feature()} variables")
            model._boosters.append(booster)
            start += length
        return model

    def _predict_block(self, x_bl: np.ndarray, y_bt: np.ndarray) -> None:
        y_bt[:] = self.mean_t
        if len(x_bl) == 0:
            return
        table_bf = self._table(x_bl)
        score_bc = np.empty((len(x_bl), len(self._boosters)), dtype=np.float32)
        for component, booster in enumerate(self._boosters):
            score_bc[:, component] = booster.predict(table_bf)
        y_bt += score_bc @ self.loading_ct


def directions(x_nw: np.ndarray, most: int) -> np.ndarray:
    """Leading principal directions of the columns, unit rows (c, w), the first the strongest.

    There are fewer than `most` where the rows do not span so many.

    Examples
    --------
    >>> x_nw = np.array([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]])
    >>> directions(x_nw, 5).round(3).tolist()
    [[0.6, 0.8]]
    """
    from scipy.linalg import eigh

    x_nw = x_nw - x_nw.mean(axis=0, dtype=np.float64)
    n, width = x_nw.shape
    square = x_nw @ x_nw.T if n < width else x_nw.T @ x_nw
    # Centred rows span one direction less than there are.
    first = len(square) - min(most, n - 1, width)
    value_c, vector_c = eigh(square, subset_by_index=[first, len(square) - 1])
    kept_c = value_c > ROUNDING * max(value_c[-1], 0.0)
    vector_c = vector_c[:, kept_c][:, ::-1]
    rows_cw = (x_nw.T @ vector_c).T if n < width else vector_c.T
    rows_cw = rows_cw / np.linalg.norm(rows_cw, axis=1, keepdims=True)
    # An eigenvector and its negative are as good; the machine must not decide.
    strongest_c = np.abs(rows_cw).argmax(axis=1)[:, None]
    return np.asarray(rows_cw * np.sign(np.take_along_axis(rows_cw, strongest_c, axis=1)))


def _scores(train: ProfileSet, mean_t: np.ndarray, loading_ct: np.ndarray) -> np.ndarray:
    score_cn = np.empty((len(loading_ct), train.n), dtype=np.float32)
    for start, _, y_bt in train.blocks(BLOCK_ROWS):
        score_cn[:, start : start + len(y_bt)] = loading_ct @ (y_bt - mean_t).T
    return score_cn


def _lightgbm() -> ModuleType:
    try:
        import lightgbm
    except ImportError as error:
        raise UsageError(
            "Models of kind gbm need lightgbm: pip install 'dgex-torch[gbm]'."
        ) from error
    return lightgbm
