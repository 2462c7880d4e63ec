"""The modules of the residual net, and nothing but modules."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from dgex.models.nets import Linear


class ResidualBlock(nn.Module):
    """Adds to its units what a hidden layer makes of them, normalised.

    h + dropout(outer(dropout(gelu(inner(layer norm(h)))))).

    Examples
    --------
    >>> import torch
    >>> block = ResidualBlock(4, dropout=0.0)
    >>> block(torch.zeros(2, 4)).shape
    torch.Size([2, 4])
    """

    def __init__(self, units: int, *, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(units)
        self.inner = Linear(units, units)
        self.outer = Linear(units, units)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden_nh: Tensor) -> Tensor:
        """Units of the next block."""
        inner_nh = self.dropout(functional.gelu(self.inner(self.norm(hidden_nh))))
        added_nh: Tensor = self.dropout(self.outer(inner_nh))
        return hidden_nh + added_nh


class ResNet(nn.Module):
    """A residual net: landmarks to hidden units, residual blocks, layer norm, linear output.

    The units are a linear map of the landmarks and every block adds to them, so a linear path
    leads from the landmarks to the output beside all blocks. Weights of the output start at 0,
    the others as torch's linear layers do, uniform within ±1/sqrt(fan in).

    Source: He et al., *Deep residual learning for image recognition*, CVPR 2016; Gorishniy et
    al., *Revisiting deep learning models for tabular data*, NeurIPS 2021.

    Parameters
    ----------
    n_landmarks, n_targets
        Numbers of genes in and out.
    hidden_layers
        Number of residual blocks.
    hidden_units
        Units beside, and within, each block.
    dropout
        Share dropped while training of the landmarks, of the units within a block, of what it
        adds, and of the units below the output.

    **Shape**

    - Input: landmarks in standardised units, (n, l).
    - Output: targets in standardised units, (n, t).

    Examples
    --------
    >>> import torch
    >>> net = ResNet(943, 9520, hidden_layers=2, hidden_units=30, dropout=0.1)
    >>> net(torch.zeros(5, 943)).shape
    torch.Size([5, 9520])
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
        self.input = Linear(n_landmarks, hidden_units)
        self.blocks = nn.ModuleList(
            ResidualBlock(hidden_units, dropout=dropout) for _ in range(hidden_layers)
        )
        self.norm = nn.LayerNorm(hidden_units)
        self.dropout = nn.Dropout(dropout)
        self.output = Linear(hidden_units, n_targets)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, x_nl: Tensor) -> Tensor:
        """Targets of landmarks, in the precision of the weights."""
        hidden_nh = self.input(self.dropout(x_nl.to(self.output.weight.dtype)))
        for block in self.blocks:
            hidden_nh = block(hidden_nh)
        y_nt: Tensor = self.output(self.dropout(self.norm(hidden_nh)))
        return y_nt
