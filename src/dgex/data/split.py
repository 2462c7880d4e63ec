"""Split profiles into train, validation and test: at random, by group, or as given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from dgex.data.tables import read_table
from dgex.errors import DataError, UsageError, name_list

SPLITS = ("train", "validation", "test")

_ORDERS = 200
_SHARE_MET = 0.005


def random_split(
    n: int, fractions: tuple[float, float, float] = (0.8, 0.1, 0.1), *, seed: int = 0
) -> np.ndarray:
    """Assign each of `n` profiles to a split at random; shape (n,), names of splits.

    Raises
    ------
    DataError
        There are too few profiles to give each split one.

    Examples
    --------
    >>> sorted(random_split(5, seed=1).tolist())
    ['test', 'train', 'train', 'train', 'validation']
    """
    if n < len(SPLITS):
        raise DataError(
            f"{n} profiles cannot fill train, validation and test. Give more profiles, or drop "
            "fewer of them as near-duplicates (--remove-duplicates-below)."
        )
    return grouped_split(np.arange(n), fractions, seed=seed)


def grouped_split(
    groups: Sequence[object] | np.ndarray,
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
    *,
    seed: int = 0,
) -> np.ndarray:
    """Assign profiles to splits so that no group is in two; shape (n,), names of splits.

    Groups are taken in random order; the first fill train, the next validation, the rest test.
    A group goes where its middle falls, and each split gets at least one group. Of up to 200 such
    orders the one that meets the shares best is taken; the first that misses none by more than
    0.5 % ends the search.

    Parameters
    ----------
    groups
        Group (study, patient, series) of each profile.
    fractions
        Shares of train, validation and test.
    seed
        Seed of the order of groups.

    Raises
    ------
    DataError
        There are fewer than three groups.
    UsageError
        The fractions are not three positive numbers that add up to 1, or the seed is negative.

    Examples
    --------
    >>> grouped_split(["a", "a", "b", "c"], (0.5, 0.25, 0.25), seed=1).tolist()
    ['train', 'train', 'validation', 'test']
    """
    shares_a_whole = min(fractions) > 0 and abs(sum(fractions) - 1) <= 1e-6
    if len(fractions) != len(SPLITS) or not shares_a_whole:
        raise UsageError(
            f"--fractions {' '.join(f'{share:g}' for share in fractions)}: they must be three "
            "positive numbers that add up to 1 (train, validation, test)."
        )
    if seed < 0:
        raise UsageError(f"--seed {seed}: it must not be negative.")
    codes, names = pd.factorize(np.asarray(groups))
    if len(names) < 3:
        raise DataError(
            f"{len(names)} groups ({name_list(names)}) cannot fill train, validation and test. "
            "Give more profiles, or a finer --group-by."
        )
    rng = np.random.default_rng(seed)
    sizes = np.bincount(codes, minlength=len(names))
    best, best_miss = np.zeros(0, dtype=np.intp), np.inf
    for _ in range(_ORDERS):
        split_of_code = _split_in_order(rng.permutation(len(names)), sizes, fractions)
        shares = np.bincount(split_of_code, weights=sizes, minlength=3) / sizes.sum()
        miss = float(np.abs(shares - fractions).max())
        if miss < best_miss:
            best, best_miss = split_of_code, miss
        if best_miss <= _SHARE_MET:
            break
    return np.array(SPLITS)[best[codes]]


def _split_in_order(
    order: np.ndarray, sizes: np.ndarray, fractions: tuple[float, float, float]
) -> np.ndarray:
    """Number of the split of every group when they fill the splits in this order."""
    filled = sizes[order]
    middle = (np.cumsum(filled) - filled / 2) / filled.sum()
    train_end, validation_end = fractions[0], fractions[0] + fractions[1]
    split_of_rank = np.where(middle < train_end, 0, np.where(middle < validation_end, 1, 2))
    split_of_rank[-1] = 2
    split_of_rank[0] = 0
    if not (split_of_rank == 1).any():
        first_test = np.flatnonzero(split_of_rank == 2)[0]
        split_of_rank[first_test if first_test < len(order) - 1 else first_test - 1] = 1
    split_of_code = np.empty(len(order), dtype=np.intp)
    split_of_code[order] = split_of_rank
    return split_of_code


def given_split(path: Path, sample_ids: Sequence[str]) -> np.ndarray:
    """Read a table of sample id and split; shape (n,), "" for a sample it does not name.

    A first line whose id is no sample is a header.

    Parameters
    ----------
    path
        Tab-separated, or comma-separated where the name says ``.csv``.
    sample_ids
        Samples of the expression file.

    Raises
    ------
    DataError
        The table names a sample twice, a split that is not one, or leaves a split empty.
    UsageError
        There is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"--split {path}: no such file. Give a TSV of sample id and split.")
    table = read_table(path, "," if ".csv" in path.name.lower() else "\t", header=False)
    if table.shape[1] < 1:
        raise DataError(f"{path} has one column; a split table has a sample id and a split.")
    if table.index[0] not in set(sample_ids) and table.iloc[0, 0] not in SPLITS:
        table = table.iloc[1:]
    splits = table.iloc[:, 0]
    wrong = sorted(set(splits) - set(SPLITS))
    if wrong:
        raise DataError(f"{path} names splits {name_list(wrong)}; they are {', '.join(SPLITS)}.")
    doubled = table.index[table.index.duplicated()].unique()
    if len(doubled):
        raise DataError(f"{path} names samples more than once: {name_list(doubled)}.")
    split_of = dict(zip(splits.index, splits, strict=True))
    split = np.array([split_of.get(sample, "") for sample in sample_ids], dtype=object)
    empty = [name for name in SPLITS if not (split == name).any()]
    if empty:
        raise DataError(f"{path} puts none of the profiles into {name_list(empty)}.")
    return split
