"""Time of quantile-normalising one profile of 10,463 genes.

Ranks, the sum of sorted profiles that becomes the reference, and the reference at the ranks: by
dgex, and by scipy's rankdata with numpy's sort. Both give the same values to the bit. One thread
against one thread is in processor time; in elapsed time, dgex works over blocks on all cores, as
prepare does, against scipy's functions as they come, in one thread, and against these over blocks
on all cores as well. Three kinds of profiles: means of one to three float32 probe sets, which have
few ties; values rounded to 0.01; RNA-seq of which a third is zero. For RNA-seq by D-GEX's other
rule (ranks among unique values) also the list search for every value, which is how D-GEX did it.

    python benchmarks/normalise.py [--scale 0.1] [--out benchmarks/results]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata
from table import show

from dgex.blocks import map_blocks
from dgex.data.normalise import (
    QuantileReference,
    average_rank_index,
    reference_values,
    unique_rank_index,
)

N_GENES = 10_463
N_PROFILES = 2000
ROWS_OF_BLOCK = 100
ROUNDS = 10


Fitted = tuple[np.ndarray, QuantileReference]
Method = Callable[[np.ndarray], Iterator[np.ndarray]]


def dgex_fit(x_bg: np.ndarray) -> Fitted:
    """Ranks, and the sum of sorted profiles."""
    reference = QuantileReference(N_GENES)
    index_bg = average_rank_index(x_bg, reference=reference, dtype=np.uint16)
    return index_bg, reference


def scipy_fit(x_bg: np.ndarray) -> Fitted:
    """The same with scipy's ranks and numpy's sort."""
    reference = QuantileReference(N_GENES)
    reference.add(x_bg)
    index_bg = np.empty(x_bg.shape, dtype=np.uint16)
    for row, x_g in enumerate(x_bg):
        index_bg[row] = (rankdata(x_g) - 1).astype(int)
    return index_bg, reference


def normaliser(fit: Callable[[np.ndarray], Fitted], *, all_cores: bool) -> Method:
    """Quantile normalisation block by block, in one thread or on all cores."""

    def normalise(x_ng: np.ndarray) -> Iterator[np.ndarray]:
        blocks = [x_ng[i : i + ROWS_OF_BLOCK] for i in range(0, len(x_ng), ROWS_OF_BLOCK)]
        over: Callable[..., Iterator[Any]] = map_blocks if all_cores else map
        whole = QuantileReference(N_GENES)
        ranks = []
        for index_bg, partial in over(fit, blocks):
            whole.merge(partial)
            ranks.append(index_bg)
        reference_g = whole.values_g
        yield from over(lambda index_bg: reference_values(reference_g, index_bg), ranks)

    return normalise


def unique_dgex(x_ng: np.ndarray) -> Iterator[np.ndarray]:
    """RNA-seq profiles at the reference, by dgex."""
    yield reference_values(REFERENCE, unique_rank_index(x_ng, N_GENES))


def unique_scipy(x_ng: np.ndarray) -> Iterator[np.ndarray]:
    """Dense ranks of scipy, profile by profile."""
    result = np.empty_like(x_ng)
    for row, x_g in enumerate(x_ng):
        ranks = rankdata(x_g, method="dense")
        result[row] = REFERENCE[(ranks / ranks.max() * N_GENES).astype(int) - 1]
    yield result


def unique_list_search(x_ng: np.ndarray) -> Iterator[np.ndarray]:
    """Search each value in the list of unique ones, as D-GEX did."""
    result = np.empty_like(x_ng)
    for row, x_g in enumerate(x_ng):
        unique = np.unique(x_g).tolist()
        ranks = np.array([unique.index(value) for value in x_g]) + 1.0
        result[row] = REFERENCE[(ranks / len(unique) * N_GENES).astype(int) - 1]
    yield result


REFERENCE = np.sort(np.random.default_rng(1).normal(8, 2, N_GENES))


def profiles(n: int) -> dict[str, np.ndarray]:
    """Profiles by kind, float64, shape (n, genes)."""
    rng = np.random.default_rng(0)
    probes = rng.normal(8, 2, (3, n, N_GENES)).astype(np.float32).astype(np.float64)
    n_probes_g = rng.choice([1, 2, 3], N_GENES, p=[0.65, 0.25, 0.1])
    weight_pg = (np.arange(3)[:, None] < n_probes_g) / n_probes_g
    rna = rng.lognormal(1, 2, (n, N_GENES))
    rna[rng.random(rna.shape) < 0.33] = 0
    means = np.einsum("png,pg->ng", probes, weight_pg)
    return {"probe-set means": means, "rounded": np.round(means, 2), "RNA-seq": rna}


def measured(
    methods: dict[str, Method], x_ng: np.ndarray, clock: Callable[[], float]
) -> dict[str, float]:
    """Milliseconds per profile of each, best of several rounds in turn; all must agree."""
    first, *others = (np.vstack(list(method(x_ng))) for method in methods.values())
    for other in others:
        np.testing.assert_array_equal(other, first)
    best = dict.fromkeys(methods, np.inf)
    for _ in range(ROUNDS):
        for name, method in methods.items():
            began = clock()
            for _block in method(x_ng):
                pass
            best[name] = min(best[name], clock() - began)
    return {name: 1000 * seconds / len(x_ng) for name, seconds in best.items()}


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=0.1)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    kinds = profiles(max(ROWS_OF_BLOCK, round(N_PROFILES * arguments.scale)))
    rows: list[dict[str, object]] = []

    def compare(what: str, rule: str, times: dict[str, float], threads: str) -> None:
        ours, *others = times.items()
        for name, ms in others:
            rows.append(
                {
                    "profiles": what,
                    "ties": rule,
                    "threads": threads,
                    "dgex_ms": ours[1],
                    "against": name,
                    "ms": ms,
                    "times_faster": ms / ours[1],
                }
            )

    for what, x_ng in kinds.items():
        for ours, theirs, threads, clock in (
            (False, False, "1, processor", time.process_time),
            (True, False, "all against 1, elapsed", time.perf_counter),
            (True, True, "all, elapsed", time.perf_counter),
        ):
            methods = {
                "dgex": normaliser(dgex_fit, all_cores=ours),
                "rankdata + sort": normaliser(scipy_fit, all_cores=theirs),
            }
            compare(what, "average", measured(methods, x_ng, clock), threads)
    rna = kinds["RNA-seq"]
    unique = {"dgex": unique_dgex, "rankdata dense": unique_scipy}
    compare("RNA-seq", "unique", measured(unique, rna, time.process_time), "1, processor")
    few = {"dgex": unique_dgex, "list search (D-GEX)": unique_list_search}
    compare("RNA-seq", "unique", measured(few, rna[:2], time.process_time), "1, processor")
    show(
        "normalise",
        rows,
        arguments.out,
        about=f"Quantile normalisation of {len(rna)} profiles of {N_GENES} genes, ms per profile",
    )


if __name__ == "__main__":
    main()
