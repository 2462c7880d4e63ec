"""The points of D-GEX's comparison: its baselines, and nets by layers, units and dropout."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product

from dgex.config import ModelKind, ReproduceConfig, TrainConfig
from dgex.errors import UsageError, name_list
from dgex.models.fit import check_options

BASELINES: dict[ModelKind, str] = {
    "mean": "every gene its mean",
    "ols": "LR",
    "lasso": "LR-L1",
    "ridge": "LR-L2",
    "gene-knn": "KNN-GE",
}
"""Models compared with the nets, and what the paper calls them; it has no ``mean``."""

_LAYERS, _DROPOUT = (1, 2, 3), (0.0, 0.1, 0.25, 0.5)
_UNITS = {"paper": (3000, 6000, 9000), "small": (300, 600, 900)}
_EPOCHS = {"paper": 200, "small": 100}


@dataclass(frozen=True)
class Point:
    """One model of the comparison.

    Attributes
    ----------
    kind
        Kind of model.
    hidden_layers, hidden_units, dropout
        Of a net; None for a baseline.

    Examples
    --------
    >>> Point("dgex", 3, 9000, 0.1).name, Point("ols").name
    ('dgex-3x9000-dropout10', 'ols')
    """

    kind: ModelKind
    hidden_layers: int | None = None
    hidden_units: int | None = None
    dropout: float | None = None

    @property
    def name(self) -> str:
        """Name of its folder."""
        if self.dropout is None:
            return self.kind
        shape = f"{self.hidden_layers}x{self.hidden_units}"
        return f"{self.kind}-{shape}-dropout{100 * self.dropout:g}"

    def train_config(self, config: ReproduceConfig, select_on: str | None) -> TrainConfig:
        """How it is trained; a net is selected on the external set `select_on` too."""
        if self.hidden_layers is None or self.hidden_units is None or self.dropout is None:
            return TrainConfig(model=self.kind, seed=config.seed)
        return TrainConfig(
            model=self.kind,
            hidden_layers=self.hidden_layers,
            hidden_units=self.hidden_units,
            dropout=self.dropout,
            epochs=epochs_of(config),
            select_on=select_on,
            device=config.device,
            precision=config.precision,
            seed=config.seed,
        )

    def n_weights(self, n_landmarks: int, n_targets: int) -> int:
        """Number of weights of a net, without the biases; 0 for a baseline.

        Examples
        --------
        >>> Point("dgex", 3, 9000, 0.1).n_weights(943, 9520)
        256167000
        """
        if self.hidden_layers is None or self.hidden_units is None:
            return 0
        hidden = self.hidden_units**2 * (self.hidden_layers - 1)
        return self.hidden_units * (n_landmarks + n_targets) + hidden


def points_of(config: ReproduceConfig) -> list[Point]:
    """Baselines, then the nets, those with fewer weights first.

    Raises
    ------
    UsageError
        A value is given twice or is out of its range.

    Examples
    --------
    >>> len(points_of(ReproduceConfig()))
    41
    """
    layers = _values("hidden-layers", config.hidden_layers, _LAYERS)
    units = _values("hidden-units", config.hidden_units, _UNITS[config.grid])
    dropout = _values("dropout", config.dropout, _DROPOUT)
    nets = [
        Point("dgex", n_layers, n_units, share)
        for n_layers, n_units, share in product(layers, units, dropout)
    ]
    for net in nets:
        check_options(net.train_config(config, None))
    if len({net.name for net in nets}) < len(nets):
        raise UsageError(f"--dropout {name_list(dropout)}: too close to be told apart.")
    # By the paper's numbers of genes, so that the order is the same for every Dataset.
    nets.sort(key=lambda net: net.n_weights(943, 9520))
    return [*(Point(kind) for kind in BASELINES), *nets]


def epochs_of(config: ReproduceConfig) -> int:
    """Passes over the training profiles.

    Examples
    --------
    >>> epochs_of(ReproduceConfig()), epochs_of(ReproduceConfig(epochs=3))
    (200, 3)
    """
    return _EPOCHS[config.grid] if config.epochs is None else config.epochs


def chosen_points(points: Iterable[Point], only: Iterable[str]) -> list[Point]:
    """The points of these names, all where there are none.

    Raises
    ------
    UsageError
        A name is none of them.

    Examples
    --------
    >>> [point.name for point in chosen_points(points_of(ReproduceConfig()), ["ridge"])]
    ['ridge']
    """
    by_name = {point.name: point for point in points}
    names = list(only)
    unknown = [name for name in names if name not in by_name]
    if unknown:
        raise UsageError(
            f"--only {name_list(unknown)}: not in this grid, which has {name_list(by_name, 100)}."
        )
    return [by_name[name] for name in names or by_name]


def _values(flag: str, given: tuple[float, ...] | None, own: tuple[float, ...]) -> tuple:  # type: ignore[type-arg]
    values = own if given is None else given
    if len(set(values)) < len(values) or not values:
        raise UsageError(f"--{flag} {name_list(values) or 'none'}: give each value once.")
    return values
