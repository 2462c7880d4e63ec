"""Time and memory of kernel ridge regression, beside scikit-learn's.

20,000 simulated training profiles, 943 landmarks, 9,520 targets (see linear.py); `--scale`
multiplies profiles and targets by its root each. dgex chooses among 12 kernels and bandwidths,
takes one of 7 penalties for every target, and solves, in double precision. scikit-learn's
KernelRidge solves once, for one kernel and one penalty and a quarter of the profiles, in their
single precision.

    python benchmarks/kernel.py [--scale 0.05] [--folder /tmp] [--out benchmarks/results]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from linear import N_LANDMARKS, N_TARGETS, Profiles, Rows, Simulated, seconds_of
from table import peak, show

from dgex.config import TrainConfig
from dgex.models.kernel import Kernel

N_TRAIN, N_VALIDATION = 20_000, 2_000


def measure(dataset: Simulated) -> Rows:
    """Rows of the table."""
    from sklearn.kernel_ridge import KernelRidge

    rows: Rows = []

    def add(what: str, profiles: int, seconds: float) -> None:
        print(f"{what}: {seconds:.1f} s", flush=True)
        rows.append({"what": what, "profiles": profiles, "seconds": seconds, "peak GB": peak()})

    train, validation = dataset["train"], dataset["validation"]
    kernel = Kernel()
    config = TrainConfig(model="kernel")
    seconds = seconds_of(lambda: kernel.fit(dataset, config))  # type: ignore[arg-type]
    add("dgex kernel: choose and solve", train.n, seconds)
    add("dgex kernel: predict", validation.n, seconds_of(lambda: kernel.predict(validation.x_nl)))

    n = train.n // 4
    dataset["train"] = part = Profiles(train.x_nl[:n], train.y_nt[:n])
    again = Kernel()
    seconds = seconds_of(lambda: again.fit(dataset, config))  # type: ignore[arg-type]
    add("dgex kernel: choose and solve", n, seconds)
    penalty = float(np.median(again.penalty_t))
    again.penalty_t[:] = penalty
    seconds = seconds_of(lambda: again.refit(dataset))  # type: ignore[arg-type]
    add("dgex kernel: solve once, float64", n, seconds)
    theirs = KernelRidge(alpha=penalty, kernel="rbf", gamma=1 / again.scale)
    x_nl, y_nt = np.array(part.x_nl), np.array(part.y_nt)
    what = "scikit-learn KernelRidge: solve once, float32"
    add(what, n, seconds_of(lambda: theirs.fit(x_nl, y_nt)))
    return rows


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=0.05)
    parser.add_argument("--folder", type=Path, help="where the arrays go, 0.9 GB at --scale 1")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        sizes = (round(n * arguments.scale**0.5) for n in (N_TRAIN, N_VALIDATION, N_TARGETS))
        dataset = Simulated(Path(folder), *sizes)
        rows = measure(dataset)
    n, n_targets = round(N_TRAIN * arguments.scale**0.5), len(dataset.targets)
    about = f"Kernel ridge of {n} profiles, {N_LANDMARKS} landmarks, {n_targets} targets"
    show("kernel", rows, arguments.out, about=about)


if __name__ == "__main__":
    main()
