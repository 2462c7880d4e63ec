"""One pass of a net over profiles: to learn from them, or to be scored on them.

Batches, the loss, its compilation for a GPU, and the mean absolute error.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from dgex.models.descent import Descent
from dgex.models.device import Profiles, is_out_of_memory
from dgex.models.nets import Linear
from dgex.models.recipes import AnyNet

if TYPE_CHECKING:
    from dgex.config import NetConfig
    from dgex.models.optimiser import Optimiser
    from dgex.models.recipes import Recipe

log = logging.getLogger("dgex")

SCORED_ROWS = {"cpu": 512, "cuda": 4096, "mps": 1024}
"""Profiles scored at a time. On a processor, blocks of more than 32 MB would be asked of the system
anew each time; a GPU has room, and less to start."""

COMPILED_FROM = 5e12
"""Moves of single weights, all of a training together, from which compiling for a GPU pays: it
takes about half a minute, and saves 16 of 36 bytes per move, at some 4e12 bytes a second."""

Loss = Callable[[AnyNet, Tensor, Tensor], Tensor]


def loss_of_recipe(recipe: Recipe) -> Loss:
    """The loss of a net on a batch, in float32 whatever the precision of the products."""
    of_targets = recipe.loss

    def loss(net: AnyNet, x_bl: Tensor, y_bt: Tensor) -> Tensor:
        return of_targets(net(x_bl).float(), y_bt.float())

    return loss


def loss_function(
    net: AnyNet, plain: Loss, optimiser: Optimiser, train: Profiles, config: NetConfig
) -> Loss:
    """The loss, compiled where that pays; then `optimiser` is compiled too."""
    if not isinstance(optimiser, Descent) or not _compiling_pays(net, train, config):
        for layer in net.modules():
            if isinstance(layer, Linear):
                layer.keeps_gradient = train.device.type == "cpu"
        return plain
    loss_of: Loss = torch.compile(plain, dynamic=False)
    optimiser.compile()
    try:
        # A step of length 0, because what is compiled is compiled, or fails, when it first runs.
        batch = train.take(train.order(np.arange(config.batch_size)))
        loss_of(net.train(), *batch).backward()  # type: ignore[no-untyped-call]
        optimiser.step(0.0)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        log.warning("Compiling the net failed, training goes on without: %s", _in_one_line(error))
        loss_of = plain
        optimiser.compile(False)
    net.zero_grad()
    return loss_of


def _compiling_pays(net: AnyNet, train: Profiles, config: NetConfig) -> bool:
    moves = sum(weights.numel() for weights in net.parameters())
    moves *= config.epochs * (train.n // config.batch_size)
    return train.device.type == "cuda" and moves >= COMPILED_FROM


def _in_one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def run_epoch(
    net: AnyNet,
    losses: tuple[Loss, Loss],
    optimiser: Optimiser,
    train: Profiles,
    order: np.ndarray,
    batch_size: int,
    rates: list[float],
) -> Tensor:
    """One pass over the training profiles in batches; the sum of the losses of all batches.

    The first of the `losses` is for whole batches, which is what it was compiled for.
    """
    net.train()
    # Within a batch the order is free, and files are read best from front to back.
    batches = [
        np.sort(order[start : start + batch_size]) for start in range(0, len(order), batch_size)
    ]
    rows = train.order(np.concatenate(batches))
    # Asked for once an epoch: asking after every batch would make a GPU wait.
    total = torch.zeros((), device=train.device)
    for rate, batch in zip(rates, torch.split(rows, batch_size), strict=True):
        loss = losses[len(batch) != batch_size](net, *train.take(batch))
        net.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step(rate)
        total += loss.detach()
    return total


def mae_of(net: AnyNet, profiles: Profiles, rows: Tensor | None = None) -> Tensor:
    """Mean absolute error over the measured targets of a set, or of some of its rows.

    NaN where there are no profiles or no targets.
    """
    if rows is None:
        rows = profiles.order(np.arange(profiles.n))
    net.eval()
    device = profiles.device
    exact = torch.float32 if device.type == "mps" else torch.float64
    error_t = torch.zeros(net.output.out_features, device=device, dtype=exact)
    with torch.inference_mode():
        for block in torch.split(rows, SCORED_ROWS[device.type]):
            x_bl, y_bt = profiles.take(block)
            error_t += net(x_bl).float().sub_(y_bt).abs_().sum(dim=0)
        return (error_t[profiles.present].mean() / len(rows)).float()


def fill(net: AnyNet, weights: Mapping[str, Tensor]) -> None:
    """Give a net such weights, in its own precision."""
    with torch.no_grad():
        for name, parameters in net.named_parameters():
            parameters.copy_(weights[name])
