"""Nearest landmarks against a plain loop and scikit-learn's search."""

import logging

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors

from dgex.config import TrainConfig
from dgex.errors import UsageError
from dgex.models.gram import gram
from dgex.models.neighbours import GeneKNN, squared_distances

PANEL = {"landmarks": 30, "targets": 12}


def fitted(dataset, **options):
    model = GeneKNN()
    model.fit(dataset, TrainConfig(model="gene-knn", **options))
    return model


def arrays(dataset, name):
    return np.array(dataset[name].x_nl, np.float64), np.array(dataset[name].y_nt, np.float64)


def plain_prediction(dataset, name, k):
    """For every target: order the landmarks by distance, and average the first k."""
    train_x_nl, train_y_nt = arrays(dataset, "train")
    x_nl = arrays(dataset, name)[0]
    predicted = []
    for y_n in train_y_nt.T:
        distance_l = [np.sqrt(((x_n - y_n) ** 2).sum()) for x_n in train_x_nl.T]
        predicted.append(x_nl[:, np.argsort(distance_l)[:k]].mean(axis=1))
    return np.array(predicted).T


@pytest.mark.parametrize("n", [12, 90, 2500])
@pytest.mark.parametrize("k", [1, 4, 30])
def test_agrees_with_a_plain_loop_and_scikit_learn(make, n, k):
    dataset = make(sizes={"train": n, "validation": 9, "test": 1100}, **PANEL)
    model = fitted(dataset, neighbours=(k,))
    x_nl, y_nt = arrays(dataset, "train")
    neighbours = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(x_nl.T)
    np.testing.assert_array_equal(
        model.neighbour_tk, neighbours.kneighbors(y_nt.T, return_distance=False)
    )
    y_nt = model.predict(dataset["test"].x_nl)  # more rows than a block
    assert y_nt.dtype == np.float32
    np.testing.assert_allclose(y_nt, plain_prediction(dataset, "test", k), atol=1e-5)


@pytest.mark.parametrize("n", [50, 4000])
def test_distances_are_those_of_the_values(n):
    rng = np.random.default_rng(n)
    x_nl = (rng.normal(size=(n, 3)) + 4).astype(np.float32)
    y_nt = np.column_stack([x_nl[:, 0] * np.float32(1.00001), rng.normal(size=(n, 2))])
    y_nt = y_nt.astype(np.float32)
    blocks = [(start, x_nl[start:][:700], y_nt[start:][:700]) for start in range(0, n, 700)]
    distance_lt = squared_distances(gram(blocks, 3, 3, n, double=True))
    expected_lt = cdist(x_nl.T.astype(np.float64), y_nt.T.astype(np.float64), "sqeuclidean")
    np.testing.assert_allclose(distance_lt, expected_lt, rtol=1e-9, atol=1e-12 * n * 20)


def test_keeps_the_number_of_the_lowest_validation_mae(make):
    dataset = make(sizes={"train": 60, "validation": 1300, "test": 5}, **PANEL)
    tried = (20, 1, 2, 3, 5, 10, 2)
    model = fitted(dataset, neighbours=tried)
    y_nt = arrays(dataset, "validation")[1]
    expected = {
        k: np.abs(plain_prediction(dataset, "validation", k) - y_nt).mean()
        for k in sorted(set(tried))
    }
    assert model.settings()["neighbours"] == list(expected)
    np.testing.assert_allclose(
        model.settings()["validation_mae"], list(expected.values()), rtol=1e-5
    )
    assert model.neighbour_tk.shape == (12, min(expected, key=expected.get))


def test_more_neighbours_than_landmarks_are_left_out(dataset, caplog):
    with caplog.at_level(logging.INFO, "dgex"):
        model = fitted(dataset)
    assert model.settings()["neighbours"] == [1, 2, 3, 5]
    assert "gene-knn: 10, 15, 20" in caplog.text
    with pytest.raises(UsageError, match="--neighbours 7, 9: more than the 6 landmarks of data"):
        fitted(dataset, neighbours=(9, 7))


def test_warns_at_the_edge_of_the_numbers_tried(make, caplog):
    dataset = make(sizes={"train": 60, "validation": 500, "test": 5}, **PANEL)
    mae = fitted(dataset, neighbours=tuple(range(1, 31))).validation_mae
    best = min(mae, key=mae.get)
    with caplog.at_level(logging.WARNING, "dgex"):
        fitted(dataset, neighbours=(best, best - 1))
    assert f"The best number of neighbours, {best}, is the largest of those tried" in caplog.text


def test_equally_near_landmarks_are_taken_in_their_order(make):
    def twins(x_nl):
        x_nl[:, [1, 4]] = x_nl[:, [0]]
        return x_nl

    model = fitted(make(x_of=twins), neighbours=(6,))
    for neighbours in model.neighbour_tk.tolist():
        places = [neighbours.index(landmark) for landmark in (0, 1, 4)]
        assert places == list(range(places[0], places[0] + 3))


def test_arrays_and_settings_make_the_model_again(dataset):
    model = fitted(dataset)
    again = GeneKNN.from_arrays(model.arrays(), model.settings())
    x_nl = dataset["test"].x_nl
    np.testing.assert_array_equal(again.predict(x_nl), model.predict(x_nl))
    assert (again.n_landmarks, again.n_targets) == (6, 9)
    assert again.settings() == model.settings()
    assert again.predict(x_nl[:0]).shape == (0, 9)


@pytest.mark.parametrize(
    "wrong",
    [
        np.array([[0, 6]], np.int32),
        np.array([[-1, 2]], np.int32),
        np.array([[0.0, 1.0]]),
        np.array([0, 1], np.int32),
        np.array([[0, 1, 2]], np.int32),
    ],
)
def test_arrays_that_are_no_neighbours_are_refused(wrong):
    settings = {"k": 2, "n_landmarks": 6, "neighbours": [2], "validation_mae": [0.5]}
    with pytest.raises((TypeError, ValueError), match="neighbour_tk"):
        GeneKNN.from_arrays({"neighbour_tk": wrong}, settings)
