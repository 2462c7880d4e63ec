"""A Dataset as one training sees it: some of its targets, perhaps all its splits as train."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import pandas as pd

from dgex import progress
from dgex.data.dataset import Dataset, ProfileSet, RowFile
from dgex.data.preprocess import Preprocessor
from dgex.data.split import SPLITS
from dgex.errors import UsageError

JOINED_FOLDER = "joined"
"""Folder, for the time of a training, of the profiles of all splits."""

_BLOCK_ROWS = 1024


class TrainingView(Dataset):
    """A Dataset with some of its targets.

    Parameters
    ----------
    dataset
        The Dataset.
    targets
        Which of its targets.
    joined
        Folder of `join_splits`, to learn from instead of ``train``.
    """

    def __init__(self, dataset: Dataset, targets: slice, joined: Path | None = None) -> None:
        super().__init__(dataset.path)
        self._targets = targets
        self._joined = joined
        if joined is None and targets == slice(0, len(dataset.targets)):
            self.learned = dataset.learned

    def joined(self, folder: Path) -> TrainingView:
        """The same, whose train is what `join_splits` wrote into `folder`."""
        return TrainingView(self, self._targets, folder)

    @cached_property
    def preprocessor(self) -> Preprocessor:
        """Panel, the targets of this view, and normalisation."""
        return Preprocessor.load(self.path / "preprocessing").only_targets(self._targets)

    def __getitem__(self, name: str) -> ProfileSet:
        one = dataclasses.replace(super().__getitem__(name), targets=self._targets)
        if name == "train" and self._joined is not None:
            return dataclasses.replace(one, folder=self._joined)
        return one


def target_slice(text: str | None, n_targets: int) -> slice:
    """The targets that ``--target-range`` names, all where it is None.

    Raises
    ------
    UsageError
        The text is not START:STOP, or there are no such targets.

    Examples
    --------
    >>> target_slice("0:4760", 9520)
    slice(0, 4760, None)
    """
    if text is None:
        return slice(0, n_targets)
    start, colon, stop = text.partition(":")
    if not (colon and start.isdecimal() and stop.isdecimal()):
        raise UsageError(f"--target-range {text}: give START:STOP, such as 0:{n_targets // 2}.")
    if not int(start) < int(stop) <= n_targets:
        raise UsageError(
            f"--target-range {text}: the Dataset has {n_targets} targets, 0:{n_targets}. "
            "Give a part of that with at least one target."
        )
    return slice(int(start), int(stop))


def join_splits(dataset: Dataset, folder: Path, splits: Sequence[str] = SPLITS) -> Path:
    """Write the profiles of some splits as one set, in this order, into `folder`.

    All the targets of the Dataset are written, also where `dataset` is a view of some.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    whole = Dataset(dataset.path)
    parts = [whole[name] for name in splits]
    n = sum(part.n for part in parts)
    done = 0
    with (
        RowFile(folder / "x_nl.npy", n, parts[0].n_landmarks) as x_file,
        RowFile(folder / "y_nt.npy", n, parts[0].n_targets) as y_file,
    ):
        for part in parts:
            for _, x_bl, y_bt in part.blocks(_BLOCK_ROWS):
                x_file.write(x_bl)
                y_file.write(y_bt)
                done += len(x_bl)
                progress.report("joining splits", done, n)
    pd.concat([part.obs for part in parts]).to_csv(folder / "obs.tsv", sep="\t")
    # One compendium, one normalisation: the moments of train are those of all.
    shutil.copy(parts[0].folder / "genes.tsv", folder / "genes.tsv")
    return folder
