"""How each kind of net is trained: what the one training loop is told of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor
from torch.nn import functional

from dgex.models.adam import Adam
from dgex.models.descent import Descent
from dgex.models.net_model import net_settings
from dgex.models.nets import DGEXNet
from dgex.models.optimiser import Optimiser
from dgex.models.resnet import ResNet
from dgex.models.taaf import TAAFNet

if TYPE_CHECKING:
    from dgex.config import NetConfig

AnyNet = DGEXNet | ResNet | TAAFNet

WARM_UP = 0.1
"""Share of a one-cycle training in which the learning rate rises."""

LAST_RATE = 0.3
"""Last learning rate of it, relative to the highest. The average of the weights does what a lower
one would: down to 0 and with that average, validation MAE was 0.5 to 1 % higher."""

WEIGHT_DECAY = 0.01
AVERAGE = 0.99

TAAF_FALLS = ((575 / 600, 5e-4), (550 / 600, 1e-3), (475 / 600, 1e-2), (400 / 600, 0.1), (0.0, 1.0))
"""Share of the training from which on, and the factor on the learning rate there."""


@dataclass(frozen=True)
class Recipe:
    """How a kind of net is made and trained.

    Attributes
    ----------
    net
        Class of the net; made of numbers of landmarks and targets and of `net_settings`.
    loss
        Loss of a batch: of inferred and measured targets (b, t), in float32.
    optimiser
        Makes what moves the weights of a net, computing in a precision.
    rate_at
        Factor on the learning rate after that share of all steps; None where the learning rate
        falls when the training MAE rises instead, as in D-GEX.
    bytes_per_weight
        Memory that training takes per weight.
    """

    net: type[AnyNet]
    loss: Callable[[Tensor, Tensor], Tensor]
    optimiser: Callable[[AnyNet, NetConfig, torch.dtype], Optimiser]
    rate_at: Callable[[float], float] | None
    bytes_per_weight: int

    def rates(self, config: NetConfig, epoch: int, n_steps: int, fallen: float) -> list[float]:
        """Learning rate of every step of an epoch; `fallen` is that of D-GEX's schedule."""
        if self.rate_at is None:
            return [fallen] * n_steps
        # Every step has the rate at its middle, so that neither the first nor the last has none.
        steps = range((epoch - 1) * n_steps, epoch * n_steps)
        shares = ((step + 0.5) / (config.epochs * n_steps) for step in steps)
        return [config.learning_rate * self.rate_at(share) for share in shares]


def summed_square(y_hat_bt: Tensor, y_bt: Tensor) -> Tensor:
    """Squared error summed over targets and averaged over the batch, as in D-GEX.

    Examples
    --------
    >>> summed_square(torch.zeros(2, 3), torch.ones(2, 3))
    tensor(3.)
    """
    return functional.mse_loss(y_hat_bt, y_bt, reduction="sum") / len(y_bt)


def one_cycle(share: float) -> float:
    """Factor on the learning rate: up from 0 within `WARM_UP`, then to `LAST_RATE` by a cosine.

    Source: Smith & Topin, *Super-convergence*, 2018.

    Examples
    --------
    >>> [round(one_cycle(share), 3) for share in (0.0, 0.05, 0.1, 0.55, 1.0)]
    [0.0, 0.5, 1.0, 0.65, 0.3]
    """
    if share < WARM_UP:
        return share / WARM_UP
    falling = 0.5 * (1 + math.cos(math.pi * (share - WARM_UP) / (1 - WARM_UP)))
    return LAST_RATE + (1 - LAST_RATE) * falling


def taaf_falls(share: float) -> float:
    """Factor on the learning rate that falls in four steps in the last third (see `TAAF_FALLS`).

    Examples
    --------
    >>> [taaf_falls(share) for share in (0.0, 0.7, 0.8, 0.93, 0.99)]
    [1.0, 0.1, 0.01, 0.001, 0.0005]
    """
    return next(factor for start, factor in TAAF_FALLS if share >= start)


def _descent(net: AnyNet, config: NetConfig, dtype: torch.dtype) -> Descent:
    return Descent(
        cast(DGEXNet, net),
        momentum=config.momentum,
        upper_factor=config.output_rate_factor,
        dtype=dtype,
    )


def _adam_w(net: AnyNet, config: NetConfig, dtype: torch.dtype) -> Adam:
    return Adam(net, weight_decay=WEIGHT_DECAY, nesterov=False, average=AVERAGE, dtype=dtype)


def _nadam(net: AnyNet, config: NetConfig, dtype: torch.dtype) -> Adam:
    return Adam(net, weight_decay=0.0, nesterov=True, average=0.0, dtype=dtype)


RECIPES = {
    # Of weight, v, the gradient and the net's copy; of weight and v after an epoch; of the best.
    "dgex": Recipe(DGEXNet, summed_square, _descent, None, 24),
    # The same with two averages of gradients, an average of the weights and a net of it.
    "resnet": Recipe(ResNet, functional.l1_loss, _adam_w, one_cycle, 44),
    "taaf": Recipe(TAAFNet, functional.l1_loss, _nadam, taaf_falls, 32),
}


def make_net(n_landmarks: int, n_targets: int, config: NetConfig) -> AnyNet:
    """A net of the kind and size that the options say.

    Parameters
    ----------
    n_landmarks, n_targets
        Numbers of genes in and out.
    config
        Options, resolved by `dgex.config.net_options`.

    Examples
    --------
    >>> from dgex.config import TrainConfig, net_options
    >>> config = net_options(TrainConfig(model="dgex", hidden_units=2), 100)
    >>> make_net(3, 4, config)(torch.zeros(1, 3)).shape
    torch.Size([1, 4])
    """
    return RECIPES[config.model].net(n_landmarks, n_targets, **net_settings(config))


def count_weights(n_landmarks: int, n_targets: int, config: NetConfig) -> int:
    """Number of weights of such a net, which is not made.

    Examples
    --------
    >>> from dgex.config import TrainConfig, net_options
    >>> count_weights(943, 9520, net_options(TrainConfig(model="dgex", hidden_units=9000), 100))
    94185520
    """
    with torch.device("meta"):
        net = make_net(n_landmarks, n_targets, config)
    return sum(weights.numel() for weights in net.parameters())
