"""What the weights of a D-GEX net look like: their distribution, the strong ones, and the hubs.

Arrays are those of `dgex.models.nets.DGEXNet` by their names; a weight matrix has shape
(units out, units in). Layers of weights are called ``hidden 1``, ``hidden 2``, … and ``output``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dgex.errors import DataError, UsageError

OUTPUT = "output"
NEAR_ZERO = 0.01

_QUANTILES = (0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999)
_NAMED = 5
_BLOCK_WEIGHTS = 4_000_000


@dataclass(frozen=True)
class StrongConnections:
    """The strong connections of a net and the hidden units that gather them.

    Attributes
    ----------
    connections
        A row per strong connection, the strongest of a layer first: `layer` (``hidden 1`` from a
        landmark, ``output`` to a target), `unit` of the hidden layer, counted from 0, `gene`,
        `symbol` and `weight`.
    hubs
        A row per hidden unit, the first hub of a hidden layer first: `hidden_layer` (from 1),
        `rank`, `unit`, `n_landmarks` and `n_targets` (its strong connections; missing where the
        layer does not touch landmarks or targets), `share_percent` of the strong connections that
        it has, the mean of both sides where there are two, `strongest_landmarks` and
        `strongest_targets` by name.
    layers
        A row per layer looked at: `layer`, `hidden_layer`, `n_weights`, `n_strong`, `threshold`
        (the smallest strong absolute weight), `threshold_in_sd`, `n_units`, and
        `n_units_with_half`, the fewest units that have half of the strong connections, beside
        `n_units_with_half_by_chance` (see `chance_counts`).
    """

    connections: pd.DataFrame
    hubs: pd.DataFrame
    layers: pd.DataFrame


def weight_layers(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Weight matrices by layer, from the landmarks upwards; biases are left out.

    Raises
    ------
    DataError
        The arrays are not those of a D-GEX net, or some are not finite.

    Examples
    --------
    >>> arrays = {"output.weight": np.ones((3, 2)), "hidden.0.weight": np.ones((2, 4))}
    >>> {name: weight_oi.shape for name, weight_oi in weight_layers(arrays).items()}
    {'hidden 1': (2, 4), 'output': (3, 2)}
    """
    layers: dict[str, np.ndarray] = {}
    while (name := f"hidden.{len(layers)}.weight") in arrays:
        layers[f"hidden {len(layers) + 1}"] = arrays[name]
    if not layers or "output.weight" not in arrays:
        raise DataError("These are not the weights of a D-GEX net. Give those of a model dgex.")
    layers[OUTPUT] = arrays["output.weight"]
    for name, weight_oi in layers.items():
        # A sum is infinite or NaN where a weight is, and needs no copy of the weights.
        if not np.isfinite(weight_oi.sum(dtype=np.float64)):
            raise DataError(f"Some weights of {name} are not finite. Train the Model again.")
    return layers


