"""The best Model within a time budget: what fits is tried in order, validation judges."""

from __future__ import annotations

import dataclasses
import logging
import math
import re
import time
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dgex.config import TrainConfig, net_options
from dgex.errors import DivergedError, UsageError
from dgex.models.base import Model, set_mae
from dgex.models.calibrate import calibrate
from dgex.models.checkpoint import CHECKPOINT_FILE
from dgex.models.ensemble import Ensemble
from dgex.models.kernel import Kernel
from dgex.models.linear import Ridge
from dgex.models.net_model import ResNetModel

if TYPE_CHECKING:
    from pathlib import Path

    from dgex.data.dataset import Dataset

log = logging.getLogger("dgex")

LEAST_WEIGHT = 0.05
"""Mean weight below which a member of the ensemble is not worth its memory and time."""

NETS_FOLDER = "nets"

NETS = 3
"""Nets trained, from different first weights, where there is time: their mean errs less."""

LEAST_EPOCHS = 0.25
"""Share of its epochs below which a net is not tried."""

LEAST_SHARE = 0.2
"""Share of the budget that must be left for a net to be tried."""

_SEARCH_SHARE = 0.2
"""Share of the budget in which kernels and bandwidths are compared."""

_TRIAL_SHARE = 0.1
"""Share of the time left that a second trial of an epoch may take."""

_AGAIN = 3.0
"""Time to refit a kernel and calibrate it, as a multiple of that of its left-out guesses."""

_SPARE = 0.9
"""Share of the time left that an estimate may take."""

_UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0}


def seconds_of(budget: str | None) -> float:
    """Seconds of a time such as 60s, 10min or 2h; infinite where there is none.

    Raises
    ------
    UsageError
        It is not such a time.

    Examples
    --------
    >>> seconds_of("60s"), seconds_of("1.5h"), seconds_of(None)
    (60.0, 5400.0, inf)
    """
    if budget is None:
        return math.inf
    found = re.fullmatch(r"([0-9]+\.?[0-9]*|\.[0-9]+)(s|min|h)", budget.strip())
    if found is None or float(found[1]) == 0:
        raise UsageError(f"--budget {budget}: give a time such as 60s, 10min or 2h.")
    return float(found[1]) * _UNITS[found[2]]


