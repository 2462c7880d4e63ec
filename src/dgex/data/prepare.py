"""From expression files to a Dataset: the steps of D-GEX's preprocessing, in order."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dgex.config import PrepareConfig
from dgex.data.arrays import prepare_arrays
from dgex.data.choose import choose_genes, refuse_constant, without_constant
from dgex.data.compendium import Compendium
from dgex.data.dataset import Dataset, write_index, write_set_genes
from dgex.data.duplicates import near_duplicates
from dgex.data.external import check_external, orientation_of, write_external
from dgex.data.formats.reader import Matrix
from dgex.data.genes import Alignment
from dgex.data.matrix import open_matrix
from dgex.data.normalise import Moments
from dgex.data.preprocess import Preprocessor
from dgex.data.record import Record, note_simulated
from dgex.data.samples import assign_splits, sample_table, split_profiles
from dgex.data.scan import Scan, Transform, choose_scale, scan
from dgex.data.split import SPLITS
from dgex.errors import DataError, UsageError, name_list
from dgex.files import refuse_existing, whole_directory
from dgex.options import with_options
from dgex.provenance import write_run

if TYPE_CHECKING:
    from anndata import AnnData

SMALL_SPREAD = 0.01
"""Standard deviation, log2 expression, below which a gene's z-scores mean little.

