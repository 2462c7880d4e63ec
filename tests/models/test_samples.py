"""Nearest training profiles against scikit-learn and plain loops."""

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from sklearn.neighbors import KNeighborsRegressor

from dgex.config import TrainConfig
from dgex.errors import UsageError
from dgex.models import samples as module
from dgex.models.bundle import Bundle
from dgex.models.fit import train
from dgex.models.samples import DISTANCES, POWERS, SampleKNN, nearest

SIZES = {"train": 60, "validation": 30, "test": 1100}


def model_of(x_nl, y_nt, k, distance="euclidean", power=0.0):
    arrays = {"x_nl": x_nl.astype(np.float32), "y_nt": y_nt.astype(np.float32)}
    return SampleKNN.from_arrays(
        arrays, {"k": k, "distance": distance, "power": power, "tried": []}
    )


def plain_prediction(x_nl, y_nt, new_nl, k, distance, power):
    """One profile at a time."""
    predicted = []
    for x_l in new_nl:
        if distance == "euclidean":
            distance_n = np.array([np.linalg.norm(x_l - one_l) for one_l in x_nl])
        else:
            r_n = np.array([np.corrcoef(x_l, one_l)[0, 1] for one_l in x_nl])
            distance_n = np.sqrt(2 - 2 * r_n)
        near_k = np.argsort(distance_n)[:k]
        weight_k = distance_n[near_k] ** -power
        predicted.append(weight_k @ y_nt[near_k] / weight_k.sum())
    return np.array(predicted)


def fitted(dataset, **options):
    model = SampleKNN()
    model.fit(dataset, TrainConfig(model="sample-knn", **options))
    return model


