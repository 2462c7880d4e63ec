"""Gradient descent with momentum, after D-GEX."""

from __future__ import annotations

import torch
from torch import Tensor

from dgex.models.nets import DGEXNet
from dgex.models.optimiser import Optimiser

_Part = tuple[Tensor, ...]


class Descent(Optimiser):
    """Moves the weights of a net: v ← momentum · v - rate · gradient, weight ← weight + v.

    Source: Chen et al. 2016, section 2.4 and its program.

    Parameters
    ----------
    net
        The net, its weights in float32 and on their device; it is turned to `dtype`.
    momentum
        Share of v that is kept.
    upper_factor
        Learning rate of the weights above the first layer, as a multiple; biases have the rate.
    dtype
        float32 or bfloat16.

    Attributes
    ----------
    speeds
        v by name.

    Examples
    --------
    >>> net = DGEXNet(2, 3, hidden_layers=1, hidden_units=4, dropout=0.0)
    >>> descent = Descent(net, momentum=0.5, upper_factor=3.0, dtype=torch.bfloat16)
    >>> net.output.bias.grad = torch.ones(3, dtype=torch.bfloat16)
    >>> for parameters in set(net.parameters()) - {net.output.bias}:
    ...     parameters.grad = torch.zeros_like(parameters)
    >>> descent.step(0.1)
    >>> descent.weights["output.bias"], net.output.bias.data
    (tensor([-0.1000, -0.1000, -0.1000]), tensor([-0.1001, -0.1001, -0.1001], dtype=torch.bfloat16))
    """

    def __init__(
        self, net: DGEXNet, *, momentum: float, upper_factor: float, dtype: torch.dtype
    ) -> None:
        super().__init__(net, dtype=dtype)
        self.speeds = {name: torch.zeros_like(weights) for name, weights in self.weights.items()}
        self.state = self.speeds
        upper = {layer.weight for layer in net.linear_layers()[1:]}
        # Tensors, because numbers would be compiled in, again for every learning rate.
        self._factors = torch.tensor(
            [upper_factor if parameters in upper else 1.0 for parameters in self._parameters],
            device=self._parameters[0].device,
        )
        self._momentum = momentum
        self._move = _move

    def step(self, rate: float) -> None:
        """Move the weights by the net's gradients, and renew the net's copies."""
        parts: list[_Part] = []
        with torch.no_grad():
            factors = (self._factors * -rate).unbind()
            for parameters, weights, speeds, factor in zip(
                self._parameters, self.weights.values(), self.speeds.values(), factors, strict=True
            ):
                pieces = self._pieces(parameters, weights, speeds)
                parts += [(factor, *piece) for piece in pieces]
            self._move(parts, self._momentum)

    def compile(self, compiled: bool = True) -> None:
        """Let the next steps move all weights in one compiled pass over memory, or not."""
        self._move = torch.compile(_move, dynamic=False) if compiled else _move


def _move(parts: list[_Part], momentum: float) -> None:
    """Move pieces of the weights; of each: minus its rate, weights, v, gradient, perhaps a copy."""
    for factor, weights, speeds, gradient, *copies in parts:
        speeds.mul_(momentum).addcmul_(gradient, factor)
        weights.add_(speeds)
        for copy in copies:
            copy.copy_(weights)
