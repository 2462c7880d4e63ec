"""The lasso of a profile on training profiles."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from dgex.config import SAMPLE_LASSO_PENALTIES
from dgex.models.choice import choice_rows, warn_at_edge
from dgex.models.lasso import ENOUGH, ThinProducts, solve
from dgex.models.samples import ProfilesModel
from dgex.progress import report

if TYPE_CHECKING:
    from dgex.config import TrainConfig
    from dgex.data.dataset import Dataset

log = logging.getLogger("dgex")

MOST_PROFILES = 5000
"""Training profiles kept at most, drawn by the seed: the time of a profile grows with them."""

CHOICE_PROFILES = 300
"""Validation profiles, at most, on which the penalty is chosen."""

TOLERANCE = 1e-8
"""Duality gap, as a share of half a profile's squared length, at which its weights are solved.

What they make of its landmarks then differs from the exact solution's by at most 1e-4 standard
deviations (root mean square), whatever the profiles it is inferred together with.
"""


CHOICE_TOLERANCE = 1e-4
"""The same while penalties are compared: within 0.01 standard deviations."""


class SampleLasso(ProfilesModel):
    """Infers a profile as a weighted sum of few training profiles, which explain its landmarks.

    The landmarks of a profile are regressed on those of the training profiles: the sum of squared
    errors over ``2 l`` (l landmarks) plus ``penalty`` times the sum of absolute weights is made
    smallest, without an intercept, since z-scores have mean 0. The weights are then applied to
    the targets of the training profiles. This is scikit-learn's ``Lasso(alpha=penalty,
    fit_intercept=False)``, for many profiles at once by the solver of `dgex.models.lasso.Lasso`.

    All the work is done when a profile is inferred. In blocks of 256 or more that takes about 0.03
    seconds each with 1,300 training profiles, and 0.1 with 5,000; one alone takes seconds. Of more
    than `MOST_PROFILES` training profiles that many are drawn by the seed, since with all of the
    88,807 of D-GEX even a profile in a block would take seconds.

    Attributes
    ----------
    penalty
        The chosen one.
    validation_mae
        Penalty tried, from small to large, to its MAE on the validation profiles, in standardised
        units, averaged over the measured targets; on `CHOICE_PROFILES` of them, drawn by the
        seed, if there are more.

    Source: SampleLASSO of Mancuso CA, Canfield JL, Singla D, Krishnan A. A flexible,
    interpretable, and accurate approach for imputing the expression of unmeasured genes. *Nucleic
    Acids Research* 2020;48:e125.

    Examples
    --------
    >>> arrays = {"x_nl": np.eye(2, dtype=np.float32), "y_nt": np.array([[5.0], [7.0]], np.float32)}
    >>> settings = {"penalty": 0.1, "penalties": [], "validation_mae": []}
    >>> SampleLasso.from_arrays(arrays, settings).predict(np.array([[0.0, 1.0]])).round(3)
    array([[5.6]], dtype=float32)
    """

    kind = "sample-lasso"

    def __init__(self) -> None:
        super().__init__()
        self.penalty = math.nan
        self.validation_mae: dict[float, float] = {}
        self._seed = 0
        self._products: ThinProducts | None = None

    def fit(self, dataset: Dataset, config: TrainConfig) -> None:
        """Keep the training profiles, and the penalty that is best on validation.

        Penalties are tried from large to small, until the MAE is 1 % above the lowest.

        Raises
        ------
        DataError
            There are no validation profiles to choose on.
        """
        rows = choice_rows(dataset, config.seed, CHOICE_PROFILES)
        self._seed = config.seed
        self.refit(dataset)
        validation = dataset["validation"]
        x_bl, y_bt = validation.x_nl[rows], validation.y_nt[rows]
        present_t = np.asarray(validation.present_t, dtype=bool)
        penalties = sorted(set(config.penalties or SAMPLE_LASSO_PENALTIES), reverse=True)
        weight_nb = np.zeros((len(self.x_nl), len(rows)))
        mae_of = dict[float, float]()
        for done, penalty in enumerate(penalties):
            report("penalties", done, len(penalties))
            self._solve(x_bl, penalty, weight_nb, CHOICE_TOLERANCE)
            difference_bt = np.abs(weight_nb.T.astype(np.float32) @ self.y_nt - y_bt)
            mae_of[penalty] = float(difference_bt[:, present_t].mean(dtype=np.float64))
            log.info(
                "sample-lasso: penalty %g, %.1f of %d weights per profile, validation MAE %.4f",
                penalty,
                np.count_nonzero(weight_nb) / len(rows),
                len(weight_nb),
                mae_of[penalty],
            )
            if mae_of[penalty] > ENOUGH * min(mae_of.values()):
                break
        report("penalties", len(penalties), len(penalties))
        tried = sorted(mae_of)
        self.validation_mae = {penalty: mae_of[penalty] for penalty in tried}
        self.penalty = min(tried, key=lambda penalty: mae_of[penalty])
        log.info("sample-lasso: penalty %g is the best", self.penalty)
        warn_at_edge("sample-lasso penalty", "--penalties", tried, tried.index(self.penalty))

    def refit(self, dataset: Dataset) -> None:
        """Keep the training profiles; the penalty stays the one that `fit` chose."""
        train = dataset["train"]
        self._products = None
        if train.n <= MOST_PROFILES:
            # The files themselves unless some targets only are learned.
            self.x_nl, self.y_nt = train.x_nl, np.ascontiguousarray(train.y_nt)
            return
        log.info(
            "sample-lasso: keeps %d of %d training profiles, drawn by the seed",
            MOST_PROFILES,
            train.n,
        )
        drawn = np.random.default_rng(self._seed).choice(train.n, MOST_PROFILES, replace=False)
        drawn.sort()
        self.x_nl, self.y_nt = train.x_nl[drawn], train.y_nt[drawn]

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
        if not 0 < model.penalty < math.inf:
            raise ValueError(f"penalty is {model.penalty}")
        return model

    def _predict_block(self, x_bl: np.ndarray, y_bt: np.ndarray) -> None:
        weight_nb = np.zeros((len(self.x_nl), len(x_bl)))
        off_b = self._solve(x_bl, self.penalty, weight_nb, TOLERANCE)
        if off_b.any():
            log.warning(
                "sample-lasso: the weights of %d of %d profiles are not solved to the last digit; "
                "what they make of the landmarks is within %.1g standard deviations of the "
                "solution.",
                np.count_nonzero(off_b),
                len(off_b),
                off_b.max(),
            )
        np.matmul(weight_nb.T.astype(np.float32), self.y_nt, out=y_bt)

    def _solve(
        self, x_bl: np.ndarray, penalty: float, weight_nb: np.ndarray, tolerance: float
    ) -> np.ndarray:
        """Bring the weights of profiles to the solution, in place; see `solve`."""
        if self._products is None:
            self._products = ThinProducts(np.asarray(self.x_nl.T, dtype=np.float64))
        # Here training profiles are what landmarks are to the lasso, and landmarks its profiles.
        x_lb = np.asarray(x_bl.T, dtype=np.float64)
        xx_nb = self.x_nl @ x_lb
        square_b = np.einsum("lb,lb->b", x_lb, x_lb)
        return solve(self._products, penalty * len(x_lb), xx_nb, square_b, weight_nb, tolerance)
