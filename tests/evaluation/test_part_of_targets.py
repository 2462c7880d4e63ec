"""Models that infer part of a Dataset's targets: scored on these, compared where that is fair."""

import numpy as np
import pytest

import dgex
from dgex.errors import DataError, UsageError
from dgex.evaluation.verdict import verdict


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    import anndata

    rng = np.random.default_rng(0)
    x_ng = 8 + rng.normal(size=(70, 2)) @ rng.normal(size=(2, 14)) + rng.normal(size=(70, 14))
    folder = tmp_path_factory.mktemp("part")
    profiles = anndata.AnnData(x_ng)
    options = {
        "landmarks": ["0", "1", "2", "3"],
        "external": {"other": profiles[:20, :12].copy()},  # lacks the last two targets
    }
    dataset = dgex.prepare(profiles, folder / "data", **options)
    dgex.train(dataset, folder / "ols", model="ols")
    for name, span in (("first", "0:6"), ("second", "4:10"), ("last", "8:10")):
        dgex.train(dataset, folder / name, model="ridge", target_range=span)
    dgex.train(dataset, folder / "ols-first", model="ols", target_range="0:6")
    return folder


def test_scores_are_those_of_the_models_own_targets(work, tmp_path):
    dataset = dgex.Dataset(work / "data")
    models = [work / name for name in ("first", "ols", "second")]
    evaluation = dgex.evaluate(dataset, models, tmp_path / "out", sets=("test", "other"))
    evaluation = evaluation.as_prepared()
    table = evaluation.summary.set_index(["model", "set"])
    spans = {"first": slice(0, 6), "second": slice(4, 10), "ols": slice(0, 10)}
    for set_name in ("test", "other"):
        one = dataset[set_name]
        present_t = np.asarray(one.present_t)
        ols_nt = np.abs(dgex.Bundle.load(work / "ols").predict(one.x_nl) - one.y_nt)
        for name, span in spans.items():
            y_nt = dgex.Bundle.load(work / name).predict(one.x_nl)
            error_t = np.abs(y_nt - one.y_nt[:, span]).mean(axis=0)[present_t[span]]
            ols_t = ols_nt.mean(axis=0)[span][present_t[span]]
            row = table.loc[(name, set_name)]
            assert row["n_targets"] == present_t[span].sum()
            assert row["n_targets_absent"] == (~present_t[span]).sum()
            assert row["mae"] == pytest.approx(error_t.mean(), rel=1e-5)
            better = 100 * (1 - error_t.mean() / ols_t.mean())
            assert row["improvement_over_ols_percent"] == pytest.approx(better, abs=1e-3)
            rows = evaluation.genes.query("model == @name and set == @set_name")
            assert list(rows["gene"]) == list(dataset.targets.index[span][present_t[span]])
            np.testing.assert_allclose(rows["mae"], error_t, rtol=1e-5)
    assert evaluation.info["ranked"] == ["ols"]
    assert (
        "Not ranked, as their targets or training profiles are others: first, second."
        in verdict(evaluation, "test")
    )
    assert "first" in (tmp_path / "out" / "report.html").read_text()


def test_parts_are_ranked_among_models_of_the_same_targets(work, tmp_path):
    models = [work / name for name in ("second", "first", "ols-first")]
    evaluation = dgex.evaluate(work / "data", models, tmp_path / "out", sets=("test",))
    assert evaluation.info["ranked"] == ["first", "ols-first"]
    table = evaluation.summary.set_index("model")
    # OLS of other targets is no yardstick.
    assert np.isnan(table.loc["second", "improvement_over_ols_percent"])
    assert np.isfinite(table.loc["first", "improvement_over_ols_percent"])
    assert "training profiles are others: second." in verdict(evaluation, "test")


def test_a_set_without_any_of_a_models_targets(work, tmp_path):
    with pytest.raises(DataError, match="Set other of data holds none of the targets of last"):
        dgex.evaluate(work / "data", [work / "last"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_same_targets_in_another_order_are_refused(work, tmp_path):
    shuffled = dgex.Bundle.load(work / "first")
    tables = shuffled.preprocessor.targets.iloc[::-1]
    object.__setattr__(shuffled.preprocessor, "targets", tables)
    with pytest.raises(UsageError, match="other targets than the Dataset"):
        dgex.evaluate(work / "data", [shuffled], tmp_path / "out")
