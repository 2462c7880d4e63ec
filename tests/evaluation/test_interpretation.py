"""What a net has learned, of nets trained here: tables, sentences and checks."""

from __future__ import annotations

import json

import anndata
import numpy as np
import pandas as pd
import pytest
import torch

import dgex
from dgex.errors import UsageError
from dgex.evaluation.interpretation import interpret

FIGURES = ["weights", "hubs", "connections", "landmarks"]
N_LANDMARKS, N_TARGETS = 8, 20


def profiles(n=100, seed=0):
    """Probe sets: 8 landmarks, the same 8 genes with noise, and 12 genes that follow from them."""
    rng = np.random.default_rng(seed)
    x_nl = rng.normal(8, 1, (n, N_LANDMARKS))
    again = x_nl + 0.1 * rng.normal(size=x_nl.shape)
    others = 8 + (x_nl - 8) @ rng.normal(0, 0.4, (N_LANDMARKS, 12)) + rng.normal(0, 0.2, (n, 12))
    probes = [f"p{i}" for i in range(N_LANDMARKS + N_TARGETS)]
    return anndata.AnnData(np.hstack([x_nl, again, others]), var=pd.DataFrame(index=probes))


def gene_id(number):
    return f"ENSG{number:011}"


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("interpretation")
    numbers = [*range(8), *range(8), *range(16, 28)]
    lines = [f"G{n}\t{gene_id(n)}\tp{probe}" for probe, n in enumerate(numbers)]
    (folder / "map_lm.txt").write_text("\n".join(lines[:8]) + "\n")
    (folder / "map_tg.txt").write_text("\n".join(lines[8:]) + "\n")
    maps = {"landmarks": folder / "map_lm.txt", "targets": folder / "map_tg.txt"}
    # Under the paper's protocol targets that are landmark genes are kept.
    dataset = dgex.prepare(profiles(), folder / "data", protocol="paper", **maps)
    dgex.prepare(profiles(), folder / "strict", **maps)
    dgex.prepare(profiles(), folder / "fewer", landmarks=["p0", "p1"])
    for layers in (1, 3):
        options = {"hidden_layers": layers, "hidden_units": 30, "dropout": 0.0, "epochs": 80}
        options |= {"batch_size": 10, "learning_rate": 3e-3}
        dgex.train(dataset, folder / f"net{layers}", model="dgex", **options)
    quick = {"model": "dgex", "hidden_units": 6, "epochs": 2}
    dgex.train(dataset, folder / "part", target_range="2:15", **quick)
    dgex.train(folder / "strict", folder / "strict-net", **quick)
    dgex.train(dataset, folder / "ols", model="ols")
    return folder


def found_in(work, name, out, dataset="data", **options):
    net, data = dgex.Bundle.load(work / name), dgex.Dataset(work / dataset)
    return net, data, interpret(net, data, out, share=0.1, device="cpu", **options)


