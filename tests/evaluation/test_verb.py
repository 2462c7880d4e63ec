"""The verb evaluate, on Models trained here."""

from __future__ import annotations

import html

import anndata
import numpy as np
import pytest

import dgex
from dgex.describe import describe
from dgex.errors import UsageError
from dgex.evaluation.verb import report


def profiles(seed=0, n=60, g=20):
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(n, 2))
    return anndata.AnnData(8 + hidden @ rng.normal(size=(2, g)) + 0.2 * rng.normal(size=(n, g)))


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("verb")
    landmarks = ["0", "1", "2", "3"]
    options = {"landmarks": landmarks, "external": {"other": profiles(0, 30)}}
    dataset = dgex.prepare(profiles(), folder / "data", **options)
    dgex.prepare(profiles(1), folder / "elsewhere", **options)
    dgex.prepare(profiles(), folder / "fewer", landmarks=landmarks[:3])
    dgex.train(dataset, folder / "ols", model="ols")
    net = {"model": "dgex", "hidden_units": 10, "epochs": 3, "select_on": "other"}
    dgex.train(dataset, folder / "net", **net)
    dgex.train(folder / "elsewhere", folder / "stranger", model="ols")
    dgex.train(folder / "fewer", folder / "smaller", model="ols")
    return folder


def test_scores_agree_with_plain_arithmetic(work, tmp_path):
    evaluation = dgex.evaluate(work / "data", [work / "ols", work / "net"], tmp_path / "out")
    names = ["ols", "net", "net@other"]
    assert list(evaluation.info["models"]) == names
    dataset = dgex.Dataset(work / "data")
    table = evaluation.as_prepared().summary.set_index(["model", "set"])
    for name in names:
        folder, _, weights = name.partition("@")
        model = dgex.Bundle.load(work / folder, weights or "validation")
        for one in ("validation", "test", "other"):
            error_nt = model.predict(dataset[one].x_nl) - dataset[one].y_nt
            assert table.loc[(name, one), "mae"] == pytest.approx(np.abs(error_nt).mean(), rel=1e-5)
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"summary.tsv", "genes.tsv.gz", "report.html", "figures", "run.toml"} <= written
    report = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert all(html.escape(note) in report for note in dataset.notes)


def test_the_report_can_be_written_again_under_another_title(work, tmp_path):
    dgex.evaluate(work / "data", [work / "net"], tmp_path / "out", sets=("test",))
    first = (tmp_path / "out" / "report.html").read_text("utf-8")
    again = report(tmp_path / "out", tmp_path / "again.html").read_text("utf-8")
    assert again == first
    titled = report(tmp_path / "out", tmp_path / "titled.html", title="Plate <7>")
    assert "<h1>Plate &lt;7&gt;</h1>" in titled.read_text("utf-8")
    with pytest.raises(UsageError, match="exists already"):
        report(tmp_path / "out", tmp_path / "again.html")


def test_a_model_of_another_dataset_is_scored_with_a_warning(work, tmp_path, caplog):
    dgex.evaluate(work / "data", [work / "stranger"], tmp_path / "out", sets=("test",))
    assert "another Dataset" in caplog.text
    assert "another Dataset" in (tmp_path / "out" / "report.html").read_text("utf-8")


def test_what_cannot_be_compared_is_refused_and_nothing_is_left(work, tmp_path):
    data, out = work / "data", tmp_path / "out"
    with pytest.raises(UsageError, match="other landmarks"):
        dgex.evaluate(data, [work / "smaller"], out)
    with pytest.raises(UsageError, match="at least one Model"):
        dgex.evaluate(data, [], out)
    with pytest.raises(UsageError, match="Two Models are called ols"):
        dgex.evaluate(data, [work / "ols", work / "ols"], out)
    with pytest.raises(UsageError, match="no set plate"):
        dgex.evaluate(data, [work / "ols"], out, sets=("plate",))
    with pytest.raises(UsageError, match="no such Model"):
        dgex.evaluate(data, [work / "absent"], out)
    assert list(tmp_path.iterdir()) == []


def test_what_simulated_profiles_taught_is_in_the_title(tmp_path):
    simulated = profiles(2)
    simulated.obs_names = [f"simulated-geo-{i}" for i in range(60)]
    landmarks = ["0", "1", "2", "3"]
    dgex.prepare(simulated, tmp_path / "simulated", landmarks=landmarks)
    dgex.prepare(profiles(), tmp_path / "real", landmarks=landmarks)
    dgex.train(tmp_path / "simulated", tmp_path / "ols", model="ols")
    dgex.evaluate(tmp_path / "real", [tmp_path / "ols"], tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "<h1>SIMULATED profiles. dgex: ols on real</h1>" in page
    assert "Simulated profiles: ols was trained on them." in page
    assert dict(describe(tmp_path / "ols"))["note"] == "it learned from SIMULATED profiles"
