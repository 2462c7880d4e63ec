"""Where a net is trained, and in what precision; the profiles there."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from dgex.errors import DataError, UsageError
from dgex.models.base import BLOCK_ROWS

if TYPE_CHECKING:
    from dgex.config import TrainConfig
    from dgex.data.dataset import Dataset, ProfileSet

GB = 1e9

Precision = Literal["float32", "bf16"]

DTYPES: dict[str, torch.dtype] = {"float32": torch.float32, "bf16": torch.bfloat16}

PAYS_BELOW = 0.8
"""Seconds in bf16, as a share of those in float32, below which bf16 is worth its rounding."""


def choose_device(name: str) -> torch.device:
    """The device of that name; ``auto`` takes a GPU where there is one.

    Raises
    ------
    UsageError
        There is no such device here.

    Examples
    --------
    >>> choose_device("cpu")
    device(type='cpu')
    """
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(kind for kind, available in there.items() if available)
    if not there.get(name, False):
        known = ", ".join(kind for kind, available in there.items() if available)
        raise UsageError(f"There is no device {name} here. Choose auto or {known}.")
    return torch.device(name)


def choose_precision(name: str, device: torch.device) -> Precision:
    """Precision of that name on a device; ``auto`` takes bf16 where that is faster.

    Raises
    ------
    UsageError
        The device has no instructions for bf16.

    Examples
    --------
    >>> choose_precision("float32", torch.device("cpu"))
    'float32'
    """
    if name == "bf16" and not has_bf16(device):
        raise UsageError(
            f"This {device.type} has no instructions for products in bf16, so they would be slower "
            "than in float32. Leave out --precision."
        )
    return "bf16" if name == "bf16" or (name == "auto" and bf16_pays(device)) else "float32"


def has_bf16(device: torch.device) -> bool:
    """Whether a device has instructions for matrix products in bfloat16."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu":
        return False
    # Older torch cannot say; float32 is right everywhere.
    features: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(features.get("avx512_bf16") or features.get("amx_bf16"))


def bf16_pays(device: torch.device) -> bool:
    """Whether matrix products in bfloat16 are clearly faster on a device than in float32.

    On a processor that has instructions for them this is tried, in some 0.05 s, once per process:
    some do twice as many operations in bfloat16 as in float32, others (Intel's with AVX512-BF16
    and without AMX) half as many.
    """
    return has_bf16(device) and (device.type != "cpu" or _seconds_ratio() < PAYS_BELOW)


@functools.cache
def _seconds_ratio() -> float:
    """Seconds of a product in bf16 over those in float32, on the processor."""
    factors = {
        dtype: (torch.ones(120, 3000, dtype=dtype), torch.ones(1000, 3000, dtype=dtype))
        for dtype in (torch.bfloat16, torch.float32)
    }
    best = dict.fromkeys(factors, float("inf"))
    # By turns, and the best of each, so that other work on the machine meets both alike.
    with torch.inference_mode():
        for _ in range(5):
            for dtype, (x_bh, weight_th) in factors.items():
                started = time.perf_counter()
                torch.nn.functional.linear(x_bh, weight_th)
                best[dtype] = min(best[dtype], time.perf_counter() - started)
    return best[torch.bfloat16] / best[torch.float32]


@contextlib.contextmanager
def sums_in_float32() -> Iterator[None]:
    """Have GPUs accumulate products in bf16 in float32 throughout, which is not torch's default."""
    switches = torch.backends.cuda.matmul
    before = switches.allow_bf16_reduced_precision_reduction
    switches.allow_bf16_reduced_precision_reduction = False
    try:
        yield
    finally:
        switches.allow_bf16_reduced_precision_reduction = before


def check_memory(
    n_weights: int, bytes_per_weight: int, config: TrainConfig, device: torch.device
) -> None:
    """Refuse a net that the device has no room for.

    Raises
    ------
    DataError
        Training needs more memory than is free.
    """
    free = free_memory(device)
    if n_weights * bytes_per_weight > free:
        fact = f"{free / GB:,.1f} GB are free"
        raise out_of_memory(n_weights, bytes_per_weight, config, device, fact)


