"""What every benchmark here prints and writes: one table, and the machine it was measured on."""

from __future__ import annotations

import contextlib
import os
import platform
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd

from dgex.provenance import versions

# A process counts the memory of the one that started it as its own peak, so a small one comes
# between.
MEASURE = """
import resource, subprocess, sys, time
began = time.perf_counter()
status = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(status != 0)
"""


def machine() -> str:
    """Processor, cores, memory, load and versions, in one line."""
    processor = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.is_file():
        named = [x for x in information.read_text().splitlines() if x.startswith("model name")]
        processor = named[0].partition(":")[2].strip() if named else processor
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    numbers = versions()
    shown = ", ".join(f"{name} {numbers[name]}" for name in ("python", "numpy", "scipy", "h5py"))
    return (
        f"{processor}, {len(os.sched_getaffinity(0))} cores, {memory:.0f} GB, "
        f"load {os.getloadavg()[0]:.1f}, {platform.system()} {platform.release()}, {shown}"
    )


def show(
    name: str, rows: list[dict[str, object]] | pd.DataFrame, out: Path | None, *, about: str
) -> None:
    """Print the table, and write it as TSV where `out` is given."""
    table = pd.DataFrame(rows)
    lines = [about, machine()]
    print("\n".join(lines))
    print(table.to_string(index=False, na_rep="-", float_format=lambda x: f"{x:,.4g}"))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        with open(out / f"{name}.tsv", "w", encoding="utf-8") as handle:
            handle.writelines(f"# {line}\n" for line in lines)
            table.to_csv(handle, sep="\t", index=False, float_format="%.4g")


def run(command: list[str], *, log: Path | None = None) -> tuple[float, float]:
    """Seconds and peak memory (GB) of a process of its own; what it says goes to `log`, if given.

    It does not outlive an interruption of this one.
    """
    with contextlib.ExitStack() as stack:
        errors = None
        if log is not None:
            log.parent.mkdir(parents=True, exist_ok=True)
            errors = stack.enter_context(open(log, "w", encoding="utf-8"))
        between = [sys.executable, "-c", MEASURE, *command]
        child = subprocess.Popen(
            between, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
        )
        try:
            measured, _ = child.communicate()
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGTERM)
            child.wait()
            raise
    if child.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed.")
    seconds, peak_rss = map(float, measured.split())
    unit = 2**30 if platform.system() == "Darwin" else 2**20
    return seconds, peak_rss / unit


def peak() -> float:
    """Peak memory of this process so far, GB."""
    unit = 2**30 if platform.system() == "Darwin" else 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
