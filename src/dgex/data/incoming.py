"""Profiles from outside, as a model sees them: external sets, and profiles to infer."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Literal

import numpy as np

from dgex import progress
from dgex.data.formats.reader import Matrix
from dgex.data.genes import align
from dgex.data.normalise import Moments, standardise
from dgex.data.preprocess import Preprocessor, Ties
from dgex.data.scan import log2_of, scan
from dgex.errors import DataError, name_list

log = logging.getLogger("dgex")

MOST_ROWS = 256
"""Profiles of a block at most: enough for fast matrix products, few enough for wide outputs."""

FAR_FROM_TRAINING = 4.0
"""Median absolute z-score by training moments from which values are on another scale."""


UNLIKE_TRAINING = 0.7
"""The same for whole transcriptomes on the reference, from which they are likely to come from
another platform: tissues of an RNA-seq compendium are at 0.4 to 0.65, three sets of other platforms
at 0.74 to 1.33 (0.93 to 1.37 from arrays, of which single studies are at 0.4 to 1.0)."""

ENOUGH_TO_TELL = 20
"""Profiles from which that is said."""

LANDMARKS_UNLIKE_TRAINING = 1.5
"""Like `UNLIKE_TRAINING`, for landmarks alone, which nothing brings to the reference, and any
number of profiles: a normal distribution is at 0.67, sets of other platforms at 2.7 to 6.7."""

CONSTANT = 1e-6
"""Standard deviation (log2) below which a landmark does not vary."""


class Incoming:
    """Profiles of a matrix, normalised and standardised for a model; g runs over `genes`.

    Parameters
    ----------
    matrix
        The profiles.
    preprocessor
        The model's panel, reference and training moments.
    ties
        Whole-transcriptome profiles: how ties are ranked when they are brought to the quantile
        reference. None: landmark-only profiles, which have no such reference; then g = l, and
        values on a linear scale are taken as log2(x + 1).
    moments
        ``own``: standardise by the profiles' own moments; ``training``: by the training moments;
        ``none``: leave them in log2 expression, for a preprocessor whose moments change nothing.
    missing_landmarks
        ``infer`` absent landmarks from the others, or set them to the ``mean`` (0).
    id_column
        Column of the matrix's gene table to match by.

    Attributes
    ----------
    genes
        Gene table of landmarks (and targets, for whole-transcriptome profiles).
    alignment
        Where they are in the matrix.
    present_g, present_l
        Which genes, and which landmarks among them, are in the matrix with at least one value.
    mean_g, sd_g
        Moments used for standardising, log2 expression.
    n
        Number of profiles.
    block_rows
        Profiles of a block.
    n_missing
        Missing values of genes that are present; they become 0, the mean.

    Raises
    ------
    DataError
        No landmark is in the matrix, or a profile has no measured landmark.
    """

    def __init__(
        self,
        matrix: Matrix,
        preprocessor: Preprocessor,
        *,
        ties: Ties | None,
        moments: Literal["own", "training", "none"],
        missing_landmarks: Literal["mean", "infer"],
        id_column: str | None = None,
    ) -> None:
        self._matrix = matrix
        self.n = matrix.shape[0]
        self.block_rows = min(matrix.block_rows, MOST_ROWS)
        self._preprocessor = preprocessor
        self._ties = ties
        self._infer = missing_landmarks == "infer"
        self.genes = preprocessor.landmarks if ties is None else preprocessor.genes
        self.alignment = align(self.genes, matrix.var, str(matrix.path), id_column)
        n_landmarks = preprocessor.n_landmarks
        if not self.alignment.present_g[:n_landmarks].any():
            raise DataError(
                f"None of the {n_landmarks} landmarks is in {matrix.path}, so nothing can be "
                "inferred from it. Check the panel, or name the identifiers with --id-column."
            )
        self.is_linear = ties is None and scan(matrix).looks_linear
        found, n_missing_g = self._measure()
        # A column without any value is no measurement, and is not scored as one.
        self.present_g = self.alignment.present_g & (found.n_g > 0)
        self.present_l = self.present_g[:n_landmarks]
        self.n_missing = int(n_missing_g[self.present_g].sum())
        n_genes = len(self.genes)
        self.mean_g = found.mean_g if moments == "own" else preprocessor.mean_g[:n_genes]
        self.sd_g = found.sd_g if moments == "own" else preprocessor.sd_g[:n_genes]
        if moments == "training":
            self._warn_of_scale(found)
        elif moments == "own" and self.n > 1 and self._is_constant():
            log.warning(
                "No landmark varies over the %d profiles of %s: by their own moments every "
                "inferred value is its gene's mean. Give a whole plate, or --standardize training.",
                self.n,
                matrix.path,
            )

    def _is_constant(self) -> bool:
        """Whether no landmark varies, but for rounding."""
        return bool((self.sd_g[: len(self.present_l)][self.present_l] < CONSTANT).all())

    def _expression_blocks(self, first_row: int = 0) -> Iterator[tuple[int, np.ndarray]]:
        """First row and log2 expression (b, g), NaN where missing or absent."""
        for start, x_bp in self._matrix.blocks(self.block_rows, first_row=first_row):
            yield start, self._expression(x_bp)

    def _expression(self, x_bp: np.ndarray) -> np.ndarray:
        present_g = self.alignment.present_g
        values_bp = self.alignment.gene_values(x_bp)
        if self._ties is not None:
            return self._preprocessor.quantile_normalise(values_bp, present_g, self._ties)
        if self.is_linear:
            values_bp = log2_of(values_bp)
        if present_g.all():
            return values_bp
        x_bg = np.full((len(values_bp), len(self.genes)), np.nan)
        x_bg[:, present_g] = values_bp
        return x_bg

    def _measure(self) -> tuple[Moments, np.ndarray]:
        """Own moments, and missing values per gene; refuses profiles without landmarks."""
        n, n_landmarks = self._matrix.shape[0], self._preprocessor.n_landmarks
        moments = Moments(len(self.genes))
        n_missing_g = np.zeros(len(self.genes), dtype=np.int64)
        empty: list[str] = []
        for start, x_bg in self._expression_blocks():
            missing_bg = np.isnan(x_bg)
            n_missing_g += missing_bg.sum(axis=0)
            none_b = missing_bg[:, :n_landmarks].all(axis=1)
            empty += list(self._matrix.obs.index[start : start + len(x_bg)][none_b])
            moments.add(x_bg)
            progress.report("reading profiles", start + len(x_bg), n)
        if empty:
            raise DataError(
                f"{len(empty)} profiles of {self._matrix.path} have no measured landmark "
                f"({name_list(empty)}). Remove them from the file."
            )
        return moments, n_missing_g

    def _warn_of_scale(self, found: Moments) -> None:
        shift_g = (found.mean_g - self.mean_g) / (self.sd_g + 1e-3)
        typical = float(np.median(np.abs(shift_g[self.present_g])))
        if typical > FAR_FROM_TRAINING:
            log.warning(
                "The genes' means are %.1f training standard deviations from the training means "
                "(median): the profiles are on another scale. Standardise them by their own "
                "moments (--standardize own), or give log2 expression.",
                typical,
            )
        elif self._ties is None and typical > LANDMARKS_UNLIKE_TRAINING:
            log.warning(
                "The landmarks' means are %.1f training standard deviations from the training "
                "means (median): profiles of another platform are better standardised by their own "
                "moments (--standardize own), over a whole plate, and inferred by a Model for new "
                "cohorts (dgex train --for new-cohorts).",
                typical,
            )
        elif self._ties is not None and typical > UNLIKE_TRAINING and self.n >= ENOUGH_TO_TELL:
            log.warning(
                "The genes' means are %.1f training standard deviations from the training means "
                "(median), more than tissues of one platform are: profiles of another platform or "
                "study are better standardised by their own moments (--standardize own) and "
                "inferred by a Model for new cohorts (dgex train --for new-cohorts).",
                typical,
            )

    def blocks(self, first_row: int = 0) -> Iterator[tuple[int, np.ndarray]]:
        """Yield, from a row on, first row and z-scores, float32 (b, g); absent targets are 0."""
        n_landmarks = len(self.present_l)
        for start, x_bg in self._expression_blocks(first_row):
            z_bg = standardise(x_bg, self.mean_g, self.sd_g)
            if self._infer:
                x_bl = z_bg[:, :n_landmarks]
                z_bg[:, :n_landmarks] = self._preprocessor.infer_landmarks(x_bl, self.present_l)
            yield start, z_bg

    def landmarks_filled(self) -> str | None:
        """A sentence on absent landmarks; None where all are there."""
        absent = self._preprocessor.landmarks.index[~self.present_l]
        if not len(absent):
            return None
        how = "inferred from the others" if self._infer else "set to 0, the mean"
        return f"{len(absent)} absent landmarks {how} ({name_list(absent)})."
