"""Torch modules, and nothing but modules."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

OUTPUT_BOUND = 1e-4


class Linear(nn.Linear):
    """A linear layer that can keep the memory of its weights' gradient.

    With `keeps_gradient` a backward pass through it, while training, replaces the gradients of
    its weights and biases instead of adding to them. Asking the system for tens of megabytes
    anew in every batch takes a processor as long as a fifth of the products.

    Examples
    --------
    >>> layer = Linear(2, 1)
    >>> layer.keeps_gradient = True
    >>> for _ in range(2):
    ...     layer(torch.ones(3, 2)).sum().backward()
    >>> layer.weight.grad, layer.bias.grad
    (tensor([[3., 3.]]), tensor([3.]))
    """

    keeps_gradient = False
    _memory: Tensor | None = None

    def forward(self, input: Tensor) -> Tensor:
        """Units above of units below."""
        if self.keeps_gradient and self.training and torch.is_grad_enabled():
            y_nh: Tensor = _KeptGradient.apply(  # type: ignore[no-untyped-call]
                input, self.weight, self.bias, self
            )
            return y_nh
        return super().forward(input)


class _KeptGradient(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x_nl: Tensor, weight_hl: Tensor, bias_h: Tensor | None, layer: Linear
    ) -> Tensor:
        ctx.save_for_backward(x_nl, weight_hl)
        ctx.layer = layer
        return functional.linear(x_nl, weight_hl, bias_h)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None, None]:
        (gradient_nh,) = gradients
        x_nl, weight_hl = ctx.saved_tensors
        layer = ctx.layer
        if layer._memory is None or layer._memory.dtype != weight_hl.dtype:
            layer._memory = torch.empty_like(weight_hl)
        layer.weight.grad = torch.mm(gradient_nh.t(), x_nl, out=layer._memory)
        if layer.bias is not None:
            layer.bias.grad = gradient_nh.sum(dim=0)
        return gradient_nh @ weight_hl if ctx.needs_input_grad[0] else None, None, None, None


class DGEXNet(nn.Module):
    """The net of D-GEX: tanh hidden layers, a linear output, all targets in one net.

    Weights of the hidden layers start uniform within ±sqrt(6 / (fan_in + fan_out)), those of the
    output within ±1e-4, biases at 0. While training, each hidden unit is dropped with probability
    `dropout` and the others are scaled by 1 / (1 - dropout); landmarks are never dropped.

    Source: Chen et al. 2016, sections 2.3.3 and 2.4.

    Parameters
    ----------
    n_landmarks, n_targets
        Numbers of genes in and out.
    hidden_layers
        Number of hidden layers.
    hidden_units
        Units of each hidden layer.
    dropout
        Share of hidden units dropped while training.

    **Shape**

    - Input: landmarks in standardised units, (n, l).
    - Output: targets in standardised units, (n, t).

    Examples
    --------
    >>> net = DGEXNet(943, 9520, hidden_layers=2, hidden_units=30, dropout=0.1)
    >>> net(torch.zeros(5, 943)).shape
    torch.Size([5, 9520])
    >>> sum(weights.numel() for weights in net.parameters())
    324370
    """

    def __init__(
        self,
        n_landmarks: int,
        n_targets: int,
        *,
        hidden_layers: int,
        hidden_units: int,
        dropout: float,
    ) -> None:
        super().__init__()
        widths = [n_landmarks] + [hidden_units] * hidden_layers
        self.hidden = nn.ModuleList(Linear(fan_in, fan_out) for fan_in, fan_out in pairwise(widths))
        self.output = Linear(widths[-1], n_targets)
        self.dropout = nn.Dropout(dropout)
        for layer in self.linear_layers():
            nn.init.zeros_(layer.bias)
            if layer is self.output:
                nn.init.uniform_(layer.weight, -OUTPUT_BOUND, OUTPUT_BOUND)
            else:
                nn.init.xavier_uniform_(layer.weight)

    def linear_layers(self) -> list[Linear]:
        """Layers with weights, from the landmarks upwards."""
        return [*(cast(Linear, layer) for layer in self.hidden), self.output]

    def forward(self, x_nl: Tensor) -> Tensor:
        """Targets of landmarks, in the precision of the weights."""
        hidden_nh = x_nl.to(self.output.weight.dtype)
        for layer in self.hidden:
            hidden_nh = self.dropout(torch.tanh(layer(hidden_nh)))
        y_nt: Tensor = self.output(hidden_nh)
        return y_nt
