"""The landmarks that a target leans on: exact gradients of a D-GEX net, averaged over profiles.

With slopes d = 1 − tanh² of the hidden units of a profile, the gradient of the targets is
W_out · diag(d_L) · W_L ⋯ diag(d_1) · W_1, of shape (t targets, l landmarks). A gradient says by how
many standard deviations the inferred target rises when the landmark rises by one, all other
landmarks staying.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dgex.errors import DataError, UsageError
from dgex.models.interpret import weight_layers
from dgex.progress import report, track

if TYPE_CHECKING:
    import torch

BLOCK_ROWS = 1024


@dataclass(frozen=True)
class Gradients:
    """Gradients of the targets by the landmarks, in standardised units, shape (t, l).

    Attributes
    ----------
    mean_tl
        Mean over profiles.
    absolute_tl
        Mean over profiles of the absolute value.
    n_mean, n_absolute
        Numbers of profiles that went into them.
    slopes
        For each hidden layer the mean over its units and the `n_mean` profiles of 1 − tanh²: 1 of
        a unit that works linearly, 0 of one that is saturated.
    """

    mean_tl: np.ndarray
    absolute_tl: np.ndarray
    n_mean: int
    n_absolute: int
    slopes: tuple[float, ...]


def landmark_gradients(
    arrays: Mapping[str, np.ndarray],
    x_nl: np.ndarray,
    *,
    sample: int = 100,
    seed: int = 0,
    device: str = "auto",
) -> Gradients:
    """Mean and mean absolute gradient of every target by every landmark.

    With one or two hidden layers the mean over all profiles is exact and needs no gradient of a
    single profile: it is W_out · diag(mean d_1) · W_1, and W_out · (W_2 ∘ mean(d_2 ⊗ d_1)) · W_1,
    where mean(d_2 ⊗ d_1) is a product of two matrices. With h hidden units that takes 2·n·h·l, and
    2·n·(h·l + 2·h²), floating-point operations: less than twice the inference of these profiles.

    With three or more hidden layers no such form exists, nor does one for the mean absolute
    gradient, which needs the gradient of each profile: 2·l·h·(t + (L − 1)·h) operations, 0.05 T
    for 943 → 3000 → 9,520 and 0.5 T for three layers of 9,000. They are therefore taken over
    `sample` profiles, drawn without replacement; over all where there are no more.

    Memory: the weights, (t, l) in double and (h, l) twice in single precision; for two hidden
    layers also (h, h) twice.

    Parameters
    ----------
    arrays
        Arrays of the net.
    x_nl
        Landmarks in standardised units, shape (n, l).
    sample
        Number of profiles where not all are affordable.
    seed
        Of their draw.
    device
        Where to calculate; see `dgex.models.device.choose_device`.

    Raises
    ------
    DataError
        The arrays are not those of a D-GEX net, or `x_nl` has no rows or other landmarks.
    UsageError
        `sample` is below 1, or there is no such device.

    Examples
    --------
    >>> arrays = {"hidden.0.weight": np.array([[1.0, 0.0], [0.0, 1.0]]),
    ...           "hidden.0.bias": np.zeros(2), "output.weight": np.array([[2.0, -3.0]])}
    >>> found = landmark_gradients(arrays, np.array([[0.0, 1.0], [0.0, -1.0]]), device="cpu")
    >>> found.mean_tl.round(3).tolist(), found.absolute_tl.round(3).tolist()
    ([[2.0, -1.26]], [[2.0, 1.26]])
    """
    from dgex.models.device import choose_device

    n_hidden = len(weight_layers(arrays)) - 1
    n_landmarks = arrays["hidden.0.weight"].shape[1]
    if x_nl.ndim != 2 or len(x_nl) == 0 or x_nl.shape[1] != n_landmarks:
        raise DataError(
            f"Gradients of a net of {n_landmarks} landmarks cannot be averaged over profiles of "
            f"shape {x_nl.shape}. Give a set that has profiles of these landmarks."
        )
    if sample < 1:
        raise UsageError(f"A sample of {sample} profiles has no gradients. Take at least one.")
    net = _Net(arrays, n_hidden, choose_device(device))
    if len(x_nl) <= sample:
        drawn = np.arange(len(x_nl))
    else:
        drawn = np.random.default_rng(seed).choice(len(x_nl), sample, replace=False)
    closed = net.mean_of_all(x_nl) if n_hidden <= 2 else None
    sampled_mean_tl, absolute_tl, sampled_slopes = net.over_profiles(x_nl[np.sort(drawn)])
    mean_tl, slopes = closed if closed is not None else (sampled_mean_tl, sampled_slopes)
    return Gradients(
        mean_tl=mean_tl,
        absolute_tl=absolute_tl,
        n_mean=len(x_nl) if closed is not None else len(drawn),
        n_absolute=len(drawn),
        slopes=slopes,
    )


class _Net:
    """Weights on a device, all in the precision of the output's."""

    def __init__(
        self, arrays: Mapping[str, np.ndarray], n_hidden: int, device: torch.device
    ) -> None:
        import torch

        dtype = torch.from_numpy(np.empty(0, arrays["output.weight"].dtype)).dtype

        def placed(name: str) -> torch.Tensor:
            # Torch warns about memory that may not be written to, as a read-only map's may not.
            array = np.require(arrays[name], requirements=["C", "W"])
            return torch.from_numpy(array).to(device, dtype)

        self.weights = [placed(f"hidden.{layer}.weight") for layer in range(n_hidden)]
        self.biases = [placed(f"hidden.{layer}.bias") for layer in range(n_hidden)]
        self.output_th = placed("output.weight")

    def slopes(self, x_bl: np.ndarray) -> list[torch.Tensor]:
        """Slopes 1 − tanh² of the hidden units, (b, h) for each hidden layer."""
        import torch

        # Copied: rows of a memory map may not be written to.
        hidden_bh = torch.from_numpy(np.array(x_bl)).to(self.output_th)
        slopes = []
        for weight_hi, bias_h in zip(self.weights, self.biases, strict=True):
            hidden_bh = torch.tanh(torch.addmm(bias_h, hidden_bh, weight_hi.T))
            slopes.append(1 - hidden_bh**2)
        return slopes

    def mean_of_all(self, x_nl: np.ndarray) -> tuple[np.ndarray, tuple[float, ...]]:
        """Mean gradient over all profiles, for one or two hidden layers, and the mean slopes."""
        import torch

        with torch.inference_mode():
            sums = [torch.zeros(len(w), dtype=torch.float64) for w in self.weights]
            pairs_hh = torch.zeros_like(self.weights[1]) if len(self.weights) == 2 else None
            for start in range(0, len(x_nl), BLOCK_ROWS):
                slopes = self.slopes(x_nl[start : start + BLOCK_ROWS])
                for total_h, slope_bh in zip(sums, slopes, strict=True):
                    total_h += slope_bh.sum(dim=0).cpu()
                if pairs_hh is not None:
                    pairs_hh.addmm_(slopes[1].T, slopes[0])
                report("gradients", min(start + BLOCK_ROWS, len(x_nl)), len(x_nl))
            if pairs_hh is None:
                slope_h = (sums[0] / len(x_nl)).to(self.output_th)
                inner_hl = slope_h[:, None] * self.weights[0]
            else:
                pairs_hh.mul_(self.weights[1]).div_(len(x_nl))
                inner_hl = pairs_hh @ self.weights[0]
            mean_tl = (self.output_th @ inner_hl).cpu().numpy()
        return mean_tl, tuple(float(total_h.mean()) / len(x_nl) for total_h in sums)

    def over_profiles(self, x_nl: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[float, ...]]:
        """Mean and mean absolute gradient, and mean slopes, one profile after the other."""
        import torch

        with torch.inference_mode():
            shape = len(self.output_th), self.weights[0].shape[1]
            absolute_tl = torch.zeros(shape, dtype=torch.float64, device=self.output_th.device)
            gradient_tl = self.output_th.new_empty(shape)
            inner_sum_hl = self.output_th.new_zeros(self.output_th.shape[1], shape[1])
            sums = [0.0] * len(self.weights)
            for n in track(range(len(x_nl)), "gradients of single profiles", len(x_nl)):
                slopes = self.slopes(x_nl[n : n + 1])
                inner_hl = slopes[0].T * self.weights[0]
                for weight_hh, slope_bh in zip(self.weights[1:], slopes[1:], strict=True):
                    inner_hl = (weight_hh @ inner_hl).mul_(slope_bh.T)
                inner_sum_hl += inner_hl
                torch.mm(self.output_th, inner_hl, out=gradient_tl)
                absolute_tl += gradient_tl.abs_()
                sums = [s + float(slope.mean()) for s, slope in zip(sums, slopes, strict=True)]
            mean_tl = (self.output_th @ (inner_sum_hl / len(x_nl))).cpu().numpy()
            absolute = (absolute_tl / len(x_nl)).to(self.output_th.dtype).cpu().numpy()
        return mean_tl, absolute, tuple(total / len(x_nl) for total in sums)


