"""The training loop of nets; where it runs is `dgex.models.device`'s to say.

What differs between kinds of nets (loss, optimiser, learning rate) is in `dgex.models.recipes`.
After every epoch all sets are scored, and the weights are kept that infer the validation profiles
best, as in D-GEX.

Source: Chen et al. 2016, section 2.4 and its program.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import logging
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dgex.config import net_options
from dgex.errors import DivergedError, UsageError
from dgex.models.checkpoint import Best, Checkpoint, CheckpointWriter, identity_in
from dgex.models.device import (
    DTYPES,
    Precision,
    all_profiles,
    check_memory,
    choose_precision,
    has_bf16,
    is_out_of_memory,
    out_of_memory,
    sums_in_float32,
    to_device,
    to_host,
)
from dgex.models.device import choose_device as choose_device
from dgex.models.epoch import fill, loss_function, loss_of_recipe, mae_of, run_epoch
from dgex.models.optimiser import Optimiser
from dgex.models.recipes import RECIPES, count_weights, make_net
from dgex.progress import report

if TYPE_CHECKING:
    from dgex.config import NetConfig, TrainConfig
    from dgex.data.dataset import Dataset

log = logging.getLogger("dgex")

_NOT_IDENTITY = {
    "penalties",
    "neighbours",
    "kernels",
    "bandwidths",
    "metric_powers",
    "members",
    "budget",
    "epochs",
    "device",
    "standardize_output",
    "dgex_files",
    "resume",
    "overwrite",
}


@dataclass(frozen=True)
class Trained:
    """A finished training.

    Attributes
    ----------
    best
        Best weights by the set they were chosen on: ``validation`` and, if asked for, an
        external set. Where the net learned from validation too, the last weights stand there.
    log
        A row per epoch: ``epoch``, ``learning_rate`` (of its first step), ``seconds``,
        ``mae_train`` (of the monitored training profiles) and ``mae_<set>`` of every other set.
    precision
        Precision of the products, ``float32`` or ``bf16``. In bf16 the MAEs of the log are those
        of the rounded weights; `best` has the float32 weights and their own MAE.
    """

    best: dict[str, Best]
    log: pd.DataFrame
    precision: str


@dataclass(frozen=True)
class _State:
    """A training after an epoch, on its device; nothing writes to the tensors any more."""

    epoch: int
    learning_rate: float  # of the next epoch
    rows: list[dict[str, float]]
    weights: dict[str, Tensor]
    optimiser: dict[str, Tensor]
    averages: dict[str, Tensor]
    best: dict[str, tuple[float, int, dict[str, Tensor]]] = field(default_factory=dict)

    def best_on_host(self) -> dict[str, Best]:
        return {
            name: Best(mae, epoch, to_host(weights))
            for name, (mae, epoch, weights) in self.best.items()
        }

    def checkpoint(self, identity: dict[str, object]) -> Checkpoint:
        return Checkpoint(
            identity,
            self.epoch,
            self.learning_rate,
            self.rows,
            to_host(self.weights),
            to_host(self.optimiser),
            self.best_on_host(),
            to_host(self.averages),
        )


def train_net(
    dataset: Dataset,
    config: TrainConfig,
    folder: Path | None = None,
    *,
    keep_last: bool = False,
) -> Trained:
    """Train a net of the kind that the options say.

    The order of the profiles, the dropout and the first weights follow from the seed and the
    number of the epoch alone, so a resumed training gives what an uninterrupted one gives.

    Parameters
    ----------
    dataset
        The Dataset; every set of it is scored after each epoch.
    config
        Options; with ``resume`` the training goes on from the checkpoint in `folder`.
    folder
        Where checkpoints go; none are written where not given.
    keep_last
        Leave a checkpoint after the last epoch too, from which the net can be had again.

    Raises
    ------
    DivergedError
        The loss is no longer a number.
    DataError
        There is not enough memory for the net.
    UsageError
        The device or the precision is not there, or the checkpoint is of another training.
    """
    config = net_options(config, dataset["train"].n)
    device = choose_device(config.device)
    precision = _precision(config, device, folder)
    n_weights = count_weights(len(dataset.landmarks), len(dataset.targets), config)
    bytes_per_weight = RECIPES[config.model].bytes_per_weight
    check_memory(n_weights, bytes_per_weight, config, device)
    # The caller's own random numbers go on as if nothing had been drawn here.
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            with sums_in_float32():
                return _train(dataset, config, folder, device, precision, keep_last)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            fact = "there is not as much"
            raise out_of_memory(n_weights, bytes_per_weight, config, device, fact) from error


def _train(
    dataset: Dataset,
    config: NetConfig,
    folder: Path | None,
    device: torch.device,
    precision: str,
    keep_last: bool,
) -> Trained:
    log.info("training on %s, products in %s", device.type, precision)
    torch.manual_seed(config.seed)
    recipe = RECIPES[config.model]
    net = make_net(len(dataset.landmarks), len(dataset.targets), config).to(device)
    optimiser = recipe.optimiser(net, config, DTYPES[precision])
    scored = copy.deepcopy(net) if optimiser.averages else net
    sets = all_profiles(dataset, device, DTYPES[precision])
    train = sets.pop("train")
    plain_loss = loss_of_recipe(recipe)
    loss_of = loss_function(net, plain_loss, optimiser, train, config)
    identity = _identity(dataset, config, precision)
    n_steps = math.ceil(train.n / config.batch_size)
    state = _State(0, config.learning_rate, [], {}, {}, {})
    if config.resume and folder is not None:
        state = _restore(Checkpoint.load(folder, identity), optimiser, n_steps, config, folder)
        log.info("going on after epoch %d of %d", state.epoch, config.epochs)
    # Epochs count from 1, so 0 is free for what is drawn once.
    drawn = _rng(config, 0).permutation(train.n)[: config.monitor_profiles]
    monitored = train.order(np.sort(drawn))

    writer = CheckpointWriter(folder, state.epoch)
    report("training", state.epoch, config.epochs)
    try:
        while state.epoch < config.epochs:
            started = time.monotonic()
            epoch = state.epoch + 1
            rates = recipe.rates(config, epoch, n_steps, state.learning_rate)
            rng = _rng(config, epoch)
            torch.manual_seed(int(rng.integers(2**63)))
            order = rng.permutation(train.n)
            losses = loss_of, plain_loss
            loss = run_epoch(net, losses, optimiser, train, order, config.batch_size, rates)
            if scored is not net:
                fill(scored, optimiser.kept)
            scores = {"loss": loss, "train": mae_of(scored, train, monitored)}
            scores |= {name: mae_of(scored, profiles) for name, profiles in sets.items()}
            # The one time in an epoch that a GPU is waited for.
            mae = dict(zip(scores, torch.stack(list(scores.values())).tolist(), strict=True))
            if not all(math.isfinite(mae[name]) for name in ("loss", "train", "validation")):
                raise DivergedError(
                    f"Training diverged in epoch {epoch} at learning rate {max(rates):g}: "
                    "the loss is no longer a number. Train it with a smaller --learning-rate."
                )
            del mae["loss"]
            moved = _State(
                epoch,
                rates[0],
                state.rows,
                _copies(optimiser.weights),
                _copies(optimiser.state) if folder is not None else {},
                _copies(optimiser.averages),
                state.best,
            )
            seconds = time.monotonic() - started
            # One assignment: an interrupt finds the state after one epoch or after the next.
            state = _scored(moved, config, mae, seconds)
            if epoch < config.epochs:
                writer.offer(epoch, functools.partial(state.checkpoint, identity), seconds)
            report("training", epoch, config.epochs)
        writer.finish()
        if keep_last:
            writer.keep(state.epoch, functools.partial(state.checkpoint, identity))
    except KeyboardInterrupt:
        writer.keep(state.epoch, functools.partial(state.checkpoint, identity))
        raise
    finally:
        writer.wait()
    best = state.best_on_host()
    if precision != "float32":
        net.to(torch.float32)
        for name, one in best.items():
            fill(net, {key: torch.from_numpy(array) for key, array in one.arrays.items()})
            best[name] = dataclasses.replace(one, mae=float(mae_of(net, sets[name])))
    return Trained(best, pd.DataFrame(state.rows), precision)


def _scored(moved: _State, config: NetConfig, mae: dict[str, float], seconds: float) -> _State:
    """The state after an epoch with its scores, and the next learning rate; logs the epoch.

    `moved` has the weights after the epoch, and the scores and the rate before it.
    """
    epoch, rate = moved.epoch, moved.learning_rate
    best = dict(moved.best)
    for name in ["validation"] if config.select_on is None else ["validation", config.select_on]:
        is_last = name == "validation" and config.train_on in ("train+validation", "all")
        if is_last or name not in best or mae[name] < best[name][0]:
            best[name] = mae[name], epoch, moved.averages or moved.weights
    next_rate = rate
    if moved.rows and mae["train"] > moved.rows[-1]["mae_train"]:
        # A first rate below the least one is the user's wish and is not raised to it.
        next_rate = max(rate * config.rate_decay, min(rate, config.least_learning_rate))
    row = {"epoch": epoch, "learning_rate": rate, "seconds": round(seconds, 3)}
    row |= {f"mae_{name}": value for name, value in mae.items()}
    scores = ", ".join(f"{name} {value:.4f}" for name, value in mae.items())
    log.info(
        "epoch %d of %d: MAE %s; learning rate %.3g; %.1f s",
        epoch,
        config.epochs,
        scores,
        rate,
        seconds,
    )
    return dataclasses.replace(moved, learning_rate=next_rate, rows=[*moved.rows, row], best=best)


def _rng(config: NetConfig, epoch: int) -> np.random.Generator:
    return np.random.default_rng((config.seed, epoch))


def check_resumable(dataset: Dataset, config: TrainConfig, folder: Path) -> None:
    """Refuse to go on from a checkpoint of another training.

    Raises
    ------
    UsageError
        The Dataset or an option is another, or there is no checkpoint in `folder`.
    """
    resolved = net_options(config, dataset["train"].n)
    precision = _precision(resolved, choose_device(resolved.device), folder)
    Checkpoint.load(folder, _identity(dataset, resolved, precision))


def _precision(config: NetConfig, device: torch.device, folder: Path | None) -> Precision:
    """Precision of the products; auto goes on in that in which a training was begun."""
    if config.precision == "auto" and config.resume and folder is not None:
        begun: Precision = identity_in(folder)["precision"]
        if begun == "float32" or has_bf16(device):
            return begun
    return choose_precision(config.precision, device)


def _identity(dataset: Dataset, config: NetConfig, precision: str) -> dict[str, object]:
    options = dataclasses.asdict(config) | {"precision": precision}
    identity = {
        "dataset fingerprint": dataset.fingerprint,
        **{name: value for name, value in options.items() if name not in _NOT_IDENTITY},
    }
    if RECIPES[config.model].rate_at is not None:
        # The learning rate goes by how much of the whole training is done.
        identity["epochs"] = config.epochs
    return identity


def _copies(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in tensors.items()}


def _restore(
    checkpoint: Checkpoint, optimiser: Optimiser, n_steps: int, config: NetConfig, folder: Path
) -> _State:
    if checkpoint.epoch > config.epochs:
        raise UsageError(
            f"{folder} has {checkpoint.epoch} epochs already, more than the {config.epochs} "
            "asked for. Ask for at least as many."
        )
    device = next(iter(optimiser.weights.values())).device
    optimiser.restore(
        checkpoint.weights,
        checkpoint.optimiser,
        checkpoint.averages,
        checkpoint.epoch * n_steps,
    )
    best = {
        name: (one.mae, cast(int, one.epoch), to_device(one.arrays, device))
        for name, one in checkpoint.best.items()
    }
    return _State(
        checkpoint.epoch,
        checkpoint.learning_rate,
        checkpoint.rows,
        _copies(optimiser.weights),
        _copies(optimiser.state),
        _copies(optimiser.averages),
        best,
    )
