"""Trees for principal components against scikit-learn's components and lightgbm by hand."""

import sys

import lightgbm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from dgex.config import TrainConfig
from dgex.data.dataset import ProfileSet
from dgex.errors import DataError, UsageError
from dgex.models import gbm as module
from dgex.models.bundle import Bundle
from dgex.models.fit import train
from dgex.models.gbm import GBM, TREES, directions

SIZES = {"train": 300, "validation": 60, "test": 1100}


@pytest.fixture(autouse=True)
def _few(monkeypatch):
    monkeypatch.setattr(module, "MOST_COMPONENTS", 4)
    monkeypatch.setattr(module, "MOST_ROUNDS", 60)


def fitted(dataset, **options):
    model = GBM()
    model.fit(dataset, TrainConfig(model="gbm", **options))
    return model


def arrays(dataset, name):
    return np.array(dataset[name].x_nl), np.array(dataset[name].y_nt)


@settings(max_examples=50, deadline=None)
@given(
    n=st.integers(2, 20),
    width=st.integers(1, 20),
    most=st.integers(1, 25),
    seed=st.integers(0, 99),
)
def test_directions_are_those_of_scikit_learn(n, width, most, seed):
    rng = np.random.default_rng(seed)
    x_nw = 3 + rng.normal(size=(n, width)) * rng.uniform(0.5, 4, width)
    found_cw = directions(x_nw, most)
    assert len(found_cw) == min(most, n - 1, width)
    expected_cw = PCA(len(found_cw), svd_solver="full").fit(x_nw).components_
    np.testing.assert_allclose(np.abs((found_cw * expected_cw).sum(axis=1)), 1, atol=1e-5)
    np.testing.assert_allclose(found_cw @ found_cw.T, np.eye(len(found_cw)), atol=1e-7)
    assert (found_cw.max(axis=1) >= -found_cw.min(axis=1)).all()


def by_hand(dataset, seed):
    """Each component by the plain calls, and the MAE after each."""
    (x_nl, y_nt), (new_nl, new_nt) = arrays(dataset, "train"), arrays(dataset, "validation")
    pca = PCA(4, svd_solver="full").fit(y_nt.astype(np.float64))
    signs = np.sign(pca.components_[range(4), np.abs(pca.components_).argmax(axis=1)])
    loading_ct = (pca.components_ * signs[:, None]).astype(np.float32)
    vector_lk = directions(x_nl, 100).T.astype(np.float32)
    table, unseen = (np.hstack([a, a @ vector_lk]) for a in (x_nl, new_nl))
    inferred, rounds, maes = np.zeros(new_nt.shape) + y_nt.mean(axis=0), [], []
    for loading_t in loading_ct:
        score_n, score_b = ((a - y_nt.mean(axis=0)) @ loading_t for a in (y_nt, new_nt))
        seen = lightgbm.Dataset(table, score_n)
        held_out = lightgbm.Dataset(unseen, score_b, reference=seen)
        booster = lightgbm.train(
            TREES | {"seed": seed},
            seen,
            60,
            valid_sets=[held_out],
            callbacks=[lightgbm.early_stopping(20, verbose=False)],
        )
        rounds.append(booster.best_iteration)
        inferred += np.outer(booster.predict(unseen), loading_t)
        maes.append(np.abs(inferred - new_nt).mean())
    return rounds, maes


@pytest.mark.filterwarnings("ignore:Overriding the parameters:UserWarning")
def test_agrees_with_lightgbm_by_hand(make):
    dataset = make(sizes=SIZES, absent=())
    model = fitted(dataset, seed=3)
    rounds, maes = by_hand(dataset, 3)
    np.testing.assert_allclose(model.validation_mae, maes, rtol=1e-3)
    n = int(np.argmin(maes)) + 1
    assert model.rounds == rounds[:n]
    new_nl, new_nt = arrays(dataset, "validation")
    assert np.abs(model.predict(new_nl) - new_nt).mean() == pytest.approx(min(maes), rel=1e-3)
    assert min(maes) < 0.8 * np.abs(new_nt - arrays(dataset, "train")[1].mean(axis=0)).mean()


