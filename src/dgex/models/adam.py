"""Adam with decoupled weight decay, with or without Nesterov's momentum, and an average."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from dgex.models.optimiser import Optimiser

FIRST, SECOND = 0.9, 0.999
"""Shares of the averages of gradients and of their squares that are kept in a step."""

EPSILON = 1e-8

_NESTEROV_DECAY = 0.004


class Adam(Optimiser):
    """Moves the weights of a net by averages of its gradients over the root of their squares.

    With m and v the running averages of gradients and of their squares, both corrected for having
    begun at 0: weight ← weight - rate · (decay · weight + m / (√v + 1e-8)). Weight decay is for
    matrices alone. With `nesterov`, m looks one step ahead.

    The average of the weights is an exponential one; of the first steps it is shorter, so that
    the first weights have no lasting part in it.

    Source: Loshchilov & Hutter, *Decoupled weight decay regularization*, ICLR 2019; Dozat,
    *Incorporating Nesterov momentum into Adam*, 2016.

    Parameters
    ----------
    net
        The net, its weights in float32 and on their device; it is turned to `dtype`.
    weight_decay
        Share of a weight, times the learning rate, that it loses in a step.
    nesterov
        Whether momentum is Nesterov's, with the schedule of Keras and torch.
    average
        Share of the average of the weights that is kept in a step; 0 keeps no average.
    dtype
        float32 or bfloat16.

    Examples
    --------
    >>> net = nn.Linear(1, 1)
    >>> _ = nn.init.ones_(net.weight)
    >>> adam = Adam(net, weight_decay=0.5, nesterov=False, average=0.0, dtype=torch.float32)
    >>> for parameters in net.parameters():
    ...     parameters.grad = torch.ones_like(parameters)
    >>> adam.step(0.1)
    >>> net.weight.data
    tensor([[0.8500]])
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        weight_decay: float,
        nesterov: bool,
        average: float,
        dtype: torch.dtype,
    ) -> None:
        super().__init__(net, dtype=dtype)
        self._first = {name: torch.zeros_like(weights) for name, weights in self.weights.items()}
        self._second = {name: torch.zeros_like(weights) for name, weights in self.weights.items()}
        self.state = {f"first.{name}": tensor for name, tensor in self._first.items()}
        self.state |= {f"second.{name}": tensor for name, tensor in self._second.items()}
        if average:
            self.averages = {name: weights.clone() for name, weights in self.weights.items()}
        self._weight_decay, self._nesterov, self._average = weight_decay, nesterov, average
        self._steps, self._product = 0, 1.0

    def step(self, rate: float) -> None:
        """Move the weights by the net's gradients, and renew the net's copies."""
        self._steps += 1
        of_momentum, of_gradient = self._shares()
        root = math.sqrt(1 - SECOND**self._steps)
        kept = min(self._average, self._steps / (self._steps + 10))
        with torch.no_grad():
            for parameters, (name, weights) in zip(
                self._parameters, self.weights.items(), strict=True
            ):
                decay = rate * self._weight_decay if weights.ndim > 1 else 0.0
                arrays = [weights, self._first[name], self._second[name]]
                if self.averages:
                    arrays.append(self.averages[name])
                for piece in self._pieces(parameters, *arrays):
                    w, first, second, *others = piece
                    average = others.pop(0) if self.averages else None
                    gradient = others.pop(0).float()
                    first.lerp_(gradient, 1 - FIRST)
                    second.mul_(SECOND).addcmul_(gradient, gradient, value=1 - SECOND)
                    scale = second.sqrt().div_(root).add_(EPSILON)
                    w.mul_(1 - decay).addcdiv_(first, scale, value=-rate * of_momentum)
                    if of_gradient:
                        w.addcdiv_(gradient, scale, value=-rate * of_gradient)
                    if average is not None:
                        average.lerp_(w, 1 - kept)
                    for copy in others:
                        copy.copy_(w)

    def restore(
        self,
        weights: Mapping[str, np.ndarray],
        state: Mapping[str, np.ndarray],
        averages: Mapping[str, np.ndarray] | None = None,
        steps: int = 0,
    ) -> None:
        """Go on from such `weights`, `state` and `averages` after so many `steps`."""
        super().restore(weights, state, averages, steps)
        self._steps, self._product = steps, 1.0
        for step in range(1, steps + 1):
            self._product *= _nesterov_momentum(step)

    def _shares(self) -> tuple[float, float]:
        """Factors of the running average and of the gradient itself in this step."""
        if not self._nesterov:
            return 1 / (1 - FIRST**self._steps), 0.0
        now, ahead = (_nesterov_momentum(self._steps + i) for i in (0, 1))
        self._product *= now
        return ahead / (1 - self._product * ahead), (1 - now) / (1 - self._product)


def _nesterov_momentum(step: int) -> float:
    return FIRST * (1 - 0.5 * 0.96 ** (_NESTEROV_DECAY * step))
