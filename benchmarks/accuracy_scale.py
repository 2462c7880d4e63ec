"""Time and memory of kernel ridge regression on 20,000 simulated profiles, 943 to 9,520 genes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from accuracy_run import Work, claimed, dgex

from dgex.data.dataset import Dataset
from dgex.files import write_json

# Of the simulated profiles 14 % are near-duplicates; four fifths of the rest are for training.
SIMULATED, QUICK_SIMULATED = 29_500, 300


def scale_file(work: Work) -> Path:
    """Where the result is, once there is one."""
    return work.folder / "points" / "simulated" / "kernel.json"


def run_scale(work: Work) -> str:
    """Simulate and prepare, train in a process of its own; what there is to say of it."""
    out = scale_file(work)
    with claimed(out) as mine:
        if not mine:
            return "another process is at it"
        if out.is_file():
            return "done before"
        folder = work.folder / "simulated"
        folder.mkdir(parents=True, exist_ok=True)
        profiles, maps, dataset = folder / "geo.gctx", folder / "maps", folder / "dataset"
        logs = work.folder / "logs" / "simulated"
        n = str(QUICK_SIMULATED if work.quick else SIMULATED)
        words = ["simulate", "--like", "geo", "--profiles", n, "--maps", str(maps), "--overwrite"]
        dgex([*words, "--out", str(profiles)], logs / "simulate.log")
        words = ["prepare", str(profiles), "--protocol", "paper", "--out", str(dataset)]
        words += ["--landmarks", str(maps / "map_lm.txt"), "--targets", str(maps / "map_tg.txt")]
        dgex([*words, "--overwrite"], logs / "prepare.log")
        profiles.unlink()
        words = ["train", str(dataset), "--model", "kernel", "--out", str(folder / "kernel")]
        seconds, peak_gb = dgex([*words, "--overwrite"], logs / "kernel.log")
        n_train = Dataset(dataset)["train"].n
        write_json(out, {"n_train": n_train, "seconds": seconds, "peak_gb": peak_gb})
        shutil.rmtree(folder)
    return f"{n_train} training profiles, {seconds:.0f} s, {peak_gb:.1f} GB"


def load_scale(work: Work) -> tuple[float, float]:
    """Seconds and peak memory (GB); NaN where they are missing."""
    file = scale_file(work)
    if not file.is_file():
        return float("nan"), float("nan")
    known = json.loads(file.read_text("utf-8"))
    return float(known["seconds"]), float(known["peak_gb"])
