"""Time and peak memory of the whole of prepare, from a GCTX of probe sets to a Dataset.

The profiles are simulated, with D-GEX's maps of 943 landmarks and 9,520 targets, under the protocol
`paper`. Beside it: reading the file once, and copying it.

    python benchmarks/prepare.py [--scale 0.1] [--out benchmarks/results]
    python benchmarks/prepare.py --file geo.gctx --maps maps
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from table import run, show

from dgex.data.dataset import Dataset
from dgex.data.matrix import open_matrix
from dgex.simulate import simulate

N_PROFILES = 129_158


def measure(path: Path, maps: Path, folder: Path) -> tuple[list[dict[str, object]], str]:
    """Rows of the table, and what was prepared."""
    out = folder / "dataset"
    command = [sys.executable, "-m", "dgex.cli", "prepare", str(path), "--out", str(out)]
    command += ["--landmarks", str(maps / "map_lm.txt"), "--targets", str(maps / "map_tg.txt")]
    prepare, memory = run([*command, "--protocol", "paper"])
    dataset = Dataset(out)
    kept = sum(dataset[name].n for name in dataset.sets)
    shutil.rmtree(out)
    with open_matrix(path) as matrix:
        n, g = matrix.shape
        began = time.perf_counter()
        for _ in matrix.blocks():
            pass
        read = time.perf_counter() - began
    began = time.perf_counter()
    shutil.copyfile(path, folder / "copy")
    copy = time.perf_counter() - began
    (folder / "copy").unlink()
    rows: list[dict[str, object]] = [
        {"what": "dgex prepare", "seconds": prepare, "ratio": 1.0, "peak_gb": memory},
        {"what": "reading the file once", "seconds": read, "ratio": read / prepare},
        {"what": "copying the file", "seconds": copy, "ratio": copy / prepare},
        {"what": "one float64 copy of the matrix in memory", "peak_gb": n * g * 8 / 2**30},
    ]
    return rows, f"prepare of {n} profiles on {g} probe sets; {kept} are no near-duplicates"


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=0.1)
    parser.add_argument("--file", type=Path, help="written by dgex simulate --like geo")
    parser.add_argument("--maps", type=Path, help="written by dgex simulate --maps")
    parser.add_argument("--folder", type=Path, help="where there is room for Dataset and copy")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if (arguments.file is None) != (arguments.maps is None):
        parser.error("give --file and --maps together")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        path, maps = arguments.file, arguments.maps
        if path is None:
            path, maps = folder / "geo.gctx", folder / "maps"
            n = max(30, round(N_PROFILES * arguments.scale))
            simulate(path, like="geo", profiles=n, maps=maps)
        rows, about = measure(path, maps, folder)
    show("prepare", rows, arguments.out, about=about)


if __name__ == "__main__":
    main()