def top_landmarks(
    gradients: Gradients, landmarks: pd.DataFrame, targets: pd.DataFrame, top: int = 10
) -> pd.DataFrame:
    """The landmarks with the largest absolute mean gradient of each target, the largest first.

    Parameters
    ----------
    gradients
        What `landmark_gradients` gave.
    landmarks, targets
        Gene tables (index of ids, column `symbol`) in the order of the net's inputs and outputs.
    top
        Landmarks per target; all where there are fewer.

    Returns
    -------
    pandas.DataFrame
        `target`, `symbol`, `rank` (from 1), `landmark`, `landmark_symbol`, `gradient` (mean over
        profiles) and `absolute_gradient` (mean absolute one), a row per target and rank.

    Raises
    ------
    UsageError
        `top` is below 1.

    Examples
    --------
    >>> mean_tl = np.array([[0.1, -0.4]])
    >>> gradients = Gradients(mean_tl, np.abs(mean_tl), 5, 5, (0.9,))
    >>> landmarks = pd.DataFrame({"symbol": ["TP53", "MYC"]}, index=["l0", "l1"])
    >>> targets = pd.DataFrame({"symbol": ["CDK1"]}, index=["t0"])
    >>> top_landmarks(gradients, landmarks, targets)[["rank", "landmark", "gradient"]].values
    array([[1, 'l1', -0.4],
           [2, 'l0', 0.1]], dtype=object)
    """
    if top < 1:
        raise UsageError(f"The first {top} landmarks of a target are none. Take at least one.")
    mean_tl = gradients.mean_tl
    top = min(top, mean_tl.shape[1])
    # Stable: landmarks of equal gradients stay in their order.
    order_tk = np.argsort(-np.abs(mean_tl), axis=1, kind="stable")[:, :top]
    target_of = np.repeat(np.arange(len(mean_tl)), top)
    landmark_of = order_tk.ravel()
    return pd.DataFrame(
        {
            "target": targets.index.to_numpy()[target_of],
            "symbol": targets["symbol"].to_numpy()[target_of],
            "rank": np.tile(np.arange(1, top + 1), len(mean_tl)),
            "landmark": landmarks.index.to_numpy()[landmark_of],
            "landmark_symbol": landmarks["symbol"].to_numpy()[landmark_of],
            "gradient": mean_tl[target_of, landmark_of],
            "absolute_gradient": gradients.absolute_tl[target_of, landmark_of],
        }
    )