def weight_summary(
    arrays: Mapping[str, np.ndarray], bins: int = 101
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Distribution of the weights of each layer.

    Memory: one copy of the largest layer.

    Parameters
    ----------
    arrays
        Arrays of the net.
    bins
        Bins of the histogram, from minus to plus the largest absolute weight of the layer; with
        an odd number 0 is in the middle of one.

    Returns
    -------
    tuple of pandas.DataFrame
        A row per layer: `layer`, `units_in`, `units_out`, `n`, `mean`, `sd` (population),
        `excess_kurtosis` (0 of a normal distribution, −1.2 of a uniform one; NaN of equal
        weights), `min`, quantiles ``q0.1`` to ``q99.9`` (percent), `max`, `percent_near_zero`,
        the share of weights within ±0.01, and for hidden layers `start`, the bound within which
        they started (see `dgex.models.nets.DGEXNet`), and `percent_beyond_start`. Then a row per
        layer and bin: `layer`, `low`, `high`, `n`.

    Raises
    ------
    DataError
        The arrays are not those of a D-GEX net.

    Examples
    --------
    >>> arrays = {"hidden.0.weight": np.array([[-1.0, 0.0, 1.0]]), "output.weight": np.eye(1)}
    >>> layers, histogram = weight_summary(arrays, bins=3)
    >>> layers[["layer", "n", "mean", "excess_kurtosis"]].values.tolist()[0]
    ['hidden 1', 3, 0.0, -1.5]
    >>> histogram["n"].tolist()
    [1, 1, 1, 0, 0, 1]
    """
    rows, histograms = [], []
    for layer, weight_oi in weight_layers(arrays).items():
        mean = float(weight_oi.mean(dtype=np.float64))
        second, fourth = _central_moments(weight_oi, mean)
        quantiles = np.quantile(weight_oi.flatten(), _QUANTILES, overwrite_input=True)
        lowest, highest = float(weight_oi.min()), float(weight_oi.max())
        bound = max(-lowest, highest) or 1.0
        counts, edges = np.histogram(weight_oi, bins=bins, range=(-bound, bound))
        n_near = _n_within(weight_oi, NEAR_ZERO)
        start = math.nan if layer == OUTPUT else math.sqrt(6 / sum(weight_oi.shape))
        n_beyond = math.nan if layer == OUTPUT else weight_oi.size - _n_within(weight_oi, start)
        rows.append(
            {
                "layer": layer,
                "units_in": weight_oi.shape[1],
                "units_out": weight_oi.shape[0],
                "n": weight_oi.size,
                "mean": mean,
                "sd": math.sqrt(second),
                "excess_kurtosis": fourth / second**2 - 3 if second > 0 else math.nan,
                "min": lowest,
                **{
                    f"q{100 * q:g}": float(value)
                    for q, value in zip(_QUANTILES, quantiles, strict=True)
                },
                "max": highest,
                "percent_near_zero": 100.0 * n_near / weight_oi.size,
                "start": start,
                "percent_beyond_start": 100.0 * n_beyond / weight_oi.size,
            }
        )
        histograms.append(
            pd.DataFrame({"layer": layer, "low": edges[:-1], "high": edges[1:], "n": counts})
        )
    return pd.DataFrame(rows), pd.concat(histograms, ignore_index=True)


def _n_within(weight_oi: np.ndarray, bound: float) -> int:
    return int(np.count_nonzero((weight_oi >= -bound) & (weight_oi <= bound)))


def _central_moments(weight_oi: np.ndarray, mean: float) -> tuple[float, float]:
    second = fourth = 0.0
    step = max(1, _BLOCK_WEIGHTS // weight_oi.shape[1])
    for start in range(0, len(weight_oi), step):
        squared = np.square(weight_oi[start : start + step].astype(np.float64) - mean)
        second += float(squared.sum())
        fourth += float(np.square(squared, out=squared).sum())
    return second / weight_oi.size, fourth / weight_oi.size


def strong_connections(
    arrays: Mapping[str, np.ndarray],
    landmarks: pd.DataFrame,
    targets: pd.DataFrame,
    share: float = 0.001,
) -> StrongConnections:
    """The strong connections of landmarks and of targets with hidden units, and the hubs.

    Strong are, in the first and in the last layer each, the `share` of the connections with the
    largest absolute weights (with ties, all of them; weights of 0 never). A share and not a
    number of standard deviations, because the two layers differ in scale and in shape: the first
    starts uniform within ±sqrt(6 / (fan in + fan out)), so that before it has learned much none
    of its weights is far out, while the last starts next to 0 and grows long tails. A share gives
    every net the same number of connections, and so numbers of hubs that can be compared; whether
    these gather on few units more than chance would have it is said beside them.

    With one hidden layer a hub has landmarks and targets; with more, the units of the first
    hidden layer have landmarks and those of the last one targets.

    Memory: one copy of the larger of the two layers.

    Parameters
    ----------
    arrays
        Arrays of the net.
    landmarks, targets
        Gene tables (index of ids, column `symbol`) in the order of the net's inputs and outputs.
    share
        Share of the connections of a layer that are strong.

    Raises
    ------
    DataError
        The arrays are not those of a D-GEX net, or of other numbers of genes.
    UsageError
        `share` is not between 0 and 1.

    Examples
    --------
    >>> arrays = {"hidden.0.weight": np.array([[0.9, 0.1], [0.2, -0.8]]),
    ...           "output.weight": np.array([[0.1, 0.7]])}
    >>> landmarks = pd.DataFrame({"symbol": ["TP53", "MYC"]}, index=["l0", "l1"])
    >>> targets = pd.DataFrame({"symbol": ["CDK1"]}, index=["t0"])
    >>> strong = strong_connections(arrays, landmarks, targets, share=0.5)
    >>> strong.connections[["layer", "unit", "symbol", "weight"]].values.tolist()
    [['hidden 1', 0, 'TP53', 0.9], ['hidden 1', 1, 'MYC', -0.8], ['output', 1, 'CDK1', 0.7]]
    >>> strong.hubs["unit"].tolist(), strong.hubs["n_targets"].tolist()
    ([1, 0], [1, 0])
    """
    if not 0 < share <= 1:
        raise UsageError(f"The share of strong connections is {share}. Choose it within 0 and 1.")
    weights = weight_layers(arrays)
    first_hl, output_th = weights["hidden 1"], weights[OUTPUT]
    if (len(output_th), first_hl.shape[1]) != (len(targets), len(landmarks)):
        raise DataError(
            f"A net of {first_hl.shape[1]} landmarks and {len(output_th)} targets does not fit "
            f"tables of {len(landmarks)} and {len(targets)} genes. Give its own."
        )
    last_hidden = len(weights) - 1
    unit_of, landmark_of, first_threshold = _strongest(first_hl, share)
    target_of, last_unit_of, last_threshold = _strongest(output_th, share)
    first = _connection_table("hidden 1", first_hl[unit_of, landmark_of], unit_of, landmark_of)
    last = _connection_table(OUTPUT, output_th[target_of, last_unit_of], last_unit_of, target_of)
    first = _with_names(first, landmarks)
    last = _with_names(last, targets)

    sides = [
        ("n_landmarks", "strongest_landmarks", 1, first, len(first_hl)),
        ("n_targets", "strongest_targets", last_hidden, last, output_th.shape[1]),
    ]
    hubs = pd.concat(
        [
            _hubs_of(hidden_layer, [side for side in sides if side[2] == hidden_layer])
            for hidden_layer in sorted({1, last_hidden})
        ],
        ignore_index=True,
    )
    layers = pd.DataFrame(
        [
            {"layer": "hidden 1", "hidden_layer": 1}
            | _strength(first, first_hl, first_threshold, len(first_hl)),
            {"layer": OUTPUT, "hidden_layer": last_hidden}
            | _strength(last, output_th, last_threshold, output_th.shape[1]),
        ]
    )
    return StrongConnections(pd.concat([first, last], ignore_index=True), hubs, layers)


def chance_counts(n_strong: int, n_units: int) -> np.ndarray:
    """Strong connections per unit, most first, if each had fallen on a unit at random.

    These are the quantiles of the binomial distribution at (i + 1/2) / `n_units`, shape (h,).

    Examples
    --------
    >>> chance_counts(6, 4).tolist()
    [3, 2, 1, 0]
    """
    from scipy.stats import binom

    levels_h = (np.arange(n_units)[::-1] + 0.5) / n_units
    return np.asarray(binom.ppf(levels_h, n_strong, 1.0 / n_units)).astype(np.int64)


def units_with_half(counts_h: np.ndarray) -> int:
    """The fewest units that have at least half of all connections.

    Examples
    --------
    >>> units_with_half(np.array([1, 5, 0, 4]))
    1
    """
    most_first = np.sort(counts_h)[::-1]
    total = int(most_first.sum())
    return 0 if total == 0 else int(np.searchsorted(2 * np.cumsum(most_first), total)) + 1


def _strongest(weight_oi: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray, float]:
    """Rows and columns of the strongest weights, and the smallest absolute value of these."""
    n_strong = math.ceil(share * weight_oi.size)
    absolute = np.abs(weight_oi).ravel()
    absolute.partition(absolute.size - n_strong)
    threshold = absolute[-n_strong]
    del absolute
    strong_oi = (weight_oi >= threshold) | (weight_oi <= -threshold)
    if threshold == 0:
        strong_oi = weight_oi != 0
    rows, columns = np.nonzero(strong_oi)
    return rows, columns, float(threshold)


def _connection_table(
    layer: str, weights: np.ndarray, unit_of: np.ndarray, gene_of: np.ndarray
) -> pd.DataFrame:
    table = pd.DataFrame({"layer": layer, "unit": unit_of, "gene": gene_of, "weight": weights})
    order = np.lexsort((gene_of, unit_of, -np.abs(weights)))
    return table.iloc[order].reset_index(drop=True)


def _with_names(table: pd.DataFrame, genes: pd.DataFrame) -> pd.DataFrame:
    position = table["gene"].to_numpy()
    table["gene"] = genes.index.to_numpy()[position]
    table.insert(3, "symbol", genes["symbol"].to_numpy()[position])
    return table


def shown_names(table: pd.DataFrame, symbol: str = "symbol", gene: str = "gene") -> pd.Series:
    """The symbol of each row, or its id where it has none.

    Examples
    --------
    >>> shown_names(pd.DataFrame({"symbol": ["TP53", ""], "gene": ["g1", "g2"]})).tolist()
    ['TP53', 'g2']
    """
    return table[symbol].where(table[symbol] != "", table[gene])


def _hubs_of(
    hidden_layer: int, sides: list[tuple[str, str, int, pd.DataFrame, int]]
) -> pd.DataFrame:
    n_units = sides[0][4]
    hubs = pd.DataFrame({"hidden_layer": hidden_layer, "rank": 0, "unit": range(n_units)})
    for column in ("n_landmarks", "n_targets"):
        hubs[column] = pd.array([pd.NA] * n_units, dtype="Int64")
    hubs["share_percent"] = 0.0
    hubs["strongest_landmarks"] = hubs["strongest_targets"] = ""
    for count, names, _, table, _ in sides:
        hubs[count] = np.bincount(table["unit"], minlength=n_units)
        hubs["share_percent"] += 100.0 * hubs[count] / max(1, len(table)) / len(sides)
        named = shown_names(table).groupby(table["unit"]).agg(lambda one: ", ".join(one[:_NAMED]))
        hubs[names] = hubs["unit"].map(named).fillna("")
    hubs = hubs.sort_values(["share_percent", "unit"], ascending=[False, True], ignore_index=True)
    hubs["rank"] = np.arange(1, n_units + 1)
    return hubs


def _strength(
    table: pd.DataFrame, weight_oi: np.ndarray, threshold: float, n_units: int
) -> dict[str, object]:
    counts_h = np.bincount(table["unit"], minlength=n_units)
    sd = float(weight_oi.std(dtype=np.float64))
    return {
        "n_weights": weight_oi.size,
        "n_strong": len(table),
        "threshold": threshold,
        "threshold_in_sd": threshold / sd if sd > 0 else math.nan,
        "n_units": n_units,
        "n_units_with_half": units_with_half(counts_h),
        "n_units_with_half_by_chance": units_with_half(chance_counts(len(table), n_units)),
    }
