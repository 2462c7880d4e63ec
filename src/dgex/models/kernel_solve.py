"""The equations of kernel ridge regression: which penalties, and the weights of the profiles."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from dgex.errors import UsageError
from dgex.models.device import choose_device
from dgex.progress import report

ROWS_AT_ONCE = 2048
_TARGETS_AT_ONCE = 1024
_JITTER = 1e-6


def device_of_name(name: str) -> torch.device:
    """The device of that name, or the processor where it knows no double precision."""
    device = choose_device(name)
    return torch.device("cpu") if device.type == "mps" else device


def tensor(array: np.ndarray, device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """A copy of an array, on a device."""
    return torch.tensor(array, dtype=dtype, device=device)


def turned(x_nl: np.ndarray, root_ll: np.ndarray | None, device: torch.device) -> Tensor:
    """Profiles on a device, multiplied by the root of a metric if there is one, float32."""
    x_tensor = tensor(x_nl, device)
    return x_tensor if root_ll is None else x_tensor @ tensor(root_ll, device)


class Eigen:
    """Kernel ridge regression for every penalty at once, from one eigendecomposition.

    Parameters
    ----------
    likeness_nn
        Likeness of the training profiles among themselves, float64.

    Examples
    --------
    >>> eigen = Eigen(torch.eye(2, dtype=torch.float64))
    >>> y_nt = torch.tensor([[1.0], [-1.0]])
    >>> eigen.guess(torch.eye(2), y_nt, np.array([1.0]))
    tensor([[ 0.5000],
            [-0.5000]])
    """

    def __init__(self, likeness_nn: Tensor) -> None:
        value_n, vector_nn = torch.linalg.eigh(likeness_nn)
        self._value_n = value_n.clamp(min=0)
        self._square_nn = vector_nn * vector_nn
        self._vector_nn = vector_nn.float()

    def left_out_errors(self, y_nt: Tensor, penalties: Sequence[float]) -> Iterator[Tensor]:
        """For each penalty, what is missed when a profile is guessed from all others, (n, t)."""
        turned_nt = self._vector_nn.T @ y_nt
        for penalty in penalties:
            scale_n = 1 / (self._value_n + penalty)
            weight_nt = (self._vector_nn * scale_n.float()) @ turned_nt
            yield weight_nt.div_((self._square_nn @ scale_n).float()[:, None])

    def best_penalties(self, y_nt: Tensor, penalties: Sequence[float]) -> np.ndarray:
        """The penalty of the lowest mean absolute left-out error, for each target, (t,)."""
        found = []
        for start in range(0, y_nt.shape[1], _TARGETS_AT_ONCE):
            part_nt = y_nt[:, start : start + _TARGETS_AT_ONCE]
            errors = self.left_out_errors(part_nt, penalties)
            error_pt = torch.stack([error_nt.abs_().mean(dim=0) for error_nt in errors])
            found.append(error_pt.argmin(dim=0).cpu().numpy())
        return np.asarray(penalties)[np.concatenate(found)]

    def guess(self, likeness_vn: Tensor, y_nt: Tensor, penalty_t: np.ndarray) -> Tensor:
        """Guesses (v, t) of profiles that are so like the training profiles."""
        turned_vn = likeness_vn.float() @ self._vector_nn
        guess_vt = torch.empty(len(turned_vn), y_nt.shape[1], device=y_nt.device)
        for penalty, chosen in _levels(penalty_t):
            scale_n = (1 / (self._value_n + penalty)).float()
            columns = torch.from_numpy(chosen).to(y_nt.device)
            guess_vt[:, columns] = (turned_vn * scale_n) @ (self._vector_nn.T @ y_nt[:, columns])
        return guess_vt


def solve(
    likeness_nn: Tensor,
    y_nt: np.ndarray,
    mean_t: np.ndarray,
    penalty_t: np.ndarray,
    *,
    leave_out: bool = False,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Weights of the training profiles, exact.

    Parameters
    ----------
    likeness_nn
        Likeness of the training profiles, float32 or float64.
    y_nt
        Targets, standardised units, shape (n, t).
    mean_t
        Their means, which the weights leave out.
    penalty_t
        Penalty of each target.
    leave_out
        Also guess each profile from all the others.

    Returns
    -------
    tuple
        Weights (n, t), and the guesses (n, t) where asked for.

    Raises
    ------
    UsageError
        A penalty is lost in the rounding of the likenesses.

    Examples
    --------
    >>> y_nt, mean_t = np.array([[3.0], [1.0]]), np.array([2.0])
    >>> solve(torch.eye(2), y_nt, mean_t, np.array([1.0]), leave_out=True)
    (array([[ 0.5],
           [-0.5]], dtype=float32), array([[2.],
           [2.]], dtype=float32))
    """
    device = likeness_nn.device
    dual_nt = np.empty(y_nt.shape, dtype=np.float32)
    guess_nt = np.empty_like(dual_nt) if leave_out else None
    done = 0
    for penalty, chosen in _levels(penalty_t):
        factor_nn = _cholesky(likeness_nn.to(torch.float64, copy=True), penalty)
        inverse_n = torch.cholesky_inverse(factor_nn).diagonal() if leave_out else None
        for columns in _parts(chosen):
            centred_nt = tensor(y_nt[:, columns] - mean_t[columns], device, torch.float64)
            weight_nt = _solved(factor_nn, centred_nt)
            dual_nt[:, columns] = weight_nt.cpu().numpy()
            if guess_nt is not None and inverse_n is not None:
                left_out_nt = (weight_nt / inverse_n[:, None]).cpu().numpy()
                guess_nt[:, columns] = y_nt[:, columns] - left_out_nt
            done += len(columns)
            report("solving", done, len(penalty_t))
        del factor_nn  # before the next one is made
    return dual_nt, guess_nt


