"""Torch modules, and nothing but modules."""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

OUTPUT_BOUND = 1e-4


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
        self.hidden = nn.ModuleList(
            nn.Linear(fan_in, fan_out) for fan_in, fan_out in pairwise(widths)
        )
        self.output = nn.Linear(widths[-1], n_targets)
        self.dropout = nn.Dropout(dropout)
        for layer in self.linear_layers():
            nn.init.zeros_(layer.bias)
            if layer is self.output:
                nn.init.uniform_(layer.weight, -OUTPUT_BOUND, OUTPUT_BOUND)
            else:
                nn.init.xavier_uniform_(layer.weight)

    def linear_layers(self) -> list[nn.Linear]:
        """Layers with weights, from the landmarks upwards."""
        return [*(cast(nn.Linear, layer) for layer in self.hidden), self.output]

    def forward(self, x_nl: Tensor) -> Tensor:
        """Targets of landmarks."""
        hidden_nh = x_nl
        for layer in self.hidden:
            hidden_nh = self.dropout(torch.tanh(layer(hidden_nh)))
        y_nt: Tensor = self.output(hidden_nh)
        return y_nt
