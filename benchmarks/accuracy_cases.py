"""What the accuracy benchmark measures: its Datasets (cases), its models, and the splits.

A case is a compendium split in one way with one seed, perhaps with fewer training profiles or with
another panel. All profiles of a case's test set are held out from everything: the panel, the
moments, the training and every choice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from dgex.data.matrix import open_matrix
from dgex.data.split import grouped_split

COMPENDIA = {"rnaseq": "compendia/rnaseq_n1890.h5ad", "array": "compendia/array_n1759.h5ad"}
EXTERNALS = {
    "cptac_ucec": "external/cptac_ucec_n115.h5ad",
    "rtcga_agilent": "external/rtcga_agilent.h5ad",
    "lcl_pickrell": "external/lcl_pickrell_n69.h5ad",
}
SPLITS = ("patients", "groups")
FRACTIONS = (0.7, 0.15, 0.15)

MODELS = {
    "mean": "--model mean",
    "ols": "--model ols",
    "ridge": "--model ridge",
    "lasso": "--model lasso",
    "gene-knn": "--model gene-knn",
    "sample-knn": "--model sample-knn",
    "sample-lasso": "--model sample-lasso",
    "kernel": "--model kernel",
    "gbm": "--model gbm",
    "dgex": "--model dgex --hidden-layers 1 --hidden-units 3000 --dropout 0.25 --epochs 200",
    "resnet": "--model resnet",
    "taaf": "--model taaf",
    "auto": "--model auto",
    "auto-60s": "--model auto --budget 60s",
    "cohort-ridge": "--for new-cohorts",
}
FOR_COHORTS = "cohort-ridge"
QUICK_OPTIONS = {
    "dgex": "--model dgex --hidden-units 20 --epochs 2",
    "resnet": "--model resnet --hidden-units 20 --epochs 2",
    "taaf": "--model taaf --hidden-units 20 --epochs 2",
    "auto": "--model auto --budget 5s",
    "auto-60s": "--model auto --budget 5s",
}

LEARNING_MODELS = ("mean", "ridge", "sample-knn", "kernel", "dgex", "auto")
PANEL_MODELS = ("ridge", "kernel")
LEARNING_SIZES = (50, 100, 200, 500, 1000)
PANEL_SIZES = (50, 100, 200, 500)
PANEL_KINDS = ("dgex", "random", "l1000")
CURVE_SEEDS = 3

# One tissue or study that the column `group` holds under several names, so that none of it is
# trained on while the rest is held out.
SAME_GROUP = {
    "STAD": "stad",
    "UCS": "ucs",
    "CHOL": "chol",
    "coad": "colorectal",
    "read": "colorectal",
    "TCGA-COADREAD": "colorectal",
    "GSE14924_CD4": "GSE14924",
    "GSE14924_CD8": "GSE14924",
    "GSE24739_G0": "GSE24739",
    "GSE24739_G1": "GSE24739",
    "GSE38666_epithelia": "GSE38666",
    "GSE38666_stroma": "GSE38666",
    "GSE6956AA": "GSE6956",
    "GSE6956C": "GSE6956",
}


@dataclass(frozen=True)
class Case:
    """A Dataset to be prepared.

    Attributes
    ----------
    compendium, split, seed
        What is split, by what, and how.
    profiles
        Training profiles; all where 0.
    panel, landmarks
        Kind and size of the panel, 0 for as many as the compendium has landmarks; those landmarks
        where there is no kind.
    """

    compendium: str
    split: str
    seed: int
    profiles: int = 0
    panel: str = ""
    landmarks: int = 0

    @property
    def name(self) -> str:
        """Name of its folder.

        Examples
        --------
        >>> Case("rnaseq", "patients", 0, panel="random", landmarks=50).name
        'rnaseq-patients-0-random-50'
        """
        words = [self.compendium, self.split, str(self.seed)]
        words += [f"n{self.profiles}"] if self.profiles else []
        words += [self.panel, str(self.landmarks or "all")] if self.panel else []
        return "-".join(words)

    @property
    def base(self) -> Case:
        """The case of the same split with all profiles and the compendium's landmarks."""
        return Case(self.compendium, self.split, self.seed)


@dataclass(frozen=True)
class Plan:
    """What is asked for: the points are every model of a part on every case of the part."""

    compendia: tuple[str, ...]
    splits: tuple[str, ...]
    seeds: tuple[int, ...]
    models: tuple[str, ...]
    learning_sizes: tuple[int, ...] = LEARNING_SIZES
    panel_sizes: tuple[int, ...] = PANEL_SIZES

    @property
    def curve_seeds(self) -> tuple[int, ...]:
        """Seeds of both curves."""
        return self.seeds[:CURVE_SEEDS]

    def accuracy(self) -> list[Case]:
        """Cases of the table; those of one seed come together."""
        return [
            Case(compendium, split, seed)
            for seed in self.seeds
            for compendium in self.compendia
            for split in self.splits
        ]

    def learning(self) -> list[Case]:
        """Cases of the learning curve; that of all profiles is one of the table's."""
        return [
            Case(compendium, "patients", seed, profiles=n)
            for seed in self.curve_seeds
            for compendium in self.compendia
            for n in (*self.learning_sizes, 0)
        ]

    def panels(self) -> list[Case]:
        """Cases of the panel curve; that of all landmarks is one of the table's."""
        cases = []
        for seed in self.curve_seeds:
            for compendium in self.compendia:
                base = Case(compendium, "patients", seed)
                cases += [
                    Case(compendium, "patients", seed, panel=kind, landmarks=size)
                    for kind in PANEL_KINDS
                    for size in (*self.panel_sizes, 0)
                    if (kind, size) != ("l1000", 0)
                ]
                cases.append(base)
        return cases

    def chosen(self, models: tuple[str, ...]) -> list[str]:
        """Those of the models of a part that are asked for."""
        return [name for name in models if name in self.models]