def solve_by_centres(
    likeness_mm: Tensor,
    to_centres: Callable[[np.ndarray], Tensor],
    x_nl: np.ndarray,
    y_nt: np.ndarray,
    mean_t: np.ndarray,
    penalty_t: np.ndarray,
) -> np.ndarray:
    """Weights (m, t) of some profiles, the centres, that stand in for all training profiles.

    With all training profiles as centres it is `solve`, but for rounding.

    Parameters
    ----------
    likeness_mm
        Likeness of the centres among themselves, float64.
    to_centres
        Likeness (b, m) of training profiles (b, l) to the centres, float32.
    x_nl, y_nt
        Training profiles, standardised units.
    mean_t, penalty_t
        As for `solve`.
    """
    device = likeness_mm.device
    m, n_targets = len(likeness_mm), len(penalty_t)
    likeness_mm.diagonal().add_(_JITTER)
    root_mm = torch.linalg.cholesky(likeness_mm)
    # In the coordinates of this root the penalty is on the squared weights alone.
    root32_mm = root_mm.float()
    square_mm = torch.zeros(m, m, dtype=torch.float64, device=device)
    product_mt = torch.zeros(m, n_targets, device=device)
    for start in range(0, len(x_nl), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        likeness_mb = to_centres(x_nl[rows]).T
        feature_mb = torch.linalg.solve_triangular(root32_mm, likeness_mb, upper=False)
        square_mm += feature_mb @ feature_mb.T
        product_mt.addmm_(feature_mb, tensor(y_nt[rows] - mean_t, device))
        report("products with centres", min(start + ROWS_AT_ONCE, len(x_nl)), len(x_nl))
    del root32_mm
    dual_mt = np.empty((m, n_targets), dtype=np.float32)
    for penalty, chosen in _levels(penalty_t):
        factor_mm = _cholesky(square_mm.clone(), penalty)
        for columns in _parts(chosen):
            right_mt = product_mt[:, torch.from_numpy(columns).to(device)].double()
            weight_mt = _solved(factor_mm, right_mt)
            solved_mt = torch.linalg.solve_triangular(root_mm.T, weight_mt, upper=True)
            dual_mt[:, columns] = solved_mt.cpu().numpy()
        del factor_mm
    return dual_mt


def _cholesky(square_nn: Tensor, penalty: float) -> Tensor:
    """Lower triangular root of a symmetric matrix with a penalty on its diagonal, in its place.

    Raises
    ------
    UsageError
        The penalty is lost in the rounding of the matrix.
    """
    square_nn.diagonal().add_(penalty)
    # Column by column is the order of the library below: any other would be copied.
    root_nn = square_nn.mT
    failed = torch.empty(0, dtype=torch.int32, device=square_nn.device)
    torch.linalg.cholesky_ex(root_nn, out=(root_nn, failed))
    if failed:
        raise UsageError(
            f"The penalty {penalty:g} is too small for {len(root_nn)} profiles so alike to be "
            "solved for. Give larger ones with --penalties."
        )
    return root_nn


def _solved(root_nn: Tensor, y_nt: Tensor) -> Tensor:
    """Solution of the equations of which `root_nn` is the root; the root is not copied."""
    half_nt = torch.linalg.solve_triangular(root_nn, y_nt, upper=False)
    return torch.linalg.solve_triangular(root_nn.mT, half_nt, upper=True)


def _levels(penalty_t: np.ndarray) -> Iterator[tuple[float, np.ndarray]]:
    """Each penalty in use, and the places of its targets."""
    for penalty in np.unique(penalty_t):
        yield float(penalty), np.flatnonzero(penalty_t == penalty)


def _parts(places: np.ndarray) -> list[np.ndarray]:
    return [
        places[start : start + _TARGETS_AT_ONCE]
        for start in range(0, len(places), _TARGETS_AT_ONCE)
    ]
