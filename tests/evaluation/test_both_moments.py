"""External sets under both standardisations, and Models for new cohorts."""

from __future__ import annotations

import logging

import anndata
import numpy as np
import pandas as pd
import pytest

import dgex
from dgex.data.moments import standardisations
from dgex.describe import describe
from dgex.errors import UsageError


def expression(seed, n, genes, shift=0.0):
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(n, 3))
    weights = np.random.default_rng(1).normal(size=(3, 20))[:, genes]
    x_ng = 8 + shift + hidden @ weights + 0.3 * rng.normal(size=(n, len(genes)))
    return anndata.AnnData(x_ng, var=pd.DataFrame(index=[f"g{i}" for i in genes]))


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("moments")
    genes = list(range(20))
    profiles = expression(0, 120, genes)
    profiles.obs["study"] = [f"s{i % 4}" for i in range(120)]
    externals = {"near": expression(6, 40, genes[1:], 2.0), "far": expression(7, 30, genes)}
    landmarks = [f"g{i}" for i in range(6)]
    dataset = dgex.prepare(profiles, folder / "data", landmarks=landmarks, external=externals)
    dgex.prepare(profiles, folder / "alone", landmarks=landmarks)
    for name in ("data", "alone"):
        dgex.train(folder / name, folder / f"cohorts-{name}", for_="new-cohorts")
    dgex.train(dataset, folder / "ols", model="ols")
    dgex.train(dataset, folder / "both", model="ridge", train_on="train+validation")
    return folder


def test_every_external_set_is_scored_by_both_moments(work, tmp_path):
    evaluation = dgex.evaluate(work / "data", [work / "ols"], tmp_path / "out")
    dataset, bundle = dgex.Dataset(work / "data"), dgex.Bundle.load(work / "ols")
    rows = [(row["set"], row["moments"]) for row in evaluation.summary.to_dict("records")]
    externals = [(name, moments) for name in ("near", "far") for moments in ("own", "training")]
    assert rows == [("validation", "training"), ("test", "training"), *externals]
    table = evaluation.summary.set_index(["set", "moments"])["mae"]
    for name, moments in externals:
        one = standardisations(dataset, name)[moments]
        error_nt = np.concatenate(
            [np.abs(bundle.predict(x_bl) - y_bt) for _, x_bl, y_bt in one.blocks()]
        )
        assert table[name, moments] == pytest.approx(error_nt[:, one.present_t].mean(), rel=1e-5)
    genes = evaluation.genes.groupby(["set", "moments"])["mae"].mean()
    np.testing.assert_allclose(genes[table.index], table, rtol=1e-6)
    first = evaluation.as_prepared()
    assert set(zip(first.genes["set"], first.genes["moments"], strict=True)) == {
        ("validation", "training"),
        ("test", "training"),
        ("near", "own"),
        ("far", "own"),
    }
    report = " ".join((tmp_path / "out" / "report.html").read_text("utf-8").split())
    assert report.count("; by its own moments") == report.count("; by training moments") == 2


def test_a_model_for_new_cohorts_is_scored_by_own_moments(work, tmp_path, caplog):
    models = [work / "ols", work / "cohorts-data"]
    with caplog.at_level(logging.INFO):
        evaluation = dgex.evaluate(work / "data", models, tmp_path / "out")
    assert "it is not scored on validation and test, nor by training moments" in caplog.text
    table = evaluation.summary.set_index(["model", "set", "moments"])["mae"]
    found = [key[1:] for key in table.index if key[0] == "cohorts-data"]
    assert found == [("near", "own"), ("far", "own")]
    for name in ("near", "far"):
        one = dgex.Dataset(work / "data")[name]
        x_nl = np.array(one.x_nl)
        model = dgex.Bundle.load(work / "cohorts-data").for_cohort([x_nl], one.present_l)
        error_nt = np.abs(model.predict(x_nl) - one.y_nt)[:, one.present_t]
        assert table["cohorts-data", name, "own"] == pytest.approx(error_nt.mean(), rel=1e-5)
    described = dict(describe(tmp_path / "out"))
    assert described["models"] == "ols, cohorts-data"


def test_alone_it_is_scored_where_it_can_be(work, tmp_path):
    evaluation = dgex.evaluate(work / "data", [work / "cohorts-data"], tmp_path / "out")
    assert list(evaluation.info["sets"]) == ["near", "far"]
    for dataset, sets in (("data", ("test",)), ("alone", ())):
        model = work / f"cohorts-{dataset}"
        with pytest.raises(UsageError, match=r"cohorts-\w+: Models for new cohorts are scored on"):
            dgex.evaluate(work / dataset, [model], tmp_path / "none", sets=sets)
    assert not (tmp_path / "none").exists()


def test_what_learned_from_validation_wins_nothing_there(work, tmp_path, caplog):
    evaluation = dgex.evaluate(work / "data", [work / "ols", work / "both"], tmp_path / "out")
    said = "both was trained with --train-on train+validation: validation of data was learned from"
    assert said in caplog.text
    assert evaluation.info["learned_from"]["both"] == ["train", "validation"]
    report = " ".join((tmp_path / "out" / "report.html").read_text("utf-8").split())
    assert "no other model was evaluated" in report  # on validation
    ranked = pd.Series(evaluation.info["ranked"])
    assert list(ranked) == ["ols", "both"]
