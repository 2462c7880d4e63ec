"""Models × sets → tidy tables of scores, all in standardised units (z-score).

Shapes: a set gives `x_nl` (n profiles, l landmarks) and `y_nt` (n profiles, t targets); a model
turns the one into a guess of the other.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dgex.data.genes import same_gene
from dgex.data.moments import moments_of, standardisations
from dgex.data.split import SPLITS
from dgex.errors import DataError, UsageError, name_list
from dgex.evaluation.metrics import GeneErrors, GeneScores, improvement, summary, win_rate
from dgex.files import whole_file, write_json
from dgex.progress import track

if TYPE_CHECKING:
    from dgex.data.dataset import Dataset

BoolArray = NDArray[np.bool_]
FloatBlock = NDArray[np.floating]

SUMMARY_FILE, GENES_FILE, INFO_FILE = "summary.tsv", "genes.tsv.gz", "evaluation.json"

_SUMMARY_TYPES: dict[str, type] = {
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
_GENES_TYPES: dict[str, type] = {
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
    >>> summary = pd.DataFrame(columns=list(_SUMMARY_TYPES))
    >>> genes = pd.DataFrame(columns=list(_GENES_TYPES))
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
        summary_table = _read_table(files[0], _SUMMARY_TYPES)
        return cls(summary=summary_table, genes=_read_table(files[1], _GENES_TYPES), info=info)


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
        scored = {name: inferred[name][present_t[inferred[name]]] for name in able}
        unscored = [name for name, index in scored.items() if len(index) == 0]
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
            found = scores[name]
            other_t = ~same_t[scored[name]]
            genes = dataset.targets.iloc[scored[name]]
            mae_ols_t = None
            if reference is not None and np.isin(scored[name], scored[reference]).all():
                there = np.searchsorted(scored[reference], scored[name])
                mae_ols_t = scores[reference].mae_t[there]
            summary_rows.append(
                {
                    "model": name,
                    "kind": model.kind,
                    "set": set_name,
                    "moments": moments,
                    "protocol": dataset.protocol,
                    **_counts(one.n, present_t[inferred[name]]),
                    **_summary_row(found, mae_ols_t),
                    "n_same_gene": int((~other_t).sum()),
                    "mae_other_genes": float(found.mae_t[other_t].mean())
                    if other_t.any()
                    else math.nan,
                }
            )
            gene_tables.append(
                pd.DataFrame(
                    {
                        "model": name,
                        "set": set_name,
                        "moments": moments,
                        "gene": genes.index.astype(str),
                        "symbol": genes["symbol"].astype(str).to_numpy(),
                        "same_gene": ~other_t,
                        "mae": found.mae_t,
                        "rmse": found.rmse_t,
                        "r": found.r_t,
                    }
                )
            )
    unscored = [name for name in models if all(row["model"] != name for row in summary_rows)]
    if unscored:
        raise UsageError(
            f"{name_list(unscored)}: Models for new cohorts are scored on external sets by their "
            "own moments, and there is none. Leave them out, or name such a set."
        )
    return Evaluation(
        summary=pd.DataFrame(summary_rows, columns=list(_SUMMARY_TYPES)),
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


def _summary_row(scores: GeneScores, mae_ols_t: NDArray[np.float64] | None) -> dict[str, float]:
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
    }


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
