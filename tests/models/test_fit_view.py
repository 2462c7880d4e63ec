"""Training on part of the targets, and on all splits."""

import itertools
import json
import logging

import anndata
import numpy as np
import pytest
import torch
from sklearn.linear_model import Lasso as SklearnLasso
from sklearn.linear_model import LinearRegression
from sklearn.linear_model import Ridge as SklearnRidge

import dgex
from dgex.data.dataset import ProfileSet
from dgex.errors import UsageError
from dgex.models.bundle import Bundle
from dgex.models.fit import train

NET = {"model": "dgex", "hidden_units": 5, "epochs": 4, "device": "cpu", "learning_rate": 0.05}
SPLITS = ("train", "validation", "test")


def all_profiles(dataset):
    parts = [dataset[name] for name in SPLITS]
    return tuple(np.concatenate([getattr(one, axis) for one in parts]) for axis in ("x_nl", "y_nt"))


@pytest.mark.parametrize("kind", ["mean", "ols", "ridge"])
def test_part_of_the_targets_is_learned_as_in_the_whole(dataset, tmp_path, kind):
    options = {"model": kind, **({"penalties": (0.1,)} if kind == "ridge" else {})}
    whole = train(dataset, tmp_path / "whole", **options)
    part = train(dataset, tmp_path / "part", **options, target_range="2:6")
    assert list(part.preprocessor.targets.index) == ["t2", "t3", "t4", "t5"]
    assert (part.info["n_targets"], part.model.n_targets) == (4, 4)
    x_nl = dataset["test"].x_nl
    np.testing.assert_allclose(part.predict(x_nl), whole.predict(x_nl)[:, 2:6], atol=1e-5)


def test_a_net_for_part_of_the_targets(dataset, tmp_path):
    bundle = train(dataset, tmp_path / "net", **NET, target_range="0:4", select_on="gtex")
    test, gtex = dataset["test"], dataset["gtex"]
    assert bundle.predict(test.x_nl).shape == (21, 4)
    chosen = Bundle.load(bundle.path, "gtex")
    # gtex lacks t1 and t4; t1 is the only one of these among the first four.
    error_nt = np.abs(chosen.predict(gtex.x_nl) - gtex.y_nt[:, :4])[:, [0, 2, 3]]
    assert error_nt.mean() == pytest.approx(chosen.info["weights"]["gtex"]["mae"], rel=1e-5)


@pytest.mark.parametrize("text", ["0:10", "9:9", "half"])
def test_a_wrong_range_is_refused(dataset, tmp_path, text):
    with pytest.raises(UsageError, match=f"--target-range {text}"):
        train(dataset, tmp_path / "model", model="ols", target_range=text)


def test_select_on_a_set_without_these_targets(dataset, tmp_path):
    with pytest.raises(UsageError, match="none of the targets is measured there"):
        train(dataset, tmp_path / "net", **NET, target_range="1:2", select_on="gtex")


def test_whole_transcriptomes_are_ranked_as_in_training(tmp_path):
    rng = np.random.default_rng(0)
    ids = [f"L{i}" for i in range(4)] + [f"T{i}" for i in range(7)]
    profiles = anndata.AnnData(8 + rng.normal(size=(40, 11)))
    profiles.var_names = ids
    dataset = dgex.prepare(profiles, tmp_path / "data", landmarks=ids[:4])
    whole = dgex.train(dataset, tmp_path / "whole", model="ols")
    part = dgex.train(dataset, tmp_path / "part", model="ols", target_range="4:7")
    for units in ("standardised", "expression"):
        expected = dgex.predict(whole, profiles, units=units)
        found = dgex.predict(part, profiles, units=units)
        assert list(found.var.index) == ["L0", "L1", "L2", "L3", "T4", "T5", "T6"]
        np.testing.assert_allclose(found.X, expected.X[:, [0, 1, 2, 3, 8, 9, 10]], atol=1e-4)


