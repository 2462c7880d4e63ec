"""Rate and peak memory of dgex predict: 978 landmarks to 21,290 targets, from GCTX to GCTX.

The shape of D-GEX's published L1000 file, 22,268 columns with the landmarks first. The Models,
least squares and a net of 3 x 9000, are trained on a few simulated profiles for their size's sake;
what they infer is simulated too. Each row is one process that reads, infers and writes; its time
includes bringing the last of the output to the disk. Beside it, the better of before and after: a
plain sequential write of as many bytes, and the matrix products alone, in float32 by the faster of
numpy and torch. `of_goal` is the rate as a share of the slower of 70 % of the write and 60 % of the
products. At small scale the start of the process takes much of the time.

    python benchmarks/inference.py [--scale 0.1] [--folder /tmp] [--out benchmarks/results]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from table import run, show

from dgex.data.incoming import MOST_ROWS
from dgex.data.matrix import open_matrix

N_LANDMARKS, N_TARGETS, UNITS, LAYERS = 978, 21_290, 9_000, 3
LINEAR, NET = [N_LANDMARKS, N_TARGETS], [N_LANDMARKS, *[UNITS] * LAYERS, N_TARGETS]
JOBS = [  # Model, precision, widths of its layers, profiles
    ("ols", "float32", LINEAR, 100_000),
    ("net", "float32", NET, 20_000),
    ("net", "bf16", NET, 40_000),
]
TEACHERS = 300
PIECE = 32 * 2**20


def write_rate(path: Path, n_bytes: int) -> float:
    """Profiles per second that a plain sequential write of the output would allow."""
    piece = np.random.default_rng(0).bytes(PIECE)
    began = time.perf_counter()
    with open(path, "wb", buffering=0) as file:
        for start in range(0, n_bytes, PIECE):
            file.write(piece[: n_bytes - start])
        os.fsync(file.fileno())
    seconds = time.perf_counter() - began
    path.unlink()
    return n_bytes / seconds / (4 * (N_LANDMARKS + N_TARGETS))


def product_rate(widths: list[int], precision: str, seconds: float = 3.0) -> float:
    """Profiles per second that the matrix products alone would allow."""
    import torch

    kind = torch.float32 if precision == "float32" else torch.bfloat16
    per_profile = 0.0
    for fan_in, fan_out in pairwise(widths):
        x = torch.randn(MOST_ROWS, fan_in).to(kind)
        weight = torch.randn(fan_out, fan_in).to(kind)
        ways: list[Callable[[], object]] = [lambda x=x, w=weight: torch.mm(x, w.T)]
        if precision == "float32":
            x_bi, weight_io = x.numpy(), np.ascontiguousarray(weight.numpy().T)
            y_bo = np.empty((MOST_ROWS, fan_out), np.float32)
            ways.append(lambda x=x_bi, w=weight_io, y=y_bo: np.matmul(x, w, out=y))
        per_profile += min(fastest(way, seconds / len(widths)) for way in ways) / MOST_ROWS
    return 1 / per_profile


def fastest(way: Callable[[], object], seconds: float) -> float:
    """Mean time of a call, over some seconds of them."""
    way()
    began, calls = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        way()
        calls += 1
    return (time.perf_counter() - began) / calls


def elsewhere(function: Callable[..., float], *arguments: object) -> float:
    """Call in a new process: a child counts the memory of its parent as its own peak."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def dgex(*words: object) -> tuple[float, float]:
    """Seconds and peak memory (GB) of one call of the command line."""
    return run([sys.executable, "-m", "dgex.cli", *map(str, words)])


def make_models(folder: Path) -> None:
    """Train both Models on a few profiles of 22,268 probe sets."""
    dgex("simulate", "--like", "l1000", "--profiles", 2, "--out", folder / "panel.gctx")
    with open_matrix(folder / "panel.gctx") as panel:
        (folder / "landmarks.txt").write_text("\n".join(panel.var.index) + "\n")
    dgex("simulate", "--like", "geo", "--profiles", TEACHERS, "--out", folder / "geo.gctx")
    prepared = ["--landmarks", folder / "landmarks.txt", "--out", folder / "dataset"]
    dgex("prepare", folder / "geo.gctx", *prepared)
    dgex("train", folder / "dataset", "--model", "ols", "--out", folder / "ols")
    size = ["--hidden-layers", LAYERS, "--hidden-units", UNITS, "--epochs", 1]
    dgex("train", folder / "dataset", "--model", "dgex", *size, "--out", folder / "net")


def measure(
    folder: Path, model: str, precision: str, widths: list[int], n: int
) -> dict[str, object]:
    """One row of the table."""
    profiles, out = folder / f"l1000-{n}.gctx", folder / "inferred.gctx"
    if not profiles.exists():
        dgex("simulate", "--like", "l1000", "--profiles", n, "--out", profiles)
    n_bytes = 4 * n * (N_LANDMARKS + N_TARGETS)
    writes = [elsewhere(write_rate, out, n_bytes)]
    products = [elsewhere(product_rate, widths, precision)]
    began = time.perf_counter()
    asked = ["--precision", precision, "--overwrite", "--out", out]
    _, memory = dgex("predict", folder / model, profiles, *asked)
    with open(out, "rb+") as file:
        os.fsync(file.fileno())
    seconds = time.perf_counter() - began
    with open_matrix(out) as matrix:
        if matrix.shape != (n, N_LANDMARKS + N_TARGETS):
            raise SystemExit(f"{matrix.shape} came out.")
    out.unlink()
    products.append(elsewhere(product_rate, widths, precision))
    writes.append(elsewhere(write_rate, out, n_bytes))
    rate, write, product = n / seconds, max(writes), max(products)
    return {
        "model": "ols" if model == "ols" else f"dgex {LAYERS} x {UNITS}",
        "precision": precision,
        "profiles": n,
        "seconds": seconds,
        "profiles_per_s": rate,
        "write_per_s": write,
        "products_per_s": product,
        "of_write": rate / write,
        "of_products": rate / product,
        "of_goal": rate / min(0.7 * write, 0.6 * product),
        "peak_gb": memory,
    }


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=0.1)
    parser.add_argument("--folder", type=Path, help="where there is room for 25 GB times the scale")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        make_models(Path(name))
        rows = [
            measure(Path(name), model, precision, widths, max(30, round(n * arguments.scale)))
            for model, precision, widths, n in JOBS
        ]
    about = f"dgex predict, {N_LANDMARKS} landmarks to {N_TARGETS} targets, from GCTX to GCTX"
    show("inference", rows, arguments.out, about=about)


if __name__ == "__main__":
    main()