def own_landmark_ranks(
    mean_tl: np.ndarray, landmarks: pd.DataFrame, targets: pd.DataFrame
) -> pd.DataFrame:
    """For targets that are the same gene as a landmark, the rank of that landmark among all.

    A check of a net: a gene measured twice should be inferred from itself.

    Parameters
    ----------
    mean_tl
        Mean gradients.
    landmarks, targets
        Gene tables with columns `symbol`, `ensembl` and `entrez`.

    Returns
    -------
    pandas.DataFrame
        `target`, `symbol`, `landmark`, `rank` (1 where no landmark has a larger absolute mean
        gradient) and `gradient`; where several landmarks are its gene, the first of them by rank.

    Examples
    --------
    >>> empty = {"ensembl": "", "entrez": ""}
    >>> landmarks = pd.DataFrame({"symbol": ["TP53", "MYC"], **empty}, index=["l0", "l1"])
    >>> targets = pd.DataFrame({"symbol": ["MYC", "CDK1"], **empty}, index=["t0", "t1"])
    >>> own_landmark_ranks(np.array([[0.3, 0.2], [0.1, 0.9]]), landmarks, targets).values
    array([['t0', 'MYC', 'l1', 2, 0.2]], dtype=object)
    """
    positions: dict[int, set[int]] = {}
    for kind in ("symbol", "ensembl", "entrez"):
        known: dict[str, set[int]] = {}
        for position, name in enumerate(landmarks[kind]):
            if name:
                known.setdefault(name, set()).add(position)
        for target, name in enumerate(targets[kind]):
            if name in known:
                positions.setdefault(target, set()).update(known[name])
    rows = []
    for target, own in sorted(positions.items()):
        absolute_l = np.abs(mean_tl[target])
        best = max(sorted(own), key=lambda landmark: absolute_l[landmark])
        rows.append(
            {
                "target": targets.index[target],
                "symbol": targets["symbol"].iloc[target],
                "landmark": landmarks.index[best],
                "rank": 1 + int(np.count_nonzero(absolute_l > absolute_l[best])),
                "gradient": mean_tl[target, best],
            }
        )
    return pd.DataFrame(rows, columns=["target", "symbol", "landmark", "rank", "gradient"])
