"""The verb simulate: files of the shapes and layouts of D-GEX's inputs, before the data arrive."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from dgex import progress
from dgex.blocks import map_blocks
from dgex.config import SimulateConfig
from dgex.data.formats.spool import Spool
from dgex.data.formats.text import THOUSAND_GENOMES
from dgex.data.genes import gene_table
from dgex.data.matrix import create_matrix, open_matrix
from dgex.data.record import SIMULATED_ID
from dgex.data.scan import LINEAR_ABOVE
from dgex.errors import DataError, UsageError, name_list
from dgex.files import free_bytes, refuse_existing, refuse_folder, refuse_unwritable, whole_file
from dgex.options import with_options
from dgex.provenance import write_run
from dgex.universe import N_COLUMNS, InventedProfiles, map_lines

N_PROFILES = {"geo": 129_158, "gtex": 2_921, "1000g": 462, "l1000": 1_328_098}
N_DUPLICATES = 18_149
"""Of 129,158 profiles the paper kept 111,009."""

_FARTHEST = 0.95
_POOL_PROFILES = 256
_TAKEN_PER_BLOCK = 8
_MOST_REAL = 512
_REAL_BYTES = 2**27
_TAKEN_AT_ONCE = 32
_MIXED = 3
_REAL_NOISE = 0.15
_REAL_DISTANCE = 4.0
_LEAST_GENES = 20
_BLOCK_VALUES = 2**21
_TEXT_VALUES = 2**20


class Profiles(Protocol):
    """Profiles drawn block by block; a block does not depend on how many there are."""

    var: pd.DataFrame
    block_rows: int

    def studies(self, n: int) -> list[str]:
        """Names of the studies of the first `n` profiles."""

    def block(self, number: int) -> np.ndarray:
        """Profiles of one block, float32, shape (`block_rows`, g)."""


def simulate(
    out: str | Path,
    *,
    compendium: str | Path | None = None,
    maps: str | Path | None = None,
    config: SimulateConfig | None = None,
    **options: Any,
) -> Path:
    """Write simulated profiles in the shape and layout of one of D-GEX's inputs.

    ``geo`` is a GCTX of 129,158 x 22,268 (log2, probe sets) with planted near-duplicates, which
    ``<out>.duplicates.tsv`` lists; ``gtex`` a GCTX of 2,921 x 55,993 (linear RPKM, Ensembl ids
    with versions); ``1000g`` text of 23,722 genes x 462 samples (linear RPKM); ``l1000`` a GCTX of
    1,328,098 x 978. All speak of one invented gene universe. The first profiles of a longer file
    are those of a shorter one of the same seed. Memory stays below 1 GB.

    Parameters
    ----------
    out
        File to write: .gctx, or .txt for ``1000g``. ``<out>.run.toml`` tells how it was made.
    compendium
        Matrix of real profiles: each simulated one is a random mixture of three of them plus
        noise, with their gene ids instead of invented ones.
    maps
        Folder for ``map_lm.txt`` and ``map_tg.txt``, D-GEX's maps of the invented genes.
    config
        Options; see `dgex.config.SimulateConfig`.
    **options
        Single options, replacing those of `config`.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    UsageError
        The request is wrong, or `out` exists.
    DataError
        The compendium cannot be used, or the disk has no room.

    Examples
    --------
    >>> import tempfile
    >>> path = simulate(tempfile.mkdtemp() + "/plate.gctx", like="l1000", profiles=3)
    >>> with open_matrix(path) as matrix:
    ...     print(matrix.shape, matrix.obs["simulated"].iloc[0])
    (3, 978) dgex simulate seed 0
    """
    config = with_options(config or SimulateConfig(), options)
    out = Path(out)
    n = N_PROFILES[config.like] if config.profiles is None else config.profiles
    _check_options(out, n, compendium, maps, config)
    run_file = out.with_name(out.name + ".run.toml")
    list_file = out.with_name(out.name + ".duplicates.tsv")
    map_files = [] if maps is None else [Path(maps) / name for name in ("map_lm.txt", "map_tg.txt")]
    lists = [] if config.like == "1000g" else [list_file]
    for path in [out, run_file, *lists, *map_files]:
        refuse_existing(path, config.overwrite, [compendium])
        refuse_folder(path)
    refuse_unwritable(out)
    source: Profiles
    if compendium is None:
        _check_room(out, n, N_COLUMNS[config.like])
        source = InventedProfiles(config.like, n, config.seed)
    else:
        source = MixedProfiles(Path(compendium), config)
        _check_room(out, n, len(source.var))
    obs = pd.DataFrame(
        {"study": source.studies(n), "simulated": f"dgex simulate seed {config.seed}"},
        index=[f"{SIMULATED_ID}{config.like}-{row + 1:07d}" for row in range(n)],
    )
    if map_files:
        for path, lines in zip(map_files, map_lines(), strict=True):
            with whole_file(path, overwrite=config.overwrite) as partial:
                partial.write_text("\n".join(lines) + "\n", "utf-8")
    if config.like == "1000g":
        _write_text(out, obs, source, config)
    else:
        planted = Planted(n, source.block_rows, config.seed) if config.like == "geo" else None
        _write_gctx(out, obs, source, planted, config)
        if planted is None:
            # One that is there lists the duplicates of the file that was replaced.
            list_file.unlink(missing_ok=True)
        else:
            with whole_file(list_file, overwrite=config.overwrite) as partial:
                planted.table(obs.index).to_csv(partial, sep="\t", index=False)
    write_run(run_file, "simulate", config, {"compendium": compendium}, {"profiles": n})
    return out


def _check_options(
    out: Path,
    n: int,
    compendium: str | Path | None,
    maps: str | Path | None,
    config: SimulateConfig,
) -> None:
    ending = ".txt" if config.like == "1000g" else ".gctx"
    if not out.name.lower().endswith(ending):
        raise UsageError(f"--like {config.like} is a {ending} file. Let the name {out} end in it.")
    if n < 1:
        raise UsageError(f"--profiles {n}: at least one is needed.")
    if config.seed < 0:
        raise UsageError(f"--seed {config.seed}: it must be 0 or more.")
    if maps is not None and compendium is not None:
        raise UsageError(
            "--maps are of the invented genes; profiles made --from a compendium have its genes. "
            "Leave one of them out."
        )


def _check_room(out: Path, n: int, n_genes: int) -> None:
    needed, free = n * n_genes * np.dtype(np.float32).itemsize, free_bytes(out)
    if needed > free:
        raise DataError(
            f"{n} profiles of {n_genes} genes need {needed / 1e9:,.1f} GB, and the disk of {out} "
            f"has {free / 1e9:,.1f} GB free. Give fewer --profiles, or choose another --out."
        )


class MixedProfiles:
    """Random mixtures of three real profiles each, plus noise.

    Mixing is done on log2(x + 1) where the compendium looks linear. A gene that is zero in all
    three stays zero. Up to 512 of the compendium's profiles are used, evenly spread over it.

    Raises
    ------
    DataError
        A gene has no value in any of those profiles, they are all the same, or one has too few
        values other than zero.
    """

    def __init__(self, path: Path, config: SimulateConfig) -> None:
        with open_matrix(path) as matrix:
            n, g = matrix.shape
            n_real = min(n, _MOST_REAL, max(_MIXED, _REAL_BYTES // (4 * g)))
            rows = np.unique(np.linspace(0, n - 1, n_real).astype(np.intp))
            self._x_rg = np.concatenate(
                [
                    matrix.take(rows[start : start + _TAKEN_AT_ONCE]).astype(np.float32)
                    for start in range(0, len(rows), _TAKEN_AT_ONCE)
                ]
            )
            self.var, ids = matrix.var, matrix.obs.index[rows]
        missing_rg = np.isnan(self._x_rg)
        never = self.var.index[missing_rg.all(axis=0)]
        if len(never):
            raise DataError(
                f"{len(never)} genes of {path} have no value in the {len(rows)} profiles that are "
                f"mixed ({name_list(never)}). Take them out of the file."
            )
        if np.nanmin(self._x_rg) >= 0 and np.nanmax(self._x_rg) > LINEAR_ABOVE:
            np.log2(self._x_rg + 1, out=self._x_rg)
        if missing_rg.any():
            column_g = np.flatnonzero(missing_rg.any(axis=0))
            mean_g = np.nanmean(self._x_rg[:, column_g], axis=0)
            self._x_rg[:, column_g] = np.where(
                missing_rg[:, column_g], mean_g, self._x_rg[:, column_g]
            )
        if (self._x_rg == self._x_rg[0]).all():
            raise DataError(
                f"The {len(rows)} profiles of {path} that are mixed are all the same, so there is "
                "nothing to mix. Give a compendium of different profiles."
            )
        # As zeros stay zeros, these are all that part one mixture from another.
        n_values_r = np.count_nonzero(self._x_rg, axis=1)
        few = ids[n_values_r < _LEAST_GENES]
        if len(few):
            raise DataError(
                f"{len(few)} profiles of {path} have fewer than {_LEAST_GENES} genes that are not "
                f"zero ({name_list(few)}): mixtures of them would be near-duplicates by chance. "
                "Remove them, or give a compendium of more genes."
            )
        # No two mixtures may be near-duplicates by chance.
        self._noise = np.float32(max(_REAL_NOISE, _REAL_DISTANCE / np.sqrt(2 * n_values_r.min())))
        self._linear = config.like in ("gtex", "1000g")
        self._key = [config.seed, 5]
        self.block_rows = max(1, _BLOCK_VALUES // g)

    def studies(self, n: int) -> list[str]:
        """Nothing is known: a mixture is of no study."""
        return ["mixture"] * n

    def block(self, number: int) -> np.ndarray:
        """Profiles of one block, float32, shape (`block_rows`, g)."""
        rng = np.random.Generator(np.random.SFC64([*self._key, number]))
        shape = (self.block_rows, _MIXED)
        parent_bk = rng.integers(0, len(self._x_rg), shape)
        share_bk = rng.dirichlet(np.ones(_MIXED), self.block_rows).astype(np.float32)
        x_bg = self._x_rg[parent_bk[:, 0]] * share_bk[:, :1]
        for k in range(1, _MIXED):
            x_bg += self._x_rg[parent_bk[:, k]] * share_bk[:, k : k + 1]
        noise_bg = rng.standard_normal(x_bg.shape, dtype=np.float32)
        noise_bg *= self._noise
        noise_bg[x_bg == 0] = 0
        x_bg += noise_bg
        if self._linear:
            np.exp2(x_bg, out=x_bg)
            x_bg -= 1
            np.maximum(x_bg, 0, out=x_bg)
        return x_bg


class Planted:
    """Near-duplicates put among the profiles: 18,149 of 129,158, wherever the file ends.

    Each replaces a profile by an earlier one of the same block, or of a pool of earlier ones, plus
    a step of random direction and of length 0 to 0.95. An earlier profile is never a duplicate
    itself, so that the list holds every close pair's later profile.
    """

    def __init__(self, n: int, block_rows: int, seed: int) -> None:
        self._rng = np.random.default_rng([seed, 6, 1])
        all_n = N_PROFILES["geo"]
        count = -(-n * N_DUPLICATES // all_n) + 1
        # One at random among the first profiles of every seventh or eighth.
        within = np.random.default_rng([seed, 6, 0]).random(count) * (all_n // N_DUPLICATES)
        rows = -(-np.arange(count) * all_n // N_DUPLICATES) + within.astype(np.int64)
        # The first profile has none before it.
        rows[0] = max(rows[0], 1)
        self._later = rows
        self._n = n
        self._pool: list[tuple[int, np.ndarray]] = []
        self.pairs: list[tuple[int, int, float]] = []

    def plant(self, start: int, x_bg: np.ndarray) -> None:
        """Put the duplicates of one block in; blocks come whole and in order."""
        stop = start + len(x_bg)
        first, last = np.searchsorted(self._later, [start, stop])
        fresh = np.setdiff1d(np.arange(len(x_bg)), self._later[first:last] - start)
        for row in self._later[first:last].tolist():
            earlier, source_g = self._earlier(row - start, start, fresh, x_bg)
            step_g = self._rng.standard_normal(x_bg.shape[1:])
            step_g *= self._rng.uniform(0, _FARTHEST) / _length(step_g)
            x_bg[row - start] = source_g + step_g
            # As float32 rounded it.
            step_g = x_bg[row - start].astype(np.float64) - source_g
            if row < self._n:
                self.pairs.append((row, earlier, _length(step_g)))
        for row in self._rng.choice(fresh, min(_TAKEN_PER_BLOCK, len(fresh)), replace=False):
            taken = (start + int(row), x_bg[row].copy())
            if len(self._pool) < _POOL_PROFILES:
                self._pool.append(taken)
            else:
                self._pool[self._rng.integers(_POOL_PROFILES)] = taken

    def _earlier(
        self, place: int, start: int, fresh: np.ndarray, x_bg: np.ndarray
    ) -> tuple[int, np.ndarray]:
        before = fresh[fresh < place]
        if len(before) and (not self._pool or self._rng.random() < 0.5):
            row = int(self._rng.choice(before))
            return start + row, x_bg[row]
        return self._pool[self._rng.integers(len(self._pool))]

    def table(self, ids: pd.Index) -> pd.DataFrame:
        """Ids of the later and the earlier profile, and their distance."""
        return pd.DataFrame(
            [(ids[later], ids[earlier], distance) for later, earlier, distance in self.pairs],
            columns=["later", "earlier", "distance"],
        )


def _length(step_g: np.ndarray) -> float:
    # np.linalg.norm would wait for the matrix products that make the next blocks.
    return math.sqrt(float(np.square(step_g).sum()))


def _blocks(source: Profiles, n: int, planted: Planted | None) -> Iterator[np.ndarray]:
    """All profiles, block by block, in order."""
    numbers = range(-(-n // source.block_rows))
    for number, x_bg in enumerate(map_blocks(source.block, numbers)):
        start = number * source.block_rows
        if planted is not None:
            planted.plant(start, x_bg)
        yield x_bg[: n - start]
        progress.report("simulating", min(start + len(x_bg), n), n)


def _write_gctx(
    out: Path, obs: pd.DataFrame, source: Profiles, planted: Planted | None, config: SimulateConfig
) -> None:
    with create_matrix(out, obs, source.var, overwrite=config.overwrite) as writer:
        for x_bg in _blocks(source, len(obs), planted):
            writer.write(x_bg)


def _write_text(out: Path, obs: pd.DataFrame, source: Profiles, config: SimulateConfig) -> None:
    """Write the 1000 Genomes layout, gene by gene; it has room for nothing but ids and values."""
    n, g = len(obs), len(source.var)
    symbols = gene_table(source.var)["symbol"].tolist()
    place = source.var.reindex(columns=["chromosome", "position"], fill_value=0)
    rows = zip(source.var.index, symbols, *place.to_numpy().T, strict=True)
    with ExitStack() as stack:
        spool = Spool(g, np.float32, turned=True)
        stack.callback(spool.close)
        for x_bg in _blocks(source, n, None):
            spool.append(x_bg)
        partial = stack.enter_context(whole_file(out, overwrite=config.overwrite))
        text = stack.enter_context(open(partial, "w", encoding="utf-8", newline="\n"))
        text.write("\t".join([*THOUSAND_GENOMES, *obs.index]) + "\n")
        form = "\t%.5g" * n + "\n"
        step = max(1, _TEXT_VALUES // n)
        for start in range(0, g, step):
            for x_n in spool.read(start, min(start + step, g)).tolist():
                text.write("\t".join(map(str, next(rows))) + form % tuple(x_n))
            progress.report("writing text", min(start + step, g), g)
