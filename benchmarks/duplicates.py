"""Time of the exact search for near-duplicates among all pairs of profiles, on all probe sets.

The profiles are simulated with a known set of planted near-duplicates; every one must be found and
none other. Beside it: reading the file once, and the plain way, all distances by matrix products in
float64, measured on some profiles and scaled to all pairs.

    python benchmarks/duplicates.py [--scale 0.1] [--file geo.gctx] [--out benchmarks/results]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from table import peak, show

from dgex.data.duplicates import near_duplicates
from dgex.data.matrix import open_matrix
from dgex.simulate import simulate

N_PROFILES = 129_158
N_PLAIN = 1500


def plain_seconds(x_ng: np.ndarray) -> float:
    """Seconds for all distances among these profiles."""
    began = time.perf_counter()
    centred = x_ng.astype(np.float64) - x_ng.mean(axis=0)
    square_n = (centred**2).sum(axis=1)
    squared = square_n[:, None] + square_n[None, :] - 2 * centred @ centred.T
    np.count_nonzero(np.triu(squared < 1.0, 1))
    return time.perf_counter() - began


def measure(path: Path) -> tuple[list[dict[str, object]], str]:
    """Rows of the table, and what was searched."""
    planted = pd.read_csv(f"{path}.duplicates.tsv", sep="\t")
    with open_matrix(path) as matrix:
        n, g = matrix.shape
        began = time.perf_counter()
        found = near_duplicates(matrix, 1.0)
        search = time.perf_counter() - began
        memory = peak()
        missed = set(planted["later"]) ^ set(matrix.obs.index[found["row"]])
        if missed:
            raise SystemExit(f"{len(missed)} planted pairs are missed or others are found.")
        began = time.perf_counter()
        for _ in matrix.blocks():
            pass
        read = time.perf_counter() - began
        m = min(n, N_PLAIN)
        plain = plain_seconds(matrix.rows(0, m)) * (n / m) ** 2
    rows: list[dict[str, object]] = [
        {"what": "dgex search", "seconds": search, "ratio": 1.0, "peak_gb": memory},
        {"what": "reading the file once", "seconds": read, "ratio": read / search},
        {"what": f"all distances (from {m} profiles)", "seconds": plain, "ratio": plain / search},
    ]
    about = (
        f"Near-duplicates among all pairs of {n} profiles on {g} probe sets; "
        f"all {len(planted)} planted ones found, none other"
    )
    return rows, about


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=0.1)
    parser.add_argument("--file", type=Path, help="written by dgex simulate --like geo")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.file is not None:
        rows, about = measure(arguments.file)
    else:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "geo.gctx"
            simulate(path, like="geo", profiles=max(2, round(N_PROFILES * arguments.scale)))
            rows, about = measure(path)
    show("duplicates", rows, arguments.out, about=about)


if __name__ == "__main__":
    main()
