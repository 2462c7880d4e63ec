"""Models × sets → tidy tables of scores, all in standardised units (z-score).

Shapes: a set gives `x_nl` (n profiles, l landmarks) and `y_nt` (n profiles, t targets); a model
turns the one into a guess of the other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dgex.data.genes import same_gene
from dgex.data.moments import moments_of, standardisations
from dgex.data.split import SPLITS
from dgex.errors import DataError, UsageError, name_list
from dgex.evaluation.metrics import GeneErrors, GeneScores, improvement, summary, win_rate
from dgex.evaluation.tables import SUMMARY_COLUMNS, Evaluation
from dgex.progress import track

if TYPE_CHECKING:
    from dgex.data.dataset import Dataset

BoolArray = NDArray[np.bool_]
FloatBlock = NDArray[np.floating]


class Predictor(Protocol):
    """What a model must offer to be evaluated."""

    @property
    def kind(self) -> str:
        """Which method it is: "mean", "ols", "ridge", "dgex", …."""

    def predict(self, x_nl: FloatBlock) -> FloatBlock:
        """Inferred targets, (n, t), of landmarks (n, l), both in standardised units."""


class ScoredSet(Protocol):
    """What is needed of a set: a `ProfileSet`, or one by other moments."""

    @property
    def n(self) -> int:
        """Number of profiles."""

    @property
    def present_l(self) -> BoolArray:
        """Which landmarks were measured."""

    @property
    def present_t(self) -> BoolArray:
        """Which targets were measured."""

    def blocks(self, rows: int = 1024) -> Iterator[tuple[int, FloatBlock, FloatBlock]]:
        """First row, landmarks and targets of row blocks."""


def same_gene_t(dataset: Dataset) -> BoolArray:
    """Which targets, (t,), are the same gene as a landmark, by symbol, Ensembl or Entrez id.

    In the paper's own maps 445 of 943 landmark genes are also targets, through other probe sets;
    inferring them is easier than inferring a gene that was not measured.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> empty = {"ensembl": "", "entrez": ""}
    >>> dataset = SimpleNamespace(
    ...     landmarks=pd.DataFrame({"symbol": ["TP53", ""], **empty}),
    ...     targets=pd.DataFrame({"symbol": ["MYC", "TP53", ""], **empty}),
    ... )
    >>> same_gene_t(dataset).tolist()
    [False, True, False]
    """
    return same_gene(dataset.targets, dataset.landmarks)


def evaluate_models(
    dataset: Dataset,
    models: Mapping[str, Predictor],
    sets: Sequence[str] | None = None,
    block_rows: int = 1024,
    targets: Mapping[str, NDArray[np.intp]] | None = None,
    *,
    both_moments: bool = False,
) -> Evaluation:
    """Score models on sets of a Dataset, one pass over each set for all models.

    Models for new cohorts (`dgex.models.base.Model.for_new_cohorts`) are scored on external sets
    by their own moments, each adapted to the set's landmarks as for a file to infer. Splits of the
    compendium are no new cohorts, and are left out for them.

    Memory: one block of profiles and one model's prediction of it.

    Parameters
    ----------
    dataset
        The `Dataset` whose profiles and targets are scored.
    models
        Name to model. The first whose `kind` is "ols" is the one the others are compared with.
    sets
        Names of the sets; None takes all but "train", on which a model may be right by memory.
    block_rows
        Profiles held in memory at once.
    targets
        For models that infer some of the targets: name of the model to their positions among
        the Dataset's, ascending. Such a model is compared with OLS on these, if that infers
        them too.
    both_moments
        Score every external set twice, standardised by its own moments and by those of training.

    Raises
    ------
    UsageError
        No model, no set, a set twice or one that the Dataset does not have, `block_rows` below 1,
        or a model for new cohorts and no external set by its own moments.
    DataError
        A set without profiles or measured targets, a measured value that is not a number, or a
        prediction that is not a number or has the wrong shape.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> ids = pd.DataFrame({"symbol": ["TP53", "MYC"], "ensembl": "", "entrez": ""}, ["g1", "g2"])
    >>> y_nt = np.array([[0.0, 1.0], [2.0, 3.0]])
    >>> test = SimpleNamespace(n=2, present_t=np.ones(2, bool), present_l=np.ones(2, bool),
    ...                        blocks=lambda rows: iter([(0, y_nt, y_nt)]))
    >>> class Data(dict):
    ...     name, protocol, fingerprint, sets = "tiny", "strict", "f00", ["test"]
    ...     landmarks = targets = ids
    >>> model = SimpleNamespace(kind="mean", predict=lambda x_nl: np.ones_like(x_nl))
    >>> evaluation = evaluate_models(Data(test=test), {"mean": model})
    >>> evaluation.summary[["model", "set", "n_profiles", "mae", "mae_sd"]]
      model   set  n_profiles  mae  mae_sd
    0  mean  test           2  1.0     0.0
    """
    chosen = _chosen_sets(dataset, sets)
    if not models:
        raise UsageError("There is no model to evaluate. Give at least one Model directory.")
    if block_rows < 1:
        raise UsageError(f"block_rows is {block_rows}; it must be at least 1.")
    reference = next((name for name, model in models.items() if model.kind == "ols"), None)
    same_t = same_gene_t(dataset)
    every_t = np.arange(len(dataset.targets))
    inferred = {name: (targets or {}).get(name, every_t) for name in models}
    first = inferred[reference or next(iter(models))]

    summary_rows: list[dict[str, Any]] = []
    gene_tables: list[pd.DataFrame] = []
    set_info: dict[str, dict[str, Any]] = {}
    for set_name, moments, one in _as_standardised(dataset, chosen, both_moments):
        able = {
            name: model
            for name, model in models.items()
            if not _for_new_cohorts(model) or (moments == "own" and set_name not in SPLITS)
        }
        if not able:
            continue
        present_t = np.asarray(one.present_t, dtype=bool)
        if one.n == 0 or not present_t.any():
            what = "no profiles" if one.n == 0 else "none of the targets"
            raise DataError(
                f"Set {set_name} of {dataset.name} holds {what}, so nothing can be scored. "
                "Leave it out with --sets."
            )
        measured = {name: inferred[name][present_t[inferred[name]]] for name in able}
        unscored = [name for name, index in measured.items() if len(index) == 0]
        if unscored:
            raise DataError(
                f"Set {set_name} of {dataset.name} holds none of the targets of "
                f"{name_list(unscored)}, so nothing can be scored. Leave it out with --sets."
            )
        adapted = {
            name: _for_cohort(model, one, block_rows) if set_name not in SPLITS else model
            for name, model in able.items()
        }
        scores = _score_set(dataset, set_name, one, adapted, inferred, block_rows)
        set_info.setdefault(
            set_name,
            {
                **_counts(one.n, present_t),
                "n_landmarks_absent": int((~one.present_l).sum()),
                "moments": moments,
            },
        )
        for name, model in able.items():
            index = measured[name]
            labels = {"model": name, "set": set_name, "moments": moments}
            mae_ols_t = None
            if reference is not None and np.isin(index, measured[reference]).all():
                there = np.searchsorted(measured[reference], index)
                mae_ols_t = scores[reference].mae_t[there]
            summary_rows.append(
                labels
                | {"kind": model.kind, "protocol": dataset.protocol}
                | _counts(one.n, present_t[inferred[name]])
                | _summary_row(scores[name], same_t[index], mae_ols_t)
            )
            genes = dataset.targets.iloc[index]
            gene_tables.append(_gene_table(labels, genes, same_t[index], scores[name]))
    unscored = [name for name in models if all(row["model"] != name for row in summary_rows)]
    if unscored:
        raise UsageError(
            f"{name_list(unscored)}: Models for new cohorts are scored on external sets by their "
            "own moments, and there is none. Leave them out, or name such a set."
        )
    return Evaluation(
        summary=pd.DataFrame(summary_rows, columns=list(SUMMARY_COLUMNS)),
        genes=pd.concat(gene_tables, ignore_index=True),
        info={
            "dataset": dataset.name,
            "protocol": dataset.protocol,
            "fingerprint": dataset.fingerprint,
            "n_landmarks": len(dataset.landmarks),
            "n_targets": len(dataset.targets),
            "n_same_gene": int(same_t.sum()),
            "reference": reference,
            "models": {name: model.kind for name, model in models.items()},
            "new_cohorts": [name for name, model in models.items() if _for_new_cohorts(model)],
            "ranked": [name for name, index in inferred.items() if np.array_equal(index, first)],
            "sets": set_info,
        },
    )


def _chosen_sets(dataset: Dataset, sets: Sequence[str] | None) -> list[str]:
    available = list(dataset.sets)
    chosen = [name for name in available if name != "train"] if sets is None else list(sets)
    unknown = [name for name in chosen if name not in available]
    if unknown:
        raise UsageError(
            f"{dataset.name} has no set {name_list(unknown)}. It has {name_list(available, 20)}."
        )
    twice = sorted({name for name in chosen if chosen.count(name) > 1})
    if twice:
        raise UsageError(f"Set {name_list(twice)} is asked for twice. Name each set once.")
    if not chosen:
        raise UsageError(f"No set of {dataset.name} is asked for. Name at least one.")
    return chosen


def _as_standardised(
    dataset: Dataset, chosen: Sequence[str], both_moments: bool
) -> Iterator[tuple[str, str, ScoredSet]]:
    """Sets by whose moments, those they were prepared with first."""
    for name in chosen:
        prepared = moments_of(dataset, name)
        yield name, prepared, dataset[name]
        others = standardisations(dataset, name) if both_moments else {}
        for moments, one in others.items():
            if moments != prepared:
                yield name, moments, one


def _for_new_cohorts(model: Predictor) -> bool:
    return bool(getattr(model, "for_new_cohorts", False))


def _for_cohort(model: Predictor, one: ScoredSet, block_rows: int) -> Predictor:
    adapt = getattr(model, "for_cohort", None)
    if adapt is None:
        return model
    adapted: Predictor = adapt((x_bl for _, x_bl, _ in one.blocks(block_rows)), one.present_l)
    return adapted


def _counts(n_profiles: int, present_t: BoolArray) -> dict[str, int]:
    return {
        "n_profiles": n_profiles,
        "n_targets": int(present_t.sum()),
        "n_targets_absent": int((~present_t).sum()),
    }


def _score_set(
    dataset: Dataset,
    set_name: str,
    one: ScoredSet,
    models: Mapping[str, Predictor],
    inferred: Mapping[str, NDArray[np.intp]],
    block_rows: int,
) -> dict[str, GeneScores]:
    present_t = np.asarray(one.present_t, dtype=bool)
    target_ids = dataset.targets.index
    measured = {name: present_t[inferred[name]] for name in models}
    errors = {name: GeneErrors(int(measured[name].sum())) for name in models}
    n_blocks = math.ceil(one.n / block_rows)
    for start, x_bl, y_bt in track(one.blocks(block_rows), f"scoring {set_name}", n_blocks):
        wrong_t = ~np.isfinite(y_bt).all(axis=0) & present_t
        if wrong_t.any():
            bad = target_ids[np.flatnonzero(wrong_t)]
            raise DataError(
                f"Set {set_name} of {dataset.name} has values that are not numbers in "
                f"{name_list(bad)} (profiles {start} to {start + len(y_bt) - 1}). Prepare it again."
            )
        for name, model in models.items():
            y_hat_bt = np.asarray(model.predict(x_bl))
            expected = (len(y_bt), len(inferred[name]))
            if y_hat_bt.shape != expected:
                raise DataError(
                    f"Model {name} predicts an array of shape {y_hat_bt.shape} for set {set_name}, "
                    f"which needs {expected}. Was it trained on another Dataset?"
                )
            wrong_t = ~np.isfinite(y_hat_bt).all(axis=0)
            if wrong_t.any():
                bad = target_ids[inferred[name][wrong_t]]
                raise DataError(
                    f"Model {name} predicts values that are not numbers for set {set_name}: "
                    f"{name_list(bad)}. Train it again, with a lower learning rate if it is a net."
                )
            own_t = measured[name]
            if len(own_t) == y_bt.shape[1] and own_t.all():  # else the blocks are copied
                errors[name].update(y_bt, y_hat_bt)
            else:
                errors[name].update(y_bt[:, inferred[name][own_t]], y_hat_bt[:, own_t])
    return {name: gathered.scores() for name, gathered in errors.items()}


def _summary_row(
    scores: GeneScores, same_t: BoolArray, mae_ols_t: NDArray[np.float64] | None
) -> dict[str, float]:
    overall = summary(scores)
    better, won = math.nan, math.nan
    if mae_ols_t is not None:
        better = improvement(overall.mae, float(mae_ols_t.mean()))
        won = 100.0 * win_rate(scores.mae_t, mae_ols_t)
    return {
        "mae": overall.mae,
        "mae_sd": overall.mae_sd,
        "rmse": overall.rmse,
        "median_r": overall.median_r,
        "improvement_over_ols_percent": better,
        "genes_won_over_ols_percent": won,
        "n_same_gene": int(same_t.sum()),
        "mae_other_genes": math.nan if same_t.all() else float(scores.mae_t[~same_t].mean()),
    }


def _gene_table(
    labels: Mapping[str, str], genes: pd.DataFrame, same_t: BoolArray, scores: GeneScores
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            **labels,
            "gene": genes.index.astype(str),
            "symbol": genes["symbol"].astype(str).to_numpy(),
            "same_gene": same_t,
            "mae": scores.mae_t,
            "rmse": scores.rmse_t,
            "r": scores.r_t,
        }
    )
