"""What moves the weights of a net: float32 weights, whatever the net computes in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

CHUNK = 2**19
"""Weights moved at a time on a processor: all that is read and written of them fits its cache."""


class Optimiser(ABC):
    """Moves the weights of a net by its gradients.

    Weights and state are float32. The net itself computes in `dtype`: in bfloat16 it holds rounded
    copies of the weights, made anew after each step, and has gradients in bfloat16; products are
    accumulated in float32 either way.

    Parameters
    ----------
    net
        The net, its weights in float32 and on their device; it is turned to `dtype`.
    dtype
        float32 or bfloat16.

    Attributes
    ----------
    weights
        Weights by name.
    state
        What a step goes by beside the gradients, by name.
    averages
        Averages of the weights over the steps by name; empty where none are kept.
    """

    def __init__(self, net: nn.Module, *, dtype: torch.dtype) -> None:
        self.weights = {name: weights.detach() for name, weights in net.named_parameters()}
        self.state: dict[str, Tensor] = {}
        self.averages: dict[str, Tensor] = {}
        # The weights above keep their float32; only the net's own turn.
        net.to(dtype)
        self._parameters = list(net.parameters())
        device = self._parameters[0].device
        self._chunk = CHUNK if device.type == "cpu" else max(x.numel() for x in self._parameters)

    @abstractmethod
    def step(self, rate: float) -> None:
        """Move the weights by the net's gradients, and renew the net's copies."""

    @property
    def kept(self) -> dict[str, Tensor]:
        """The weights by name that a training scores and keeps: averages where there are any."""
        return self.averages or self.weights

    def restore(
        self,
        weights: Mapping[str, np.ndarray],
        state: Mapping[str, np.ndarray],
        averages: Mapping[str, np.ndarray] | None = None,
        steps: int = 0,
    ) -> None:
        """Go on from such `weights`, `state` and `averages` after so many `steps`."""
        with torch.no_grad():
            for own, given in (
                (self.weights, weights),
                (self.state, state),
                (self.averages, averages or {}),
            ):
                for name, tensor in own.items():
                    tensor.copy_(torch.from_numpy(given[name]))
            for name, parameters in zip(self.weights, self._parameters, strict=True):
                if parameters.dtype != torch.float32:
                    parameters.copy_(self.weights[name])

    def _pieces(self, parameters: nn.Parameter, *arrays: Tensor) -> list[tuple[Tensor, ...]]:
        """Pieces of some arrays of one parameter, of its gradient, and perhaps of its copy."""
        weights = arrays[0]
        whole = [*arrays, cast(Tensor, parameters.grad)]
        if parameters.dtype != weights.dtype:
            whole.append(parameters)
        pieces = [torch.split(array.reshape(-1), self._chunk) for array in whole]
        return list(zip(*pieces, strict=True))
