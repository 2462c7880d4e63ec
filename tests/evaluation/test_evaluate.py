"""Tables of scores against scipy, scikit-learn and plain loops."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import pearsonr
from sklearn.metrics import mean_absolute_error, mean_squared_error

import dgex.progress
from dgex.errors import DataError, UsageError
from dgex.evaluation.evaluate import evaluate_models, same_gene_t

L, T = 5, 8


@dataclass
class FakeSet:
    name: str
    x_nl: np.ndarray
    y_nt: np.ndarray
    present_t: np.ndarray = field(default_factory=lambda: np.ones(T, bool))
    present_l: np.ndarray = field(default_factory=lambda: np.ones(L, bool))

    @property
    def n(self):
        return len(self.x_nl)

    def blocks(self, rows=1024):
        for start in range(0, self.n, rows):
            yield start, self.x_nl[start : start + rows], self.y_nt[start : start + rows]


class FakeDataset:
    name, protocol, fingerprint = "colon", "paper", "abc123"
    preprocessor = SimpleNamespace(knows_expression=False)  # z-scores are all that is known

    def __init__(self, **sets):
        self._sets = sets
        self.sets = list(sets)
        self.landmarks = gene_table([f"l{i}" for i in range(L)], ["TP53", "MYC", "", "A", "B"])
        self.targets = gene_table(
            [f"t{i}" for i in range(T)], ["TP53", "NA", "", "nan", "KRAS", 'q"uo\tte', "x", "y"]
        )
        self.landmarks.loc["l2", "ensembl"] = self.targets.loc["t6", "ensembl"] = "ENSG01"
        self.landmarks.loc["l3", "entrez"] = self.targets.loc["t7", "entrez"] = "7157"

    def __getitem__(self, name):
        return self._sets[name]


def gene_table(ids, symbols):
    return pd.DataFrame({"symbol": symbols, "ensembl": "", "entrez": "", "probes": ""}, index=ids)


class Linear:
    def __init__(self, kind, noise, seed=3):
        self.kind = kind
        weight_lt = np.random.default_rng(0).normal(size=(L, T))
        self.weight_lt = weight_lt + noise * np.random.default_rng(seed).normal(size=(L, T))

    def predict(self, x_nl):
        return (x_nl @ self.weight_lt).astype(np.float32)


class Broken:
    kind = "dgex"

    def __init__(self, make):
        self.make = make

    def predict(self, x_nl):
        return self.make(len(x_nl))


def fake_set(name, n, seed, **kwargs):
    rng = np.random.default_rng(seed)
    x_nl = rng.normal(size=(n, L)).astype(np.float32)
    y_nt = x_nl @ Linear("ols", 0.0).weight_lt + 0.5 * rng.normal(size=(n, T))
    return FakeSet(name, x_nl, y_nt.astype(np.float32), **kwargs)


@pytest.fixture
def dataset():
    absent = np.ones(T, bool)
    absent[[1, 7]] = False
    external = fake_set("gtex", 9, 12, present_t=absent, present_l=np.arange(L) > 0)
    external.y_nt[:, ~absent] = np.nan
    return FakeDataset(
        train=fake_set("train", 50, 10), test=fake_set("test", 23, 11), gtex=external
    )


MODELS = {"net": Linear("dgex", 0.1), "base": Linear("ols", 0.4, 5), "ols2": Linear("ols", 0.9)}


def test_every_number_by_hand(dataset):
    evaluation = evaluate_models(dataset, MODELS, block_rows=7)
    assert evaluation.summary["set"].tolist() == ["test"] * 3 + ["gtex"] * 3
    assert evaluation.summary["model"].tolist() == ["net", "base", "ols2"] * 2
    same = [True, False, False, False, False, False, True, True]
    genes = evaluation.genes.set_index(["set", "model", "gene"])
    for row in evaluation.summary.itertuples():
        profiles = dataset[row.set]
        columns = np.flatnonzero(profiles.present_t)
        expected = {name: model.predict(profiles.x_nl) for name, model in MODELS.items()}
        mae = {
            name: [mean_absolute_error(profiles.y_nt[:, t], expected[name][:, t]) for t in columns]
            for name in MODELS
        }
        y, y_hat = profiles.y_nt[:, columns], expected[row.model][:, columns]
        r = [
            pearsonr(y[:, i].astype(float), y_hat[:, i].astype(float))[0]
            for i in range(len(columns))
        ]
        mine, ols = np.array(mae[row.model]), np.array(mae["base"])
        assert row.kind == MODELS[row.model].kind
        assert row.protocol == "paper"
        assert (row.n_profiles, row.n_targets) == (profiles.n, len(columns))
        assert row.n_targets_absent == T - len(columns)
        assert row.mae == pytest.approx(mine.mean(), rel=1e-6)
        assert row.mae_sd == pytest.approx(mine.std(), rel=1e-5)
        assert row.rmse == pytest.approx(mean_squared_error(y, y_hat) ** 0.5, rel=1e-6)
        assert row.median_r == pytest.approx(np.median(r), rel=1e-6)
        assert row.improvement_over_ols_percent == pytest.approx(
            100 * (1 - mine.mean() / ols.mean()), rel=1e-4, abs=1e-6
        )
        assert row.genes_won_over_ols_percent == pytest.approx(100 * (mine < ols).mean())
        other = [i for i, t in enumerate(columns) if not same[t]]
        assert row.n_same_gene == len(columns) - len(other)
        assert row.mae_other_genes == pytest.approx(mine[other].mean(), rel=1e-6)
        for i, t in enumerate(columns):
            gene = genes.loc[(row.set, row.model, f"t{t}")]
            assert gene["symbol"] == dataset.targets["symbol"].iloc[t]
            assert gene["same_gene"] == same[t]
            assert gene["mae"] == pytest.approx(mine[i], rel=1e-6)
            assert gene["rmse"] == pytest.approx(
                mean_squared_error(y[:, i], y_hat[:, i]) ** 0.5, rel=1e-6
            )
            assert gene["r"] == pytest.approx(r[i], rel=1e-6)
    assert len(genes) == 3 * 8 + 3 * 6


def counts(*values):
    names = ("n_profiles", "n_targets", "n_targets_absent", "n_landmarks_absent", "moments")
    return dict(zip(names, values, strict=True))


def test_info_counts(dataset):
    info = evaluate_models(dataset, MODELS).info
    assert info == {
        "dataset": "colon",
        "protocol": "paper",
        "fingerprint": "abc123",
        "n_landmarks": L,
        "n_targets": T,
        "n_same_gene": 3,
        "reference": "base",
        "models": {"net": "dgex", "base": "ols", "ols2": "ols"},
        "new_cohorts": [],
        "ranked": ["net", "base", "ols2"],
        "sets": {
            "test": counts(23, 8, 0, 0, "training"),
            "gtex": counts(9, 6, 2, 1, "own"),
        },
    }


def test_same_gene_never_matches_by_an_empty_id(dataset):
    assert same_gene_t(dataset).tolist() == [True, *[False] * 5, True, True]


def test_block_size_does_not_matter(dataset):
    one = evaluate_models(dataset, MODELS, block_rows=1)
    whole = evaluate_models(dataset, MODELS, block_rows=1000)
    pd.testing.assert_frame_equal(one.summary, whole.summary, rtol=1e-9)
    pd.testing.assert_frame_equal(one.genes, whole.genes, rtol=1e-9)


def test_without_ols_nothing_is_compared(dataset):
    evaluation = evaluate_models(dataset, {"net": MODELS["net"]}, ["test"])
    row = evaluation.summary.iloc[0]
    assert np.isnan(row["improvement_over_ols_percent"])
    assert np.isnan(row["genes_won_over_ols_percent"])
    assert evaluation.info["reference"] is None
    assert row["mae"] > 0


def test_sets_are_scored_as_asked(dataset):
    evaluation = evaluate_models(dataset, MODELS, ["gtex", "train"])
    assert list(dict.fromkeys(evaluation.summary["set"])) == ["gtex", "train"]


def test_one_profile_has_no_r():
    data = FakeDataset(test=fake_set("test", 1, 4))
    evaluation = evaluate_models(data, MODELS)
    assert evaluation.genes["r"].isna().all()
    assert evaluation.summary["median_r"].isna().all()
    assert evaluation.summary["mae"].notna().all()


def test_all_targets_share_a_gene_with_a_landmark(dataset):
    dataset.targets["symbol"] = "TP53"
    summary = evaluate_models(dataset, MODELS, ["test"]).summary
    assert summary["n_same_gene"].tolist() == [T] * 3
    assert summary["mae_other_genes"].isna().all()


def test_progress_is_reported(dataset):
    seen = []

    class Reporter:
        def update(self, what, done, total):
            seen.append((what, done, total))

    dgex.progress.set_reporter(Reporter())
    try:
        evaluate_models(dataset, MODELS, ["test"], block_rows=10)
    finally:
        dgex.progress.set_reporter(None)
    assert seen == [("scoring test", done, 3) for done in range(4)]


def nan_in_last(n):
    y_hat_nt = np.zeros((n, T), np.float32)
    y_hat_nt[-1, 2] = np.nan
    return y_hat_nt


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (nan_in_last, ["Model bad", "set gtex", "t2"]),
        (lambda n: np.full((n, T), np.inf), ["Model bad", "set gtex", "t4 and 3 more"]),
        (lambda n: np.zeros((n, T + 1)), ["Model bad", "set gtex", "(4, 9)"]),
        (lambda n: np.zeros(n), ["Model bad", "set gtex", "(4,)"]),
    ],
)
def test_bad_predictions_are_named(dataset, make, words):
    with pytest.raises(DataError) as raised:
        evaluate_models(dataset, {**MODELS, "bad": Broken(make)}, ["gtex"], block_rows=4)
    for word in words:
        assert word in str(raised.value)


def test_a_measured_value_that_is_not_a_number(dataset):
    dataset["test"].y_nt[3, 4] = np.nan
    with pytest.raises(DataError, match=r"Set test of colon .* t4 \(profiles 0 to 9\)"):
        evaluate_models(dataset, MODELS, ["test"], block_rows=10)


def test_sets_that_cannot_be_scored():
    none_measured = fake_set("b", 3, 1, present_t=np.zeros(T, bool))
    data = FakeDataset(a=fake_set("a", 0, 1), b=none_measured, train=fake_set("train", 3, 1))
    with pytest.raises(DataError, match="Set a of colon holds no profiles"):
        evaluate_models(data, MODELS)
    with pytest.raises(DataError, match="Set b of colon holds none of the targets"):
        evaluate_models(data, MODELS, ["b"])


def test_misuse(dataset):
    with pytest.raises(UsageError, match=r"no set 1000g, lincs\. It has train, test, gtex"):
        evaluate_models(dataset, MODELS, ["test", "1000g", "lincs"])
    with pytest.raises(UsageError, match="Set test is asked for twice"):
        evaluate_models(dataset, MODELS, ["test", "gtex", "test"])
    with pytest.raises(UsageError, match="No set"):
        evaluate_models(dataset, MODELS, [])
    with pytest.raises(UsageError, match="no model"):
        evaluate_models(dataset, {})
    with pytest.raises(UsageError, match="block_rows is 0"):
        evaluate_models(dataset, MODELS, block_rows=0)
