"""Which profiles are read as whole transcriptomes, and by whose moments."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest

from dgex.config import PredictConfig
from dgex.data.genes import gene_table
from dgex.data.matrix import open_matrix
from dgex.data.plan import plan_input
from dgex.data.preprocess import Preprocessor
from dgex.errors import UsageError

GENES = [f"g{i}" for i in range(200)]


def preprocessor(reference=True):
    landmarks, targets = (gene_table(pd.DataFrame(index=ids)) for ids in (GENES[:10], GENES[10:]))
    reference_g = np.arange(200.0) if reference else np.empty(0)
    return Preprocessor(landmarks, targets, reference_g, np.zeros(200), np.ones(200), np.eye(10))


def plan(n, n_genes, reference=True, **options):
    profiles = anndata.AnnData(np.ones((n, n_genes)), var=pd.DataFrame(index=GENES[:n_genes]))
    found = plan_input(open_matrix(profiles), preprocessor(reference), PredictConfig(**options))
    return found.input, found.ties, found.moments


@pytest.mark.parametrize(
    ("n", "n_genes", "expected"),
    [
        (30, 200, ("whole", "average", "training")),
        (30, 198, ("whole", "average", "training")),
        (30, 197, ("whole", "unique", "own")),
        (19, 197, ("whole", "average", "training")),
        (30, 160, ("whole", "unique", "own")),
        (30, 159, ("landmarks", None, "own")),
        (19, 10, ("landmarks", None, "training")),
        (20, 10, ("landmarks", None, "own")),
    ],
)
def test_what_is_chosen(n, n_genes, expected):
    assert plan(n, n_genes) == expected


def test_what_is_asked_for_is_done():
    assert plan(30, 200, input="landmarks") == ("landmarks", None, "own")
    assert plan(30, 159, input="whole", ties="average") == ("whole", "average", "own")
    assert plan(30, 197, standardize="training") == ("whole", "average", "training")
    assert plan(5, 10, standardize="own") == ("landmarks", None, "own")
    assert plan(5, 10, reference=False) == ("landmarks", None, "own")


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((30, 10), {"ties": "unique"}, "--ties is for whole-transcriptome profiles"),
        ((1, 10), {"standardize": "own"}, "--standardize own needs at least 2 profiles"),
        ((30, 200, False), {}, "no quantile reference"),
    ],
)
def test_what_cannot_be_done_is_refused(arguments, options, message):
    with pytest.raises(UsageError, match=message):
        plan(*arguments, **options)
