"""The seven files that the original D-GEX leaves of a training, under its names.

Its models are Python pickles; here they are safetensors, which cannot run anything when read.

Source: the README of D-GEX, section Output.
"""

from __future__ import annotations

import contextlib
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dgex import progress
from dgex.data.dataset import RowFile
from dgex.errors import UsageError
from dgex.files import refuse_existing, refuse_folder, refuse_unwritable, whole_file
from dgex.models.base import BLOCK_ROWS
from dgex.models.net_model import DGEX, net_settings

if TYPE_CHECKING:
    from dgex.config import TrainConfig
    from dgex.data.dataset import Dataset, ProfileSet
    from dgex.models.train import Trained

EXTERNALS = ("1000G", "GTEx")
"""External sets that D-GEX has; a Dataset's own may be in other letter case."""

_ENDINGS = (
    ".log",
    "_bestva_model.safetensors",
    "_bestva_Y_va_hat.npy",
    "_bestva_Y_te_hat.npy",
    "_best1000G_model.safetensors",
    "_best1000G_Y_1000G_hat.npy",
    "_best1000G_Y_GTEx_hat.npy",
)
# D-GEX measures the first change of an error against this.
_BEFORE_FIRST = 10.0


def check_dgex_files(dataset: Dataset, config: TrainConfig, out: Path) -> None:
    """Refuse, before the training, what would keep the seven files from being made.

    Raises
    ------
    UsageError
        An external set is missing, the net is not selected on the 1000G set, all splits are
        trained on, a file exists, the base of the names is a folder, or the files would lie in
        the Model's folder `out`.
    DataError
        The files' folder takes no new file.
    """
    names = _external_names(dataset)
    missing = [wanted for wanted in EXTERNALS if wanted not in names]
    if missing:
        raise UsageError(
            f"--dgex-files needs the external sets 1000g and gtex; {dataset.name} has no "
            f"{' and no '.join(name.lower() for name in missing)}. "
            "Prepare it with --external NAME=FILE."
        )
    if config.select_on != names["1000G"]:
        raise UsageError(
            f"--dgex-files needs a copy of the net chosen on {names['1000G']}. "
            f"Pass --select-on {names['1000G']}."
        )
    if config.train_on != "train":
        raise UsageError(
            f"--dgex-files holds a net chosen on validation, and with --train-on {config.train_on} "
            "none is. "
            "Leave one of the two out."
        )
    base = Path(str(config.dgex_files))
    if not base.name or base.resolve().is_relative_to(out.resolve()):
        raise UsageError(
            f"--dgex-files {base}: give the beginning of the files' names, outside of {out}."
        )
    if base.is_dir():
        raise UsageError(
            f"--dgex-files {base} is a folder. Give the beginning of the files' names too, such as "
            f"{base / 'dgex'}."
        )
    for path in _paths(config).values():
        refuse_existing(path, config.overwrite or config.resume)
        refuse_folder(path)
        refuse_unwritable(path)


@contextlib.contextmanager
def dgex_files(dataset: Dataset, config: TrainConfig, trained: Trained) -> Iterator[None]:
    """Write the seven files; they get their names when the context is left without an error.

    Does nothing where they are not asked for.

    Parameters
    ----------
    dataset
        What was trained on, with the targets that the net infers.
    config
        Options, checked by `check_dgex_files`.
    trained
        The finished training.

    Raises
    ------
    DataError
        The disk is full.
    """
    if config.dgex_files is None:
        yield
        return
    from safetensors.numpy import save_file

    names = _external_names(dataset)
    with contextlib.ExitStack() as stack:
        partial = {
            ending: stack.enter_context(whole_file(path)) for ending, path in _paths(config).items()
        }
        partial[".log"].write_text(log_text(trained.log, names), "utf-8")
        chosen = {
            "_bestva": ("validation", {"va": "validation", "te": "test"}),
            "_best1000G": (names["1000G"], {wanted: names[wanted] for wanted in EXTERNALS}),
        }
        for prefix, (chosen_on, sets) in chosen.items():
            arrays = trained.best[chosen_on].arrays
            save_file(
                {name: np.ascontiguousarray(array) for name, array in arrays.items()},
                partial[f"{prefix}_model.safetensors"],
            )
            # The library makes files that only their owner may read.
            shutil.copymode(partial[".log"], partial[f"{prefix}_model.safetensors"])
            model = DGEX.from_arrays(arrays, net_settings(config))
            for short, set_name in sets.items():
                _write_inferred(partial[f"{prefix}_Y_{short}_hat.npy"], model, dataset[set_name])
        yield


def log_text(log: pd.DataFrame, names: dict[str, str]) -> str:
    r"""A training log as D-GEX writes it, its misspelt column included; epochs count from 1.

    Parameters
    ----------
    log
        A row per epoch, as in `dgex.models.train.Trained`.
    names
        Names of the sets that D-GEX calls 1000G and GTEx.

    Examples
    --------
    >>> columns = ["train", "validation", "test", "kg", "gtex"]
    >>> log = pd.DataFrame({"epoch": [1], "learning_rate": [5e-4], "seconds": [2.7],
    ...                     **{f"mae_{name}": [0.5] for name in columns}})
    >>> text = log_text(log, {"1000G": "kg", "GTEx": "gtex"})
    >>> text.splitlines()[1].split("\t")[:3], text.splitlines()[-1]
    (['1', '0.500000', '-0.950000'], 'MAE_1000G_best : 0.500000')
    """
    columns = {"va": "validation", "te": "test", **names, "tr": "train"}
    header = [text for short in columns for text in (f"MAE_{short}", f"MAE_{short}_change")]
    lines = ["\t".join(["epoch", *header, "learing_rate", "time(sec)"])]
    before = dict.fromkeys(columns, _BEFORE_FIRST)
    for row in log.to_dict("records"):
        cells = [str(int(row["epoch"]))]
        for short, set_name in columns.items():
            mae = float(row[f"mae_{set_name}"])
            # An error of 0, which only a set of copies could give, has no relative change.
            change = (mae - before[short]) / before[short] if before[short] else math.nan
            cells += [f"{mae:.6f}", f"{change:.6f}"]
            before[short] = mae
        cells += [f"{row['learning_rate']:.5f}", str(int(row["seconds"]))]
        lines.append("\t".join(cells))
    best = [
        f"MAE_{name}_best : {log[f'mae_{columns[name]}'].min():.6f}" for name in ("va", "1000G")
    ]
    return "\n".join([*lines, *best]) + "\n"


def _write_inferred(path: Path, model: DGEX, profiles: ProfileSet) -> None:
    with RowFile(path, profiles.n, model.n_targets, "<f8") as rows:
        for start, x_bl, _ in profiles.blocks(BLOCK_ROWS):
            rows.write(model.predict(x_bl))
            progress.report(f"inferring {profiles.name}", start + len(x_bl), profiles.n)


def _paths(config: TrainConfig) -> dict[str, Path]:
    """The seven files by what follows the base of their names."""
    if config.dgex_files is None:
        return {}
    base = Path(config.dgex_files)
    return {ending: base.with_name(base.name + ending) for ending in _ENDINGS}


def _external_names(dataset: Dataset) -> dict[str, str]:
    """The Dataset's names of the external sets that D-GEX has."""
    return {
        wanted: name
        for wanted in EXTERNALS
        for name in dataset.externals
        if name.casefold() == wanted.casefold()
    }
