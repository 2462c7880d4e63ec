"""The training loop of nets, after D-GEX; the only file that knows devices.

Source: Chen et al. 2016, section 2.4 and its program. Squared error summed over targets and
averaged over the batch; gradient descent with momentum; a learning rate that falls when the
training MAE rises; the weights kept that infer the validation profiles best.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional

from dgex.errors import DataError, UsageError
from dgex.models.base import BLOCK_ROWS
from dgex.models.checkpoint import Best, Checkpoint
from dgex.models.nets import DGEXNet
from dgex.progress import report

if TYPE_CHECKING:
    from dgex.config import TrainConfig
    from dgex.data.dataset import Dataset, ProfileSet

log = logging.getLogger("dgex")

CHECKPOINT_SECONDS = 10.0
"""Least time between two checkpoints."""

CHECKPOINT_SHARE = 0.1
"""Share of the time, at most, spent on checkpoints."""

_NOT_IDENTITY = {
    "model",
    "penalties",
    "neighbours",
    "epochs",
    "device",
    "standardize_output",
    "dgex_files",
    "resume",
    "overwrite",
}


class DivergedError(DataError):
    """The weights are no longer numbers; going on or resuming is of no use."""


@dataclass(frozen=True)
class Trained:
    """A finished training.

    Attributes
    ----------
    best
        Best weights by the set they were chosen on: ``validation`` and, if asked for, an
        external set. Where the net learned from validation too, the last weights stand there.
    log
        A row per epoch: ``epoch``, ``learning_rate`` (of that epoch), ``seconds``, ``mae_train``
        (of the monitored training profiles) and ``mae_<set>`` of every other set.
    """

    best: dict[str, Best]
    log: pd.DataFrame


def choose_device(name: str) -> torch.device:
    """The device of that name; ``auto`` takes a GPU where there is one.

    Raises
    ------
    UsageError
        There is no such device here.

    Examples
    --------
    >>> choose_device("cpu")
    device(type='cpu')
    """
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(kind for kind, available in there.items() if available)
    if not there.get(name, False):
        known = ", ".join(kind for kind, available in there.items() if available)
        raise UsageError(f"There is no device {name} here. Choose auto or {known}.")
    return torch.device(name)


def train_net(dataset: Dataset, config: TrainConfig, folder: Path | None = None) -> Trained:
    """Train a D-GEX net.

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

    Raises
    ------
    DivergedError
        The loss is no longer a number.
    UsageError
        The device is not there, or the checkpoint is of another training.
    """
    device = choose_device(config.device)
    # The caller's own random numbers go on as if nothing had been drawn here.
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        return _train(dataset, config, folder, device)


def _train(
    dataset: Dataset, config: TrainConfig, folder: Path | None, device: torch.device
) -> Trained:
    torch.manual_seed(config.seed)
    net = DGEXNet(
        len(dataset.landmarks),
        len(dataset.targets),
        hidden_layers=config.hidden_layers,
        hidden_units=config.hidden_units,
        dropout=config.dropout,
    ).to(device)
    rate = config.learning_rate or (5e-4 if config.hidden_layers == 1 else 3e-4)
    optimizer = _optimizer(net, config, rate)
    checkpoint = Checkpoint(_identity(dataset, config), 0, rate, [], {}, {})
    if config.resume and folder is not None:
        checkpoint = Checkpoint.load(folder, checkpoint.identity)
        if checkpoint.epoch > config.epochs:
            raise UsageError(
                f"{folder} has {checkpoint.epoch} epochs already, more than the {config.epochs} "
                "asked for. Ask for at least as many."
            )
        # The momentum kept is that of the last epoch's rate.
        _set_rate(optimizer, config, checkpoint.rows[-1]["learning_rate"])
        _restore(net, optimizer, checkpoint)
        checkpoint.weights, checkpoint.momentum = {}, {}
        log.info("going on after epoch %d of %d", checkpoint.epoch, config.epochs)
    sets = _profiles(dataset, device)
    train = sets.pop("train")
    # Epochs count from 1, so 0 is free for what is drawn once.
    monitored = _rng(config, 0).permutation(train.n)[: config.monitor_profiles]
    monitored.sort()

    saved_epoch, saved_at, pause = checkpoint.epoch, -math.inf, CHECKPOINT_SECONDS
    report("training", checkpoint.epoch, config.epochs)
    try:
        while checkpoint.epoch < config.epochs:
            started = time.monotonic()
            epoch, rate = checkpoint.epoch + 1, checkpoint.learning_rate
            _set_rate(optimizer, config, rate)
            rng = _rng(config, epoch)
            torch.manual_seed(int(rng.integers(2**63)))
            loss = _run_epoch(net, optimizer, train, rng.permutation(train.n), config.batch_size)
            mae = {"train": _mae(net, train, monitored)}
            mae |= {name: _mae(net, profiles) for name, profiles in sets.items()}
            if not all(math.isfinite(value) for value in (loss, mae["train"], mae["validation"])):
                raise DivergedError(
                    f"Training diverged in epoch {epoch} at learning rate {rate:g}: the loss is "
                    "no longer a number. Pass a smaller --learning-rate."
                )
            momentum = _momentum(net, optimizer) if folder is not None else {}
            seconds = time.monotonic() - started
            # One assignment: an interrupt finds the state after one epoch or after the next.
            checkpoint = _after_epoch(
                checkpoint, config, mae, _copy_weights(net), momentum, seconds
            )
            now = time.monotonic()
            if folder is not None and epoch < config.epochs and now - saved_at >= pause:
                checkpoint.save(folder)
                saved_epoch, saved_at = epoch, time.monotonic()
                pause = max(CHECKPOINT_SECONDS, (saved_at - now) / CHECKPOINT_SHARE)
            report("training", epoch, config.epochs)
    except KeyboardInterrupt:
        if folder is not None and checkpoint.epoch > saved_epoch:
            checkpoint.save(folder)
        raise
    return Trained(checkpoint.best, pd.DataFrame(checkpoint.rows))


def _after_epoch(
    before: Checkpoint,
    config: TrainConfig,
    mae: dict[str, float],
    weights: dict[str, np.ndarray],
    momentum: dict[str, np.ndarray],
    seconds: float,
) -> Checkpoint:
    """State of the training one epoch after `before`; logs the epoch."""
    epoch, rate = before.epoch + 1, before.learning_rate
    best = dict(before.best)
    for name in ["validation"] if config.select_on is None else ["validation", config.select_on]:
        is_last = name == "validation" and config.train_on == "all"
        if is_last or name not in best or mae[name] < best[name].mae:
            best[name] = Best(mae[name], epoch, weights)
    next_rate = rate
    if before.rows and mae["train"] > before.rows[-1]["mae_train"]:
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
    rows = [*before.rows, row]
    return Checkpoint(before.identity, epoch, next_rate, rows, weights, momentum, best)


def _run_epoch(
    net: DGEXNet,
    optimizer: torch.optim.SGD,
    train: _Profiles,
    order: np.ndarray,
    batch_size: int,
) -> float:
    """One pass over the training profiles in batches; the sum of the losses of all batches."""
    net.train()
    # Asked for once an epoch: asking after every batch would make a GPU wait.
    total = torch.zeros((), device=train.device)
    for start in range(0, len(order), batch_size):
        # Within a batch the order is free, and files are read best from front to back.
        x_bl, y_bt = train.take(np.sort(order[start : start + batch_size]))
        loss = functional.mse_loss(net(x_bl), y_bt, reduction="sum") / len(x_bl)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        total += loss.detach()
    return float(total)


def _mae(net: DGEXNet, profiles: _Profiles, rows: np.ndarray | None = None) -> float:
    """Mean absolute error over the measured targets of a set, or of some of its rows."""
    if rows is None:
        rows = np.arange(profiles.n)
    if len(rows) == 0 or not profiles.present_t.any():
        return math.nan
    net.eval()
    error_t = np.zeros(len(profiles.present_t))
    with torch.inference_mode():
        for start in range(0, len(rows), BLOCK_ROWS):
            x_bl, y_bt = profiles.take(rows[start : start + BLOCK_ROWS])
            error_t += net(x_bl).sub_(y_bt).abs_().sum(dim=0).cpu().numpy()
    return float(error_t[profiles.present_t].mean() / len(rows))


def _optimizer(net: DGEXNet, config: TrainConfig, rate: float) -> torch.optim.SGD:
    first, *above = net.linear_layers()
    upper = [layer.weight for layer in above]
    others = [first.weight, *(layer.bias for layer in net.linear_layers())]
    # Fused: one pass over weights, gradient and momentum in place of three.
    optimizer = torch.optim.SGD(
        [{"params": others}, {"params": upper}],
        lr=rate,
        momentum=config.momentum,
        fused=next(net.parameters()).device.type in ("cpu", "cuda"),
    )
    _set_rate(optimizer, config, rate)
    return optimizer


def _set_rate(optimizer: torch.optim.SGD, config: TrainConfig, rate: float) -> None:
    """Set the learning rate of all weights.

    D-GEX moves the weights by v ← momentum · v - rate · gradient; torch keeps u with v = -rate · u.
    The two agree as long as the rate stays, so u is brought to the new rate where it changes.
    """
    for group, factor in zip(optimizer.param_groups, (1.0, config.output_rate_factor), strict=True):
        old, new = group["lr"], rate * factor
        if old == new:
            continue
        group["lr"] = new
        for weights in group["params"]:
            buffer = optimizer.state[weights].get("momentum_buffer")
            if buffer is not None:
                buffer.mul_(old / new)


class _Profiles:
    """Landmarks and targets of a set, by row, on a device.

    A GPU holds them whole where it can. Elsewhere rows are read from the memory map each time:
    the system keeps as much of it in memory as there is room, and a batch takes far longer to
    learn from than to copy.
    """

    def __init__(self, profiles: ProfileSet, device: torch.device, whole: bool) -> None:
        self.device = device
        self.n = profiles.n
        self.present_t = np.asarray(profiles.present_t, dtype=bool)
        self._arrays = np.asarray(profiles.x_nl), np.asarray(profiles.y_nt)
        self._tensors: tuple[Tensor, Tensor] | None = None
        if whole:
            x_nl, y_nt = (torch.empty(array.shape, device=device) for array in self._arrays)
            for start, x_bl, y_bt in profiles.blocks(BLOCK_ROWS):
                x_nl[start : start + len(x_bl)] = torch.from_numpy(x_bl)
                y_nt[start : start + len(y_bt)] = torch.from_numpy(y_bt)
            self._tensors = x_nl, y_nt

    def take(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Landmarks (b, l) and targets (b, t) of some rows."""
        if self._tensors is not None:
            index = torch.from_numpy(rows).to(self.device)
            return self._tensors[0][index], self._tensors[1][index]
        x_nl, y_nt = self._arrays
        return (
            torch.from_numpy(x_nl[rows]).to(self.device),
            torch.from_numpy(y_nt[rows]).to(self.device),
        )