No platform is that precise: it is 0.7 % of the expression, and a doubling is a z-score above 90.
"""


def prepare(
    expression: str | Path | AnnData,
    out: str | Path,
    *,
    landmarks: str | Path | Sequence[str] | None = None,
    targets: str | Path | Sequence[str] | None = None,
    external: Mapping[str, str | Path | AnnData] | None = None,
    config: PrepareConfig | None = None,
    **options: Any,
) -> Dataset:
    """Turn an expression compendium into a Dataset that models are trained and judged on.

    Near-duplicate profiles are removed, probe sets averaged to genes, profiles quantile-normalised
    and genes standardised as in D-GEX (Chen et al. 2016, section 2.1), and the profiles split into
    train, validation and test. Memory stays below 4 GB whatever the size of the input.

    Parameters
    ----------
    expression
        A matrix of profiles in any supported format (log2 expression, TPM, counts), or an AnnData.
        Or a folder of the original D-GEX's intermediate arrays (see `dgex.data.arrays`).
    out
        Folder to write.
    landmarks
        Gene list, map, GCT, GCTX or ``var:COLUMN`` (see `dgex.data.genes.read_genes`), or ids.
        Where not given, the gene table's own ``landmark`` column.
    targets
        The same for targets; all other genes where not given.
    external
        Profiles of other platforms or studies, by name; never trained on.
    config
        Options; see `dgex.config.PrepareConfig`.
    **options
        Single options, replacing those of `config`.

    Returns
    -------
    Dataset
        The Dataset in `out`.

    Raises
    ------
    DataError
        The profiles or gene lists cannot be used; the message says what to do.
    UsageError
        The request is wrong, or `out` exists.

    Examples
    --------
    >>> import anndata, tempfile
    >>> rng = np.random.default_rng(0)
    >>> profiles = anndata.AnnData(rng.normal(8, 2, size=(40, 30)))
    >>> dataset = prepare(profiles, tempfile.mkdtemp() + "/toy", landmarks=["0", "1", "2"])
    >>> dataset["train"].x_nl.shape, dataset["train"].y_nt.shape
    ((32, 3), (32, 27))
    """
    config = with_options(config or PrepareConfig(), options)
    external = dict(external or {})
    out = Path(out)
    read = [expression, landmarks, targets, *external.values(), config.obs, config.split]
    refuse_existing(out, config.overwrite, read)
    if isinstance(expression, (str, Path)) and Path(expression).is_dir():
        if external:
            raise UsageError(
                f"--external: of no use for a folder of arrays, {expression}, which holds its own "
                "external sets. Leave it out."
            )
        return prepare_arrays(Path(expression), out, landmarks, targets, config)
    _check_options(config, [expression, *external.values()])
    _check_names(external)
    record = Record()
    with open_matrix(expression, orientation=orientation_of(expression, config)) as matrix:
        obs = sample_table(matrix, config)
        # Once more after near-duplicates are gone; a wrong request is told before the long passes.
        assign_splits(obs, config)
        n, g = matrix.shape
        record.note(f"{matrix.path}: {n} profiles, {g} genes or probe sets ({matrix.format}).")
        note_simulated(obs, matrix.path, record.note)
        genes, alignment, n_landmarks = choose_genes(matrix, landmarks, targets, config, record)
        for name, source in external.items():
            check_external(name, source, genes, n_landmarks, config)
        found = scan(matrix)
        genes, alignment, n_landmarks = refuse_constant(
            genes, alignment, n_landmarks, found, config, record
        )
        transform = choose_scale(found, config.log2, record.note)
        kept_n = _without_duplicates(matrix, found, transform, config, record)
        obs = obs[kept_n]
        split_n = split_profiles(obs, config, record)
        kept_n[kept_n] = split_n != ""
        obs, split_n = obs[split_n != ""], split_n[split_n != ""]
        learned_n = split_n == "train" if config.protocol == "strict" else split_n != ""
        if learned_n.sum() < 2:
            raise DataError(
                f"{learned_n.sum()} profile in train has no moments to learn. Give more profiles, "
                "or other --fractions."
            )
        with whole_directory(out, overwrite=config.overwrite) as folder:
            compendium = Compendium(matrix, alignment, kept_n, learned_n, transform, folder)
            fill_g = _fill_values(compendium, found, alignment, genes, config, record)
            reference_g = compendium.rank(fill_g)
            moments = compendium.moments(reference_g)
            # Such are the first and last genes of all profiles. Without them all ranks are others.
            while moments.constant_g.any():
                keep_g = ~moments.constant_g
                where = "in all profiles learned from, once they are normalised"
                genes, alignment, n_landmarks = without_constant(
                    genes, alignment, n_landmarks, ~keep_g, where, config, record
                )
                fill_g = None if fill_g is None else fill_g[keep_g]
                compendium = Compendium(matrix, alignment, kept_n, learned_n, transform, folder)
                reference_g = compendium.rank(fill_g)
                moments = compendium.moments(reference_g)
            _warn_of_small_spread(genes, moments, record)
            folders = {name: folder / "sets" / name for name in SPLITS}
            correlation_ll = compendium.write_sets(
                folders, split_n, reference_g, moments.mean_g, moments.sd_g, n_landmarks
            )
            preprocessor = Preprocessor(
                genes.iloc[:n_landmarks],
                genes.iloc[n_landmarks:],
                reference_g,
                moments.mean_g,
                moments.sd_g,
                correlation_ll,
            )
            preprocessor.save(folder / "preprocessing")
            set_genes = pd.DataFrame(
                {"present": True, "mean": moments.mean_g, "sd": moments.sd_g}, index=genes.index
            )
            for name, set_folder in folders.items():
                obs[split_n == name].to_csv(set_folder / "obs.tsv", sep="\t")
                write_set_genes(set_folder, set_genes)
            for name, source in external.items():
                write_external(
                    name, source, folder / "sets" / name, preprocessor, config, record.note
                )
            record.save(folder / "dropped.tsv")
            inputs = {"expression": expression, "landmarks": landmarks, "targets": targets}
            inputs |= {f"external {name}": source for name, source in external.items()}
            inputs |= {"obs": config.obs, "split": config.split}
            write_run(folder / "run.toml", "prepare", config, inputs)
            sets = [*SPLITS, *external]
            write_index(folder, preprocessor, config.protocol, sets, record.notes)
    return Dataset(out)


def _check_options(config: PrepareConfig, sources: list[str | Path | AnnData]) -> None:
    threshold = config.remove_duplicates_below
    if not 0 <= threshold < math.inf:
        raise UsageError(f"--remove-duplicates-below {threshold}: it must be 0 or a distance.")
    if config.orientation and not any(orientation_of(source, config) for source in sources):
        raise UsageError(
            f"--orientation {config.orientation}: it is for TSV, CSV and parquet, and no input is "
            "one. Leave it out."
        )


def _check_names(external: Mapping[str, Any]) -> None:
    for name, source in external.items():
        if name in SPLITS or not name.replace("-", "").replace("_", "").isalnum():
            raise UsageError(
                f"--external {name}: a name of an external set has letters, digits, - and _ only "
                f"and is none of {', '.join(SPLITS)}."
            )
        if isinstance(source, (str, Path)):
            if not Path(source).exists():
                raise UsageError(f"--external {name}: {source}: no such file.")
            if Path(source).is_dir():
                raise UsageError(f"--external {name}: {source} is a folder, not a matrix file.")


def _warn_of_small_spread(genes: pd.DataFrame, moments: Moments, record: Record) -> None:
    small = genes.index[moments.sd_g < SMALL_SPREAD]
    if len(small):
        record.warn(
            f"{len(small)} genes have a standard deviation below {SMALL_SPREAD:g} in the profiles "
            f"learned from ({name_list(small)}): where one of them does vary, its z-scores and "
            "errors are enormous. Leave them out of the gene lists if means over genes matter."
        )


def _without_duplicates(
    matrix: Matrix, found: Scan, transform: Transform, config: PrepareConfig, record: Record
) -> np.ndarray:
    """Which profiles are kept, shape (n,)."""
    kept_n = np.ones(matrix.shape[0], dtype=bool)
    threshold = config.remove_duplicates_below
    if threshold <= 0:
        record.note("Near-duplicate profiles were not looked for.")
        return kept_n
    complete_p = found.n_missing_p == 0
    if not complete_p.any():
        raise DataError(
            "Every gene has missing values, so duplicates cannot be looked for. "
            "Pass --remove-duplicates-below 0."
        )
    pairs = near_duplicates(matrix, threshold, complete_p, transform)
    kept_n[pairs["row"]] = False
    ids = matrix.obs.index
    for row, earlier, distance in pairs.itertuples(index=False):
        reason = f"distance {distance:.4g} to {ids[earlier]}"
        record.drop("profile", [ids[row]], reason)
    left_out = int((~complete_p).sum())
    over = f" over {complete_p.sum()} genes or probe sets" + (
        f" ({left_out} with missing values left out)" if left_out else ""
    )
    record.note(
        f"{len(pairs)} near-duplicate profiles dropped: closer than {threshold:g} to an earlier "
        f"one{over}."
    )
    return kept_n


def _fill_values(
    compendium: Compendium,
    found: Scan,
    alignment: Alignment,
    genes: pd.DataFrame,
    config: PrepareConfig,
    record: Record,
) -> np.ndarray | None:
    """Training means for missing values, shape (g,); None where no used column lacks any."""
    unused = found.n_missing_p.sum() - found.n_missing_p[np.unique(alignment.members)].sum()
    if unused:
        record.note(f"{unused} missing values are in probe sets or rows that no gene uses.")
    if not found.n_missing_p[alignment.members].any():
        return None
    mean_g, n_missing_g = compendium.training_means()
    never = genes.index[np.isnan(mean_g)]
    if len(never):
        raise DataError(
            f"{len(never)} genes have no measured value to learn from ({name_list(never)}). "
            "Take them out of the landmark or target list."
        )
    if not n_missing_g.any():
        return None
    touched = genes.index[n_missing_g > 0]
    record.note(
        f"{n_missing_g.sum()} missing values of {len(touched)} genes imputed by the gene's "
        f"training mean ({name_list(touched)})."
    )
    return mean_g