@pytest.mark.parametrize("layers", [1, 3])
def test_tables_hold_what_autograd_and_sorting_give(work, tmp_path, layers):
    net, data, found = found_in(work, f"net{layers}", tmp_path / "new" / "out", top=3)
    folder = tmp_path / "new" / "out"
    x_nl = torch.tensor(np.array(data["test"].x_nl, np.float64))
    arrays = {name: torch.tensor(a, dtype=torch.float64) for name, a in net.model.arrays().items()}

    def infer(x_l):
        for layer in range(layers):
            inner = x_l @ arrays[f"hidden.{layer}.weight"].T + arrays[f"hidden.{layer}.bias"]
            x_l = torch.tanh(inner)
        return x_l @ arrays["output.weight"].T

    each_ntl = np.stack([torch.autograd.functional.jacobian(infer, x).numpy() for x in x_nl])
    mean_tl, absolute_tl = (
        np.load(folder / f"{kind}_gradient_tl.npy") for kind in ("mean", "absolute")
    )
    assert mean_tl.shape == (N_TARGETS, N_LANDMARKS)
    np.testing.assert_allclose(mean_tl, each_ntl.mean(axis=0), atol=2e-6)
    np.testing.assert_allclose(absolute_tl, np.abs(each_ntl).mean(axis=0), atol=2e-6)

    top = pd.read_csv(folder / "landmarks_of_targets.tsv.gz", sep="\t")
    assert len(top) == 3 * N_TARGETS
    for target, rows in top.groupby("target", sort=False):
        gradient_l = mean_tl[data.targets.index.get_loc(target)]
        order = np.argsort(-np.abs(gradient_l))[:3]
        assert rows["landmark"].tolist() == data.landmarks.index[order].tolist()
        assert rows["landmark_symbol"].tolist() == data.landmarks["symbol"].iloc[order].tolist()
        np.testing.assert_allclose(rows["gradient"], gradient_l[order], rtol=1e-6)

    strong = pd.read_csv(folder / "strong_connections.tsv.gz", sep="\t")
    for layer, name in (("hidden 1", "hidden.0.weight"), ("output", "output.weight")):
        weights = net.model.arrays()[name]
        largest = np.sort(np.abs(weights), axis=None)[::-1][: -(-weights.size // 10)]
        own = strong.loc[strong["layer"] == layer, "weight"].abs()
        np.testing.assert_allclose(own, largest, rtol=1e-6)
    weights = pd.read_csv(folder / "weights.tsv", sep="\t")
    assert len(weights) == layers + 1
    histogram = pd.read_csv(folder / "weight_histogram.tsv", sep="\t")
    assert histogram["n"].sum() == weights["n"].sum()
    hubs = pd.read_csv(folder / "hubs.tsv", sep="\t")
    assert len(hubs) == 30 * (1 if layers == 1 else 2)
    assert len(pd.read_csv(folder / "strong_layers.tsv", sep="\t")) == 2
    written = json.loads((folder / "interpretation.json").read_text("utf-8"))
    assert written == json.loads(json.dumps(found.info | {"findings": found.findings}))


@pytest.mark.parametrize("layers", [1, 3])
def test_a_gene_measured_twice_is_inferred_from_itself(work, tmp_path, layers):
    _, _, found = found_in(work, f"net{layers}", tmp_path)
    own = pd.read_csv(tmp_path / "own_landmarks.tsv", sep="\t")
    assert own["symbol"].tolist() == [f"G{i}" for i in range(8)]
    assert own["landmark"].tolist() == [gene_id(i) for i in range(8)]
    assert found.info["n_own"] == 8
    assert found.info["n_own_first"] == (own["rank"] == 1).sum() >= 7
    sentence = next(one for one in found.findings if "landmark genes" in one)
    share = 100 * found.info["n_own_first"] / 8
    assert f"Of 8 targets that are landmark genes, {found.info['n_own_first']} ({share:.1f} %)" in (
        sentence
    )


def test_figures_have_captions_and_show_other_genes_first(work, tmp_path):
    net, data, found = found_in(work, "net1", tmp_path)
    assert list(found.figures) == list(found.captions) == FIGURES
    assert all("{" not in word for caption in found.captions.values() for word in caption)
    genes = dgex.evaluate(data, [net], tmp_path / "scores", sets=("test",)).genes
    best = genes[~genes["same_gene"]].sort_values("r", ascending=False).head(12)
    axes = found.figures["landmarks"].axes
    assert [one.get_title(loc="left") for one in axes] == best["symbol"].tolist()
    assert [one.get_title(loc="right") for one in axes] == [f"r {r:.2f}" for r in best["r"]]
    caption = found.captions["landmarks"][1]
    assert caption.startswith("The 12 targets with the largest correlation r")
    assert "without those that are landmark genes" in caption
    assert "averaged over 10 profiles of test" in caption
    assert "largest absolute weights" in found.captions["weights"][1]
    assert "10 %" in found.captions["hubs"][1]


def test_chosen_targets_are_drawn_with_their_own_landmark_in_bold(work, tmp_path):
    _, data, found = found_in(
        work, "net1", tmp_path, shown=[gene_id(20), gene_id(3)], set_name="validation"
    )
    first, second = found.figures["landmarks"].axes
    assert first.get_title(loc="left") == "G20"
    assert second.get_title(loc="left") == "G3"
    bold = [label.get_text() for label in second.get_yticklabels() if label.get_weight() == "bold"]
    assert bold == ["G3"]
    assert found.captions["landmarks"][1].startswith("Chosen targets: ")
    assert found.info["n_mean"] == data["validation"].n


def test_a_sample_is_said(work, tmp_path):
    _, _, found = found_in(work, "net3", tmp_path, set_name="train", sample=5)
    assert (found.info["n_mean"], found.info["n_absolute"]) == (5, 5)
    assert "averaged over 5 profiles of train" in found.captions["landmarks"][1]
    _, _, found = found_in(work, "net1", tmp_path, set_name="train", sample=5)
    assert (found.info["n_mean"], found.info["n_absolute"]) == (80, 5)


def test_it_is_the_same_every_time(work, tmp_path):
    for name in ("one", "two"):
        _, _, found = found_in(work, "net3", tmp_path / name, set_name="train", sample=7)
        for figure in FIGURES:
            found.figures[figure].savefig(tmp_path / name / f"{figure}.png")
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert len(files) == 14
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_net_of_some_targets(work, tmp_path):
    net, _, found = found_in(work, "part", tmp_path)
    assert np.load(tmp_path / "mean_gradient_tl.npy").shape == (13, N_LANDMARKS)
    targets = pd.read_csv(tmp_path / "landmarks_of_targets.tsv.gz", sep="\t")["target"]
    assert list(dict.fromkeys(targets)) == list(net.preprocessor.targets.index)
    assert found.info["n_own"] == 6
    # Only 7 of its 13 targets are no landmark genes.
    assert len(found.figures["landmarks"].axes) == 7


def test_without_targets_of_landmark_genes_nothing_is_said_of_them(work, tmp_path):
    _, _, found = found_in(work, "strict-net", tmp_path, dataset="strict")
    assert found.info["n_own"] == 0
    assert not any("landmark genes" in one for one in found.findings)
    assert "without those" not in found.captions["landmarks"][1]


def test_findings_repeat_the_numbers(work, tmp_path):
    _, _, found = found_in(work, "net3", tmp_path)
    first, last = found.info["strong"]
    assert found.findings[0] == (
        f"{first['n_units_with_half']} of 30 units of hidden layer 1 have half of the 24 strongest "
        f"connections with landmarks (by chance {first['n_units_with_half_by_chance']})."
    )
    assert (
        "of hidden layer 3 have half of the 60 strongest connections with targets"
        in (found.findings[1])
    )
    assert last["n_strong"] == 60
    assert "(by layer)" in found.findings[3]
    assert all(f"{slope:.2f}" in found.findings[3] for slope in found.info["mean_slopes"])


def test_what_cannot_be_interpreted_is_refused(work, tmp_path):
    data = dgex.Dataset(work / "data")
    net = dgex.Bundle.load(work / "net1")
    with pytest.raises(UsageError, match="ols is a model ols, which has no hidden units"):
        interpret(dgex.Bundle.load(work / "ols"), data, tmp_path)
    with pytest.raises(UsageError, match="has other genes than the Dataset"):
        interpret(net, dgex.Dataset(work / "fewer"), tmp_path)
    with pytest.raises(UsageError, match="has no set mars"):
        interpret(net, data, tmp_path, set_name="mars")
    with pytest.raises(UsageError, match="E99 are not among the targets"):
        interpret(net, data, tmp_path, shown=[gene_id(20), "E99"])
    with pytest.raises(UsageError, match="share of strong"):
        interpret(net, data, tmp_path, share=2.0)
    assert list(tmp_path.iterdir()) == []
