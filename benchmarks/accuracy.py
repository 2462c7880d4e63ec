"""How accurate every model is on held-out patients, held-out groups and external sets.

Each compendium is split by patients, and by whole tissues or studies, five times; every model is
trained on each with its defaults and scored once, when it is trained. All choices (penalties,
epochs, members of an ensemble) are its own, on validation; test is opened by `accuracy_run.score`
and by nothing else. External sets are scored under the split by patients, standardised by their own
moments, and once more by those of the training profiles, in other units. Every target counts: of
held-out groups and by training moments, those that hardly vary in the training profiles weigh
heavily, in the RMSE above all.

`accuracy.tsv`: MAE over profiles with its standard error over patients, groups, or profiles of an
external set, pooled over seeds; each compared with ridge and dgex of the same seeds (p: Wilcoxon's
signed-rank test over the same groups, each counted once). Profiles and groups of several seeds are
held out from overlapping training sets, so that p is optimistic. Seconds are the median over seeds
of the process that trains, memory the highest peak. `accuracy_goals.tsv` sets goals beside what was
reached, the cost of kernel ridge from `kernel.tsv` among it; `learning_curve.tsv` takes fewer
training profiles, `panel_curve.tsv` other panels.

Every point is a folder below --work/points, and what is there is not run again: delete a folder to
measure it anew. Several processes can share --work; machines that do not, take other --only,
--seeds or --models each, and their points are put together by copying.

    python benchmarks/accuracy.py --work FOLDER --quick
    python benchmarks/accuracy.py --work FOLDER --seeds 0 --models mean ridge --only table rnaseq
    python benchmarks/accuracy.py --work FOLDER --out benchmarks/results --figures docs --readme

After a change to some of the models, --models runs these alone, and with --keep accuracy.tsv the
table keeps the rows that it has of the others, of four digits.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import pandas as pd
from accuracy_cases import COMPENDIA, MODELS, SPLITS, Plan, points
from accuracy_curves import learning_rows, panel_rows
from accuracy_figures import draw_accuracy, draw_learning, draw_panels, markdown, put_between
from accuracy_run import Work, failed, forget, quick_work, run_point
from accuracy_table import Points, accuracy_rows, goal_rows, kept, kernel_cost, ordered
from table import show

HERE = Path(__file__).resolve().parent
PARTS = ("table", "learning", "panel")
QUICK_MODELS = ("ridge", "kernel", "dgex", "auto", "cohort-ridge")


def run_all(work: Work, plan: Plan, parts: tuple[str, ...]) -> int:
    """Run every point that is not there yet; how many failed."""
    todo = [(case, model) for case, models in points(plan, parts) for model in models]
    models_of = dict(points(plan, parts))
    failures, began = 0, time.perf_counter()
    for number, (case, model) in enumerate(todo, start=1):
        try:
            said = run_point(work, case, model)
        except SystemExit:
            failures += 1
            said = f"FAILED: {failed(work, case, model)}"
        minutes = (time.perf_counter() - began) / 60
        print(f"{number}/{len(todo)} {minutes:.0f} min {case.name} {model}: {said}", flush=True)
        forget(work, case, models_of[case])
    return failures


def write_tables(
    work: Work,
    plan: Plan,
    parts: tuple[str, ...],
    out: Path | None,
    figures: Path | None,
    keep: Path | None,
) -> pd.DataFrame | None:
    """Print and write every table and figure of the points that are there; the first table."""
    known = Points(work)
    seeds = " ".join(map(str, plan.seeds))
    table = None
    if "table" in parts:
        table = ordered(accuracy_rows(known, plan))
        about = f"Accuracy of every model on profiles it has not seen; seeds {seeds}. Trained on: "
        about += known.machines()
        if keep is not None:
            table, before = kept(keep, table)
            about = f"{before}; {', '.join(plan.models)} later on: {known.machines()}"
        show("accuracy", table, out, about=about)
        show(
            "accuracy_goals",
            goal_rows(table, kernel_cost(HERE / "results" / "kernel.tsv")),
            out,
            about="Goals, and what was reached",
        )
        if figures is not None and "mae" in table:
            draw_accuracy(table, figures / "accuracy.png")
    curve_seeds = " ".join(map(str, plan.curve_seeds))
    if "learning" in parts:
        rows = learning_rows(known, plan)
        about = f"Test MAE by number of training profiles; patients, seeds {curve_seeds}"
        show("learning_curve", rows, out, about=about)
        if figures is not None and any("mae" in row for row in rows):
            draw_learning(pd.DataFrame(rows), figures / "learning_curve.png")
    if "panel" in parts:
        rows = panel_rows(known, plan)
        about = f"Test MAE by panel, on genes in none of them; patients, seeds {curve_seeds}"
        show("panel_curve", rows, out, about=about)
        if figures is not None and any("mae" in row for row in rows):
            draw_panels(pd.DataFrame(rows), figures / "panel_curve.png")
    return table


def write_readme(readme: Path, table: pd.DataFrame) -> None:
    """Put the table into the README; whole tables only."""
    lacking = table[table["missing"] != ""]
    if len(lacking):
        models = ", ".join(dict.fromkeys(lacking["model"]))
        raise SystemExit(f"{readme} is left as it is: points are missing of {models}.")
    text = readme.read_text("utf-8")
    readme.write_text(put_between(text, markdown(table)), "utf-8")


def main() -> None:
    """Run what is missing, then print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="where points are kept")
    default = Path(os.environ.get("DGEX_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=default, help="compendia and external sets")
    choices = (*PARTS, *COMPENDIA, *SPLITS)
    parser.add_argument("--only", nargs="+", choices=choices, default=[])
    parser.add_argument("--seeds", nargs="+", type=int)
    parser.add_argument("--models", nargs="+", choices=tuple(MODELS))
    parser.add_argument(
        "--quick", action="store_true", help="all parts on small excerpts of one compendium"
    )
    parser.add_argument("--table-only", action="store_true", help="run nothing")
    parser.add_argument("--keep", type=Path, help="accuracy.tsv to keep other models' rows of")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--figures", type=Path)
    parser.add_argument("--readme", action="store_true", help="put the table into README.md")
    arguments = parser.parse_args()

    def of(names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name for name in names if name in arguments.only) or names

    parts, compendia = of(PARTS), of(tuple(COMPENDIA))
    if arguments.quick and not set(arguments.only) & set(COMPENDIA):
        compendia = compendia[:1]
    plan = Plan(
        compendia=compendia,
        splits=of(SPLITS),
        seeds=tuple(arguments.seeds or ((0,) if arguments.quick else range(5))),
        models=tuple(arguments.models or (QUICK_MODELS if arguments.quick else MODELS)),
        **({"learning_sizes": (50,), "panel_sizes": (50,)} if arguments.quick else {}),
    )
    kept = arguments.readme or (arguments.out and arguments.out.resolve() == HERE / "results")
    if arguments.quick and kept:
        parser.error("--quick gives no numbers to keep: another --out, and no --readme")
    work = Work(arguments.data, arguments.work, quick=False)
    if arguments.quick:
        work = quick_work(arguments.data, arguments.work / "quick")
    failures = 0
    if not arguments.table_only:
        try:
            failures = run_all(work, plan, parts)
        except KeyboardInterrupt:
            raise SystemExit("Interrupted. The same command goes on from here.") from None
    table = write_tables(work, plan, parts, arguments.out, arguments.figures, arguments.keep)
    if arguments.readme and table is not None:
        write_readme(HERE.parent / "README.md", table)
    if failures:
        raise SystemExit(f"{failures} points failed; the same command tries them again.")


if __name__ == "__main__":
    main()
