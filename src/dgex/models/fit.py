"""The verb train: a Dataset to a Model directory."""

from __future__ import annotations

import dataclasses
import logging
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from dgex.config import KERNEL_NAMES, TrainConfig, net_options
from dgex.data.dataset import Dataset
from dgex.data.split import SPLITS
from dgex.data.view import JOINED_FOLDER, TrainingView, join_splits, target_slice
from dgex.errors import DataError, DivergedError, UsageError, name_list
from dgex.files import partial_path, refuse_existing, whole_directory
from dgex.models.auto import NETS_FOLDER, Auto, seconds_of
from dgex.models.base import Model, set_mae
from dgex.models.bundle import TRIED_FILE, Bundle, write_bundle
from dgex.models.checkpoint import CHECKPOINT_FILE, Best
from dgex.models.dgex_files import check_dgex_files, dgex_files
from dgex.models.kinds import KINDS
from dgex.models.net_model import Net, net_settings
from dgex.options import flag, with_options

log = logging.getLogger("dgex")

MOST_HIDDEN_UNITS = 1_000_000
"""More would be a slip of the pen: the paper's largest nets have 9,000."""

_ALL_KINDS = {"model", "seed", "target_range", "train_on", "standardize_output", "overwrite"}
_OPTIONS = {
    "auto": {"budget", "device", "precision", "resume"},
    "ensemble": {"members"},
    "mean": set[str](),
    "ols": set[str](),
    "ridge": {"penalties"},
    "lasso": {"penalties"},
    "gene-knn": {"neighbours"},
    "kernel": {"penalties", "kernels", "bandwidths", "metric_powers", "device"},
    "sample-knn": {"neighbours"},
    "sample-lasso": {"penalties"},
    "cohort-ridge": {"penalties", "for_", "cohort_column"},
    "gbm": set[str](),
}
_OF_EVERY_NET = {
    "hidden_layers",
    "hidden_units",
    "dropout",
    "epochs",
    "batch_size",
    "learning_rate",
    "monitor_profiles",
    "select_on",
    "device",
    "precision",
    "resume",
}
_OF_DGEX = {
    "output_rate_factor",
    "momentum",
    "rate_decay",
    "least_learning_rate",
    "dgex_files",
}
_OPTIONS |= {"dgex": _OF_EVERY_NET | _OF_DGEX, "resnet": _OF_EVERY_NET, "taaf": _OF_EVERY_NET}
PENALTY_BOUNDS, BANDWIDTH_BOUNDS, MOST_METRIC_POWER = (1e-8, 1e8), (1e-4, 1e4), 4.0
"""Beyond these nothing is left of the one or the other in single precision."""

_CHOOSE_NOTHING = ("mean", "ols")
_LEARN_FROM_VALIDATION = ("auto", "cohort-ridge")
"""Kinds that do so in the end where --train-on is not given."""
_NO_VALIDATION = (*_CHOOSE_NOTHING, "cohort-ridge")


def train(
    dataset: Dataset | Path | str,
    out: Path | str,
    config: TrainConfig | None = None,
    **options: Any,
) -> Bundle:
    """Train a Model and write its directory.

    A net that is interrupted leaves its last checkpoint in ``<out>.partial``, and ``auto`` without
    a budget its nets, from which ``resume`` goes on; everything else leaves nothing behind but a
    whole Model.

    Parameters
    ----------
    dataset
        A Dataset or its folder.
    out
        The directory to make.
    config
        Options; the defaults of `TrainConfig` where not given.
    **options
        Fields of `TrainConfig` to set on top of `config`.

    Returns
    -------
    Bundle
        The Model as read back from `out`.

    Raises
    ------
    UsageError
        An option is out of its range or does nothing for this kind of model, `out` exists, or
        there is nothing to resume.
    DataError
        The Dataset is damaged or lacks what is needed, training diverged, or the disk is full.

    Examples
    --------
    >>> train("no-such-dataset", "model", model="ols")
    Traceback (most recent call last):
    dgex.errors.UsageError: no-such-dataset: no such Dataset. Make one with dgex prepare.
    """
    config = _for_whom(with_options(config or TrainConfig(), options))
    if config.train_on is None:
        with_validation = config.model in _LEARN_FROM_VALIDATION
        config = dataclasses.replace(
            config, train_on="train+validation" if with_validation else "train"
        )
    out = Path(out)
    check_options(config)
    dataset = Dataset.open(dataset)
    refuse_existing(out, config.overwrite, [dataset.path, *config.members])
    view = TrainingView(dataset, target_slice(config.target_range, len(dataset.targets)))
    _check_dataset(config, view)
    if config.dgex_files is not None:
        check_dgex_files(view, config, out)
    if config.model == "auto":
        _train_auto(view, out, config)
    elif issubclass(KINDS[config.model], Net):
        _train_net(view, out, net_options(config, view["train"].n))
    else:
        _train_in_closed_form(view, out, config)
    return Bundle.load(out)


