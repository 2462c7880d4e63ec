"""How profiles to infer are read: whole transcriptomes or landmarks, and by whose moments."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal

from dgex.config import PredictConfig
from dgex.data.formats.reader import Matrix
from dgex.data.genes import align
from dgex.data.preprocess import Preprocessor, Ties
from dgex.errors import UsageError

log = logging.getLogger("dgex")

OWN_MOMENTS_FROM = 20
"""Profiles from which a file's own moments are trusted."""

WHOLE_FROM = 0.8
"""Share of a Model's genes from which a profile can be ranked as a whole transcriptome."""

SAME_PLATFORM_FROM = 0.99
"""Share of a Model's genes from which profiles are taken for ones of the training platform."""


@dataclass(frozen=True)
class Plan:
    """How the profiles of one file are read: the choices made, for the user to see.

    Attributes
    ----------
    input
        ``whole`` or ``landmarks``.
    ties
        How whole-transcriptome profiles are ranked; None for landmark-only ones.
    moments
        ``own`` or ``training``; ``none`` where the Model takes log2 expression.
    """

    input: Literal["whole", "landmarks"]
    ties: Ties | None
    moments: Literal["own", "training", "none"]


def plan_input(
    matrix: Matrix,
    preprocessor: Preprocessor,
    config: PredictConfig,
    *,
    for_new_cohorts: bool = False,
) -> Plan:
    """Tell whole-transcriptome from landmark-only profiles, and choose how to standardise them.

    Profiles that hold at least four fifths of the Model's genes are whole. If they hold nearly
    all of them they are taken for profiles of the training platform, else for ones of another.
    Training moments go with the ranks of the training profiles, own moments from another platform
    with D-GEX's ranks for external sets.

    Parameters
    ----------
    matrix
        The profiles.
    preprocessor
        The Model's genes and reference.
    config
        Options of ``predict``.
    for_new_cohorts
        The Model takes profiles standardised by their own moments, whatever their platform.

    Raises
    ------
    UsageError
        What `config` asks for cannot be done with these profiles.

    Examples
    --------
    >>> import anndata, numpy as np, pandas as pd
    >>> from dgex.data.genes import gene_table
    >>> from dgex.data.matrix import open_matrix
    >>> landmarks, target = (gene_table(pd.DataFrame(index=ids)) for ids in (["A", "B"], ["C"]))
    >>> known = Preprocessor(landmarks, target, *(np.arange(3.0) for _ in range(3)), np.eye(2))
    >>> plate = anndata.AnnData(np.ones((30, 2)), var=pd.DataFrame(index=["A", "B"]))
    >>> plan_input(open_matrix(plate), known, PredictConfig())
    Plan(input='landmarks', ties=None, moments='own')
    """
    found = align(preprocessor.genes, matrix.var, str(matrix.path), config.id_column)
    share = float(found.present_g.mean())
    whole = share >= WHOLE_FROM if config.input == "auto" else config.input == "whole"
    if config.ties is not None and not whole:
        raise UsageError("--ties is for whole-transcriptome profiles; these are landmarks only.")
    if whole and not preprocessor.knows_expression:
        raise UsageError(
            f"{matrix.path} holds whole transcriptomes, and this Model, trained on z-scores, has "
            "no quantile reference to bring them to. Pass --input landmarks to use their landmarks."
        )
    n = matrix.shape[0]
    same_platform = whole and share >= SAME_PLATFORM_FROM
    moments = config.standardize
    if for_new_cohorts and moments == "training":
        raise UsageError(
            "--standardize training: this Model is for new cohorts, which are standardised by "
            "their own moments. Leave it out, or take a Model for the same studies."
        )
    if moments is None and (for_new_cohorts or not preprocessor.knows_expression):
        moments = "own"
    if moments is None:
        moments = "training" if same_platform or n < OWN_MOMENTS_FROM else "own"
    if moments == "own" and n < 2:
        what = "A Model for new cohorts" if for_new_cohorts else "--standardize own"
        raise UsageError(f"{what} needs at least 2 profiles; this file has one.")
    if for_new_cohorts and n < OWN_MOMENTS_FROM:
        log.warning(
            "%d profiles say little about their own moments, by which this Model takes them: "
            "give the whole cohort, %d profiles or more.",
            n,
            OWN_MOMENTS_FROM,
        )
    if not whole:
        return Plan("landmarks", None, moments)
    ties: Ties = "average" if same_platform or moments == "training" else "unique"
    return Plan("whole", config.ties or ties, moments)