@pytest.mark.parametrize(
    ("options", "reference"),
    [
        ({"model": "ols"}, LinearRegression()),
        ({"model": "ridge", "penalties": (0.3,)}, SklearnRidge(alpha=0.3 * 135)),
    ],
)
def test_all_splits_against_scikit_learn(dataset, tmp_path, options, reference):
    bundle = train(dataset, tmp_path / "model", **options, train_on="all")
    x_nl, y_nt = all_profiles(dataset)
    reference.fit(x_nl.astype(float), y_nt.astype(float))
    x_new = dataset["gtex"].x_nl
    np.testing.assert_allclose(bundle.predict(x_new), reference.predict(x_new), atol=1e-4)
    assert (bundle.info["train_on"], bundle.info["n_train"]) == ("all", 135)
    assert bundle.info["weights"]["validation"]["mae"] is None
    assert not (bundle.path / "joined").exists()


@pytest.mark.parametrize("options", [{"model": "ridge", "penalties": (0.3,)}, NET])
def test_train_and_validation_together_leave_test_alone(dataset, tmp_path, options):
    bundle = train(dataset, tmp_path / "model", **options, train_on="train+validation")
    assert (bundle.info["n_train"], bundle.learned_splits) == (114, ("train", "validation"))
    assert bundle.info["weights"]["validation"]["mae"] is None
    assert not (bundle.path / "joined").exists()
    card = " ".join((bundle.path / "README.md").read_text().split())
    assert "114 profiles (train and validation together)" in card
    if options is NET:
        assert bundle.info["weights"]["validation"]["epoch"] == 4  # the last
        return
    parts = [dataset[name] for name in ("train", "validation")]
    x_nl, y_nt = (
        np.concatenate([getattr(one, axis) for one in parts]) for axis in ("x_nl", "y_nt")
    )
    reference = SklearnRidge(alpha=0.3 * 114).fit(x_nl.astype(float), y_nt.astype(float))
    x_new = dataset["test"].x_nl
    np.testing.assert_allclose(bundle.predict(x_new), reference.predict(x_new), atol=1e-4)


def test_the_lasso_of_all_splits_against_scikit_learn(dataset, tmp_path):
    bundle = train(dataset, tmp_path / "m", model="lasso", penalties=(0.02,), train_on="all")
    x_nl, y_nt = all_profiles(dataset)
    reference = SklearnLasso(alpha=0.02, tol=1e-9).fit(x_nl.astype(float), y_nt.astype(float))
    x_new = dataset["gtex"].x_nl
    np.testing.assert_allclose(bundle.predict(x_new), reference.predict(x_new), atol=1e-3)


def test_the_nearest_landmarks_over_all_splits(dataset, tmp_path):
    options = {"model": "gene-knn", "neighbours": (1, 2, 4)}
    before = train(dataset, tmp_path / "before", **options)
    after = train(dataset, tmp_path / "after", **options, train_on="all")
    k = after.model.neighbour_tk.shape[1]
    assert k == before.model.neighbour_tk.shape[1]
    assert after.model.validation_mae == before.model.validation_mae
    x_nl, y_nt = all_profiles(dataset)
    for t, found in enumerate(after.model.neighbour_tk):
        distance_l = ((x_nl.astype(float) - y_nt[:, [t]]) ** 2).sum(axis=0)
        assert list(found) == list(np.argsort(distance_l)[:k])


def test_the_mean_of_all_splits(dataset, tmp_path):
    bundle = train(dataset, tmp_path / "model", model="mean", train_on="all", target_range="1:5")
    _, y_nt = all_profiles(dataset)
    np.testing.assert_allclose(bundle.model.mean_t, y_nt[:, 1:5].mean(axis=0), atol=1e-5)


def test_the_penalty_is_chosen_before_validation_is_learned_from(make, tmp_path):
    # With few profiles for many landmarks validation wants a large penalty; profiles that are
    # learned from would want the smallest.
    dataset = make(landmarks=30, sizes={"train": 32, "validation": 40, "test": 5})
    penalties = {"model": "ridge", "penalties": (1e-4, 0.01, 1.0, 100.0)}
    before = train(dataset, tmp_path / "before", **penalties)
    after = train(dataset, tmp_path / "after", **penalties, train_on="all")
    assert after.model.penalty == before.model.penalty > 1e-4
    assert after.model.validation_mae == before.model.validation_mae
    assert not np.allclose(after.model.weight_lt, before.model.weight_lt)