@pytest.mark.parametrize("k", [1, 4, 60])
@pytest.mark.parametrize("power", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("distance", ["euclidean", "correlation"])
def test_agrees_with_scikit_learn(make, monkeypatch, k, power, distance):
    monkeypatch.setattr(module, "SEARCH_ROWS", 17)
    dataset = make(sizes=SIZES, landmarks=15)
    x_nl, y_nt = (np.array(a, np.float64) for a in (dataset["train"].x_nl, dataset["train"].y_nt))
    new_nl = np.array(dataset["test"].x_nl, np.float64)  # more rows than a block

    def weights(distance_bk):
        root_bk = np.sqrt(2 * distance_bk) if distance == "correlation" else distance_bk
        return root_bk**-power

    reference = KNeighborsRegressor(k, weights=weights, metric=distance, algorithm="brute")
    y_hat_nt = model_of(x_nl, y_nt, k, distance, power).predict(new_nl)
    assert y_hat_nt.dtype == np.float32
    np.testing.assert_allclose(y_hat_nt, reference.fit(x_nl, y_nt).predict(new_nl), atol=1e-5)


@settings(max_examples=80, deadline=None)
@given(
    n=st.integers(1, 40),
    rows=st.integers(1, 45),
    share=st.floats(0.01, 1),
    seed=st.integers(0, 99),
    distance=st.sampled_from(DISTANCES),
)
def test_the_search_in_blocks_is_a_search_in_all(n, rows, share, seed, distance):
    rng = np.random.default_rng(seed)
    x_nl = rng.normal(size=(n, 7)) + 5 * rng.normal(size=7)
    x_bl = rng.normal(size=(9, 7))
    k = max(1, int(share * n))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SEARCH_ROWS", rows)
        place_bk, distance_bk = nearest(x_nl, x_bl, k, distance)
    expected_bn = cdist(x_bl, x_nl, distance)
    if distance == "correlation":
        expected_bn = np.sqrt(2 * expected_bn)
    np.testing.assert_array_equal(place_bk, np.argsort(expected_bn, axis=1)[:, :k])
    expected_bk = np.take_along_axis(expected_bn, place_bk, axis=1)
    np.testing.assert_allclose(distance_bk, expected_bk, rtol=1e-7)


@settings(max_examples=60, deadline=None)
@given(k=st.integers(1, 12), power=st.sampled_from(POWERS), seed=st.integers(0, 99))
def test_what_is_inferred_lies_between_the_neighbours(k, power, seed):
    rng = np.random.default_rng(seed)
    x_nl, y_nt = rng.normal(size=(12, 5)), rng.normal(size=(12, 3))
    new_nl = np.concatenate([rng.normal(size=(4, 5)), x_nl[:2], np.zeros((1, 5))])
    for distance in DISTANCES:
        y_hat_nt = model_of(x_nl, y_nt, k, distance, power).predict(new_nl)
        place_bk, _ = nearest(x_nl.astype(np.float32), new_nl.astype(np.float32), k, distance)
        assert (y_hat_nt <= y_nt[place_bk].max(axis=1) + 1e-5).all()
        assert (y_hat_nt >= y_nt[place_bk].min(axis=1) - 1e-5).all()


@pytest.mark.parametrize("power", [1.0, 16.0])
@pytest.mark.parametrize("distance", ["euclidean", "correlation"])
def test_neighbours_at_distance_0_share_the_weight(power, distance):
    rng = np.random.default_rng(0)
    x_nl = 3 + rng.normal(size=(20, 900))
    x_nl[7] = x_nl[4]
    y_nt = rng.normal(size=(20, 2))
    y_hat_nt = model_of(x_nl, y_nt, 5, distance, power).predict(x_nl[[4, 11]])
    np.testing.assert_allclose(y_hat_nt, [y_nt[[4, 7]].mean(axis=0), y_nt[11]], atol=1e-6)


def test_keeps_what_has_the_lowest_validation_mae(make):
    dataset = make(sizes={"train": 60, "validation": 40, "test": 5}, landmarks=8, absent=())
    numbers = (9, 2, 4, 2)
    model = fitted(dataset, neighbours=numbers)
    (x_nl, y_nt), (new_nl, new_nt) = (
        (np.array(dataset[name].x_nl, np.float64), np.array(dataset[name].y_nt, np.float64))
        for name in ("train", "validation")
    )
    expected = {
        (distance, power, k): np.abs(
            plain_prediction(x_nl, y_nt, new_nl, k, distance, power) - new_nt
        ).mean()
        for distance in DISTANCES
        for power in POWERS
        for k in (2, 4, 9)
    }
    assert list(model.validation_mae) == list(expected)
    np.testing.assert_allclose(
        list(model.validation_mae.values()), list(expected.values()), rtol=1e-5
    )
    assert (model.distance, model.power, model.k) == min(expected, key=expected.get)
    again = np.abs(model.predict(new_nl) - new_nt).mean()
    assert again == pytest.approx(min(expected.values()), rel=1e-5)


def test_chooses_on_a_draw_of_many_validation_profiles(make, monkeypatch):
    monkeypatch.setattr(module, "CHOICE_PROFILES", 7)
    dataset = make()
    one, two = (fitted(dataset, neighbours=(3,), seed=seed).validation_mae for seed in (0, 1))
    assert one != two
    assert one == fitted(dataset, neighbours=(3,), seed=0).validation_mae


def test_more_neighbours_than_profiles_are_left_out(make, caplog):
    dataset = make(sizes={"train": 8, "validation": 10, "test": 5})
    with caplog.at_level(logging.INFO, "dgex"):
        model = fitted(dataset)
    assert {k for _, _, k in model.validation_mae} == {1, 2, 3, 5}
    assert "sample-knn: 10, 15, 20" in caplog.text
    with pytest.raises(UsageError, match="--neighbours 9, 12: more than the 8 training profiles"):
        fitted(dataset, neighbours=(12, 9))


def test_warns_at_the_edge_of_the_numbers_tried(dataset, caplog):
    with caplog.at_level(logging.WARNING, "dgex"):
        fitted(dataset, neighbours=(2, 3))
    assert "The best number of neighbours, 3, is the largest of those tried" in caplog.text


def test_learning_from_all_splits_keeps_the_choice(dataset, tmp_path):
    before = train(dataset, tmp_path / "before", model="sample-knn")
    after = train(dataset, tmp_path / "after", model="sample-knn", train_on="all")
    assert after.info["settings"] == before.info["settings"]
    joined = [np.concatenate([dataset[name].x_nl for name in ("train", "validation", "test")])]
    np.testing.assert_array_equal(after.model.arrays()["x_nl"], joined[0])
    assert len(after.model.arrays()["y_nt"]) == 135


def test_a_model_of_some_targets_read_again(dataset, tmp_path):
    part = train(
        dataset, tmp_path / "part", model="sample-knn", neighbours=(3,), target_range="2:6"
    )
    settings = part.info["settings"]
    x_nl, y_nt, new_nl = dataset["train"].x_nl, dataset["train"].y_nt, dataset["gtex"].x_nl
    whole = model_of(x_nl, y_nt, 3, settings["distance"], settings["power"])
    np.testing.assert_allclose(part.predict(new_nl), whole.predict(new_nl)[:, 2:6], atol=1e-6)
    again = Bundle.load(part.path)
    assert again.model.settings() == part.model.settings()
    assert again.predict(new_nl[:0]).shape == (0, 4)


GOOD = {"k": 2, "distance": "euclidean", "power": 1.0, "tried": [[2, "euclidean", 1.0, 0.5]]}


@pytest.mark.parametrize(
    ("arrays", "wrong", "error", "message"),
    [
        ({"x_nl": np.zeros(3, np.float32)}, {}, ValueError, "do not fit"),
        ({"x_nl": np.zeros((4, 2), np.float32)}, {}, ValueError, "do not fit"),
        ({"y_nt": np.zeros((3, 2))}, {}, TypeError, "y_nt is of type float64"),
        ({}, {"k": 4}, ValueError, "4 neighbours of 3 profiles"),
        ({}, {"k": 0}, ValueError, "0 neighbours"),
        ({}, {"distance": "cosine"}, ValueError, "unknown distance cosine"),
        ({}, {"power": float("nan")}, ValueError, "power is nan"),
        ({}, {"power": -1.0}, ValueError, "power is -1.0"),
        ({}, {"tried": [[1, 2]]}, ValueError, "unpack"),
    ],
)
def test_arrays_that_are_no_model_are_refused(arrays, wrong, error, message):
    good = {"x_nl": np.zeros((3, 2), np.float32), "y_nt": np.zeros((3, 5), np.float32)}
    model = SampleKNN.from_arrays(good, GOOD)
    assert (model.n_landmarks, model.n_targets, model.settings()) == (2, 5, GOOD)
    with pytest.raises(error, match=message):
        SampleKNN.from_arrays(good | arrays, GOOD | wrong)