def _train_in_closed_form(view: TrainingView, out: Path, config: TrainConfig) -> None:
    model: Model = KINDS[config.model]()
    with whole_directory(out, overwrite=config.overwrite) as folder:
        mae = math.nan
        if config.train_on == "train":
            model.fit(view, config)
            if not model.for_new_cohorts:
                mae = set_mae(model.predict, view["validation"])
        elif config.model in _CHOOSE_NOTHING:
            view = _of_more_splits(view, folder, config)
            model.fit(view, config)
        else:
            model.fit(view, config)
            view = _of_more_splits(view, folder, config)
            model.refit(view)
        best = {"validation": Best(mae, None, model.arrays())}
        write_bundle(folder, view, config, model.settings(), best)


def _train_auto(view: TrainingView, out: Path, config: TrainConfig) -> None:
    nets = partial_path(out) / NETS_FOLDER
    if config.resume and config.budget is not None:
        raise UsageError("--resume: a training within --budget begins anew. Leave out one of them.")
    _check_partial(nets, config)
    with whole_directory(out, overwrite=config.overwrite, keep_partial=True) as folder:
        if not config.resume:
            shutil.rmtree(folder)
            folder.mkdir()
        try:
            auto = Auto(view, config, folder)
            model = auto.choose()
            mae = set_mae(model.predict, view["validation"])
            if config.train_on != "train":
                view = _of_more_splits(view, folder, config)
                auto.refit(model, view)
                mae = math.nan
            auto.tried.to_csv(folder / TRIED_FILE, sep="\t", index=False)
            shutil.rmtree(nets, ignore_errors=True)
            best = {"validation": Best(mae, None, model.arrays())}
            write_bundle(folder, view, config, model.settings(), best, kind=model.kind)
        except BaseException:
            if any(nets.glob(f"*/{CHECKPOINT_FILE}")):
                log.warning("Training stopped; %s keeps the nets to go on from.", folder)
            else:
                shutil.rmtree(folder, ignore_errors=True)
            raise


def _check_partial(kept: Path, config: TrainConfig) -> None:
    """Refuse to go on from nothing, and to begin anew where something is kept."""
    partial = kept.parent
    if config.resume and not kept.exists():
        raise UsageError(f"There is no interrupted training at {partial}. Leave out --resume.")
    if kept.exists() and not config.resume and not config.overwrite:
        raise UsageError(
            f"{partial} holds an interrupted training. Pass --resume to go on with it, or "
            "--overwrite to start again."
        )


def _of_more_splits(view: TrainingView, folder: Path, config: TrainConfig) -> TrainingView:
    if config.train_on == "all":
        splits: tuple[str, ...] = SPLITS
        log.info("Learning from train, validation and test: none of them can judge this Model.")
    else:
        splits = ("train", "validation")
        log.info("Learning from train and validation: test alone can judge this Model.")
    return view.joined(join_splits(view, folder / JOINED_FOLDER, splits))


def _train_net(view: TrainingView, out: Path, config: TrainConfig) -> None:
    partial = partial_path(out)
    checkpoint = partial / CHECKPOINT_FILE
    _check_partial(checkpoint, config)

    # Here and not above, so that the other kinds of model do without torch.
    from dgex.models.train import train_net

    with whole_directory(out, overwrite=config.overwrite, keep_partial=True) as folder:
        if not config.resume:
            shutil.rmtree(folder)
            folder.mkdir()
        try:
            if config.train_on != "train":
                view = _of_more_splits(view, folder, config)
            trained = train_net(view, config, folder)
            best = dict(trained.best)
            if config.train_on != "train":
                best["validation"] = dataclasses.replace(best["validation"], mae=math.nan)
            else:
                _warn_if_useless(view, best["validation"].mae)
            settings = net_settings(config) | {"training_precision": trained.precision}
            with dgex_files(view, config, trained):
                write_bundle(folder, view, config, settings, best, trained.log)
        except BaseException as error:
            if isinstance(error, DivergedError) or not checkpoint.is_file():
                shutil.rmtree(folder, ignore_errors=True)
            else:
                log.warning("Training stopped; %s keeps a checkpoint to go on from.", folder)
            raise


def _warn_if_useless(view: TrainingView, mae: float) -> None:
    def every_mean(x_nl: np.ndarray) -> np.ndarray:
        return np.zeros((len(x_nl), len(view.targets)), dtype=np.float32)

    mae_of_mean = set_mae(every_mean, view["validation"])
    if mae > mae_of_mean:
        log.warning(
            "The net is worse on validation (MAE %.4f) than giving every gene its mean (%.4f). "
            "Train it longer, or with a lower learning rate.",
            mae,
            mae_of_mean,
        )


