"""An invented gene universe: identifiers, and profiles whose targets follow from their landmarks.

Nothing here is copied from a file: names and numbers come from one fixed generator, so that every
file and map of ``dgex simulate`` speaks of the same genes. The sizes are those of D-GEX's files.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd

N_GENES = 55_993
N_PROBES = 22_268
N_LANDMARKS = 943
N_TARGETS = 9_520
N_SHARED = 445
"""Targets that share a gene with a landmark, through other probe sets."""
N_L1000 = 978
N_COLUMNS = {"geo": N_PROBES, "gtex": N_GENES, "1000g": 23_722, "l1000": N_L1000}
"""Genes or probe sets of each of D-GEX's inputs."""

_SEED = 20160615
_MOST_PROBES = 13
_N_PROGRAMMES = 20
_N_TISSUES = 32
_N_FIRST = 64
_N_SECOND = 64
_STUDY_PROFILES = 60
_BLOCK_VALUES = 2**21
_SATURATION = 14.5

_N_MAPPED = N_LANDMARKS + N_TARGETS - N_SHARED
_CODES = {"geo": 1, "gtex": 2, "1000g": 3, "l1000": 4}


@dataclass(frozen=True)
class Universe:
    """All invented genes; the first 943 are landmarks, and their first 445 targets, too.

    Attributes
    ----------
    genes
        Table of genes: ``ensembl`` with version, ``symbol``, ``chromosome``, ``position``.
    probes
        Names of the probe sets; the first 978 are those of L1000's landmarks.
    gene_p
        Gene of every probe set, shape (p,).
    target_t
        Genes that are targets, shape (t,).
    """

    genes: pd.DataFrame
    probes: np.ndarray
    gene_p: np.ndarray
    target_t: np.ndarray


@cache
def universe() -> Universe:
    """The gene universe, always the same.

    Examples
    --------
    >>> invented = universe()
    >>> len(invented.genes), len(invented.probes), len(invented.target_t)
    (55993, 22268, 9520)
    """
    rng = np.random.default_rng(_SEED)
    numbers = np.sort(rng.choice(10**6, N_GENES, replace=False))
    versions = rng.integers(1, 18, N_GENES)
    genes = pd.DataFrame(
        {
            # No real Ensembl gene has such a number, nor a real probe set of the U133 chips.
            "ensembl": [f"ENSG9{a:010d}.{v}" for a, v in zip(numbers, versions, strict=True)],
            "symbol": [f"SIM{number:05d}" for number in range(1, N_GENES + 1)],
            "chromosome": rng.integers(1, 23, N_GENES),
            "position": rng.integers(10**4, 10**8, N_GENES),
        }
    )
    target_t = np.append(np.arange(N_SHARED), np.arange(N_LANDMARKS, _N_MAPPED))
    sizes_t = np.minimum(rng.geometric(0.6, N_TARGETS), _MOST_PROBES)
    of_landmarks = np.append(np.arange(N_LANDMARKS), _N_MAPPED + np.arange(N_L1000 - N_LANDMARKS))
    named = np.append(of_landmarks, np.repeat(target_t, sizes_t))
    first_other = _N_MAPPED + N_L1000 - N_LANDMARKS
    gene_p = np.append(named, first_other + np.arange(N_PROBES - len(named)))
    endings = rng.choice(["_at", "_s_at", "_x_at"], N_PROBES, p=[0.75, 0.2, 0.05])
    places = rng.choice(10**5, N_PROBES, replace=False)
    probes = np.array([f"9{a:05d}{b}" for a, b in zip(places, endings, strict=True)])
    return Universe(genes, probes, gene_p, target_t)


def map_lines() -> tuple[list[str], list[str]]:
    """Lines of D-GEX's maps of landmarks and of targets: symbol, Ensembl id, probe sets.

    Examples
    --------
    >>> landmarks, targets = map_lines()
    >>> len(landmarks), len(targets)
    (943, 9520)
    """
    invented = universe()
    symbols = invented.genes["symbol"].tolist()
    ensembl = [name.partition(".")[0] for name in invented.genes["ensembl"]]
    probes_of: dict[int, list[str]] = {}
    for gene, probe in zip(invented.gene_p[N_L1000:], invented.probes[N_L1000:], strict=True):
        probes_of.setdefault(int(gene), []).append(str(probe))
    landmarks = [f"{symbols[i]}\t{ensembl[i]}\t{invented.probes[i]}" for i in range(N_LANDMARKS)]
    targets = [f"{symbols[i]}\t{ensembl[i]}\t{','.join(probes_of[i])}" for i in invented.target_t]
    return landmarks, targets