def split_table(obs: pd.DataFrame, case: Case) -> pd.Series:
    """Split of every profile of a case; profiles that belong to none are left out.

    By patients it is what `dgex prepare --group-by patient` would do. By groups, whole tissues or
    studies are held out; a patient of several groups stays only where it is held out furthest:
    with test, then with validation. Fewer training profiles come with a validation set that is
    smaller by the same factor, since models may learn from it in the end.

    Examples
    --------
    >>> patients = ["p1", "p1", "p2", "p3", "p4"]
    >>> obs = pd.DataFrame({"patient": patients, "group": list("abacd")}, index=list("vwxyz"))
    >>> split_table(obs, Case("rnaseq", "groups", 0)).to_dict()  # without v, of p1 as w is
    {'w': 'validation', 'x': 'train', 'y': 'train', 'z': 'test'}
    """
    patient = obs["patient"].astype(str)
    if case.split == "patients":
        return _fewer(
            pd.Series(grouped_split(patient.to_numpy(), FRACTIONS, seed=case.seed), obs.index), case
        )
    group = obs["group"].astype(str).replace(SAME_GROUP)
    splits = pd.Series(grouped_split(group.to_numpy(), FRACTIONS, seed=case.seed), obs.index)
    in_test = patient.isin(patient[splits == "test"])
    in_validation = patient.isin(patient[splits == "validation"])
    stays = (splits == "test") | ~in_test & ((splits == "validation") | ~in_validation)
    return splits[stays]


def _fewer(splits: pd.Series, case: Case) -> pd.Series:
    if case.profiles == 0:
        return splits
    rng = np.random.default_rng(case.seed)
    share = case.profiles / (splits == "train").sum()
    kept = [splits.index[splits == "test"]]
    for name in ("train", "validation"):
        # The larger of two sets holds the smaller.
        order = rng.permutation(splits.index[splits == name].to_numpy())
        kept.append(pd.Index(order[: max(3, round(share * len(order)))]))
    return splits[splits.index.isin(np.concatenate(kept))]


@cache
def tables(path: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Sample table and gene table of a compendium."""
    with open_matrix(path) as matrix:
        return matrix.obs, matrix.var


def random_panel(var: pd.DataFrame, case: Case) -> list[str]:
    """Panel drawn from all genes (random) or from the landmarks (l1000).

    A larger panel of the same kind and seed holds the smaller.

    Examples
    --------
    >>> var = pd.DataFrame({"landmark": [True, False, True]}, index=["a", "b", "c"])
    >>> sorted(random_panel(var, Case("rnaseq", "patients", 0, panel="l1000", landmarks=2)))
    ['a', 'c']
    """
    genes = var.index if case.panel == "random" else var.index[var["landmark"].astype(bool)]
    order = np.random.default_rng(case.seed).permutation(genes.to_numpy())
    return [str(gene) for gene in order[: panel_size(var, case)]]


def panel_size(var: pd.DataFrame, case: Case) -> int:
    """Number of landmarks of a case's panel."""
    return case.landmarks or int(var["landmark"].sum())


def group_of(obs: pd.DataFrame, case: Case, set_name: str) -> pd.Series:
    """What the standard error takes as independent: patients, held-out groups, or profiles."""
    if set_name != "test":
        return pd.Series(obs.index, obs.index)
    if case.split == "patients":
        return obs["patient"].astype(str)
    return obs["group"].astype(str).replace(SAME_GROUP)


def fits(model: str, case: Case) -> bool:
    """Whether a model can be scored: one for new cohorts is for the external sets only."""
    return model != FOR_COHORTS or case == Case(case.compendium, "patients", case.seed)


def points(plan: Plan, parts: tuple[str, ...]) -> Iterator[tuple[Case, list[str]]]:
    """Cases and their models, each case once, in the order in which they are run."""
    wanted: dict[Case, list[str]] = {}
    for part, cases, models in (
        ("table", plan.accuracy(), tuple(MODELS)),
        ("learning", plan.learning(), LEARNING_MODELS),
        ("panel", plan.panels(), PANEL_MODELS),
    ):
        for case in cases if part in parts else ():
            known = wanted.setdefault(case, [])
            known += [
                name for name in plan.chosen(models) if name not in known and fits(name, case)
            ]
    yield from wanted.items()
