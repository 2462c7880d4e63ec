"""What a GPU is used for: training and inference at the paper's size.

The peak is the measured rate of one large product, the bandwidth that of a large copy, both on the
device and in the same run. The share of an epoch, scoring included, is of that peak. Its floor is
the larger of two times: its operations at the peak, and the fewest bytes it must move. Each step
reads and writes every float32 weight and its v (16 bytes), writes and reads twice the net's copy
and writes and reads the gradient (10 bytes in bf16): with batches of 200 that is the larger, and
bounds the share that any program can reach.

    python benchmarks/gpu.py [--scale 0.01] [--epochs 3] [--out benchmarks/results]
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from unittest import mock

import numpy as np
import torch
from rehearsal import N_LANDMARKS, N_TARGETS, Rehearsal
from table import show

from dgex.config import NetConfig, TrainConfig, net_options
from dgex.models import train
from dgex.models.device import DTYPES, Precision, choose_device, choose_precision
from dgex.models.net_model import DGEX, net_settings

PAPER_EPOCHS = 200
L1000_PROFILES = 1_328_098
PREDICTED_ROWS = 8192


def seconds_of(work: Callable[[], object], device: torch.device, times: int = 10) -> float:
    """Median time of some work on the device, after two runs to warm up."""
    measured = []
    for _ in range(times + 2):
        _wait(device)
        began = time.perf_counter()
        work()
        _wait(device)
        measured.append(time.perf_counter() - began)
    return median(measured[2:])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def ceilings(device: torch.device, dtype: torch.dtype) -> tuple[float, float]:
    """Operations per second of a large product, bytes per second of a large copy."""
    n = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(n, n).to(device, dtype) for _ in range(2))
    peak = 2.0 * n**3 / seconds_of(lambda: torch.mm(a, b), device)
    source = torch.randn(n * n * 4).to(device)
    goal = torch.empty_like(source)
    bandwidth = 2.0 * source.nbytes / seconds_of(lambda: goal.copy_(source), device)
    return peak, bandwidth


def train_row(
    data: Rehearsal,
    config: NetConfig,
    *,
    precision: Precision,
    compiled: bool,
    peak: float,
    bandwidth: float,
) -> tuple[dict[str, object], dict[str, np.ndarray]]:
    """A row of the table, and the trained weights."""
    began = time.perf_counter()
    with mock.patch.object(train, "COMPILED_FROM", 0 if compiled else math.inf):
        trained = train.train_net(data, config)
    whole = time.perf_counter() - began
    arrays = trained.best["validation"].arrays
    weights = [array.size for name, array in arrays.items() if name.endswith("weight")]
    n_train = data["train"].n
    scored = min(n_train, config.monitor_profiles)
    scored += sum(data[name].n for name in data.sets if name != "train")
    # The gradient of the landmarks is not computed.
    operations = 2.0 * n_train * (3 * sum(weights) - weights[0]) + 2.0 * scored * sum(weights)
    copies = 10 if precision == "bf16" else 16
    steps = math.ceil(n_train / config.batch_size)
    moved = steps * sum(weights) * (16.0 + copies)
    seconds = float(trained.log["seconds"].median())
    row: dict[str, object] = {
        "what": f"training {config.hidden_layers} x {config.hidden_units}",
        "precision": precision,
        "compiled": compiled,
        "epoch_s": seconds,
        "share_of_peak": operations / seconds / peak,
        "floor_s": max(operations / peak, moved / bandwidth),
        "floor_of": "operations" if operations / peak > moved / bandwidth else "bytes",
        f"epochs_{PAPER_EPOCHS}_s": whole + seconds * (PAPER_EPOCHS - config.epochs),
        "mae_validation": trained.log["mae_validation"].iloc[-1],
    }
    return row, arrays


def predict_row(
    arrays: dict[str, np.ndarray], config: NetConfig, n: int, device: torch.device
) -> dict[str, object]:
    """Inference of n profiles from memory to memory; the output is thrown away."""
    model = DGEX.from_arrays(arrays, net_settings(config))
    x_bl = np.random.default_rng(0).standard_normal((PREDICTED_ROWS, N_LANDMARKS), np.float32)
    model.predict(x_bl[: min(n, PREDICTED_ROWS)])
    began = time.perf_counter()
    for start in range(0, n, PREDICTED_ROWS):
        model.predict(x_bl[: n - start])
    _wait(device)
    seconds = time.perf_counter() - began
    return {
        "what": f"inference {config.hidden_layers} x {config.hidden_units}, {n} profiles",
        "precision": "float32",
        "compiled": False,
        "seconds": seconds,
        "seconds_of_all_l1000": seconds * L1000_PROFILES / n,
    }


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--scale", type=float, default=0.01, help="of the profiles; its root of the hidden units"
    )
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "processor"
    best = choose_precision("auto", device)
    data = Rehearsal(arguments.scale)
    rows: list[dict[str, object]] = []
    for layers, paper_units in ((1, 3000), (3, 9000)):
        units = round(paper_units * min(1.0, arguments.scale**0.5))
        for precision in dict.fromkeys((best, "float32")):
            peak, bandwidth = ceilings(device, DTYPES[precision])
            rows.append(
                {
                    "what": f"ceilings: {peak / 1e12:.3g} Tflop/s, {bandwidth / 1e9:.4g} GB/s",
                    "precision": precision,
                }
            )
            options = TrainConfig(
                model="dgex",
                hidden_layers=layers,
                hidden_units=units,
                epochs=arguments.epochs,
                device=device.type,
                precision=precision,
            )
            config = net_options(options, data["train"].n)
            for compiled in (False, True) if device.type == "cuda" else (False,):
                row, arrays = train_row(
                    data,
                    config,
                    precision=precision,
                    compiled=compiled,
                    peak=peak,
                    bandwidth=bandwidth,
                )
                rows.append(row)
        n = max(50, round(L1000_PROFILES * arguments.scale / (1 if device.type == "cuda" else 10)))
        rows.append(predict_row(arrays, config, n, device))
    about = (
        f"{name}, torch {torch.__version__}: nets of {N_LANDMARKS} landmarks and {N_TARGETS} "
        f"targets, {data['train'].n} training profiles, batches of {config.batch_size}"
    )
    show("gpu", rows, arguments.out, about=about)


if __name__ == "__main__":
    main()
