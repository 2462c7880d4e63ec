"""Adam with decoupled weight decay, with or without Nesterov's momentum, and an average."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from dgex.models.optimiser import Optimiser

FIRST = 0.9
"""Share of the average of gradients that is kept in a step; torch's own, as all else is."""

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
        matrices = [weights for weights in self.weights.values() if weights.ndim > 1]
        others = [weights for weights in self.weights.values() if weights.ndim <= 1]
        groups = [
            {"params": matrices, "weight_decay": weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        self._adam: torch.optim.Optimizer
        if nesterov:
            self._adam = torch.optim.NAdam(groups, decoupled_weight_decay=True)
        else:
            self._adam = torch.optim.AdamW(groups, fused=True)
        self._nesterov, self._average, self._steps = nesterov, average, 0
        for name, weights in self.weights.items():
            self.state[f"first.{name}"] = torch.zeros_like(weights)
            self.state[f"second.{name}"] = torch.zeros_like(weights)
        self._hand_over_state()
        if average:
            self.averages = {name: weights.clone() for name, weights in self.weights.items()}

    def step(self, rate: float) -> None:
        """Move the weights by the net's gradients, and renew the net's copies."""
        self._steps += 1
        for weights, parameters in zip(self.weights.values(), self._parameters, strict=True):
            gradient = parameters.grad
            # The memory of the last step is written over: asking for it anew takes long.
            if (
                gradient is not None
                and gradient.dtype != weights.dtype
                and weights.grad is not None
            ):
                weights.grad.copy_(gradient)
            else:
                weights.grad = None if gradient is None else gradient.to(weights.dtype)
        for group in self._adam.param_groups:
            group["lr"] = rate
        self._adam.step()
        kept = min(self._average, self._steps / (self._steps + 10))
        with torch.no_grad():
            for name, average in self.averages.items():
                average.lerp_(self.weights[name], 1 - kept)
            for weights, parameters in zip(self.weights.values(), self._parameters, strict=True):
                if parameters.dtype != weights.dtype:
                    parameters.copy_(weights)

    def restore(
        self,
        weights: Mapping[str, np.ndarray],
        state: Mapping[str, np.ndarray],
        averages: Mapping[str, np.ndarray] | None = None,
        steps: int = 0,
    ) -> None:
        """Go on from such `weights`, `state` and `averages` after so many `steps`."""
        super().restore(weights, state, averages, steps)
        self._steps = steps
        self._hand_over_state()

    def _hand_over_state(self) -> None:
        """Let torch's optimiser go on from `state` and the number of steps."""
        for name, weights in self.weights.items():
            # Fused steps count on the device of the weights.
            device = weights.device if not self._nesterov else None
            own = {
                "step": torch.tensor(float(self._steps), device=device),
                "exp_avg": self.state[f"first.{name}"],
                "exp_avg_sq": self.state[f"second.{name}"],
            }
            if self._nesterov:
                product = torch.ones(())
                for step in range(1, self._steps + 1):
                    product *= _nesterov_momentum(step)
                own["mu_product"] = product
            self._adam.state[weights] = own


def _nesterov_momentum(step: int) -> float:
    return FIRST * (1 - 0.5 * 0.96 ** (_NESTEROV_DECAY * step))
