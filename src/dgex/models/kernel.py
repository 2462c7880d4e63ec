"""Kernel ridge regression of all targets at once."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from dgex.config import KERNEL_NAMES
from dgex.errors import DataError, UsageError
from dgex.models.base import Model
from dgex.models.choice import choice_rows, warn_at_edge
from dgex.models.linear import training_mean
from dgex.progress import report, track

if TYPE_CHECKING:
    import torch

    from dgex.config import TrainConfig
    from dgex.data.dataset import Dataset

log = logging.getLogger("dgex")

PENALTIES = (1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0)
"""Penalties of which every target takes the best, relative to a kernel of 1 on the diagonal."""

CHOICE_TRAIN, CHOICE_TARGETS = 1000, 1000
"""Training profiles and targets, at most, with which kernel and bandwidth are chosen."""

EIGEN_PROFILES = 4000
"""Training profiles, at most, on which the penalty of every target is chosen."""

EXACT_PROFILES = 25_000
"""Training profiles above which centres stand in for them."""

CENTRES = 10_000

RARE = 0.05
"""Share of targets below which a penalty is given up where every one of them is costly."""

TARGETS_AT_ONCE = 1024


class Kernel(Model):
    """Kernel ridge regression: a weighted sum of likenesses to the training profiles.

    Kernel, bandwidth and metric (see `dgex.models.kernels.metric_root`) are those of the lowest
    validation MAE; metrics beyond the first are tried with the kernel that is best so far. Each
    target has the penalty of its own lowest leave-one-out error, which one eigendecomposition gives
    in closed form. In the Gaussian-process view a penalty is the variance of a target's noise: it
    does not depend on the number of profiles, so that many are not needed to choose it.

    Cost, for n training profiles, t targets: up to `EXACT_PROFILES` the equations are solved
    exactly, by one Cholesky factor for each penalty in use, n³/3 + 2 n² t operations and 12 n²
    bytes. Above, `CENTRES` profiles m, drawn by the seed, span the solution (the Nyström method):
    3 n m² + 2 n m t operations, 24 m² bytes. To infer a profile takes 2 n t (2 m t) operations.

    Sources: Saunders, Gammerman and Vovk, ICML 1998; leave-one-out: Rasmussen and Williams,
    Gaussian Processes for Machine Learning, section 5.4.2; centres: Williams and Seeger, NIPS 2000.

    Attributes
    ----------
    kernel, scale, metric_power
        A name of `dgex.models.kernels.KERNELS`, its scale, a squared distance, and the power of the
        landmarks' correlation matrix that is the metric of distances.
    penalty_t
        Penalty of every target; empty for a Model read from a folder.
    search_until
        Time, by `time.monotonic`, after which no further kernel or bandwidth is tried by `fit`.
    validation_mae
        Kernel, bandwidth (as a multiple of the median squared distance between training profiles)
        and metric power tried, to the MAE of `CHOICE_TARGETS` targets on the validation profiles.

    Examples
    --------
    >>> arrays = {"x_ml": np.zeros((1, 2)), "dual_mt": np.array([[3.0]]), "mean_t": np.array([1.0])}
    >>> arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    >>> settings = {"kernel": "rbf", "scale": 1.0, "metric_power": 0.0, "tried": []}
    >>> model = Kernel.from_arrays(arrays, settings)
    >>> model.predict(np.zeros((1, 2)))
    array([[4.]], dtype=float32)
    """

    kind = "kernel"

    def __init__(self) -> None:
        self.kernel, self.scale, self.metric_power = "", math.nan, 0.0
        self.penalty_t = np.empty(0)
        self._targets_of_penalty: list[list[float]] = []
        self.validation_mae: dict[tuple[str, float, float], float] = {}
        # Profiles are multiplied by it where the metric is not Euclidean.
        self._root_ll: np.ndarray | None = None
        self._x_ml = np.empty((0, 0), dtype=np.float32)
        self._dual_mt = np.empty((0, 0), dtype=np.float32)
        self._mean_t = np.empty(0, dtype=np.float32)
        self.search_until = math.inf
        self._seed = 0
        self._device_name = "auto"
        self._on_device: tuple[torch.Tensor, ...] | None = None

    @property
    def n_landmarks(self) -> int:
        """Number of landmarks it takes."""
        return self._x_ml.shape[1]

    @property
    def n_targets(self) -> int:
        """Number of targets it infers."""
        return len(self._mean_t)

    def fit(self, dataset: Dataset, config: TrainConfig) -> None:
        """Choose kernel, bandwidth and penalties, and solve for all training profiles.

        Raises
        ------
        DataError
            There are no validation profiles to choose on.
        """
        self._seed, self._device_name = config.seed, config.device
        penalties = tuple(sorted(set(config.penalties or PENALTIES)))
        self._choose_kernel(dataset, config, penalties)
        self._choose_penalties(dataset, penalties)
        self._solve(dataset)

    def refit(self, dataset: Dataset) -> None:
        """Solve again with the kernel, bandwidth and penalties that `fit` chose."""
        if len(self.penalty_t) == 0:
            raise UsageError("This kernel model does not know its penalties. Fit it first.")
        self._solve(dataset)

    @staticmethod
    def least_seconds(n: int, n_targets: int, speed: float) -> float:
        """About how long `fit` takes at least, from the products of float32 matrices per second.

        Parameters
        ----------
        n, n_targets
            Numbers of training profiles and targets.
        speed
            Multiplications and additions per second.

        Examples
        --------
        >>> Kernel.least_seconds(1000, 9000, 1e11) < 10 < Kernel.least_seconds(20_000, 9520, 1e11)
        True
        """
        tried, chosen = min(n, CHOICE_TRAIN), min(n, EIGEN_PROFILES)
        products = 14.0 * chosen**2 * n_targets
        # Decompositions are in double precision and run at a fraction of the speed.
        slow = 30.0 * (tried**3 + chosen**3)
        if n <= EXACT_PROFILES:
            slow += 2 * (4 * n**3 / 3 + 2.0 * n**2 * n_targets)
        else:
            products += 2.0 * n * CENTRES * (1.5 * CENTRES + n_targets)
        return (products + 2 * slow) / speed

    def left_out_guesses(self, dataset: Dataset) -> np.ndarray | None:
        """Every training profile as guessed from all the others, standardised units, (n, t).

        None where there are more than `EIGEN_PROFILES`.
        """
        train = dataset["train"]
        if train.n > EIGEN_PROFILES:
            return None
        _, guess_nt = self._solve_exactly(dataset, leave_out=True)
        return guess_nt

    def _choose_kernel(
        self, dataset: Dataset, config: TrainConfig, penalties: Sequence[float]
    ) -> None:
        from dgex.models.kernel_solve import Eigen, device_of_name, tensor, turned
        from dgex.models.kernels import KERNELS, typical_scale

        train, validation = dataset["train"], dataset["validation"]
        rows_v = choice_rows(dataset, config.seed)
        rows, targets = (
            self._drawn(train.n, CHOICE_TRAIN),
            self._drawn(len(dataset.targets), CHOICE_TARGETS),
        )
        device = device_of_name(config.device)
        y_nt = tensor(train.y_nt[rows][:, targets], device)
        mean_t = y_nt.mean(dim=0)
        centred_nt = y_nt - mean_t
        y_vt = tensor(validation.y_nt[rows_v][:, targets], device)
        present = np.flatnonzero(np.asarray(validation.present_t, dtype=bool)[targets])
        # The middle bandwidth of every kernel first: there may not be time for more.
        middle = float(np.median(config.bandwidths))
        widths = sorted(config.bandwidths, key=lambda width: abs(math.log(width / middle)))
        first, *others = config.metric_powers
        tried: list[tuple[str, float, float]] = []
        tried += [(kernel, width, first) for width in widths for kernel in config.kernels]
        # Other metrics with the kernel that is the best so far.
        tried += [("", width, power) for power in others for width in widths]
        best, best_mae, metric_power = tried[0], math.inf, math.nan
        for name, width, power in track(tried, "kernels", len(tried)):
            if self.validation_mae and time.monotonic() > self.search_until:
                log.info("kernel: time for %d of %d kernels", len(self.validation_mae), len(tried))
                break
            if power != metric_power:
                metric_power, root_ll = power, self._metric_root(dataset, power)
                x_nl = turned(train.x_nl[rows], root_ll, device).double()
                x_vl = turned(validation.x_nl[rows_v], root_ll, device).double()
                typical = typical_scale(x_nl)
            kernel = name or best[0]
            likeness = KERNELS[kernel]
            eigen = Eigen(likeness(x_nl, x_nl, width * typical))
            penalty_t = eigen.best_penalties(centred_nt, penalties)
            likeness_vn = likeness(x_vl, x_nl, width * typical)
            error_vt = eigen.guess(likeness_vn, centred_nt, penalty_t) + mean_t - y_vt
            mae = float(error_vt[:, present].abs().mean())
            self.validation_mae[kernel, width, power] = mae
            if mae < best_mae:
                best, best_mae = (kernel, width, power), mae
                self.scale, self._root_ll = width * typical, root_ll
        if math.isinf(best_mae):
            raise DataError(
                f"{dataset.name}: no kernel has a finite error on validation, as where values are "
                "missing or beyond all measure. Prepare the Dataset again."
            )
        self.kernel, _, self.metric_power = best
        said = "kernel: %s, bandwidth %g, metric power %g, validation MAE %.4f"
        log.info(said, *best, best_mae)
        if len(self.validation_mae) == len(tried):
            places = sorted(config.bandwidths)
            warn_at_edge("bandwidth", "--model kernel --bandwidths", places, places.index(best[1]))

    def _metric_root(self, dataset: Dataset, power: float) -> np.ndarray | None:
        import torch

        from dgex.models.kernels import metric_root

        if power == 0:
            return None
        train = dataset["train"]
        x_nl = train.x_nl[self._drawn(train.n, EIGEN_PROFILES)]
        root_ll = metric_root(torch.tensor(x_nl, dtype=torch.float64), power)
        return np.asarray(root_ll, dtype=np.float32)

    def _choose_penalties(self, dataset: Dataset, penalties: Sequence[float]) -> None:
        from dgex.models.kernel_solve import Eigen, device_of_name, tensor, turned
        from dgex.models.kernels import KERNELS

        train = dataset["train"]
        rows = self._drawn(train.n, EIGEN_PROFILES)
        device = device_of_name(self._device_name)
        x_nl = turned(train.x_nl[rows], self._root_ll, device).double()
        eigen = Eigen(KERNELS[self.kernel](x_nl, x_nl, self.scale))
        chosen = []
        n_targets = len(dataset.targets)
        for start in range(0, n_targets, TARGETS_AT_ONCE):
            y_nt = tensor(train.y_nt[rows, start : start + TARGETS_AT_ONCE], device)
            chosen.append(eigen.best_penalties(y_nt - y_nt.mean(dim=0), penalties))
            report("penalties", min(start + TARGETS_AT_ONCE, n_targets), n_targets)
        self.penalty_t = np.concatenate(chosen)
        if train.n > EIGEN_PROFILES:
            # Every penalty in use costs a factor of the whole matrix.
            self.penalty_t = without_rare(self.penalty_t, RARE)

    def _solve(self, dataset: Dataset) -> None:
        from dgex.models.kernel_solve import device_of_name, solve_by_centres, turned

        train = dataset["train"]
        self._mean_t = training_mean(dataset)
        self._on_device = None
        device = device_of_name(self._device_name)
        exact = train.n <= EXACT_PROFILES
        rows = self._drawn(train.n, train.n if exact else CENTRES)
        x_ml = turned(train.x_nl[rows], self._root_ll, device)
        self._x_ml = x_ml.cpu().numpy()
        if exact:
            self._dual_mt, _ = self._solve_exactly(dataset, leave_out=False)
            return
        log.info(
            "kernel: %d centres, drawn by the seed, stand in for %d profiles.", CENTRES, train.n
        )

        x64_ml = x_ml.double()

        def to_centres(x_bl: np.ndarray) -> torch.Tensor:
            x_turned = turned(x_bl, self._root_ll, device).double()
            return self._likeness(x_turned, x64_ml).float()

        self._dual_mt = solve_by_centres(
            self._likeness(x64_ml, x64_ml),
            to_centres,
            train.x_nl,
            train.y_nt,
            self._mean_t,
            self.penalty_t,
        )

    def _solve_exactly(
        self, dataset: Dataset, *, leave_out: bool
    ) -> tuple[np.ndarray, np.ndarray | None]:
        import torch

        from dgex.models.kernel_solve import ROWS_AT_ONCE, device_of_name, solve, turned

        train = dataset["train"]
        device = device_of_name(self._device_name)
        x_nl = turned(train.x_nl, self._root_ll, device)
        likeness_nn = torch.empty(train.n, train.n, device=device)
        for start in range(0, train.n, ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            # A profile's distance to itself is lost in single precision.
            likeness_nn[rows] = self._likeness(x_nl[rows].double(), x_nl.double()).float()
        return solve(likeness_nn, train.y_nt, self._mean_t, self.penalty_t, leave_out=leave_out)

    def _likeness(self, x_nl: torch.Tensor, x_ml: torch.Tensor) -> torch.Tensor:
        from dgex.models.kernels import KERNELS

        return KERNELS[self.kernel](x_nl, x_ml, self.scale)

    def _drawn(self, n: int, most: int) -> np.ndarray:
        """All of n places, or as many as allowed, drawn by the seed, sorted."""
        if n <= most:
            return np.arange(n)
        return np.sort(np.random.default_rng(self._seed).choice(n, most, replace=False))

    def arrays(self) -> dict[str, np.ndarray]:
        """Arrays ``x_ml``, ``dual_mt`` and ``mean_t``; ``root_ll`` where distances are in a metric.

        ``x_ml`` are training profiles or centres, multiplied by ``root_ll``; ``dual_mt`` their
        weights.
        """
        arrays = {"x_ml": self._x_ml, "dual_mt": self._dual_mt, "mean_t": self._mean_t}
        return arrays if self._root_ll is None else arrays | {"root_ll": self._root_ll}

    def settings(self) -> dict[str, Any]:
        """``kernel``, ``scale``, ``metric_power``, all ``tried``, and targets of each penalty."""
        tried = [[*one, mae] for one, mae in self.validation_mae.items()]
        counts = self._targets_of_penalty
        if len(self.penalty_t):
            penalties, targets = np.unique(self.penalty_t, return_counts=True)
            counts = [[*one] for one in zip(penalties.tolist(), targets.tolist(), strict=True)]
        return {
            "kernel": self.kernel,
            "scale": self.scale,
            "metric_power": self.metric_power,
            "tried": tried,
            "targets_of_penalty": counts,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> Self:
        """Undo `arrays` and `settings`."""
        model = cls()
        model.kernel, model.scale = str(settings["kernel"]), float(settings["scale"])
        if model.kernel not in KERNEL_NAMES:
            raise ValueError(f"unknown kernel {model.kernel}")
        if not 0 < model.scale < math.inf:
            raise ValueError(f"scale {model.scale}")
        model.metric_power = float(settings["metric_power"])
        model._root_ll = arrays.get("root_ll")
        if (model._root_ll is None) != (model.metric_power == 0):
            raise ValueError(f"metric power {model.metric_power}, root_ll: {model._root_ll}")
        model._x_ml, model._dual_mt = arrays["x_ml"], arrays["dual_mt"]
        model._mean_t = arrays["mean_t"]
        shapes = [one.shape for one in (model._x_ml, model._dual_mt, model._mean_t)]
        if [len(one) for one in shapes] != [2, 2, 1]:
            raise ValueError(f"shapes {shapes}")
        if shapes[0][:1] != shapes[1][:1] or shapes[1][1:] != shapes[2]:
            raise ValueError(f"shapes {shapes} do not fit each other")
        if model._root_ll is not None and model._root_ll.shape != 2 * shapes[0][1:]:
            raise ValueError(f"root_ll of shape {model._root_ll.shape}")
        wrong = [name for name in model.arrays() if arrays[name].dtype != np.float32]
        if wrong:
            raise ValueError(f"{', '.join(wrong)} not of float32")
        model.validation_mae = {
            (kernel, width, power): mae for kernel, width, power, mae in settings["tried"]
        }
        model._targets_of_penalty = [[*one] for one in settings.get("targets_of_penalty", [])]
        return model

    def _predict_block(self, x_bl: np.ndarray, y_bt: np.ndarray) -> None:
        import torch

        from dgex.models.kernel_solve import device_of_name, tensor, turned

        device = device_of_name(self._device_name)
        if self._on_device is None:
            # On a processor these are the arrays themselves, not copies.
            dual_mt, mean_t = (
                torch.from_numpy(np.require(one, requirements=["C", "W"])).to(device)
                for one in (self._dual_mt, self._mean_t)
            )
            self._on_device = tensor(self._x_ml, device).double(), dual_mt, mean_t
        x_ml, dual_mt, mean_t = self._on_device
        # In single precision a distance near 0 is lost.
        x_turned = turned(x_bl, self._root_ll, device).double()
        likeness_bm = self._likeness(x_turned, x_ml).float()
        torch.from_numpy(y_bt).copy_(torch.addmm(mean_t, likeness_bm, dual_mt))


def without_rare(penalty_t: np.ndarray, share: float) -> np.ndarray:
    """Penalties of targets, those of fewer than a share of them replaced by the nearest other.

    Examples
    --------
    >>> without_rare(np.array([0.1, 0.1, 0.1, 1.0]), 0.3)
    array([0.1, 0.1, 0.1, 0.1])
    """
    penalties, counts = np.unique(penalty_t, return_counts=True)
    kept = penalties[counts >= share * len(penalty_t)]
    if len(kept) == 0:
        kept = penalties[[counts.argmax()]]
    apart_tk = np.abs(np.log(penalty_t)[:, None] - np.log(kept))
    return kept[apart_tk.argmin(axis=1)]
