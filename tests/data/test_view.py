"""Part of the targets, and all splits as one: the same numbers at other places."""

import numpy as np
import pandas as pd
import pytest

import dgex
from dgex.data.view import TrainingView, join_splits, target_slice
from dgex.errors import UsageError


@pytest.fixture
def dataset(cohort, tmp_path):
    external = cohort(n=12, seed=3)[:, :9].copy()  # two targets are not measured
    return dgex.prepare(cohort(), tmp_path / "data", protocol="paper", external={"other": external})


@pytest.mark.parametrize("text", ["3", "a:b", "-1:2", "1:", ":", "2:2", "3:2", "0:8", "1:2:3"])
def test_ranges_that_name_no_targets(text):
    with pytest.raises(UsageError, match=f"--target-range {text}"):
        target_slice(text, 7)


def test_some_targets(dataset):
    view = TrainingView(dataset, target_slice("3:6", 7))
    assert list(view.targets.index) == ["T3", "T4", "T5"]
    assert list(view.landmarks.index) == list(dataset.landmarks.index)
    for name in ("train", "validation", "test", "other"):
        part, whole = view[name], dataset[name]
        np.testing.assert_array_equal(part.y_nt, whole.y_nt[:, 3:6])
        np.testing.assert_array_equal(part.x_nl, whole.x_nl)
        np.testing.assert_array_equal(part.present_t, whole.present_t[3:6])
        np.testing.assert_array_equal(part.present_l, whole.present_l)
        kept = [*range(4), *range(7, 10)]
        pd.testing.assert_frame_equal(part.genes, whole.genes.iloc[kept].reset_index(drop=True))
        _, x_bl, y_bt = next(part.blocks(5))
        np.testing.assert_array_equal(y_bt, whole.y_nt[: len(x_bl), 3:6])
        assert 4 <= len(x_bl) <= 5
    assert list(view["other"].present_t) == [True, True, False]


def test_all_splits_as_train(dataset, tmp_path):
    view = TrainingView(dataset, slice(1, 3))
    joined = view.joined(join_splits(view, tmp_path / "joined"))
    splits = [dataset[name] for name in ("train", "validation", "test")]
    assert joined["train"].n == 40
    np.testing.assert_array_equal(
        joined["train"].y_nt, np.concatenate([one.y_nt[:, 1:3] for one in splits])
    )
    np.testing.assert_array_equal(
        joined["train"].x_nl, np.concatenate([one.x_nl for one in splits])
    )
    assert list(joined["train"].obs.index) == [i for one in splits for i in one.obs.index]
    assert joined["train"].present_t.all()
    np.testing.assert_array_equal(joined["test"].x_nl, dataset["test"].x_nl)


def test_a_preprocessor_of_some_targets_ranks_with_all_genes(dataset, tmp_path):
    whole = dataset.preprocessor
    part = whole.only_targets(slice(2, 5)).only_targets(slice(1, 3))
    part.save(tmp_path / "part")
    part = type(part).load(tmp_path / "part")
    assert list(part.targets.index) == ["T3", "T4"]
    assert list(part.genes.index[:6]) == ["L0", "L1", "L2", "L3", "T3", "T4"]
    assert sorted(part.genes.index) == sorted(whole.genes.index)
    order = whole.genes.index.get_indexer(part.genes.index)
    np.testing.assert_array_equal(part.mean_g, whole.mean_g[order])
    np.testing.assert_array_equal(part.sd_g, whole.sd_g[order])
    values = np.random.default_rng(0).normal(size=(3, 11))
    present = np.ones(11, bool)
    np.testing.assert_array_equal(
        part.quantile_normalise(values[:, order], present, "average"),
        whole.quantile_normalise(values, present, "average")[:, order],
    )
