"""Nets as Models: numpy arrays outside, torch within."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from dgex.config import net_options
from dgex.models.base import Model

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from dgex.config import TrainConfig
    from dgex.data.dataset import Dataset
    from dgex.models.device import Precision
    from dgex.models.recipes import AnyNet


class Net(Model):
    """A trained net of any kind: `DGEX`, `ResNetModel` or `TAAF`.

    Examples
    --------
    >>> weights = {"hidden.0.weight": np.eye(2), "hidden.0.bias": np.zeros(2),
    ...            "output.weight": np.array([[1.0, 1.0]]), "output.bias": np.array([0.5])}
    >>> weights = {name: array.astype(np.float32) for name, array in weights.items()}
    >>> model = DGEX.from_arrays(weights, {"hidden_layers": 1, "hidden_units": 2, "dropout": 0.0})
    >>> model.predict(np.zeros((3, 2))).ravel().tolist()
    [0.5, 0.5, 0.5]
    """

    _first: ClassVar[str]
    """Name of the first weights, whose columns are the landmarks."""

    def __init__(self) -> None:
        self._arrays: dict[str, np.ndarray] = {}
        self._settings: dict[str, Any] = {}
        self._n_genes = 0, 0
        self._precision: Precision = "float32"
        self._net: AnyNet | None = None
        self._device: torch.device | None = None

    @property
    def n_landmarks(self) -> int:
        """Number of landmarks it takes."""
        return self._n_genes[0]

    @property
    def n_targets(self) -> int:
        """Number of targets it infers."""
        return self._n_genes[1]

    def fit(self, dataset: Dataset, config: TrainConfig, folder: Path | None = None) -> None:
        """Train; nothing can be resumed where there is no `folder` for checkpoints."""
        from dgex.models.train import train_net

        config = net_options(config, dataset["train"].n)
        trained = train_net(dataset, config, folder, keep_last=True)
        self._arrays = trained.best["validation"].arrays
        self._settings = net_settings(config) | {"training_precision": trained.precision}
        self._n_genes = len(dataset.landmarks), len(dataset.targets)
        self._precision, self._net = "float32", None

    def arrays(self) -> dict[str, np.ndarray]:
        """Weights, of shape (units out, units in), and all else by their names in the net."""
        if self._net is not None and self._precision != "float32":
            state = self._net.state_dict()
            return {name: weight.float().cpu().numpy() for name, weight in state.items()}
        return self._arrays

    def settings(self) -> dict[str, Any]:
        """``hidden_layers``, ``hidden_units``, ``dropout`` and perhaps ``training_precision``."""
        return self._settings

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> Self:
        """Undo `arrays` and `settings`."""
        model = cls()
        model._settings = dict(settings)
        layers, units = int(settings["hidden_layers"]), int(settings["hidden_units"])
        size = f"{layers} x {units} units"
        missing = {cls._first, "output.weight"} - arrays.keys()
        if missing or layers < 1 or units < 1:
            raise ValueError(f"{', '.join(sorted(arrays))} do not make a net of {size}")
        model._n_genes = arrays[cls._first].shape[-1], len(arrays["output.weight"])
        net = model._empty_net()
        shapes = {name: tuple(weights.shape) for name, weights in net.named_parameters()}
        found = {name: array.shape for name, array in arrays.items()}
        if found != shapes:
            wrong = sorted(
                name for name in shapes.keys() | found if shapes.get(name) != found.get(name)
            )
            raise ValueError(f"{', '.join(wrong)} do not make a net of {size}")
        model._arrays = dict(arrays)
        return model

    @property
    def precision(self) -> Precision:
        """What it infers in; ``float32`` where `infer_in` has not said otherwise."""
        return self._precision

    def infer_in(self, precision: str) -> None:
        """Infer in ``float32``, in ``bf16``, or (``auto``) in bf16 where that is faster.

        For bf16 the weights are rounded for good: the model then takes half the memory, and
        `arrays` gives the rounded ones.

        Raises
        ------
        UsageError
            The device has no instructions for bf16.
        """
        if precision == "float32":
            return
        from dgex.models.device import choose_device, choose_precision

        self._precision = choose_precision(precision, choose_device("auto"))
        if self._precision == "bf16":
            self._net = self._make_net()

    def _predict_block(self, x_bl: np.ndarray, y_bt: np.ndarray) -> None:
        import torch

        from dgex.models.device import sums_in_float32

        if self._net is None:
            self._net = self._make_net()
        with torch.inference_mode(), sums_in_float32():
            # Torch warns about memory that may not be written to, as a read-only map's may not.
            x = torch.from_numpy(np.require(x_bl, requirements=["C", "W"])).to(self._device)
            torch.from_numpy(y_bt).copy_(self._net(x))

    def _empty_net(self) -> AnyNet:
        import torch

        from dgex.models.recipes import RECIPES

        with torch.device("meta"):
            return RECIPES[self.kind].net(
                self.n_landmarks,
                self.n_targets,
                hidden_layers=int(self._settings["hidden_layers"]),
                hidden_units=int(self._settings["hidden_units"]),
                dropout=float(self._settings["dropout"]),
            )

    def _make_net(self) -> AnyNet:
        import torch

        from dgex.models.device import DTYPES, choose_device

        net = self._empty_net()
        self._device = choose_device("auto")
        weights = {}
        # The largest last, when room has been made by rounding the others.
        for name in sorted(self._arrays, key=lambda name: self._arrays[name].size):
            array = self._arrays[name] if self._precision == "float32" else self._arrays.pop(name)
            tensor = torch.from_numpy(np.require(array, requirements=["C", "W"]))
            weights[name] = tensor.to(self._device, DTYPES[self._precision])
            del array, tensor
        net.load_state_dict(weights, assign=True)
        return net.eval()


class DGEX(Net):
    """The net of D-GEX (see `dgex.models.nets.DGEXNet`)."""

    kind = "dgex"
    _first = "hidden.0.weight"


class ResNetModel(Net):
    """A residual net (see `dgex.models.resnet.ResNet`)."""

    kind = "resnet"
    _first = "input.weight"


class TAAF(Net):
    """A net with adaptive activations (see `dgex.models.taaf.TAAFNet`)."""

    kind = "taaf"
    _first = "dense.0.weight"


def net_settings(config: TrainConfig) -> dict[str, Any]:
    """What of the options a net is made of."""
    return {
        "hidden_layers": config.hidden_layers,
        "hidden_units": config.hidden_units,
        "dropout": config.dropout,
    }
