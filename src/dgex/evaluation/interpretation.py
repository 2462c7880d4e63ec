"""What a trained net has learned: tables, figures and sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dgex.errors import UsageError, name_list
from dgex.evaluation.evaluate import evaluate_models
from dgex.evaluation.interpretation_figures import (
    connections_figure,
    hubs_figure,
    landmarks_figure,
    weights_figure,
)
from dgex.files import whole_file, write_json
from dgex.models.gradients import (
    Gradients,
    landmark_gradients,
    own_landmark_ranks,
    top_landmarks,
)
from dgex.models.interpret import (
    OUTPUT,
    StrongConnections,
    strong_connections,
    weight_summary,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from dgex.data.dataset import Dataset
    from dgex.models.bundle import Bundle

INFO_FILE = "interpretation.json"
_N_SHOWN = 12

_CAPTIONS = {
    "weights": (
        "Weights",
        "Distribution of the weights of each layer, with a logarithmic count. Beyond the dashed "
        "lines are the strong connections, the {share:g} % with the largest absolute weights of "
        "their layer. The grey band is the range within which the weights of a hidden layer "
        "started.",
    ),
    "hubs": (
        "Hub units",
        "Number of strong connections of each hidden unit, the unit with the most first. The "
        "dashed line is what {share:g} % of the connections would give if each fell on a unit at "
        "random.",
    ),
    "connections": (
        "What the hubs connect",
        "The ten hidden units with the largest share of the strong connections, and the up to four "
        "strongest of their strong connections with landmarks and with targets. Blue is a positive "
        "weight, orange a negative one; the wider, the stronger. Genes of several units are bold.",
    ),
    "landmarks": (
        "Landmarks that targets lean on",
        "{which}: the landmarks with the largest gradients. A bar is the gradient averaged over "
        "{n_mean} of {set_name}: standard deviations by which the inferred target "
        "rises when the landmark rises by one. A ring is the average of the absolute gradient "
        "over {n_absolute}; it lies beyond the bar where the gradient changes its sign. "
        "Landmarks that are the target's own gene are bold.",
    ),
}


@dataclass(frozen=True)
class Interpretation:
    """What `interpret` found.

    Attributes
    ----------
    figures
        By name: weights, hubs, connections and landmarks.
    captions
        Heading and caption of each figure.
    findings
        A sentence each.
    info
        The numbers in the sentences, ready for JSON.
    """

    figures: dict[str, Figure]
    captions: dict[str, tuple[str, str]]
    findings: list[str]
    info: dict[str, Any]


def interpret(
    model: Bundle,
    dataset: Dataset,
    folder: Path,
    *,
    set_name: str = "test",
    share: float = 0.001,
    top: int = 10,
    sample: int = 100,
    seed: int = 0,
    shown: Sequence[str] = (),
    device: str = "auto",
) -> Interpretation:
    """Write what a D-GEX net has learned as tables; return figures and sentences.

    `folder` gets ``weights.tsv``, ``weight_histogram.tsv``, ``strong_connections.tsv.gz``,
    ``strong_layers.tsv``, ``hubs.tsv``, ``landmarks_of_targets.tsv.gz``, ``own_landmarks.tsv``,
    ``mean_gradient_tl.npy`` and ``absolute_gradient_tl.npy`` (float32, a row per target and a
    column per landmark, in the order of the Model's gene tables) and ``interpretation.json``.

    Parameters
    ----------
    model
        The net.
    dataset
        A Dataset of its genes.
    folder
        Where the tables go; made if needed.
    set_name
        Set over whose profiles gradients are averaged.
    share
        Share of the connections of a layer that are strong; see
        `dgex.models.interpret.strong_connections`.
    top
        Landmarks listed per target.
    sample, seed, device
        See `dgex.models.gradients.landmark_gradients`.
    shown
        Ids of the targets to draw; where empty, the twelve of the largest Pearson r on
        `set_name` that are not the same gene as a landmark (all may be, where there are no
        others).

    Raises
    ------
    UsageError
        The Model is no D-GEX net or of other genes, the Dataset has no such set or no profiles in
        it, or `shown` names targets that the Model does not infer.
    DataError
        The weights are damaged, the disk is full, or the folder may not be written.

    Examples
    --------
    >>> import tempfile, anndata, dgex
    >>> rng = np.random.default_rng(0)
    >>> work = Path(tempfile.mkdtemp())
    >>> dataset = dgex.prepare(
    ...     anndata.AnnData(rng.normal(8, 1, (60, 8))), work / "data", landmarks=["0", "1"]
    ... )
    >>> net = dgex.train(dataset, work / "net", model="dgex", hidden_units=4, epochs=2)
    >>> found = interpret(net, dataset, work / "meaning", share=0.2)
    >>> list(found.figures)
    ['weights', 'hubs', 'connections', 'landmarks']
    >>> found.info["n_mean"], found.info["strong"][0]["n_strong"]
    (6, 2)
    """
    folder = Path(folder)
    targets_of_dataset = _check(model, dataset, set_name, shown)
    landmarks, targets = model.preprocessor.landmarks, model.preprocessor.targets
    arrays = model.model.arrays()
    layers, histogram = weight_summary(arrays)
    strong = strong_connections(arrays, landmarks, targets, share)
    profiles = dataset[set_name]
    gradients = landmark_gradients(arrays, profiles.x_nl, sample=sample, seed=seed, device=device)
    leaned_on = top_landmarks(gradients, landmarks, targets, top)
    own = own_landmark_ranks(gradients.mean_tl, landmarks, targets)
    details, which = _shown_targets(model, dataset, set_name, shown, targets_of_dataset)

    tables = {
        "weights.tsv": layers,
        "weight_histogram.tsv": histogram,
        "strong_connections.tsv.gz": strong.connections,
        "strong_layers.tsv": strong.layers,
        "hubs.tsv": strong.hubs,
        "landmarks_of_targets.tsv.gz": leaned_on,
        "own_landmarks.tsv": own,
    }
    info = _info(layers, strong, gradients, leaned_on, own) | {
        "set": set_name,
        "share": share,
        "sample": sample,
        "seed": seed,
    }
    findings = _findings(info)
    _write(folder, tables, gradients, info | {"findings": findings})

    thresholds = dict(zip(strong.layers["layer"], strong.layers["threshold"], strict=True))
    drawn = leaned_on.set_index("target").loc[list(details)].reset_index()
    figures = {
        "weights": weights_figure(layers, histogram, thresholds),
        "hubs": hubs_figure(strong),
        "connections": connections_figure(strong),
        "landmarks": landmarks_figure(
            drawn, details, set(zip(own["target"], own["landmark"], strict=True))
        ),
    }
    words = {
        "share": 100 * share,
        "which": which,
        "n_mean": _profiles(gradients.n_mean),
        "n_absolute": _profiles(gradients.n_absolute),
        "set_name": set_name,
    }
    captions = {
        name: (heading, caption.format(**words)) for name, (heading, caption) in _CAPTIONS.items()
    }
    return Interpretation(figures, captions, findings, info)


def _check(model: Bundle, dataset: Dataset, set_name: str, shown: Sequence[str]) -> np.ndarray:
    """Where the Model's targets are among the Dataset's."""
    if model.kind != "dgex":
        raise UsageError(
            f"{model.path} is a model {model.kind}, which has no hidden units. "
            "Only a model dgex can be interpreted."
        )
    landmarks, targets = model.preprocessor.landmarks.index, model.preprocessor.targets.index
    position_t = dataset.targets.index.get_indexer(targets)
    differ = [*targets[position_t < 0], *landmarks.symmetric_difference(dataset.landmarks.index)]
    if not landmarks.equals(dataset.landmarks.index) or (np.diff(position_t) <= 0).any() or differ:
        raise UsageError(
            f"{model.path} has other genes than the Dataset "
            f"({name_list(differ) or 'in another order'}). Train it on this Dataset."
        )
    if dataset[set_name].n == 0:
        raise UsageError(
            f"The set {set_name} of {dataset.path} has no profiles to average over. Choose another."
        )
    unknown = [name for name in shown if name not in targets]
    if unknown:
        raise UsageError(
            f"{name_list(unknown)} are not among the targets of {model.path}. Name gene ids of "
            "its targets."
        )
    return position_t


def _shown_targets(
    model: Bundle,
    dataset: Dataset,
    set_name: str,
    shown: Sequence[str],
    position_t: np.ndarray,
) -> tuple[dict[str, str], str]:
    """Targets to draw with their r in words, and which these are."""
    # Under the name of a net: only OLS models need one to compare with.
    scores = evaluate_models(dataset, {"net": model}, [set_name], targets={"net": position_t})
    genes = scores.genes.set_index("gene")
    if shown:
        chosen, which = list(shown), "Chosen targets"
    else:
        others_first = genes.sort_values(["same_gene", "r"], ascending=[True, False], kind="stable")
        others = others_first[~others_first["same_gene"]]
        best = others if len(others) else others_first
        chosen = best.index[:_N_SHOWN].tolist()
        which = f"The {len(chosen)} targets with the largest correlation r of their inferred with "
        which += f"their measured expression on {set_name}"
        if len(others) and others_first["same_gene"].any():
            which += ", without those that are landmark genes"
    r_of = genes["r"].to_dict()
    details = {
        name: "" if np.isnan(r_of.get(name, np.nan)) else f"r {r_of[name]:.2f}" for name in chosen
    }
    return details, which


def _info(
    layers: pd.DataFrame,
    strong: StrongConnections,
    gradients: Gradients,
    leaned_on: pd.DataFrame,
    own: pd.DataFrame,
) -> dict[str, Any]:
    first = leaned_on[leaned_on["rank"] == 1]
    steady = np.abs(first["gradient"]) / first["absolute_gradient"]
    hidden = layers[layers["layer"] != OUTPUT]
    info = {
        "strong": strong.layers.to_dict("records"),
        "percent_beyond_start": hidden["percent_beyond_start"].tolist(),
        "percent_near_zero": layers["percent_near_zero"].tolist(),
        "excess_kurtosis": layers["excess_kurtosis"].tolist(),
        "mean_slopes": list(gradients.slopes),
        "n_mean": gradients.n_mean,
        "n_absolute": gradients.n_absolute,
        "median_gradient_over_absolute": float(steady.dropna().median()),
        "n_landmarks": gradients.mean_tl.shape[1],
        "n_own": len(own),
        "n_own_first": int((own["rank"] == 1).sum()),
        "median_own_rank": float(own["rank"].dropna().median()),
    }
    return _without_nan(info)


def _without_nan(content: Any) -> Any:
    """None for every NaN, which JSON has not: the kurtosis of weights that are all equal."""
    if isinstance(content, dict):
        return {key: _without_nan(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_without_nan(value) for value in content]
    return None if isinstance(content, float) and np.isnan(content) else content


def _findings(info: Mapping[str, Any]) -> list[str]:
    findings = []
    for layer in info["strong"]:
        genes = "targets" if layer["layer"] == OUTPUT else "landmarks"
        where = "" if len(info["mean_slopes"]) == 1 else f" of hidden layer {layer['hidden_layer']}"
        findings.append(
            f"{layer['n_units_with_half']:,} of {layer['n_units']:,} units{where} have half of the "
            f"{layer['n_strong']:,} strongest connections with {genes} (by chance "
            f"{layer['n_units_with_half_by_chance']:,})."
        )
    first, *_, last = info["percent_near_zero"]
    beyond = info["percent_beyond_start"][0]
    findings.append(
        f"{first:.1f} % of the weights of the first layer and {last:.1f} % of those of the last "
        f"are within ±0.01; {beyond:.1f} % of those of the first lie beyond the range they "
        "started in."
    )
    slopes = " and ".join(f"{slope:.2f}" for slope in info["mean_slopes"])
    findings.append(
        f"The mean slope of the hidden units is {slopes} "
        f"{'(by layer) ' if len(info['mean_slopes']) > 1 else ''}"
        "(1 is linear, 0 saturated)."
    )
    if info["median_gradient_over_absolute"] is not None:
        steady = min(100.0, 100 * info["median_gradient_over_absolute"])
        findings.append(
            f"The mean gradient of a target by its strongest landmark is {steady:.1f} % of the "
            "mean absolute one (median over targets); 100 % says that the landmark works in one "
            "direction in all profiles."
        )
    if info["n_own"]:
        share = 100 * info["n_own_first"] / info["n_own"]
        findings.append(
            f"Of {info['n_own']:,} targets that are landmark genes, {info['n_own_first']:,} "
            f"({share:.1f} %) lean most on that landmark; its median rank is "
            f"{info['median_own_rank']:g} of {info['n_landmarks']:,}."
        )
    return findings


def _profiles(n: int) -> str:
    return f"{n:,} profile{'s' if n != 1 else ''}"


def _write(
    folder: Path,
    tables: Mapping[str, pd.DataFrame],
    gradients: Gradients,
    info: Mapping[str, Any],
) -> None:
    for name, table in tables.items():
        # A fixed time in the gzip header: the same net gives the same bytes.
        packing = {"method": "gzip", "mtime": 0} if name.endswith(".gz") else None
        with whole_file(folder / name) as partial:
            table.to_csv(partial, sep="\t", index=False, compression=packing)
    for name in ("mean_tl", "absolute_tl"):
        with (
            whole_file(folder / f"{name.replace('_', '_gradient_')}.npy") as partial,
            open(partial, "wb") as handle,
        ):
            np.save(handle, getattr(gradients, name))
    write_json(folder / INFO_FILE, info)