def test_the_same_again_with_all_threads_and_read_again(dataset, tmp_path, monkeypatch):
    one = train(dataset, tmp_path / "one", model="gbm")
    monkeypatch.setattr(module, "FEW_PROFILES", 0)
    two = train(dataset, tmp_path / "two", model="gbm")
    other = train(dataset, tmp_path / "other", model="gbm", seed=1)
    x_nl = dataset["test"].x_nl
    y_nt = one.predict(x_nl)
    assert (y_nt.shape, y_nt.dtype) == ((21, 9), np.float32)
    np.testing.assert_array_equal(two.predict(x_nl), y_nt)
    assert not np.array_equal(other.predict(x_nl), y_nt)
    again = Bundle.load(one.path)
    np.testing.assert_array_equal(again.predict(x_nl), y_nt)
    assert again.model.settings() == one.info["settings"]
    assert again.predict(x_nl[:0]).shape == (0, 9)
    np.testing.assert_allclose(again.predict(x_nl[3:4]), y_nt[3:4], atol=1e-6)


def test_learning_from_all_splits_keeps_components_and_rounds(dataset, tmp_path):
    before = train(dataset, tmp_path / "before", model="gbm")
    after = train(dataset, tmp_path / "after", model="gbm", train_on="all")
    assert after.info["settings"] == before.info["settings"]
    y_nt = np.concatenate([dataset[name].y_nt for name in ("train", "validation", "test")])
    np.testing.assert_allclose(after.model.mean_t, y_nt.mean(axis=0), atol=1e-5)
    assert np.abs(after.predict(dataset["test"].x_nl) - dataset["test"].y_nt).mean() < (
        np.abs(before.predict(dataset["test"].x_nl) - dataset["test"].y_nt).mean()
    )


def test_components_of_a_draw_of_many_profiles(make, monkeypatch):
    monkeypatch.setattr(module, "PCA_PROFILES", 50)
    dataset = make(sizes=SIZES)
    one, again, other = (fitted(dataset, seed=seed).loading_ct for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert one.shape != other.shape or not np.allclose(one, other)


def test_without_lightgbm_the_remedy_is_named(dataset, tmp_path, monkeypatch):
    path = train(dataset, tmp_path / "model", model="gbm").path
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    message = r"gbm need lightgbm: pip install 'dgex-torch\[gbm\]'"
    with pytest.raises(UsageError, match=message):
        train(dataset, tmp_path / "other", model="gbm")
    with pytest.raises(UsageError, match=message):
        Bundle.load(path)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("trees", lambda a: a[:-1], "the text of the trees is damaged"),
        ("trees", lambda a: a[::-1], "the text of the trees is damaged"),
        ("sha256", lambda a: a[::-1], "the text of the trees is damaged"),
        ("length_c", lambda a: a[:-1], "trees hold"),
        ("length_c", lambda a: -a, "trees hold"),
        ("loading_ct", lambda a: a[:, 1:], "do not fit each other"),
        ("mean_t", lambda a: a[1:], "do not fit each other"),
        ("vector_lk", lambda a: a[:, 1:], "trees of 12 variables"),
        ("vector_lk", lambda a: a[0], "do not fit each other"),
    ],
)
def test_arrays_that_are_no_trees_are_refused(dataset, name, change, message):
    model = fitted(dataset)
    good = model.arrays()
    assert GBM.from_arrays(good, model.settings()).rounds == model.rounds
    with pytest.raises(ValueError, match=message):
        GBM.from_arrays(good | {name: change(good[name])}, model.settings())


def test_a_damaged_file_of_trees_is_named(dataset, tmp_path):
    path = train(dataset, tmp_path / "model", model="gbm").path / "weights.safetensors"
    content = path.read_bytes()
    path.write_bytes(content.replace(b"num_leaves", b"nun_leaves"))
    with pytest.raises(DataError, match="does not hold the weights of a model of kind gbm"):
        Bundle.load(tmp_path / "model")


def test_targets_that_do_not_vary_are_refused(dataset, monkeypatch):
    still = dataset["train"].y_nt * 0
    monkeypatch.setattr(ProfileSet, "y_nt", property(lambda self: still[: self.n]))
    with pytest.raises(DataError, match="The targets of data do not vary"):
        fitted(dataset)
