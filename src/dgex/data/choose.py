"""Which genes of an expression file are landmarks and targets, and where they are in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from dgex.config import PrepareConfig
from dgex.data.formats.reader import Matrix
from dgex.data.genes import Alignment, align, gene_table, read_genes, same_gene
from dgex.data.record import Record
from dgex.data.scan import Scan
from dgex.errors import DataError, UsageError, name_list


def choose_genes(
    matrix: Matrix,
    landmarks: str | Path | Sequence[str] | None,
    targets: str | Path | Sequence[str] | None,
    config: PrepareConfig,
    record: Record,
) -> tuple[pd.DataFrame, Alignment, int]:
    """Gene table of landmarks then targets that the matrix has, where they are, and l."""
    if landmarks is None:
        if "landmark" not in matrix.var.columns:
            raise UsageError(
                "Which genes are landmarks? Give --landmarks FILE (a list, a map, a GCT or GCTX) "
                "or var:COLUMN, or choose a panel with dgex panel."
            )
        landmarks = "var:landmark"
    landmark_table, landmark_columns = _found_genes("landmarks", landmarks, matrix, config, record)
    if targets is None:
        rest = np.ones(len(matrix.var), dtype=bool)
        rest[landmark_columns.members] = False
        if not rest.any():
            raise DataError(f"{matrix.path} has no gene besides the landmarks to be a target.")
        target_table = gene_table(matrix.var[rest])
        every = np.arange(len(target_table))
        target_columns = Alignment("id", "id", every >= 0, np.flatnonzero(rest), every)
    else:
        target_table, target_columns = _found_genes("targets", targets, matrix, config, record)
    same_t = same_gene(target_table, landmark_table)
    same_t |= np.logical_or.reduceat(
        np.isin(target_columns.members, landmark_columns.members), target_columns.starts
    )
    if same_t.any() and config.protocol == "strict":
        names = target_table.index[same_t]
        record.drop("target", names, "same gene as a landmark")
        record.note(
            f"{len(names)} targets dropped: the same gene as a landmark (strict protocol), as far "
            "as identifiers tell."
        )
        target_table = target_table[~same_t]
        target_columns = target_columns.only(~same_t)
    elif same_t.any():
        record.note(
            f"{same_t.sum()} of {len(target_table)} targets are the same gene as a landmark, "
            "through other probe sets or rows; they are kept, as in D-GEX (paper protocol)."
        )
    if target_table.empty:
        raise DataError("No target is left: every one is the same gene as a landmark.")
    record.note(f"{len(landmark_table)} landmarks, {len(target_table)} targets.")
    genes = pd.concat([landmark_table, target_table])
    return genes, _joined([landmark_columns, target_columns]), len(landmark_table)


def _found_genes(
    role: str,
    source: str | Path | Sequence[str],
    matrix: Matrix,
    config: PrepareConfig,
    record: Record,
) -> tuple[pd.DataFrame, Alignment]:
    """Genes of a list that the matrix has, with the identifiers that the matrix adds."""
    table = read_genes(source, matrix.var)
    where = align(table, matrix.var, str(matrix.path), config.id_column)
    absent = table.index[~where.present_g]
    n_found = int(where.present_g.sum())
    if len(absent):
        record.drop(role.removesuffix("s"), absent, "not in the expression file")
        record.note(
            f"{len(absent)} of {len(table)} {role} are not in {matrix.path} and are left out "
            f"({name_list(absent)})."
        )
    table, where = table[where.present_g].copy(), where.only(np.ones(n_found, dtype=bool))
    own = gene_table(matrix.var)
    for kind in table.columns:
        first = own[kind].to_numpy()[where.members[where.starts]]
        if kind == "probes":
            # All of a gene's probe sets, or another file's mean would be over the first alone.
            parts = np.split(own[kind].to_numpy()[where.members], where.starts[1:])
            first = np.array([",".join(filter(None, probes)) for probes in parts], dtype=object)
        unknown = (table[kind] == "").to_numpy()
        table[kind] = np.where(unknown, first, table[kind].to_numpy())
    return table, where


def _joined(parts: Sequence[Alignment]) -> Alignment:
    first, second = parts
    return Alignment(
        second.column,
        second.kind,
        np.concatenate([first.present_g, second.present_g]),
        np.concatenate([first.members, second.members]),
        np.concatenate([first.starts, second.starts + len(first.members)]),
    )


def refuse_constant(
    genes: pd.DataFrame,
    alignment: Alignment,
    n_landmarks: int,
    found: Scan,
    config: PrepareConfig,
    record: Record,
) -> tuple[pd.DataFrame, Alignment, int]:
    """Stop at genes with one value in all profiles, or leave them out."""
    members_constant = found.constant_p[alignment.members]
    constant_g = np.logical_and.reduceat(members_constant, alignment.starts)
    where = "in all profiles"
    return without_constant(genes, alignment, n_landmarks, constant_g, where, config, record)


def without_constant(
    genes: pd.DataFrame,
    alignment: Alignment,
    n_landmarks: int,
    constant_g: np.ndarray,
    where: str,
    config: PrepareConfig,
    record: Record,
) -> tuple[pd.DataFrame, Alignment, int]:
    """Stop at the genes that are constant, or leave them out; `where` they are, in words."""
    if not constant_g.any():
        return genes, alignment, n_landmarks
    names = genes.index[constant_g]
    if not config.drop_constant:
        raise DataError(
            f"{len(names)} genes have one value {where} ({name_list(names)}), so they have "
            "no z-score. Pass --drop-constant to leave them out."
        )
    record.drop("gene", names, f"one value {where}")
    record.note(f"{len(names)} genes dropped: one value {where} ({name_list(names)}).")
    keep_g = ~constant_g
    n_landmarks = int(keep_g[:n_landmarks].sum())
    if n_landmarks == 0 or n_landmarks == keep_g.sum():
        raise DataError("No landmark or no target is left without the constant genes.")
    return genes[keep_g], alignment.only(keep_g), n_landmarks
