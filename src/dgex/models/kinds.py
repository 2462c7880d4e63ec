"""The kinds of models, by the names that people and files call them."""

from __future__ import annotations

from dgex.models.base import Model
from dgex.models.cmap_linear import CMapLinear
from dgex.models.cohort_ridge import CohortRidge
from dgex.models.ensemble import Ensemble
from dgex.models.gbm import GBM
from dgex.models.kernel import Kernel
from dgex.models.lasso import Lasso
from dgex.models.linear import OLS, MeanModel, Ridge
from dgex.models.neighbours import GeneKNN
from dgex.models.net_model import DGEX, TAAF, ResNetModel
from dgex.models.sample_lasso import SampleLasso
from dgex.models.samples import SampleKNN

KINDS: dict[str, type[Model]] = {
    kind.kind: kind
    for kind in (
        MeanModel,
        OLS,
        Ridge,
        Lasso,
        GeneKNN,
        Kernel,
        SampleKNN,
        SampleLasso,
        GBM,
        CohortRidge,
        Ensemble,
        DGEX,
        ResNetModel,
        TAAF,
        CMapLinear,
    )
}