def out_of_memory(
    n_weights: int, bytes_per_weight: int, config: TrainConfig, device: torch.device, fact: str
) -> DataError:
    """The error for a net that is too large; `fact` says for what."""
    return DataError(
        f"A net of {config.hidden_layers} x {config.hidden_units} hidden units "
        f"({n_weights:,} weights) needs {n_weights * bytes_per_weight / GB:,.1f} GB to be "
        f"trained on this {device.type}, and {fact}. Take fewer --hidden-units, or a machine with "
        "more memory."
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory could not be had."""
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or "allocate memory" in str(error)


def to_host(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Arrays of tensors that nothing writes to any more; a GPU goes on with its work meanwhile."""
    on_gpu = [tensor.device for tensor in tensors.values() if tensor.is_cuda]
    if not on_gpu:
        return {name: tensor.cpu().numpy() for name, tensor in tensors.items()}
    beside = torch.cuda.Stream(on_gpu[0])  # type: ignore[no-untyped-call]
    beside.wait_stream(torch.cuda.default_stream(on_gpu[0]))
    with torch.cuda.stream(beside):
        return {name: tensor.cpu().numpy() for name, tensor in tensors.items()}


def to_device(arrays: Mapping[str, np.ndarray], device: torch.device) -> dict[str, Tensor]:
    """Undo `to_host`."""
    return {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}


def free_memory(device: torch.device) -> float:
    """Bytes that can be asked for; infinite where the system does not say."""
    if device.type == "cuda":
        # What an earlier training in this process gave back stays reserved for the next.
        reserved = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return float(torch.cuda.mem_get_info(device)[0] + reserved)
    information = Path("/proc/meminfo")
    if information.is_file():
        for line in information.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024.0
    return float("inf")


class Profiles:
    """Landmarks and targets of a set, by row, on a device.

    A GPU holds them whole where it can. Elsewhere rows are read from the memory map each time:
    the system keeps as much of it in memory as there is room, and a batch takes far longer to
    learn from than to copy.

    Attributes
    ----------
    n
        Number of profiles.
    present
        Columns of the measured targets.
    """

    def __init__(
        self,
        profiles: ProfileSet,
        device: torch.device,
        resident: torch.dtype | None = None,
    ) -> None:
        self.device = device
        self.n = profiles.n
        # Numbers in place of booleans, whose count a GPU would have to be asked for.
        self.present = torch.from_numpy(np.flatnonzero(profiles.present_t)).to(device)
        self._arrays = np.asarray(profiles.x_nl), np.asarray(profiles.y_nt)
        self._tensors: tuple[Tensor, Tensor] | None = None
        if resident is not None:
            x_shape, y_shape = (array.shape for array in self._arrays)
            x_nl = torch.empty(x_shape, device=device)
            y_nt = torch.empty(y_shape, device=device, dtype=resident)
            for start, x_bl, y_bt in profiles.blocks(BLOCK_ROWS):
                x_nl[start : start + len(x_bl)] = torch.from_numpy(x_bl)
                y_nt[start : start + len(y_bt)] = torch.from_numpy(y_bt)
            self._tensors = x_nl, y_nt

    def order(self, rows: np.ndarray) -> Tensor:
        """Row numbers where `take` wants them: on the device if the profiles are there."""
        index = torch.from_numpy(rows)
        return index if self._tensors is None else index.to(self.device)

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Landmarks (b, l) and targets (b, t) of some rows."""
        if self._tensors is not None:
            return self._tensors[0][rows], self._tensors[1][rows]
        x_bl, y_bt = (torch.from_numpy(array[rows.numpy()]) for array in self._arrays)
        return x_bl.to(self.device), y_bt.to(self.device)


def all_profiles(dataset: Dataset, device: torch.device, dtype: torch.dtype) -> dict[str, Profiles]:
    """Every set of a Dataset; on a GPU whole, with targets in float32 or `dtype`, if it fits."""
    resident = None
    if device.type == "cuda":
        n = sum(dataset[name].n for name in dataset.sets)
        for kind in (torch.float32, dtype):
            width = 4 * len(dataset.landmarks) + kind.itemsize * len(dataset.targets)
            # The other half is for the net, its gradients and its momentum.
            if resident is None and n * width < free_memory(device) / 2:
                resident = kind
    return {name: Profiles(dataset[name], device, resident) for name in dataset.sets}
