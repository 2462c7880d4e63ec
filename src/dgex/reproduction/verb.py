"""The verb reproduce: the paper's grid, tables and figures on any Dataset, in one command."""

from __future__ import annotations

import dataclasses
import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from dgex.config import ReproduceConfig
from dgex.data.dataset import Dataset
from dgex.errors import DataError, UsageError, name_list
from dgex.files import disk_errors, free_bytes, read_toml, refuse_existing, whole_file
from dgex.options import with_options
from dgex.provenance import write_run
from dgex.reproduction.grid import Point, chosen_points, points_of
from dgex.reproduction.points import models_folder, run_point, scored_sets
from dgex.reproduction.report import write_report
from dgex.reproduction.tables import gather, table_of

if TYPE_CHECKING:
    from dgex.models.device import Precision

log = logging.getLogger("dgex")

RUN_FILE = "run.toml"
_OF_ONE_CALL = {"only": (), "retry_failed": False}
_MAY_DIFFER = {*_OF_ONE_CALL, "device", "overwrite"}


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
    earlier = _earlier_run(out)
    if earlier is not None and not config.overwrite:
        _check_same(earlier, out, dataset, config)
        log.info("going on with %s", out)
    precision = _precision(config, None if config.overwrite else earlier, out)
    _check_space(now, dataset, out, config.overwrite, select_on)
    if earlier is None or config.overwrite:
        _begin(dataset, out, config, precision)
    config = dataclasses.replace(config, precision=precision)
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


def _earlier_run(out: Path) -> dict[str, Any] | None:
    """What `out` says of the calls before, None where it is empty or not there."""
    run = out / RUN_FILE
    content = read_toml(run) if run.is_file() else {}
    if content.get("verb") == "reproduce":
        return content
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} exists and is no reproduction. Choose another --out.")
    return None


def _check_same(
    earlier: dict[str, Any], out: Path, dataset: Dataset, config: ReproduceConfig
) -> None:
    if earlier["resolved"]["dataset_fingerprint"] != dataset.fingerprint:
        raise UsageError(f"{out} is a reproduction on another Dataset. Choose another --out.")
    options = earlier.get("options", {})
    differing = [
        f"{name} is {options.get(name)} there, {value} here"
        for name, value in dataclasses.asdict(config).items()
        if name not in _MAY_DIFFER
        and options.get(name) != (list(value) if isinstance(value, tuple) else value)
    ]
    if differing:
        raise UsageError(
            f"{out} is a reproduction with other options: {name_list(differing)}. Give the same, "
            "choose another --out or start again with --overwrite."
        )


def _precision(config: ReproduceConfig, earlier: dict[str, Any] | None, out: Path) -> Precision:
    """The precision of all nets of the grid, whichever machine trains them."""
    from dgex.models.device import choose_device, choose_precision

    device = choose_device(config.device)
    if earlier is None:
        return choose_precision(config.precision, device)
    settled: Precision = earlier["resolved"]["precision"]
    try:
        return choose_precision(settled, device)
    except UsageError as error:
        raise UsageError(
            f"The nets in {out} are trained in {settled}, for which this {device.type} has no "
            "instructions. Go on on another machine, or begin with --precision float32 in another "
            "--out."
        ) from error


def _begin(dataset: Dataset, out: Path, config: ReproduceConfig, precision: str) -> None:
    refuse_existing(out / RUN_FILE, True, [dataset.path])
    refuse_existing(out, True, [dataset.path])
    with disk_errors(out):
        for entry in list(out.iterdir()) if out.exists() else []:
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    whole = dataclasses.replace(config, **_OF_ONE_CALL)  # type: ignore[arg-type]
    resolved = {"dataset_fingerprint": dataset.fingerprint, "precision": precision}
    write_run(out / RUN_FILE, "reproduce", whole, {"dataset": dataset.path}, resolved)


def _check_space(
    points: list[Point], dataset: Dataset, out: Path, overwrite: bool, select_on: str | None
) -> None:
    """Refuse to begin what the disk cannot hold: days may pass before it is full."""
    genes = len(dataset.landmarks), len(dataset.targets)
    copies = 1 if select_on is None else 2
    left = [
        4 * copies * point.n_weights(*genes)
        for point in points
        if overwrite or not (models_folder(out) / point.name).is_dir()
    ]
    # While it is trained, the largest net also has a checkpoint: weights, momentum and the best.
    needed = sum(left) + max(left, default=0) * (2 + copies) // copies
    free = free_bytes(out)
    if overwrite:
        free += sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    if needed > free:
        raise DataError(
            f"The nets of this grid take {needed / 1e9:.0f} GB, and the disk of {out} has "
            f"{free / 1e9:.0f} GB for them. Free some, choose another --out or a smaller grid."
        )
