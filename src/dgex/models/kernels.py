"""Kernels: how alike two profiles are, from their landmarks. Functions of torch tensors.

Each is about 1 for a profile with itself and takes one scale, a squared distance between profiles
in standardised units; `typical_scale` gives the scale of a set of profiles.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor


def squared_distances(x_nl: Tensor, x_ml: Tensor) -> Tensor:
    """Squared Euclidean distances between profiles, (n, m), of the type of the profiles."""
    square_n, square_m = (x_nl * x_nl).sum(dim=1), (x_ml * x_ml).sum(dim=1)
    distance_nm = torch.addmm(square_n[:, None] + square_m, x_nl, x_ml.T, alpha=-2)
    return distance_nm.clamp_(min=0)


def typical_scale(x_nl: Tensor) -> float:
    """Median squared distance between different profiles.

    The mean where most profiles are the same, and 1 where all are: any scale is right then.

    Examples
    --------
    >>> typical_scale(torch.tensor([[0.0], [1.0], [3.0]]))
    4.0
    """
    distance_nn = squared_distances(x_nl, x_nl)
    upper_p = distance_nn[tuple(torch.triu_indices(len(x_nl), len(x_nl), offset=1))]
    return float(upper_p.median()) or float(upper_p.mean()) or 1.0


def metric_root(x_nl: Tensor, power: float) -> Tensor:
    """Symmetric root, (l, l), of a metric: the landmarks' correlation matrix raised to a power.

    Distances between profiles that are multiplied by it are distances in that metric.

    Parameters
    ----------
    x_nl
        Landmarks in standardised units, (n, l), float64.
    power
        At least 0. At 0 the metric is Euclidean; above, directions along which many landmarks vary
        together count more, and the noise of single landmarks less. At -1 it would be Mahalanobis'.

    Examples
    --------
    >>> x_nl = torch.tensor([[2.0, 1.0], [-2.0, -1.0], [2.0, -1.0], [-2.0, 1.0]])
    >>> metric_root(x_nl, 1.0).abs()
    tensor([[2., 0.],
            [0., 1.]])
    """
    value_l, vector_ll = torch.linalg.eigh(x_nl.T @ x_nl / len(x_nl))
    return (vector_ll * value_l.clamp(min=0) ** (power / 2)) @ vector_ll.T


def rbf(x_nl: Tensor, x_ml: Tensor, scale: float) -> Tensor:
    """exp(-d² / scale), the Gaussian kernel.

    Examples
    --------
    >>> rbf(torch.zeros(1, 2), torch.ones(1, 2), 2.0)
    tensor([[0.3679]])
    """
    return squared_distances(x_nl, x_ml).div_(-scale).exp_()


def laplacian(x_nl: Tensor, x_ml: Tensor, scale: float) -> Tensor:
    """exp(-d / (2 sqrt(scale))), d the Euclidean distance.

    Examples
    --------
    >>> laplacian(torch.zeros(1, 1), torch.full((1, 1), 4.0), 4.0)
    tensor([[0.3679]])
    """
    return squared_distances(x_nl, x_ml).sqrt_().div_(-2 * math.sqrt(scale)).exp_()


def inverse_multiquadric(x_nl: Tensor, x_ml: Tensor, scale: float) -> Tensor:
    """1 / sqrt(1 + d² / scale): a mixture of Gaussian kernels of all widths.

    Source: Micchelli, Constructive Approximation 1986.

    Examples
    --------
    >>> inverse_multiquadric(torch.zeros(1, 1), torch.full((1, 1), 3.0), 3.0)
    tensor([[0.5000]])
    """
    return squared_distances(x_nl, x_ml).div_(scale).add_(1).rsqrt_()


def arc_cosine(x_nl: Tensor, x_ml: Tensor, scale: float) -> Tensor:
    """The kernel of an infinitely wide layer of rectified linear units, with biases.

    Every profile gets one more coordinate, sqrt(scale); the larger, the more linear the kernel.
    It is divided by 1.5 scale, what a typical profile then has as squared length.

    Source: Cho and Saul, Kernel methods for deep learning, NIPS 2009, degree 1.

    Examples
    --------
    >>> arc_cosine(torch.ones(1, 2), torch.ones(1, 2), 4.0)
    tensor([[1.]])
    """
    length_n = (x_nl * x_nl).sum(dim=1).add_(scale).sqrt_()
    length_m = (x_ml * x_ml).sum(dim=1).add_(scale).sqrt_()
    lengths_nm = length_n[:, None] * length_m
    cosine_nm = (x_nl @ x_ml.T).add_(scale).div_(lengths_nm).clamp_(-1, 1)
    angle_nm = torch.arccos(cosine_nm)
    sine_nm = (1 - cosine_nm * cosine_nm).sqrt_()
    value_nm = sine_nm.add_((math.pi - angle_nm).mul_(cosine_nm))
    return value_nm.mul_(lengths_nm).div_(1.5 * math.pi * scale)


def local_and_global(x_nl: Tensor, x_ml: Tensor, scale: float) -> Tensor:
    """Mean of `inverse_multiquadric` and `arc_cosine`.

    The former fades with the distance: what is learned is bent where there are profiles to learn
    from. The latter does not: far from all of them, guesses are nearly linear in the landmarks
    rather than nearly constant.

    Examples
    --------
    >>> local_and_global(torch.zeros(1, 2), torch.zeros(1, 2), 3.0)
    tensor([[0.8333]])
    """
    local_nm = inverse_multiquadric(x_nl, x_ml, scale)
    return local_nm.add_(arc_cosine(x_nl, x_ml, scale)).div_(2)


KERNELS: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "sum": local_and_global,
    "inverse-multiquadric": inverse_multiquadric,
    "rbf": rbf,
    "arc-cosine": arc_cosine,
    "laplacian": laplacian,
}
