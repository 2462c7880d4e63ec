"""Several Models combined, gene by gene."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from dgex.errors import UsageError, name_list
from dgex.models.base import Model
from dgex.models.calibrate import Calibration
from dgex.models.choice import choice_rows

if TYPE_CHECKING:
    from dgex.config import TrainConfig
    from dgex.data.dataset import Dataset
    from dgex.models.bundle import Bundle

log = logging.getLogger("dgex")

CHOSEN, SHARED = 20, 15
"""How often a member is chosen, and how often of these for all targets together."""


class Ensemble(Model):
    """A weighted mean of the guesses of other Models, with weights of its own for every target.

    The weights are learned on the validation profiles, from which no member has learned (see
    `select`). A target for which the mean has a larger error than the member that is best over all
    targets takes that member alone, so that on validation the ensemble is never worse than its
    best member.

    Source: Caruana, Niculescu-Mizil, Crew and Ksikes, Ensemble selection from libraries of models,
    ICML 2004.

    Attributes
    ----------
    members
        The Models.
    names
        What they are called.
    calibrations
        What each member's guesses are calibrated by, None where they are not.
    weight_mt
        Weights of the members, shape (m, t).
    validation_mae
        MAE of each member, by its name, on the validation profiles.

    Examples
    --------
    >>> from dgex.models.linear import MeanModel
    >>> ensemble = Ensemble()
    >>> for value in (1.0, 2.0):
    ...     arrays = {"mean_t": np.array([value], dtype=np.float32)}
    ...     ensemble.add(f"mean {value}", MeanModel.from_arrays(arrays, {"n_landmarks": 1}))
    >>> ensemble.weight_mt = np.array([[0.25], [0.75]], dtype=np.float32)
    >>> ensemble.predict(np.zeros((1, 1)))
    array([[1.75]], dtype=float32)
    """

    kind = "ensemble"

    def __init__(self) -> None:
        self.members: list[Model] = []
        self.names: list[str] = []
        self.calibrations: list[Calibration | None] = []
        self.weight_mt = np.empty((0, 0), dtype=np.float32)
        self.validation_mae: dict[str, float] = {}

    @property
    def n_landmarks(self) -> int:
        """Number of landmarks it takes."""
        return self.members[0].n_landmarks if self.members else 0

    @property
    def n_targets(self) -> int:
        """Number of targets it infers; 0 before it has weights."""
        return self.weight_mt.shape[1]

    def add(self, name: str, model: Model, calibration: Calibration | None = None) -> None:
        """Add a trained Model; the weights must be learned afterwards."""
        self.members.append(model)
        self.names.append(name)
        self.calibrations.append(calibration)

    def only(self, members: Iterable[int]) -> Ensemble:
        """An ensemble of some of the members, without weights."""
        some = Ensemble()
        for member in members:
            some.add(self.names[member], self.members[member], self.calibrations[member])
        return some

    def fit(self, dataset: Dataset, config: TrainConfig) -> None:
        """Combine the trained Models in the directories that `config` names.

        Raises
        ------
        UsageError
            They are too few, one is named twice, is of another Dataset or other targets, or has
            learned from the validation profiles.
        """
        from dgex.models.bundle import Bundle

        paths = config.members
        if len(paths) < 2:
            raise UsageError(
                "--members names fewer than two Models. Name the directories of trained Models."
            )
        counts = Counter(str(Path(path).resolve()) for path in paths)
        twice = [path for path, count in counts.items() if count > 1]
        if twice:
            raise UsageError(f"--members names {name_list(twice)} more than once. Name each once.")
        self.members, self.names, self.calibrations = [], [], []
        for path, name in zip(paths, distinct_names(paths), strict=True):
            bundle = Bundle.load(path)
            check_member(bundle, dataset)
            self.add(name, bundle.model)
        self.weigh(dataset, config.seed)

    def weigh(self, dataset: Dataset, seed: int) -> None:
        """Learn the weights of the members on the validation profiles."""
        validation = dataset["validation"]
        rows = choice_rows(dataset, seed)
        x_nl, y_nt = validation.x_nl[rows], validation.y_nt[rows]
        guess_mnt = np.stack([self._guess(m, x_nl) for m in range(len(self.members))])
        present_t = np.asarray(validation.present_t, dtype=bool)
        mae_mt = np.abs(guess_mnt - y_nt).mean(axis=1, dtype=np.float64)
        mae_m = mae_mt[:, present_t].mean(axis=1)
        self.validation_mae = dict(zip(self.names, mae_m.tolist(), strict=True))
        weight_mt = select(guess_mnt, y_nt)
        mean_nt = np.einsum("mt,mnt->nt", weight_mt, guess_mnt, optimize=True)
        mae_t = np.abs(mean_nt - y_nt).mean(axis=0, dtype=np.float64)
        best = int(np.argmin(mae_m))
        worse_t = mae_t > mae_mt[best]
        weight_mt[:, worse_t] = np.arange(len(self.members))[:, None] == best
        self.weight_mt = weight_mt.astype(np.float32)
        mae = float(np.minimum(mae_t, mae_mt[best])[present_t].mean())
        log.info(
            "ensemble: validation MAE %.4f, of the best member, %s, %.4f; mean weights %s",
            mae,
            self.names[best],
            mae_m[best],
            self._mean_weights(),
        )

    def _mean_weights(self) -> str:
        weights = zip(self.names, self.weight_mt.mean(axis=1), strict=True)
        return ", ".join(f"{name} {weight:.2f}" for name, weight in weights)

    def _guess(self, member: int, x_nl: np.ndarray) -> np.ndarray:
        guess_nt = self.members[member].predict(x_nl)
        calibration = self.calibrations[member]
        return guess_nt if calibration is None else calibration(guess_nt)

    def arrays(self) -> dict[str, np.ndarray]:
        """Array ``weight_mt``, and those of the members, their names after ``<number>.``."""
        arrays = {"weight_mt": self.weight_mt}
        for number, (model, calibration) in enumerate(
            zip(self.members, self.calibrations, strict=True)
        ):
            parts = {"model": model.arrays()}
            if calibration is not None:
                parts["calibration"] = calibration.arrays()
            for part, content in parts.items():
                arrays |= {f"{number}.{part}.{name}": array for name, array in content.items()}
        return arrays

    def settings(self) -> dict[str, Any]:
        """``members``: name, kind, settings and ``validation_mae`` of each; ``mean_weights``."""
        return {
            "mean_weights": self._mean_weights(),
            "members": [
                {
                    "name": name,
                    "kind": model.kind,
                    "settings": model.settings(),
                    "calibrated": calibration is not None,
                    "validation_mae": self.validation_mae.get(name),
                }
                for name, model, calibration in zip(
                    self.names, self.members, self.calibrations, strict=True
                )
            ],
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> Self:
        """Undo `arrays` and `settings`."""
        from dgex.models.kinds import KINDS

        model = cls()
        model.weight_mt = arrays["weight_mt"]
        if model.weight_mt.ndim != 2 or len(model.weight_mt) != len(settings["members"]):
            raise ValueError(
                f"weights of shape {model.weight_mt.shape} for {len(settings['members'])} members"
            )
        for number, one in enumerate(settings["members"]):
            if one["kind"] == cls.kind:
                raise ValueError("an ensemble of ensembles")
            member = KINDS[one["kind"]].from_arrays(
                _part(arrays, f"{number}.model."), one["settings"]
            )
            calibration = None
            if one["calibrated"]:
                content = _part(arrays, f"{number}.calibration.")
                calibration = Calibration.from_arrays(content, model.weight_mt.shape[1])
            model.add(str(one["name"]), member, calibration)
            if one["validation_mae"] is not None:
                model.validation_mae[str(one["name"])] = float(one["validation_mae"])
        sizes = {(member.n_landmarks, member.n_targets) for member in model.members}
        if len(sizes) != 1 or sizes.pop()[1] != model.weight_mt.shape[1]:
            raise ValueError("members of different genes")
        return model

    def _predict_block(self, x_bl: np.ndarray, y_bt: np.ndarray) -> None:
        y_bt[:] = 0
        for member, weight_t in enumerate(self.weight_mt):
            y_bt += weight_t * self._guess(member, x_bl)


def select(guess_mnt: np.ndarray, y_nt: np.ndarray) -> np.ndarray:
    """Weights of members, for each target, by choosing members one after another.

    A member may be chosen again; each time it is the one with which the mean of all chosen so far
    has the smallest absolute error: the first `SHARED` times over all targets together, the same
    for each, because few profiles say little about one target, then for each target by itself
    until there are `CHOSEN`.

    Parameters
    ----------
    guess_mnt
        Guesses of the members, standardised units, shape (m, n, t).
    y_nt
        What was measured, shape (n, t).

    Returns
    -------
    numpy.ndarray
        Weights, float64, shape (m, t): at least 0, sum 1, multiples of 1 / `CHOSEN`.

    Examples
    --------
    >>> guess_mnt = np.array([[[1.0], [-1.0]], [[-1.0], [1.0]]])
    >>> select(guess_mnt, np.zeros((2, 1)))
    array([[0.5],
           [0.5]])
    """
    n_members, n, n_targets = guess_mnt.shape
    count_mt = np.zeros((n_members, n_targets))
    sum_nt = np.zeros((n, n_targets), dtype=guess_mnt.dtype)
    for chosen in range(CHOSEN):
        mae_mt = np.stack(
            [
                np.abs((sum_nt + guess_nt) / (chosen + 1) - y_nt).mean(axis=0, dtype=np.float64)
                for guess_nt in guess_mnt
            ]
        )
        if chosen < SHARED:
            mae_mt[:] = mae_mt.mean(axis=1, keepdims=True)
        best_t = mae_mt.argmin(axis=0)
        count_mt[best_t, np.arange(n_targets)] += 1
        for member, guess_nt in enumerate(guess_mnt):
            sum_nt += guess_nt * (best_t == member)
    return count_mt / CHOSEN


def distinct_names(paths: Sequence[Any]) -> list[str]:
    """Names of folders; the whole paths where two have one name.

    Examples
    --------
    >>> distinct_names(["runs/a", "runs/b"]), distinct_names(["x/a", "y/a"])
    (['a', 'b'], ['x/a', 'y/a'])
    """
    names = [Path(path).name for path in paths]
    return names if len(set(names)) == len(names) else [str(path) for path in paths]


def check_member(bundle: Bundle, dataset: Dataset) -> None:
    """Raise UsageError where a Model cannot be a member of an ensemble for a Dataset."""
    targets = list(dataset.targets.index)
    if bundle.dataset_fingerprint != dataset.fingerprint:
        reason = f"was trained on another Dataset, {bundle.dataset_name}"
    elif list(bundle.preprocessor.targets.index) != targets:
        reason = f"does not infer these {len(targets)} targets but {bundle.model.n_targets} others"
    elif bundle.info.get("train_on", "train") != "train":
        reason = "has learned from the validation profiles, on which weights are learned"
    elif bundle.kind == Ensemble.kind or bundle.model.for_new_cohorts:
        reason = f"is of kind {bundle.kind}, which cannot be a member"
    else:
        return
    raise UsageError(f"--members {bundle.path}: it {reason}. Leave it out.")


def _part(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }
