"""The verb reproduce: the paper's grid, tables and figures on any Dataset, in one command."""

from __future__ import annotations

import dataclasses
import logging
import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from dgex.config import ReproduceConfig, with_options
from dgex.data.dataset import Dataset
from dgex.errors import DataError, UsageError, name_list
from dgex.files import disk_errors, read_toml, refuse_existing, whole_file
from dgex.provenance import write_run
from dgex.reproduction.grid import Point, chosen_points, points_of
from dgex.reproduction.points import models_folder, run_point, scored_sets
from dgex.reproduction.report import write_report
from dgex.reproduction.tables import gather, table_of

log = logging.getLogger("dgex")

RUN_FILE = "run.toml"
_OF_ONE_CALL = {"only": (), "retry_failed": False}
_MAY_DIFFER = {*_OF_ONE_CALL, "device"}


def reproduce(
    dataset: str | Path | Dataset,
    out: str | Path,
    *,
    config: ReproduceConfig | None = None,
    **options: Any,
) -> dict[str, pd.DataFrame]:
    """Train the grid of D-GEX and its baselines, and write the paper's tables and figures.

    Called again with the same options it goes on where it stopped. A point that fails is
    recorded with its reason, and the rest goes on.

    Parameters
    ----------
    dataset
        The Dataset.
    out
        Folder to write: ``models/``, ``scores/``, ``tables/``, ``figures/``, ``interpretation/``,
        ``scores.tsv`` and ``report.html``.
    config
        Options; see `dgex.config.ReproduceConfig`.
    **options
        Single options, replacing those of `config`.

    Returns
    -------
    dict of str to pandas.DataFrame
        The table of the test set and of every external set but the one that chose; see
        `dgex.reproduction.tables.table_of`. Empty with ``only``.

    Raises
    ------
    UsageError
        `out` is not a reproduction of this Dataset with these options, or an option is out of its
        range.
    DataError
        The Dataset is damaged or has no test or validation profiles, there is not enough disk, or
        OLS failed.

    Examples
    --------
    >>> reproduce("no-such-dataset", "paper")
    Traceback (most recent call last):
    dgex.errors.UsageError: no-such-dataset: no such Dataset. Make one with dgex prepare.
    """
    config = with_options(config or ReproduceConfig(), options)
    points = points_of(config)
    now = chosen_points(points, config.only)
    dataset, out = Dataset.open(dataset), Path(out)
    empty = [name for name in ("validation", "test") if dataset[name].n == 0]
    if empty:
        raise DataError(
            f"{dataset.name} has no {' and no '.join(empty)} profiles. Prepare it with a share "
            "above 0 for each."
        )
    select_on = _select_on(dataset, config)
    _begin(dataset, out, config)
    _check_space(now, dataset, out, select_on)
    for number, point in enumerate(now, start=1):
        log.info("point %d of %d: %s", number, len(now), point.name)
        run_point(point, dataset, out, config, select_on)
    if config.only:
        return {}
    results = gather(out, points, select_on)
    shown = [name for name in scored_sets(dataset) if name not in ("validation", select_on)]
    tables = {name: table_of(results, name) for name in shown}
    with whole_file(out / "scores.tsv") as partial:
        results.scores.to_csv(partial, sep="\t", index=False)
    for name, table in tables.items():
        with whole_file(out / "tables" / f"{name}.tsv") as partial:
            table.to_csv(partial, sep="\t", index=False)
    write_report(results, tables, dataset, out, config)
    return tables


def _select_on(dataset: Dataset, config: ReproduceConfig) -> str | None:
    usable = [name for name in scored_sets(dataset) if name in dataset.externals]
    if config.select_on == "validation":
        return None
    if config.select_on is None:
        return next((name for name in usable if name.lower() == "1000g"), None)
    if config.select_on not in usable:
        known = f"has {name_list(usable, 20)}" if usable else "has none with measured targets"
        raise UsageError(
            f"--select-on {config.select_on}: no such external set; {dataset.name} {known}."
        )
    return config.select_on


def _begin(dataset: Dataset, out: Path, config: ReproduceConfig) -> None:
    """Make the folder, or make sure that it is a reproduction of the same."""
    run = out / RUN_FILE
    whole = dataclasses.replace(config, **_OF_ONE_CALL)  # type: ignore[arg-type]
    if out.exists() and config.overwrite:
        refuse_existing(out, True, [dataset.path])
        with disk_errors(out):
            shutil.rmtree(out)
    if not run.is_file():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UsageError(f"{out} exists and is no reproduction. Choose another --out.")
        refuse_existing(run, False)
        write_run(run, "reproduce", whole, {"dataset": dataset.path}, _identity(dataset))
        return
    there = read_toml(run)
    if there.get("verb") != "reproduce":
        raise UsageError(f"{out} exists and is no reproduction. Choose another --out.")
    if there.get("resolved") != _identity(dataset):
        raise UsageError(f"{out} is a reproduction on another Dataset. Choose another --out.")
    options = there.get("options", {})
    differing = [
        f"{name} is {options.get(name)} there, {value} here"
        for name, value in dataclasses.asdict(config).items()
        if name not in _MAY_DIFFER
        and name != "overwrite"
        and options.get(name) != (list(value) if isinstance(value, tuple) else value)
    ]
    if differing:
        raise UsageError(
            f"{out} is a reproduction with other options: {name_list(differing)}. Give the same, "
            "choose another --out or start again with --overwrite."
        )
    log.info("going on with %s", out)


def _identity(dataset: Dataset) -> dict[str, Any]:
    return {"dataset_fingerprint": dataset.fingerprint}


def _check_space(points: list[Point], dataset: Dataset, out: Path, select_on: str | None) -> None:
    """Refuse to begin what the disk cannot hold: days may pass before it is full."""
    genes = len(dataset.landmarks), len(dataset.targets)
    copies = 1 if select_on is None else 2
    left = [
        4 * copies * point.n_weights(*genes)
        for point in points
        if not (models_folder(out) / point.name).is_dir()
    ]
    # While it is trained, the largest net also has a checkpoint: weights, momentum and the best.
    needed = sum(left) + max(left, default=0) * (2 + copies) // copies
    free = shutil.disk_usage(out).free
    if needed > free:
        raise DataError(
            f"The nets of this grid take {needed / 1e9:.0f} GB, and the disk of {out} has "
            f"{free / 1e9:.0f} GB left. Free some, choose another --out or a smaller grid."
        )