def test_of_a_net_the_last_epoch_is_kept(dataset, tmp_path, monkeypatch):
    options = {**NET, "rate_decay": 1.0, "train_on": "all", "precision": "float32"}
    bundle = train(dataset, tmp_path / "net", **options)
    validation = bundle.info["weights"]["validation"]
    assert (validation["epoch"], validation["mae"]) == (4, None)
    assert bundle.info["n_train"] == 135
    assert not (bundle.path / "joined").exists()
    profiles = dataset["validation"]
    error = np.abs(bundle.predict(profiles.x_nl) - profiles.y_nt).mean()
    assert error == pytest.approx(bundle.training_log["mae_validation"].iloc[-1], rel=1e-5)
    # The same weights are kept where every error rises, and so the first epoch is the best.
    errors = itertools.count(1)
    monkeypatch.setattr("dgex.models.train.mae_of", lambda *_: torch.tensor(float(next(errors))))
    rising = train(dataset, tmp_path / "rising", **options, select_on="gtex")
    for name, array in bundle.model.arrays().items():
        np.testing.assert_array_equal(rising.model.arrays()[name], array)
    assert rising.info["weights"]["gtex"]["epoch"] == 1


def test_a_net_on_all_splits_resumes(dataset, tmp_path):
    class Stop:
        def update(self, what, done, total):
            if what == "training" and done == 2:
                raise KeyboardInterrupt

    options = {**NET, "train_on": "all"}
    straight = train(dataset, tmp_path / "straight", **options)
    dgex.progress.set_reporter(Stop())
    try:
        with pytest.raises(KeyboardInterrupt):
            train(dataset, tmp_path / "net", **options)
    finally:
        dgex.progress.set_reporter(None)
    with pytest.raises(UsageError, match="train_on is all there, train here"):
        train(dataset, tmp_path / "net", **NET, resume=True)
    resumed = train(dataset, tmp_path / "net", **options, resume=True)
    for name, array in straight.model.arrays().items():
        np.testing.assert_array_equal(resumed.model.arrays()[name], array)


def test_card_and_evaluate_say_that_nothing_was_held_out(dataset, tmp_path, caplog):
    bundle = train(dataset, tmp_path / "model", model="ols", train_on="all")
    text = " ".join((bundle.path / "README.md").read_text().split())
    assert "All 135 profiles (train, validation and test together)" in text
    assert "learned from all splits" in text
    with caplog.at_level(logging.WARNING, "dgex"):
        dgex.evaluate(dataset, [bundle], tmp_path / "gtex", sets=("gtex",))
        assert "--train-on all" not in caplog.text
        evaluation = dgex.evaluate(dataset, [bundle], tmp_path / "out")
    assert "model was trained with --train-on all" in caplog.text
    assert any("--train-on all" in note for note in evaluation.info["notes"])
    assert evaluation.info["ranked"] == ["model"]  # the reference, though with a warning
    dgex.train(dataset, tmp_path / "honest", model="mean")
    dgex.train(dataset, tmp_path / "flattered", model="ridge", train_on="all")
    models = [tmp_path / "honest", tmp_path / "flattered"]
    for sets, ranked in (((), ["honest"]), (("gtex",), ["honest", "flattered"])):
        both = dgex.evaluate(dataset, models, tmp_path / "both", sets=sets, overwrite=True)
        assert both.info["ranked"] == ranked
    written = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert any("--train-on all" in note for note in written["notes"])


def test_linear_models_share_one_pass_over_the_profiles(dataset, tmp_path, monkeypatch):
    passes = []
    blocks = ProfileSet.blocks

    def counted(self, rows):
        passes.append(self.name)
        return blocks(self, rows)

    monkeypatch.setattr(ProfileSet, "blocks", counted)
    for kind in ("ols", "ridge", "lasso"):
        train(dataset, tmp_path / kind, model=kind)
    assert passes.count("train") == 1
    train(dataset, tmp_path / "part", model="ols", target_range="2:5")
    train(dataset, tmp_path / "all", model="ols", train_on="all")
    alone = train(dataset.path, tmp_path / "alone", model="ridge")
    shared = Bundle.load(tmp_path / "ridge")
    np.testing.assert_array_equal(shared.model.weight_lt, alone.model.weight_lt)
    part = Bundle.load(tmp_path / "part")
    whole = Bundle.load(tmp_path / "ols")
    np.testing.assert_allclose(part.model.weight_lt, whole.model.weight_lt[:, 2:5], rtol=1e-6)
    everything = Bundle.load(tmp_path / "all")
    assert np.abs(everything.model.weight_lt - whole.model.weight_lt).max() > 1e-4
