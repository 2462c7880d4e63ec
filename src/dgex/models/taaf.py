"""The modules of the net with adaptive activations, and nothing but modules."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from dgex.models.nets import Linear

OUTPUT_RANGE = 8.0
"""Standardised expression rarely leaves ±4: the first alpha of the output, about 0."""


class AdaptiveSigmoid(nn.Module):
    """alpha · sigmoid(beta · x + gamma) + delta, each of the four learned per unit.

    Beta starts at 1, gamma at 0, alpha at `span` and delta where activations are about `centre`.

    Source: Kunc & Kléma 2021 (see `TAAFNet`).

    Examples
    --------
    >>> AdaptiveSigmoid(2)(torch.tensor([[0.0, 100.0]])).data
    tensor([[0.5000, 1.0000]])
    """

    def __init__(self, units: int, *, span: float = 1.0, centre: float = 0.5) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.full((units,), span))
        self.beta = nn.Parameter(torch.ones(units))
        self.gamma = nn.Parameter(torch.zeros(units))
        self.delta = nn.Parameter(torch.full((units,), centre - span / 2))

    def forward(self, x_nh: Tensor) -> Tensor:
        """Activations of units."""
        inner_nh = torch.sigmoid(torch.addcmul(self.gamma, self.beta, x_nh))
        return torch.addcmul(self.delta, self.alpha, inner_nh)


class TAAFNet(nn.Module):
    """D-GEX's net with transformative adaptive activation functions, in the output too.

    Dense layers without biases, whose part gamma takes; weights start uniform within
    ±sqrt(6 / (fan_in + fan_out)).

    Source: Kunc & Kléma, *On transformative adaptive activation functions in neural networks for
    gene expression inference*, PLoS ONE 2021. What is said here of their recipe is from the
    authors' example program (TAAF-D-GEX): logistic sigmoids, in the output too; two hidden layers
    of 300 units where the paper's nets have some 30 times the weights; a quarter of the hidden
    units dropped; mean absolute error; Nadam at 5e-4, batches of 64, 600 epochs, the rate falling
    in steps from epoch 400 on. The paper's own widths, rates and numbers of epochs were not found.
    What is learned starts there as in `AdaptiveSigmoid`, in the output too. From that the output
    of few steps stays within 0 to 1 (validation MAE 0.46 to 0.47 where this reaches 0.28 to 0.35),
    so alpha starts at `OUTPUT_RANGE` here, about 0; and the learning rate is higher, dropout and
    epochs are fewer, by validation on two compendia of 1,200 to 1,300 profiles.

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
    >>> net = TAAFNet(942, 952, hidden_layers=2, hidden_units=300, dropout=0.25)
    >>> sum(weights.numel() for weights in net.parameters())
    664408
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
        self.dense = nn.ModuleList(
            Linear(fan_in, fan_out, bias=False) for fan_in, fan_out in pairwise(widths)
        )
        self.activations = nn.ModuleList(AdaptiveSigmoid(units) for units in widths[1:])
        self.output = Linear(widths[-1], n_targets, bias=False)
        self.output_activation = AdaptiveSigmoid(n_targets, span=OUTPUT_RANGE, centre=0.0)
        self.dropout = nn.Dropout(dropout)
        for layer in [*self.dense, self.output]:
            nn.init.xavier_uniform_(layer.weight)

    def forward(self, x_nl: Tensor) -> Tensor:
        """Targets of landmarks, in the precision of the weights."""
        hidden_nh = x_nl.to(self.output.weight.dtype)
        for layer, activation in zip(self.dense, self.activations, strict=True):
            hidden_nh = self.dropout(activation(layer(hidden_nh)))
        y_nt: Tensor = self.output_activation(self.output(hidden_nh))
        return y_nt
