"""The tables of the accuracy benchmark, made of the points that are there.

Nothing is averaged over seeds that are not those of what it is compared with: a model that lacks a
seed says so, and is compared with ridge and dgex on its own seeds only, or not at all where those
lack one of them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from accuracy_cases import COMPENDIA, EXTERNALS, FOR_COHORTS, Case, Plan
from accuracy_run import Work, load_point
from accuracy_statistics import mean_and_error, paired_p, pooled

from dgex.evaluation.metrics import improvement, win_rate

REFERENCES = ("ridge", "dgex")
SINGLE = ("ridge", "sample-knn", "lasso", "sample-lasso", "kernel")
Row = dict[str, object]


@dataclass
class Point:
    """Results of one model on one case.

    Attributes
    ----------
    run
        How it was trained, seconds and memory.
    profiles
        Columns set, profile, group, mae.
    arrays
        `gene`, `sd` and, for each set, `SET:mae`, `SET:rmse` and `SET:r`, each of shape (t,).
    """

    run: dict[str, object]
    profiles: pd.DataFrame
    arrays: dict[str, np.ndarray]


class Points:
    """Reads points, each once."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._read: dict[tuple[Case, str], Point | None] = {}

    def get(self, case: Case, model: str) -> Point | None:
        """A point, None where it is missing."""
        key = case, model
        if key not in self._read:
            run = load_point(self._work, case, model)
            self._read[key] = None if run is None else _read(self._work.point(case, model), run)
        return self._read[key]

    def machines(self) -> str:
        """Where the points that were read were trained, and how many of them."""
        names = Counter(str(point.run["machine"]) for point in self._read.values() if point)
        return "; ".join(f"{name} ({count} Models)" for name, count in names.items())


def _read(folder: Path, run: dict[str, object]) -> Point:
    text = {"set": str, "profile": str, "group": str}
    profiles = pd.read_csv(folder / "profiles.tsv", sep="\t", dtype=text, keep_default_na=False)
    with np.load(folder / "genes.npz") as file:
        return Point(run, profiles, {name: file[name] for name in file.files})


@dataclass
class Scores:
    """Scores of one model on one set, over seeds; `n_s` profiles in each, arrays of (t,)."""

    seeds: list[int]
    profiles: pd.DataFrame
    mae_t: np.ndarray
    rmse: float
    median_r: float
    seconds: float
    peak_gb: float


def gather(points: dict[int, Point], set_name: str) -> Scores:
    """Scores over the seeds of the points of one model."""
    seeds = sorted(points)
    tables = [points[seed].profiles.assign(seed=seed) for seed in seeds]
    profiles = pd.concat([table[table["set"] == set_name] for table in tables])
    n_s = np.array([int((table["set"] == set_name).sum()) for table in tables])
    genes = [points[seed].arrays["gene"] for seed in seeds]
    common = genes[0][np.isin(genes[0], genes[-1])]
    for one in genes:
        common = common[np.isin(common, one)]

    def stacked(key: str) -> np.ndarray:
        rows = []
        for seed in seeds:
            arrays = points[seed].arrays
            rows.append(pd.Series(arrays[f"{set_name}:{key}"], arrays["gene"])[common].to_numpy())
        return np.array(rows, dtype=np.float64)

    mae_t = pooled(stacked("mae"), n_s)
    r_t = stacked("r").mean(axis=0)
    square_t = pooled(np.square(stacked("rmse")), n_s)
    return Scores(
        seeds=seeds,
        profiles=profiles,
        mae_t=mae_t[~np.isnan(mae_t)],
        rmse=float(np.sqrt(np.nanmean(square_t))),
        median_r=float(np.nanmedian(r_t)) if not np.isnan(r_t).all() else float("nan"),
        seconds=float(np.median([_number(points[seed].run["seconds"]) for seed in seeds])),
        peak_gb=max(_number(points[seed].run["peak_gb"]) for seed in seeds),
    )


def _number(value: object) -> float:
    return float(str(value))


