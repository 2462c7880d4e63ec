"""External sets: profiles of another platform or study, brought to the training reference."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from dgex import progress
from dgex.config import Orientation, PrepareConfig
from dgex.data.dataset import RowFile, write_set_genes
from dgex.data.formats.checks import matrix_ending
from dgex.data.genes import align
from dgex.data.incoming import Incoming
from dgex.data.matrix import open_matrix
from dgex.data.preprocess import Preprocessor
from dgex.data.record import note_simulated
from dgex.errors import DataError

if TYPE_CHECKING:
    from anndata import AnnData


def orientation_of(source: str | Path | AnnData, config: PrepareConfig) -> Orientation | None:
    """The orientation asked for, if `source` is a table that does not say its own.

    Examples
    --------
    >>> config = PrepareConfig(orientation="samples-by-genes")
    >>> orientation_of("mine.tsv", config), orientation_of("gtex.gctx", config)
    ('samples-by-genes', None)
    """
    if not isinstance(source, (str, Path)):
        return None
    is_table = matrix_ending(Path(source)) in (".tsv", ".txt", ".csv", ".parquet")
    return config.orientation if is_table else None


def check_external(
    name: str,
    source: str | Path | AnnData,
    genes: pd.DataFrame,
    n_landmarks: int,
    config: PrepareConfig,
) -> None:
    """Refuse an external set that could never be scored: cheap, so that it comes first.

    Parameters
    ----------
    name, source
        Name of the set, and its profiles.
    genes
        Gene table of the landmarks, then the targets.
    n_landmarks
        How many of them are landmarks.
    config
        Options of ``prepare``.

    Raises
    ------
    DataError
        The set has none of the landmarks or none of the targets, or is one profile that would be
        standardised by its own moments.

    Examples
    --------
    >>> from anndata import AnnData
    >>> from dgex.data.genes import gene_table
    >>> genes = gene_table(pd.DataFrame(index=["TP53", "MYC"]))
    >>> one = AnnData(pd.DataFrame([[7.5, 9.25]], ["GSM1"], ["MYC", "TP53"]))
    >>> check_external("mine", one, genes, 1, PrepareConfig(external_moments="training"))
    """
    with open_matrix(source, orientation=orientation_of(source, config)) as matrix:
        if matrix.shape[0] == 1 and config.external_moments == "own":
            raise DataError(
                f"External set {name} is one profile, which by its own moments is 0 everywhere. "
                "Pass --external-moments training, or give more profiles."
            )
        present_g = align(genes, matrix.var, str(matrix.path)).present_g
    if not present_g[:n_landmarks].any():
        raise DataError(
            f"External set {name} has none of the {n_landmarks} landmarks, so nothing can be "
            "inferred for it. Leave it out, or check its gene identifiers."
        )
    if not present_g[n_landmarks:].any():
        raise DataError(
            f"External set {name} has none of the {len(genes) - n_landmarks} targets, so nothing "
            "can be scored. Leave it out, or check its gene identifiers."
        )


def write_external(
    name: str,
    source: str | Path | AnnData,
    folder: Path,
    preprocessor: Preprocessor,
    config: PrepareConfig,
    note: Callable[[str], None],
) -> None:
    """Write an external set's standardised landmarks and targets.

    Each profile is ranked among its unique values and takes the training reference at that rank,
    as D-GEX does for RNA-seq; genes are then standardised by the set's own moments or by the
    training moments.

    Parameters
    ----------
    name, source
        Name of the set, and its profiles.
    folder
        Folder of the set.
    preprocessor
        Genes, reference and training moments.
    config
        Options of ``prepare``.
    note
        Takes one sentence for each thing that was filled or left out.

    Raises
    ------
    DataError
        No target has a value, or a profile has none.
    """
    n_landmarks = preprocessor.n_landmarks
    with open_matrix(source, orientation=orientation_of(source, config)) as matrix:
        incoming = Incoming(
            matrix,
            preprocessor,
            ties="unique",
            moments=config.external_moments,
            missing_landmarks=config.missing_landmarks,
        )
        present_l, present_t = incoming.present_l, incoming.present_g[n_landmarks:]
        if not present_t.any():
            raise DataError(
                f"External set {name} has no value of any target, so nothing can be scored. "
                "Leave it out."
            )
        n = matrix.shape[0]
        found = incoming.alignment
        note(
            f"{name}: {n} profiles, {present_l.sum()} of {n_landmarks} landmarks and "
            f"{present_t.sum()} of {len(present_t)} targets found by {found.column} ({found.kind})."
        )
        note_simulated(matrix.obs, matrix.path, note)
        folder.mkdir(parents=True)
        with (
            RowFile(folder / "x_nl.npy", n, n_landmarks) as x_file,
            RowFile(folder / "y_nt.npy", n, len(present_t)) as y_file,
        ):
            for start, z_bg in incoming.blocks():
                x_file.write(z_bg[:, :n_landmarks])
                y_file.write(z_bg[:, n_landmarks:])
                progress.report(f"writing {name}", start + len(z_bg), n)
        obs = matrix.obs
    obs.to_csv(folder / "obs.tsv", sep="\t")
    genes = pd.DataFrame(
        {"present": incoming.present_g, "mean": incoming.mean_g, "sd": incoming.sd_g},
        index=incoming.genes.index,
    )
    write_set_genes(folder, genes)
    whose = "its own" if config.external_moments == "own" else "the training"
    note(f"{name}: standardised by {whose} moments.")
    filled = incoming.landmarks_filled()
    if filled:
        note(f"{name}: {filled}")
    if not present_t.all():
        note(f"{name}: {(~present_t).sum()} absent targets left out of its scores.")
    if incoming.n_missing:
        note(f"{name}: {incoming.n_missing} missing values set to the gene's mean.")