def _for_whom(config: TrainConfig) -> TrainConfig:
    """`config` in which the kind of model and what it is for agree.

    Raises
    ------
    UsageError
        They cannot.
    """
    if config.model == "cohort-ridge":
        return dataclasses.replace(config, for_="new-cohorts")
    if config.for_ == "same-studies":
        return config
    if config.model != TrainConfig.model:
        raise UsageError(
            f"--for new-cohorts trains cohort-ridge, not {config.model}. Leave out one of the two."
        )
    return dataclasses.replace(config, model="cohort-ridge")


def check_options(config: TrainConfig) -> None:
    """Refuse options that are out of their range or do nothing for the kind of model.

    Raises
    ------
    UsageError
        One is.

    Examples
    --------
    >>> check_options(TrainConfig(model="ols", penalties=(0.1,)))
    Traceback (most recent call last):
    dgex.errors.UsageError: --penalties: of no use to the model ols. Leave it out.
    """
    names = [field.name for field in dataclasses.fields(config)]

    def within(name: str, least: float, most: float) -> None:
        values = getattr(config, name)
        beyond = [value for value in values if not least <= value <= most]
        if beyond or not values:
            bounds = f"they must be {least:g} to {most:g}"
            raise UsageError(f"{flag(name)}: {name_list(beyond) or 'none'}; {bounds}.")

    useful = _OPTIONS[config.model] | _ALL_KINDS
    given = [name for name in names if getattr(config, name) != getattr(TrainConfig, name)]
    idle = [name for name in given if name not in useful]
    if idle:
        flags = name_list(flag(name) for name in idle)
        raise UsageError(f"{flags}: of no use to the model {config.model}. Leave it out.")

    def number(name: str, least: float, below: float = math.inf, *, above: bool = False) -> None:
        value = getattr(config, name)
        if value is None:
            return
        if not (least <= value < below) or (above and value == least):
            bound = f"above {least:g}" if above else f"at least {least:g}"
            bound += "" if below == math.inf else f" and below {below:,}"
            raise UsageError(f"{flag(name)} is {value}; it must be {bound}.")

    if config.hidden_layers not in (None, 1, 2, 3):
        raise UsageError(f"--hidden-layers is {config.hidden_layers}; it must be 1, 2 or 3.")
    number("hidden_units", 1, MOST_HIDDEN_UNITS + 1)
    for name in ("epochs", "batch_size", "monitor_profiles"):
        number(name, 1)
    for name in ("dropout", "momentum"):
        number(name, 0, 1)
    for name in ("learning_rate", "output_rate_factor", "rate_decay"):
        number(name, 0, above=True)
    number("least_learning_rate", 0)
    number("seed", 0, 2**63)
    if config.rate_decay > 1:
        raise UsageError(f"--rate-decay is {config.rate_decay}; it must be at most 1.")
    if config.penalties is not None:
        within("penalties", *PENALTY_BOUNDS)
    seconds_of(config.budget)
    few = [number for number in config.neighbours if number < 1]
    if few or not config.neighbours:
        raise UsageError(f"--neighbours: {name_list(few) or 'none'}; they must be at least 1.")
    within("bandwidths", *BANDWIDTH_BOUNDS)
    within("metric_powers", 0, MOST_METRIC_POWER)
    unknown = [kernel for kernel in config.kernels if kernel not in KERNEL_NAMES]
    if unknown or not config.kernels:
        known = name_list(KERNEL_NAMES)
        raise UsageError(f"--kernels: {name_list(unknown) or 'none'}; choose among {known}.")


def _check_dataset(config: TrainConfig, dataset: Dataset) -> None:
    if dataset["train"].n < 2:
        raise DataError(
            f"{dataset.name} has {dataset['train'].n} training profiles; training needs at least "
            "2. Prepare it from more profiles."
        )
    if config.model not in _NO_VALIDATION and dataset["validation"].n == 0:
        raise DataError(
            f"{dataset.name} has no validation profiles to choose on. Prepare it with a "
            "validation share above 0, or train the model ols."
        )
    if config.select_on is None:
        return
    if config.select_on not in dataset.externals:
        known = f"has {name_list(dataset.externals, 20)}" if dataset.externals else "has none"
        raise UsageError(
            f"--select-on {config.select_on}: no such external set; {dataset.name} {known}."
        )
    chosen_on = dataset[config.select_on]
    if chosen_on.n == 0 or not chosen_on.present_t.any():
        raise UsageError(
            f"--select-on {config.select_on}: none of the targets is measured there, so nothing "
            "can be selected on it. Leave it out."
        )