def accuracy_rows(points: Points, plan: Plan) -> list[Row]:
    """Rows of the table: a compendium, a split, a set and a model each."""
    rows: list[Row] = []
    for compendium in plan.compendia:
        for split in plan.splits:
            of_model = {
                model: {
                    seed: point
                    for seed in plan.seeds
                    if (point := points.get(Case(compendium, split, seed), model)) is not None
                }
                for model in dict.fromkeys((*plan.models, *REFERENCES))
            }
            sets = [s for known in of_model.values() for p in known.values() for s in _sets(p)]
            for set_name in dict.fromkeys(sets or ["test"]):
                for model in plan.models:
                    if model == FOR_COHORTS and set_name not in EXTERNALS:
                        continue
                    row: Row = {
                        "compendium": compendium,
                        "split": split,
                        "set": set_name,
                        "model": model,
                    }
                    rows.append(row | _scores_row(of_model, model, set_name, plan.seeds))
    return rows


def _sets(point: Point) -> list[str]:
    return list(dict.fromkeys(point.profiles["set"]))


def _scores_row(
    of_model: dict[str, dict[int, Point]], model: str, set_name: str, seeds: tuple[int, ...]
) -> Row:
    mine = {seed: p for seed, p in of_model[model].items() if set_name in _sets(p)}
    row: Row = {
        "seeds": " ".join(map(str, sorted(mine))),
        "missing": " ".join(str(seed) for seed in seeds if seed not in mine),
    }
    if not mine:
        return row
    scores = gather(mine, set_name)
    mae, error = mean_and_error(scores.profiles)
    row |= {
        "profiles": scores.profiles["profile"].nunique(),
        "groups": scores.profiles["group"].nunique(),
        "mae": mae,
        "mae_se": error,
        "rmse": scores.rmse,
        "median_r": scores.median_r,
    }
    for name in REFERENCES:
        theirs = {seed: of_model[name][seed] for seed in mine if seed in of_model[name]}
        if len(theirs) < len(mine) or name == model:
            continue
        reference = gather(theirs, set_name)
        row |= {
            f"gain_over_{name}_percent": improvement(mae, float(reference.profiles["mae"].mean())),
            f"genes_better_than_{name}_percent": 100 * win_rate(scores.mae_t, reference.mae_t),
            f"p_{name}": paired_p(scores.profiles, reference.profiles),
        }
    return row | {"seconds": scores.seconds, "peak_gb": scores.peak_gb}


def ordered(rows: list[Row]) -> pd.DataFrame:
    """The rows with all columns in their order, whatever the first rows lack.

    Examples
    --------
    >>> ordered([{"model": "a", "seconds": 1.0}, {"model": "b", "mae": 0.5}]).columns.tolist()
    ['model', 'mae', 'seconds']
    """
    compared = [
        f"{what}{name}{unit}"
        for name in REFERENCES
        for what, unit in (
            ("gain_over_", "_percent"),
            ("genes_better_than_", "_percent"),
            ("p_", ""),
        )
    ]
    order = ["compendium", "split", "set", "model", "seeds", "missing", "profiles", "groups"]
    order += ["mae", "mae_se", "rmse", "median_r", *compared, "seconds", "peak_gb"]
    table = pd.DataFrame(rows)
    return table[[name for name in order if name in table]]