def _profiles(dataset: Dataset, device: torch.device) -> dict[str, _Profiles]:
    whole = False
    if device.type == "cuda":
        width = len(dataset.landmarks) + len(dataset.targets)
        needed = 4 * width * sum(dataset[name].n for name in dataset.sets)
        # The other half is for the net, its gradients and its momentum.
        whole = needed < torch.cuda.mem_get_info(device)[0] / 2
    return {name: _Profiles(dataset[name], device, whole) for name in dataset.sets}


def _rng(config: TrainConfig, epoch: int) -> np.random.Generator:
    return np.random.default_rng((config.seed, epoch))


def _identity(dataset: Dataset, config: TrainConfig) -> dict[str, object]:
    options = dataclasses.asdict(config)
    return {
        "dataset fingerprint": dataset.fingerprint,
        **{name: value for name, value in options.items() if name not in _NOT_IDENTITY},
    }


def _copy_weights(net: DGEXNet) -> dict[str, np.ndarray]:
    return {
        name: weights.detach().to("cpu", copy=True).numpy()
        for name, weights in net.named_parameters()
    }


def _momentum(net: DGEXNet, optimizer: torch.optim.SGD) -> dict[str, np.ndarray]:
    buffers = {
        name: optimizer.state[weights].get("momentum_buffer")
        for name, weights in net.named_parameters()
    }
    return {
        name: buffer.to("cpu", copy=True).numpy()
        for name, buffer in buffers.items()
        if buffer is not None
    }


def _restore(net: DGEXNet, optimizer: torch.optim.SGD, checkpoint: Checkpoint) -> None:
    device = next(net.parameters()).device
    with torch.no_grad():
        for name, weights in net.named_parameters():
            weights.copy_(torch.from_numpy(checkpoint.weights[name]))
            if name in checkpoint.momentum:
                buffer = torch.from_numpy(checkpoint.momentum[name]).to(device, copy=True)
                optimizer.state[weights]["momentum_buffer"] = buffer