class Auto:
    """Tries models on a Dataset and makes the best of them.

    In this order: ridge; kernel ridge, calibrated to medians by guesses of left-out training
    profiles (see `dgex.models.calibrate`); residual nets. Those that help are combined gene by
    gene (see `dgex.models.ensemble`). Validation alone judges. At the end everything that was
    chosen is kept and the models learn again from more profiles, where that is asked for: closed
    forms, and the net where there is time for it.

    Parameters
    ----------
    dataset
        The Dataset.
    config
        Options; ``budget`` is the time for all of it. With ``resume`` nets go on from what is in
        `folder`.
    folder
        Folder for the checkpoints of nets, in `NETS_FOLDER`; none are written where it is not
        given, or within a budget.

    Attributes
    ----------
    tried
        A row per model tried: ``model``, ``seconds``, ``mae_validation`` (standardised units,
        after learning from train), ``weight`` (its mean weight over the targets
        of the result) and ``note``.
    """

    def __init__(self, dataset: Dataset, config: TrainConfig, folder: Path | None = None) -> None:
        self._dataset = dataset
        # A net of a budget takes about as long as a few checkpoints.
        self._folder = None if folder is None or config.budget else folder / NETS_FOLDER
        self._config = config
        # The rest is for writing the Model.
        self._deadline = time.monotonic() + 0.95 * seconds_of(config.budget)
        self._rows: list[dict[str, object]] = []
        self._net_config = config
        self._net_seconds = self._kernel_seconds = 0.0
        self._names: list[str] = []

    @property
    def tried(self) -> pd.DataFrame:
        """What was tried, in order."""
        return pd.DataFrame(self._rows)

    def choose(self) -> Model:
        """Try what fits into the budget; the best on validation, learned from train alone."""
        self._check_kept_net()
        candidates = Ensemble()
        self._try_ridge(candidates)
        self._try_kernel(candidates)
        self._try_nets(candidates)
        return self._best_of(candidates)

    def refit(self, model: Model, joined: Dataset) -> None:
        """Let every part of the chosen model learn again from the profiles of `joined`.

        A part for which there is no time stays as it is.
        """
        self._deadline += self._kernel_seconds
        members = model.members if isinstance(model, Ensemble) else [model]
        for number, member in enumerate(members):
            if isinstance(member, ResNetModel):
                self._refit_net(member, joined, number)
                continue
            if isinstance(member, Kernel) and self._kernel_seconds > self._left():
                self._stays(number, f"no time to learn again from {joined['train'].n} profiles")
                continue
            log.info("%s: learning again from %d profiles", member.kind, joined["train"].n)
            member.refit(joined)
            if isinstance(model, Ensemble) and isinstance(member, Kernel):
                if model.calibrations[number] is None:
                    continue
                guess_nt = member.left_out_guesses(joined)
                if guess_nt is not None:
                    model.calibrations[number] = calibrate(guess_nt, joined["train"].y_nt)

    def _stays(self, number: int, why: str) -> None:
        """Say of a member that it learned from train alone, and why."""
        name = self._names[number]
        log.warning("%s: %s", name, why)
        row = next(row for row in self._rows if row["model"] == name)
        row["note"] = f"{row['note']}, {why}" if row["note"] else why

    def _check_kept_net(self) -> None:
        """Refuse a net of another training at once, and not after ridge and kernel."""
        first = None if self._folder is None else self._folder / "0"
        if self._config.resume and first is not None and (first / CHECKPOINT_FILE).is_file():
            from dgex.models.train import check_resumable

            check_resumable(self._dataset, self._net_of_train(), first)

    def _net_of_train(self) -> TrainConfig:
        config = dataclasses.replace(self._config, model="resnet", train_on="train")
        return net_options(config, self._dataset["train"].n)

    def _left(self) -> float:
        return self._deadline - time.monotonic()

    def _note(self, name: str, started: float, mae: float, note: str = "") -> None:
        seconds = round(time.monotonic() - started, 1)
        self._rows.append(
            {
                "model": name,
                "seconds": seconds,
                "mae_validation": mae,
                "weight": math.nan,
                "note": note,
            }
        )
        if math.isfinite(mae):
            log.info("%s: validation MAE %.4f, %.1f s", name, mae, seconds)
        else:
            log.info("%s: %s", name, note)

    def _try_ridge(self, candidates: Ensemble) -> None:
        started = time.monotonic()
        ridge = Ridge()
        ridge.fit(self._dataset, dataclasses.replace(self._config, model="ridge"))
        self._note("ridge", started, self._mae(ridge))
        candidates.add("ridge", ridge)

    def _try_kernel(self, candidates: Ensemble) -> None:
        started = time.monotonic()
        n = self._dataset["train"].n
        needed = Kernel.least_seconds(n, len(self._dataset.targets), speed())
        if needed > _SPARE * self._left():
            left = max(self._left(), 0.0)
            note = f"left out: it needs at least {needed:.0f} s, {left:.0f} s are left"
            self._note("kernel", started, math.nan, note)
            return
        kernel = Kernel()
        kernel.search_until = started + _SEARCH_SHARE * self._left()
        kernel.fit(self._dataset, dataclasses.replace(self._config, model="kernel"))
        mae = self._mae(kernel)
        solving = time.monotonic()
        guess_nt = kernel.left_out_guesses(self._dataset)
        if self._config.train_on != "train":
            # To solve again, and for left-out profiles again, from more profiles.
            again = _AGAIN * (time.monotonic() - solving)
            self._kernel_seconds = solving - started if guess_nt is None else again
            self._deadline -= self._kernel_seconds
        if guess_nt is None:
            self._note("kernel", started, mae)
            candidates.add("kernel", kernel)
            return
        self._note("kernel", started, mae)
        started = time.monotonic()
        calibration = calibrate(guess_nt, self._dataset["train"].y_nt)
        calibrated = set_mae(
            lambda x_bl: calibration(kernel.predict(x_bl)), self._dataset["validation"]
        )
        self._note("kernel, calibrated", started, calibrated)
        if calibrated < mae:
            candidates.add("kernel, calibrated", kernel, calibration)
        else:
            candidates.add("kernel", kernel)

    def _try_nets(self, candidates: Ensemble) -> None:
        config = self._net_of_train()
        if math.isfinite(self._left()):
            epochs = self._possible_epochs(config)
            if epochs == 0:
                return
            config = dataclasses.replace(config, epochs=epochs)
        for number in range(NETS):
            if number and self._left() < self._net_seconds / _SPARE:
                break
            started = time.monotonic()
            net = ResNetModel()
            one = dataclasses.replace(config, seed=config.seed + number)
            name = "resnet" if number == 0 else f"resnet {number + 1}"
            if not self._fit_net(net, self._dataset, one, str(number)):
                self._note(name, started, math.nan, "left out: its training diverged")
                break
            self._net_config, self._net_seconds = config, time.monotonic() - started
            self._note(name, started, self._mae(net), f"{config.epochs} epochs")
            candidates.add(name, net)

    def _possible_epochs(self, config: TrainConfig) -> int:
        """Epochs of a net for which there is time; 0 where they are too few."""
        started = time.monotonic()
        if self._left() < LEAST_SHARE * seconds_of(self._config.budget):
            note = f"left out: {max(self._left(), 0):.0f} s are left"
            self._note("resnet", started, math.nan, note)
            return 0
        epochs = config.epochs or 0
        # The first net of a process also loads what it needs: a second one tells more.
        for _ in range(2):
            begun = time.monotonic()
            ResNetModel().fit(self._dataset, dataclasses.replace(config, epochs=1))
            epoch = time.monotonic() - begun
            possible = int(_SPARE * self._left() / epoch)
            if possible >= epochs or epoch > _TRIAL_SHARE * self._left():
                break
        if possible >= LEAST_EPOCHS * epochs:
            return min(epochs, possible)
        note = f"left out: an epoch takes {epoch:.1f} s, {self._left():.0f} s are left for {epochs}"
        self._note("resnet", started, math.nan, note)
        return 0

    def _refit_net(self, net: ResNetModel, joined: Dataset, number: int) -> None:
        more = joined["train"].n / self._dataset["train"].n
        if more * self._net_seconds > _SPARE * self._left():
            self._stays(number, f"no time to learn again from {joined['train'].n} profiles")
            return
        log.info("resnet: learning again from %d profiles", joined["train"].n)
        config = dataclasses.replace(
            self._net_config,
            train_on=self._config.train_on,
            seed=self._net_config.seed + NETS + number,
        )
        if not self._fit_net(net, joined, config, f"{number}-again"):
            self._stays(number, "learning again diverged, it stays as it was")

    def _fit_net(self, net: ResNetModel, dataset: Dataset, config: TrainConfig, name: str) -> bool:
        """Train a net; False where that diverged, and the net is what it was before."""
        folder = None if self._folder is None else self._folder / name
        resume = False
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            resume = config.resume and (folder / CHECKPOINT_FILE).is_file()
        try:
            net.fit(dataset, dataclasses.replace(config, resume=resume), folder)
        except DivergedError:
            return False
        return True

    def _best_of(self, candidates: Ensemble) -> Model:
        started = time.monotonic()
        seed = self._config.seed
        candidates.weigh(self._dataset, seed)
        heavy = candidates.weight_mt.mean(axis=1) >= LEAST_WEIGHT
        heavy[np.argmin(list(candidates.validation_mae.values()))] = True
        if not heavy.all():
            candidates = candidates.only(np.flatnonzero(heavy))
            candidates.weigh(self._dataset, seed)
        weight_m = candidates.weight_mt.mean(axis=1).tolist()
        weights = dict(zip(candidates.names, weight_m, strict=True))
        self._names = list(candidates.names)
        for row in self._rows:
            row["weight"] = round(weights.get(str(row["model"]), 0.0), 3)
        if len(candidates.members) == 1 and candidates.calibrations[0] is None:
            return candidates.members[0]
        self._note("all of these", started, self._mae(candidates))
        return candidates

    def _mae(self, model: Model) -> float:
        return set_mae(model.predict, self._dataset["validation"])


def speed() -> float:
    """Multiplications and additions per second of a product of two matrices in float32."""
    a_nn = np.ones((1024, 1024), dtype=np.float32)
    a_nn @ a_nn
    started = time.perf_counter()
    for _ in range(4):
        a_nn @ a_nn
    return 4 * 2 * 1024**3 / (time.perf_counter() - started)