def kept(path: Path, table: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """An earlier table with the rows of this one in place of those of the same models.

    What the new rows are not compared with in detail, for want of points, they are compared with
    by the MAE of the earlier rows. The text that stands above the earlier table comes with it.
    """
    about = path.read_text("utf-8").partition("\n")[0].removeprefix("# ")
    text = {"seeds": str, "missing": str}
    earlier = pd.read_csv(path, sep="\t", comment="#", dtype=text)
    earlier["missing"] = earlier["missing"].fillna("")
    models = list(dict.fromkeys([*earlier["model"], *table["model"]]))
    keys = ["compendium", "split", "set"]
    places = list(dict.fromkeys(earlier[keys].itertuples(index=False, name=None)))
    joined = pd.concat([earlier[~earlier["model"].isin(table["model"])], table], ignore_index=True)
    for name in REFERENCES:
        mae = joined[joined["model"] == name].set_index(keys)["mae"]
        column = f"gain_over_{name}_percent"
        for row in joined.index[joined[column].isna() & (joined["model"] != name)]:
            place = tuple(joined.loc[row, keys])
            joined.loc[row, column] = improvement(float(joined.loc[row, "mae"]), mae.get(place))
    order = pd.DataFrame(
        {
            "place": [places.index(x) for x in joined[keys].itertuples(index=False, name=None)],
            "model": joined["model"].map(models.index),
        }
    )
    return joined.loc[order.sort_values(["place", "model"]).index], about


def kernel_cost(path: Path, n_train: int = 20_000) -> tuple[float, float]:
    """Seconds and peak memory (GB) of kernel ridge, by `kernel.py`; NaN where it was not run."""
    nothing = float("nan"), float("nan")
    if not path.is_file():
        return nothing
    table = pd.read_csv(path, sep="\t", comment="#")
    whole = table["what"].str.startswith("dgex kernel: choose") & (table["profiles"] == n_train)
    rows = table[whole]
    return nothing if rows.empty else (rows["seconds"].iloc[0], rows["peak GB"].iloc[0])


def goal_rows(table: pd.DataFrame, kernel: tuple[float, float]) -> list[Row]:
    """The goals and what was reached; blank where a seed of either side is missing.

    Parameters
    ----------
    table
        The table of accuracy.
    kernel
        Seconds and peak memory (GB) of kernel ridge on 20,000 simulated profiles.
    """

    def value(compendium: str, set_name: str, model: str, column: str = "mae") -> float:
        if column not in table:
            return float("nan")
        of = (table["compendium"] == compendium) & (table["split"] == "patients")
        of &= (table["set"] == set_name) & (table["model"] == model) & (table["missing"] == "")
        cell = table.loc[of, column]
        return float("nan") if cell.empty else float(cell.iloc[0])

    rows: list[Row] = []

    def goal(text: str, on: str, reached: float, bound: float, *, most: bool = False) -> None:
        met = reached <= bound if most else reached >= bound
        rows.append(
            {
                "goal": text,
                "on": on,
                "must_be": f"{'<=' if most else '>='} {bound:g}",
                "reached": reached,
                "met": "" if np.isnan(reached) else "yes" if met else "no",
            }
        )

    for one in COMPENDIA:
        auto = value(one, "test", "auto")
        gain = improvement(auto, value(one, "test", "dgex"))
        goal("auto, held-out patients: % lower MAE than dgex", one, gain, 12)
        better = value(one, "test", "auto", "genes_better_than_dgex_percent")
        goal("auto, held-out patients: % of genes better than dgex", one, better, 95)
        # np.min and not min: the best of all is not known while one is missing.
        single = float(np.min([value(one, "test", model) for model in SINGLE]))
        text = f"auto, held-out patients: % lower MAE than the best of {', '.join(SINGLE)}"
        goal(text, one, improvement(auto, single), 1.5)
    loss = -improvement(value("rnaseq", "test", "auto-60s"), value("rnaseq", "test", "auto"))
    text = "auto --budget 60s, held-out patients: % higher MAE than auto"
    goal(text, "rnaseq", loss, 1, most=True)
    for one in COMPENDIA:
        ours, ridge = (
            float(np.mean([value(one, name, model) for name in EXTERNALS]))
            for model in (FOR_COHORTS, "ridge")
        )
        text = "--for new-cohorts, mean of the external sets: % lower MAE than ridge"
        goal(text, one, improvement(ours, ridge), 6)
    seconds, peak_gb = kernel
    goal("kernel: minutes", "20,000 simulated profiles", seconds / 60, 10, most=True)
    goal("kernel: GB", "20,000 simulated profiles", peak_gb, 10, most=True)
    return rows
