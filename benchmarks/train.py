"""Time of an epoch of the net 943 -> 3000 -> 9520, beside the products at its shapes.

The rate is that of the five matrix products of a batch of 200, each into memory that is there, in
the same run and precision: measured before and after the training, and the higher of the two. The
share is the time that the products of an epoch, those of scoring included, would take at that rate,
over the time of the epoch. The validation MAE of float32 and bf16 comes from the same profiles,
order and first weights.

    python benchmarks/train.py [--scale 0.1] [--epochs 2] [--out benchmarks/results]
    python benchmarks/train.py --dataset DATASET --epochs 30 --seeds 3
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from rehearsal import Rehearsal
from table import show

from dgex.config import TrainConfig
from dgex.data.dataset import Dataset
from dgex.models.device import DTYPES, choose_device, has_bf16
from dgex.models.train import train_net

BATCH, UNITS = 200, 3000


def products(
    n_landmarks: int, n_targets: int, units: int, dtype: torch.dtype, device: str
) -> list[tuple[Callable[[], object], float]]:
    """The products of one batch, and the operations of each."""

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape).to(device, dtype)

    x_bl, hidden_bh, error_bh, error_bt = (
        drawn(BATCH, n) for n in (n_landmarks, units, units, n_targets)
    )
    lower_hl, upper_th = drawn(units, n_landmarks), drawn(n_targets, units)
    out_bh, out_bt = torch.empty_like(hidden_bh), torch.empty_like(error_bt)
    out_hl, out_th = torch.empty_like(lower_hl), torch.empty_like(upper_th)
    lower, upper = 2.0 * BATCH * lower_hl.numel(), 2.0 * BATCH * upper_th.numel()
    return [
        (lambda: torch.mm(x_bl, lower_hl.t(), out=out_bh), lower),
        (lambda: torch.mm(hidden_bh, upper_th.t(), out=out_bt), upper),
        (lambda: torch.mm(error_bt.t(), hidden_bh, out=out_th), upper),
        (lambda: torch.mm(error_bt, upper_th, out=out_bh), upper),
        (lambda: torch.mm(error_bh.t(), x_bl, out=out_hl), lower),
    ]


def rate(n_landmarks: int, n_targets: int, dtype: torch.dtype) -> float:
    """Operations per second of all products of a batch together, by the median of their times."""
    seconds = operations = 0.0
    for product, count in products(n_landmarks, n_targets, UNITS, dtype, "cpu"):
        times = []
        for _ in range(9):
            began = time.perf_counter()
            product()
            times.append(time.perf_counter() - began)
        seconds += median(times[2:])
        operations += count
    return operations / seconds


def measure(
    dataset: Dataset | Rehearsal, precision: str, epochs: int, seed: int
) -> dict[str, object]:
    """A row of the table."""
    n_landmarks, n_targets = len(dataset.landmarks), len(dataset.targets)
    config = TrainConfig(
        model="dgex",
        hidden_units=UNITS,
        epochs=epochs,
        device="cpu",
        precision=precision,
        seed=seed,
    )
    before = rate(n_landmarks, n_targets, DTYPES[precision])
    log = train_net(dataset, config).log
    both = max(before, rate(n_landmarks, n_targets, DTYPES[precision]))
    lower, upper = 2.0 * UNITS * n_landmarks, 2.0 * UNITS * n_targets
    n_train = dataset["train"].n
    scored = min(n_train, config.monitor_profiles)
    scored += sum(dataset[name].n for name in dataset.sets if name != "train")
    operations = n_train * (2 * lower + 3 * upper) + scored * (lower + upper)
    seconds = float(log["seconds"].median())
    return {
        "precision": precision,
        "seed": seed,
        "gflops_of_products": both / 1e9,
        "epoch_s": seconds,
        "gflops_of_epoch": operations / seconds / 1e9,
        "share": operations / seconds / both,
        "mae_validation": log["mae_validation"].min(),
    }


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=0.1, help="of the paper's profiles")
    parser.add_argument("--dataset", type=Path, help="written by dgex prepare, in place of --scale")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    dataset: Dataset | Rehearsal
    dataset = Dataset.open(arguments.dataset) if arguments.dataset else Rehearsal(arguments.scale)
    precisions = ["bf16", "float32"] if has_bf16(choose_device("cpu")) else ["float32"]
    rows: list[dict[str, object]] = []
    for seed in range(arguments.seeds):
        of_seed = [measure(dataset, name, arguments.epochs, seed) for name in precisions]
        exact = of_seed[-1]["mae_validation"]
        for row in of_seed:
            row["mae_to_float32_percent"] = 100 * (row["mae_validation"] / exact - 1)
        rows += of_seed
    about = (
        f"{len(dataset.landmarks)} -> {UNITS} -> {len(dataset.targets)}, "
        f"{dataset['train'].n} training profiles, batches of {BATCH}, {arguments.epochs} epochs "
        f"(median time, lowest MAE), torch {torch.__version__}, {torch.get_num_threads()} threads"
    )
    show("train", rows, arguments.out, about=about)


if __name__ == "__main__":
    main()