@dataclass(frozen=True)
class _Genes:
    """How every gene follows from the tanh units; f runs over units, m over measured genes."""

    base_m: np.ndarray
    weight_fm: np.ndarray
    noise_m: np.ndarray


@cache
def _programme() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Tissues, and weights and offsets of the two layers of tanh units."""
    rng = np.random.default_rng([_SEED, 1])
    tissue_sk = rng.standard_normal((_N_TISSUES, _N_PROGRAMMES), dtype=np.float32)
    first_kf = rng.standard_normal((_N_PROGRAMMES, _N_FIRST), dtype=np.float32)
    second_ff = rng.standard_normal((_N_FIRST, _N_SECOND), dtype=np.float32)
    offset_f = rng.standard_normal(_N_FIRST, dtype=np.float32)
    offset_second_f = rng.standard_normal(_N_SECOND, dtype=np.float32)
    return tissue_sk, first_kf * 0.3, second_ff * 0.5, offset_f * 0.5, offset_second_f


def _genes(gene_m: np.ndarray) -> _Genes:
    rng = np.random.default_rng([_SEED, 2])
    on_arrays = np.arange(N_GENES) <= universe().gene_p.max()
    base_g = np.where(on_arrays, 7.0, 3.0) + 1.8 * rng.standard_normal(N_GENES)
    amplitude_g = np.exp(0.4 * rng.standard_normal(N_GENES) - 0.4)
    first_gf = rng.standard_normal((N_GENES, _N_FIRST), dtype=np.float32) / 5
    second_gf = rng.standard_normal((N_GENES, _N_SECOND), dtype=np.float32) / 6
    # Landmarks show the first layer only; what the second adds to the others is not linear in it.
    second_gf[:N_LANDMARKS] = 0
    second_gf[_N_MAPPED : _N_MAPPED + N_L1000 - N_LANDMARKS] = 0
    weight_gf = np.hstack([first_gf, second_gf]) * amplitude_g[:, None]
    shift_gf = np.column_stack([np.ones(N_GENES), 0.5 * rng.standard_normal(N_GENES)])
    noise_g = amplitude_g * rng.uniform(0.2, 0.6, N_GENES)
    weight_mf = np.hstack([weight_gf[gene_m], shift_gf[gene_m]])
    return _Genes(
        base_g[gene_m].astype(np.float32),
        np.ascontiguousarray(weight_mf.T, dtype=np.float32),
        noise_g[gene_m].astype(np.float32),
    )


class InventedProfiles:
    """Profiles of the invented genes, as one platform would measure them.

    A low-dimensional programme (a tissue and its variation) drives two layers of tanh units, and
    these the genes; every gene has noise of its own, every study and profile a batch shift. Arrays
    and L1000 give log2 intensity above a floor; RNA-seq linear RPKM with zeros. Each has its
    own gene-wise gain and bias.

    Parameters
    ----------
    like
        ``geo``, ``gtex``, ``1000g`` or ``l1000``.
    n
        Number of profiles.
    seed
        Seed of the profiles; the genes do not depend on it.
    """

    def __init__(self, like: str, n: int, seed: int) -> None:
        invented = universe()
        self._like = like
        self._key = [seed, _CODES[like]]
        rng = np.random.default_rng([_SEED, 3, _CODES[like]])
        if like == "geo":
            column_g = rng.permutation(N_PROBES)
            self.var = pd.DataFrame(index=invented.probes[column_g])
            gene_g = invented.gene_p[column_g]
        elif like == "l1000":
            column_g = rng.permutation(N_L1000)
            gene_g = invented.gene_p[column_g]
            symbols = invented.genes["symbol"].to_numpy()[gene_g]
            self.var = pd.DataFrame({"pr_gene_symbol": symbols}, index=invented.probes[column_g])
        else:
            gene_g = np.arange(N_GENES)
            if like == "1000g":
                n_others = N_COLUMNS["1000g"] - _N_MAPPED
                others = rng.choice(N_GENES - _N_MAPPED, n_others, replace=False)
                gene_g = np.append(gene_g[:_N_MAPPED], _N_MAPPED + others)
            gene_g = rng.permutation(gene_g)
            self.var = invented.genes.iloc[gene_g].set_index("ensembl")
            if like == "gtex":
                self.var = self.var[["symbol"]]
        gene_m, self._gene_g = np.unique(gene_g, return_inverse=True)
        self._genes = _genes(gene_m)
        g = len(gene_g)
        self._gain_g = (1 + 0.15 * rng.standard_normal(g)).clip(0.5, 1.5).astype(np.float32)
        self._bias_g = (0.8 * rng.standard_normal(g)).astype(np.float32)
        self.block_rows = max(1, _BLOCK_VALUES // g)
        n_studies = -(-n // _STUDY_PROFILES) + self.block_rows
        draws = np.random.default_rng([*self._key, 0]).random((n_studies, 2))
        # Lymphoblastoid lines are one tissue.
        self._tissue_s = (draws[:, 0] * (1 if like == "1000g" else _N_TISSUES)).astype(int)
        self._shift_s = (draws[:, 1] - 0.5).astype(np.float32)

    def studies(self, n: int) -> list[str]:
        """Names of the studies of the first `n` profiles."""
        return [f"study {row // _STUDY_PROFILES + 1}" for row in range(n)]

    def block(self, number: int) -> np.ndarray:
        """Profiles of one block, float32, shape (`block_rows`, g)."""
        rng = np.random.Generator(np.random.SFC64([*self._key, 1, number]))
        rows_b = np.arange(number * self.block_rows, (number + 1) * self.block_rows)
        units_bf = self._units(rows_b // _STUDY_PROFILES, rng)
        x_bm = units_bf @ self._genes.weight_fm
        x_bm += self._genes.noise_m * rng.standard_normal(x_bm.shape, dtype=np.float32)
        x_bm += self._genes.base_m
        x_bg = x_bm.take(self._gene_g, axis=1)
        x_bg *= self._gain_g
        x_bg += self._bias_g
        return self._measured(x_bg, rng)

    def _units(self, study_b: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        tissue_sk, first_kf, second_ff, offset_f, offset_second_f = _programme()
        b = len(study_b)
        z_bk = 0.7 * rng.standard_normal((b, _N_PROGRAMMES), dtype=np.float32)
        z_bk += tissue_sk[self._tissue_s[study_b]]
        first_bf = np.tanh(z_bk @ first_kf + offset_f)
        second_bf = np.tanh(first_bf @ second_ff + offset_second_f)
        depth_b = 0.2 * rng.standard_normal(b, dtype=np.float32)
        quality_b = self._shift_s[study_b] + 0.2 * rng.standard_normal(b, dtype=np.float32)
        return np.column_stack([first_bf, second_bf, depth_b, quality_b])

    def _measured(self, x_bg: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Turn log2 abundance, in place, into what the platform reports."""
        noise_bg = rng.standard_normal(x_bg.shape, dtype=np.float32)
        if self._like in ("geo", "l1000"):
            floor, spread = (4.0, 0.1) if self._like == "geo" else (5.0, 0.2)
            np.exp2(x_bg, out=x_bg)
            x_bg += np.float32(2**floor)
            np.log2(x_bg, out=x_bg)
            np.minimum(x_bg, np.float32(_SATURATION), out=x_bg)
            noise_bg *= np.float32(spread)
            x_bg += noise_bg
            return x_bg
        noise_bg *= np.float32(0.3)
        x_bg += noise_bg
        x_bg -= np.float32(6)
        np.exp2(x_bg, out=x_bg)
        # Genes of few molecules are not seen in every sample.
        x_bg -= np.float32(0.1)
        return np.maximum(x_bg, 0, out=x_bg)
