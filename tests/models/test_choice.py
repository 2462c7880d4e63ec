"""Choosing on validation: which rows, which error, and a word at the edge of the grid."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest

from dgex.errors import DataError
from dgex.models import choice
from dgex.models.choice import choice_mae, choice_rows, warn_at_edge


def test_few_profiles_are_all_taken(dataset):
    np.testing.assert_array_equal(choice_rows(dataset, seed=1), np.arange(24))


def test_many_profiles_are_drawn_by_the_seed(dataset, monkeypatch):
    monkeypatch.setattr(choice, "CHOICE_PROFILES", 10)
    rows = choice_rows(dataset, seed=1)
    assert len(set(rows.tolist())) == 10
    assert rows.tolist() == sorted(rows)
    np.testing.assert_array_equal(rows, choice_rows(dataset, seed=1))
    assert rows.tolist() != choice_rows(dataset, seed=2).tolist()


def test_there_must_be_profiles_to_choose_on(make):
    dataset = make(sizes={"train": 9, "validation": 0, "test": 4})
    with pytest.raises(DataError, match="data has no validation profiles to choose on"):
        choice_rows(dataset, seed=0)


def test_the_error_is_that_of_the_rows_and_the_measured_targets():
    rng = np.random.default_rng(0)
    x_nl, y_nt = rng.normal(size=(3000, 2)), rng.normal(size=(3000, 4))
    present_t = np.array([True, False, True, True])
    profiles = SimpleNamespace(x_nl=x_nl, y_nt=y_nt, present_t=present_t)
    rows = np.arange(0, 3000, 2)
    expected = np.abs(x_nl[rows, :1] - y_nt[rows])[:, present_t].mean()
    assert choice_mae(lambda x_bl: x_bl[:, :1], profiles, rows) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("values", "best", "bounds", "said"),
    [
        ([1, 2, 3], 0, (), "The best k, 1, is the smallest of those tried"),
        ([1, 2, 3], 2, (), "Try larger ones with --k"),
        ([1, 2, 3], 1, (), ""),
        ([1, 2, 3], 0, (1, 9), ""),
        ([7], 0, (), ""),
    ],
)
def test_the_edge_of_the_grid_is_said(caplog, values, best, bounds, said):
    with caplog.at_level(logging.WARNING, "dgex"):
        warn_at_edge("k", "--k", values, best, bounds)
    assert bool(caplog.text) == bool(said)
    assert said in caplog.text
