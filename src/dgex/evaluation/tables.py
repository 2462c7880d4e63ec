"""The tables of an evaluation, in memory and in the folder that `dgex evaluate` writes."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from dgex.errors import DataError, name_list
from dgex.files import whole_file, write_json

SUMMARY_FILE, GENES_FILE, INFO_FILE = "summary.tsv", "genes.tsv.gz", "evaluation.json"

SUMMARY_COLUMNS: dict[str, type] = {
    "model": str,
    "kind": str,
    "set": str,
    "moments": str,
    "protocol": str,
    "n_profiles": int,
    "n_targets": int,
    "n_targets_absent": int,
    "mae": float,
    "mae_sd": float,
    "rmse": float,
    "median_r": float,
    "improvement_over_ols_percent": float,
    "genes_won_over_ols_percent": float,
    "n_same_gene": int,
    "mae_other_genes": float,
}
GENES_COLUMNS: dict[str, type] = {
    "model": str,
    "set": str,
    "moments": str,
    "gene": str,
    "symbol": str,
    "same_gene": bool,
    "mae": float,
    "rmse": float,
    "r": float,
}


@dataclass(frozen=True)
class Evaluation:
    """Scores of models on sets.

    Attributes
    ----------
    summary
        A row per set, `moments` and model: by whose moments the set is standardised, its own or
        those of training. Errors under the two are in different units. `mae`, `mae_sd`, `rmse`
        and `mae_other_genes` in standardised units, as `dgex.evaluation.metrics.Summary` defines
        them; `n_targets` targets were scored, `n_targets_absent` were not measured in the set; the
        two `…_over_ols_percent` columns are NaN where no model of kind "ols" was given;
        `n_same_gene` of the scored targets are the same gene as a landmark and `mae_other_genes` is
        the MAE over the rest.
    genes
        A row per set, moments, model and scored target: `mae`, `rmse` (standardised units) and
        Pearson `r`; `same_gene` says that the target is the same gene as a landmark.
    info
        What was evaluated: `dataset`, `protocol`, `fingerprint`, `n_landmarks`, `n_targets`,
        `n_same_gene`, `reference` (the OLS model compared with, or None), `models` (name to
        kind), `new_cohorts` (those of them that are scored on external sets alone), `ranked` (the
        models of the same targets as the reference, or as the first one) and `sets` (name to
        counts of profiles, scored and absent targets and landmarks, and the `moments` that come
        first, by which the set was prepared).

    Examples
    --------
    >>> import tempfile
    >>> summary = pd.DataFrame(columns=list(SUMMARY_COLUMNS))
    >>> genes = pd.DataFrame(columns=list(GENES_COLUMNS))
    >>> folder = Path(tempfile.mkdtemp())
    >>> Evaluation(summary, genes, {"dataset": "geo"}).save(folder)
    >>> Evaluation.load(folder).info
    {'dataset': 'geo'}
    """

    summary: pd.DataFrame
    genes: pd.DataFrame
    info: dict[str, Any]

    def as_prepared(self) -> Evaluation:
        """The scores of every set by the moments it was prepared with, and no others."""
        first = {name: one.get("moments") for name, one in self.info["sets"].items()}

        def kept(table: pd.DataFrame) -> pd.DataFrame:
            if "moments" not in table.columns:
                return table
            of_set = table["set"].map(first)
            return table[of_set.isna() | (table["moments"] == of_set)].reset_index(drop=True)

        return Evaluation(kept(self.summary), kept(self.genes), self.info)

    def save(self, directory: Path) -> None:
        """Write summary.tsv, genes.tsv.gz and evaluation.json into `directory`, made if needed.

        Raises
        ------
        DataError
            The disk is full, or the folder may not be written.
        """
        directory = Path(directory)
        with whole_file(directory / SUMMARY_FILE) as partial:
            self.summary.to_csv(partial, sep="\t", index=False)
        with whole_file(directory / GENES_FILE) as partial:
            # A fixed time in the gzip header: the same scores give the same bytes.
            self.genes.to_csv(
                partial, sep="\t", index=False, compression={"method": "gzip", "mtime": 0}
            )
        write_json(directory / INFO_FILE, self.info)

    @classmethod
    def load(cls, directory: Path) -> Evaluation:
        """Read what `save` wrote; every number comes back as it was.

        Raises
        ------
        DataError
            A file is missing, cut off, or not one that `save` writes.
        """
        directory = Path(directory)
        files = [directory / name for name in (SUMMARY_FILE, GENES_FILE, INFO_FILE)]
        missing = [file.name for file in files if not file.is_file()]
        if missing:
            raise DataError(
                f"{directory} does not hold an evaluation: no {name_list(missing)}. "
                "Make it with `dgex evaluate`."
            )
        try:
            info = json.loads(files[2].read_text("utf-8"))
        except ValueError as error:
            raise DataError(f"{files[2]} is not valid JSON: {error}. Evaluate again.") from error
        summary_table = _read_table(files[0], SUMMARY_COLUMNS)
        return cls(summary=summary_table, genes=_read_table(files[1], GENES_COLUMNS), info=info)


def _read_table(path: Path, types: Mapping[str, type]) -> pd.DataFrame:
    """Read a table with exactly these columns; only numbers may be missing (a gene may be NA)."""
    numbers = {column: [""] for column, kind in types.items() if kind is float}
    try:
        table = pd.read_csv(
            path,
            sep="\t",
            compression="gzip" if path.suffix == ".gz" else None,
            dtype=dict(types),
            keep_default_na=False,
            na_values=numbers,
            float_precision="round_trip",
        )
    except (ValueError, EOFError, OSError, zlib.error) as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(
            f"{path} cannot be read as a table of scores: {reason}. Evaluate again."
        ) from error
    if list(table.columns) != list(types):
        raise DataError(
            f"{path} is not a table of scores: its columns are {name_list(table.columns)}. "
            "Evaluate again."
        )
    return table
