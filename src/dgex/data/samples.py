"""The sample table of an expression file, and its split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from dgex.config import PanelConfig, PrepareConfig
from dgex.data.formats.reader import Matrix
from dgex.data.record import Record
from dgex.data.split import SPLITS, given_split, grouped_split, random_split
from dgex.data.tables import read_table
from dgex.errors import DataError, UsageError, name_list


def sample_table(matrix: Matrix, config: PrepareConfig | PanelConfig) -> pd.DataFrame:
    """Table of samples: the file's own, joined with the one given; checked for --group-by.

    Raises
    ------
    DataError
        A sample is not in the given table, is in it twice, or has no group.
    UsageError
        There is no such table, or no such column.
    """
    obs = matrix.obs if config.obs is None else _joined_table(matrix.obs, Path(config.obs))
    if config.group_by is not None:
        _check_groups(obs, config.group_by)
    return obs


def _joined_table(obs: pd.DataFrame, path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise UsageError(f"--obs {path}: no such file.")
    delimiter = "," if ".csv" in path.name.lower() else "\t"
    table = read_table(path, delimiter)
    doubled = table.index[table.index.duplicated()].unique()
    if len(doubled):
        raise DataError(f"{path} names samples more than once: {name_list(doubled)}.")
    absent = obs.index.difference(table.index, sort=False)
    if len(absent):
        raise DataError(
            f"{len(absent)} of {len(obs)} samples are not in {path} ({name_list(absent)}). "
            "Its first column must hold the sample ids."
        )
    others = obs.drop(columns=[column for column in obs if column in table])
    return others.join(table.loc[obs.index])


def _check_groups(obs: pd.DataFrame, column: str) -> None:
    if column not in obs:
        raise UsageError(
            f"--group-by {column}: the sample table has no such column; "
            f"it has {name_list(obs.columns) or 'none'}. Give a table with --obs."
        )
    values = obs[column]
    missing = obs.index[values.isna() | (values.astype(str) == "")]
    if len(missing):
        raise DataError(
            f"{len(missing)} samples have no {column} to group by ({name_list(missing)}). "
            "Fill it in, or leave them out of the file."
        )


def split_profiles(
    obs: pd.DataFrame, config: PrepareConfig | PanelConfig, record: Record
) -> np.ndarray:
    """Split of each profile, shape (n,); "" for one that a given split does not name.

    Raises
    ------
    DataError
        The split or the groups cannot be used.
    """
    split_n = assign_splits(obs, config)
    if config.split is not None:
        unnamed = obs.index[split_n == ""]
        if len(unnamed):
            record.drop("profile", unnamed, "not in the split table")
            record.note(f"{len(unnamed)} profiles dropped: not in the split table.")
        how = f"as given in {config.split}"
        if config.group_by is not None:
            how += _shared_groups(obs[config.group_by].to_numpy(), split_n)
    elif config.group_by is not None:
        n_groups = obs[config.group_by].astype(str).nunique()
        how = f"by {config.group_by}: {n_groups} groups, none in two splits"
    else:
        how = "at random without groups (--group-by), so one study may be in two splits"
    counts = ", ".join(f"{(split_n == name).sum()} {name}" for name in SPLITS)
    record.note(f"Split {how}: {counts}.")
    return split_n


def assign_splits(obs: pd.DataFrame, config: PrepareConfig | PanelConfig) -> np.ndarray:
    """The same as `split_profiles`, and nothing is said of it."""
    if config.split is not None:
        return given_split(Path(config.split), list(obs.index))
    if config.group_by is not None:
        groups = obs[config.group_by].astype(str).to_numpy()
        return grouped_split(groups, config.fractions, seed=config.seed)
    return random_split(len(obs), config.fractions, seed=config.seed)


def _shared_groups(groups: np.ndarray, split_n: np.ndarray) -> str:
    named = split_n != ""
    table = pd.crosstab(groups[named], split_n[named])
    shared = table.index[(table > 0).sum(axis=1) > 1]
    if len(shared):
        raise DataError(
            f"The split table puts {len(shared)} groups into more than one split "
            f"({name_list(shared)}). Mend it, or leave out --group-by."
        )
    return ", no group in two splits"
