"""How raw profiles become what a model sees: the same for external sets and for new profiles."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from dgex.data.genes import KINDS
from dgex.data.normalise import (
    SD_OFFSET,
    average_rank_index,
    reference_values,
    unique_rank_index,
)
from dgex.data.tables import read_table
from dgex.errors import DataError

Ties = Literal["unique", "average"]

_ARRAYS = ("reference_g", "mean_g", "sd_g", "correlation_ll")
# Standardised landmarks have variance 1. Of 0.03 to 30, 1 was best or nearly so within a compendium
# and across platforms; it halves the error of setting absent landmarks to their mean.
_RIDGE = 1.0


def _no_genes() -> pd.DataFrame:
    return pd.DataFrame(columns=list(KINDS), index=pd.Index([], name="gene"), dtype=object)


@dataclass(frozen=True)
class Preprocessor:
    """Panel, targets, quantile reference and training moments.

    Genes are landmarks, then targets, then others.

    Attributes
    ----------
    landmarks, targets
        Gene tables (see `dgex.data.genes`).
    reference_g
        Quantile reference, ascending, log2 expression, shape (g,); empty where only z-scores were
        given, so that neither it nor the moments are known.
    mean_g, sd_g
        Training moments of the quantile-normalised genes, log2 expression, shape (g,).
    correlation_ll
        Training correlation of the landmarks, shape (l, l).
    others
        Genes that whole-transcriptome profiles are ranked with and that are not inferred.
    """

    landmarks: pd.DataFrame
    targets: pd.DataFrame
    reference_g: np.ndarray
    mean_g: np.ndarray
    sd_g: np.ndarray
    correlation_ll: np.ndarray
    others: pd.DataFrame = field(default_factory=_no_genes)

    @property
    def genes(self) -> pd.DataFrame:
        """Gene table of all genes, shape (g, 4)."""
        tables = [self.landmarks, self.targets]
        return pd.concat([*tables, self.others] if len(self.others) else tables)

    @property
    def n_landmarks(self) -> int:
        """Number of landmarks."""
        return len(self.landmarks)

    @property
    def of_targets(self) -> slice:
        """Where the targets are among the genes."""
        return slice(len(self.landmarks), len(self.landmarks) + len(self.targets))

    @property
    def knows_expression(self) -> bool:
        """Whether expression can be brought to z-scores and back; else only z-scores were given."""
        return len(self.reference_g) > 0

    def only_targets(self, chosen: slice) -> Preprocessor:
        """The same with some of the targets.

        The rest still take part in the ranks of whole-transcriptome profiles, which therefore
        take the values of the reference that they took in training.

        Parameters
        ----------
        chosen
            Which targets stay.
        """
        n_landmarks, positions = len(self.landmarks), np.arange(len(self.targets))
        left_out = np.setdiff1d(positions, positions[chosen])
        n_others = len(self.others)
        order_g = np.concatenate(
            [
                np.arange(n_landmarks),
                n_landmarks + positions[chosen],
                n_landmarks + left_out,
                n_landmarks + len(positions) + np.arange(n_others),
            ]
        )
        return replace(
            self,
            targets=self.targets.iloc[chosen],
            mean_g=self.mean_g[order_g],
            sd_g=self.sd_g[order_g],
            others=self.genes.iloc[order_g[n_landmarks + len(positions[chosen]) :]],
        )

    def quantile_normalise(
        self, values_bp: np.ndarray, present_g: np.ndarray, ties: Ties
    ) -> np.ndarray:
        """Profiles on the quantile reference.

        Parameters
        ----------
        values_bp
            Values of the genes that are present, any monotone unit, shape (b, present genes).
        present_g
            Which genes these are, shape (g,).
        ties
            ``unique``: rank among unique values, D-GEX's rule for other platforms;
            ``average``: average rank, its rule for the compendium.

        Returns
        -------
        numpy.ndarray
            log2 expression, float64, shape (b, g); NaN where a gene is absent or missing.
        """
        x_bg = np.full((len(values_bp), len(present_g)), np.nan)
        if ties == "unique":
            index_bp = unique_rank_index(values_bp, len(self.reference_g))
        else:
            padded_bg = np.full_like(x_bg, np.nan)
            padded_bg[:, present_g] = values_bp
            index_bp = average_rank_index(padded_bg)[:, present_g]
        x_bg[:, present_g] = reference_values(self.reference_g, index_bp)
        return x_bg

    def infer_landmarks(self, x_bl: np.ndarray, present_l: np.ndarray) -> np.ndarray:
        """Fill absent landmarks from the present ones by ridge regression on the training set.

        Parameters
        ----------
        x_bl
            Landmarks in standardised units, shape (b, l).
        present_l
            Which landmarks are measured, shape (l,).

        Returns
        -------
        numpy.ndarray
            A copy with the absent landmarks filled, float32, shape (b, l).
        """
        filled_bl = x_bl.astype(np.float32)
        if present_l.all():
            return filled_bl
        known_ll = self.correlation_ll[np.ix_(present_l, present_l)].astype(np.float64)
        cross_lm = self.correlation_ll[np.ix_(present_l, ~present_l)].astype(np.float64)
        weight_lm = np.linalg.solve(known_ll + _RIDGE * np.eye(len(known_ll)), cross_lm)
        filled_bl[:, ~present_l] = filled_bl[:, present_l] @ weight_lm.astype(np.float32)
        return filled_bl

    def expression(self, z_bg: np.ndarray, genes: slice) -> np.ndarray:
        """log2 expression by the training moments, float32, of the genes in a slice."""
        scale = self.sd_g[genes] + SD_OFFSET
        return (z_bg * scale + self.mean_g[genes]).astype(np.float32)

    def save(self, folder: Path) -> None:
        """Write the gene tables and arrays into `folder`."""
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        self.landmarks.to_csv(folder / "landmarks.tsv", sep="\t")
        self.targets.to_csv(folder / "targets.tsv", sep="\t")
        if len(self.others):
            self.others.to_csv(folder / "others.tsv", sep="\t")
        arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in _ARRAYS}
        save_file(arrays, folder / "preprocessing.safetensors")

    @classmethod
    def load(cls, folder: Path) -> Preprocessor:
        """Read what `save` wrote.

        Raises
        ------
        DataError
            A file is missing, damaged, or does not agree with the others.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            arrays = load_file(folder / "preprocessing.safetensors")
            others = folder / "others.tsv"
            loaded = cls(
                _read_gene_table(folder / "landmarks.tsv"),
                _read_gene_table(folder / "targets.tsv"),
                **{name: arrays[name] for name in _ARRAYS},
                others=_read_gene_table(others) if others.is_file() else _no_genes(),
            )
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise DataError(f"{folder} is damaged ({error}). Make it again.") from error
        n_genes = len(loaded.genes)
        lengths = {len(loaded.reference_g) or n_genes, len(loaded.mean_g), len(loaded.sd_g)}
        if lengths != {n_genes}:
            raise DataError(f"{folder} is damaged: its tables and arrays disagree. Make it again.")
        if loaded.correlation_ll.shape != (len(loaded.landmarks), len(loaded.landmarks)):
            raise DataError(f"{folder} is damaged: its correlation is not (l, l). Make it again.")
        return loaded


def _read_gene_table(path: Path) -> pd.DataFrame:
    return read_table(path)[list(KINDS)]
