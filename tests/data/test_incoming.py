"""Profiles from outside, as a model sees them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import stats

from dgex.data.formats import reader
from dgex.data.incoming import Incoming
from dgex.data.matrix import open_matrix
from dgex.data.prepare import prepare
from dgex.data.preprocess import Preprocessor
from dgex.errors import DataError

Cohort = Callable[..., AnnData]


@pytest.fixture
def preprocessor(cohort: Cohort, tmp_path: Path) -> Preprocessor:
    return prepare(cohort(), tmp_path / "toy").preprocessor


def incoming(profiles: AnnData, preprocessor: Preprocessor, **options: object) -> Incoming:
    given = {"ties": "unique", "moments": "own", "missing_landmarks": "mean"} | options
    return Incoming(open_matrix(profiles), preprocessor, **given)  # type: ignore[arg-type]


def z_of(one: Incoming) -> np.ndarray:
    return np.concatenate([z_bg for _, z_bg in one.blocks()])


def unique_quantiles(x_ng: np.ndarray, reference_g: np.ndarray) -> np.ndarray:
    out = np.full(x_ng.shape, np.nan)
    for x_g, q_g in zip(x_ng, out, strict=True):
        measured = ~np.isnan(x_g)
        dense = stats.rankdata(x_g[measured], "dense")
        position = np.floor(dense / dense.max() * len(reference_g)).astype(int) - 1
        q_g[measured] = reference_g[np.maximum(position, 0)]
    return out


def by_own_moments(q_ng: np.ndarray) -> np.ndarray:
    z_ng = (q_ng - np.nanmean(q_ng, axis=0)) / (np.nanstd(q_ng, axis=0) + 1e-3)
    return np.nan_to_num(z_ng)


@pytest.mark.parametrize("block", [1, 1000])
@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_whole_profiles_by_their_own_moments(
    cohort: Cohort,
    preprocessor: Preprocessor,
    monkeypatch: pytest.MonkeyPatch,
    block: int,
    missing: float,
) -> None:
    monkeypatch.setattr(reader, "BLOCK_BYTES", 8 * 11 * block)
    profiles = cohort(n=12, seed=5)
    profiles.X[np.random.default_rng(0).random(profiles.shape) < missing] = np.nan
    shuffled = profiles[:, ::-1].copy()
    one = incoming(shuffled, preprocessor)
    expected = by_own_moments(unique_quantiles(profiles.X, preprocessor.reference_g))
    np.testing.assert_allclose(z_of(one), expected, atol=1e-6)
    assert one.n_missing == np.isnan(profiles.X).sum()
    assert one.landmarks_filled() is None


def test_whole_profiles_by_the_training_moments(cohort: Cohort, preprocessor: Preprocessor) -> None:
    profiles = cohort(n=3, seed=5)
    one = incoming(profiles, preprocessor, moments="training", ties="average")
    ranks = np.stack([(stats.rankdata(x_g) - 1).astype(int) for x_g in profiles.X])
    q_ng = preprocessor.reference_g[ranks]
    expected = (q_ng - preprocessor.mean_g) / (preprocessor.sd_g + 1e-3)
    np.testing.assert_allclose(z_of(one), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("moments", ["own", "training"])
@pytest.mark.parametrize("linear", [False, True])
def test_landmarks_alone(
    cohort: Cohort, preprocessor: Preprocessor, moments: str, linear: bool
) -> None:
    profiles = cohort(n=25, seed=6)[:, :4].copy()
    log2 = profiles.X.copy()
    if linear:
        profiles.X = np.exp2(np.abs(log2)) - 1
        log2 = np.abs(log2)
    one = incoming(profiles, preprocessor, ties=None, moments=moments)
    assert one.is_linear is linear
    assert len(one.genes) == 4
    if moments == "own":
        expected = by_own_moments(log2)
    else:
        expected = (log2 - preprocessor.mean_g[:4]) / (preprocessor.sd_g[:4] + 1e-3)
    np.testing.assert_allclose(z_of(one), expected, rtol=1e-5, atol=1e-5)


def test_absent_landmarks_are_filled_as_asked(cohort: Cohort, preprocessor: Preprocessor) -> None:
    profiles = cohort(n=10, seed=7)
    part = profiles[:, [name != "L2" for name in profiles.var_names]].copy()
    mean = incoming(part, preprocessor)
    assert mean.present_l.tolist() == [True, True, False, True]
    assert (z_of(mean)[:, 2] == 0).all()
    assert mean.landmarks_filled() == "1 absent landmarks set to 0, the mean (L2)."
    infer = incoming(part, preprocessor, missing_landmarks="infer")
    assert (z_of(infer)[:, 2] != 0).all()
    assert infer.landmarks_filled() == "1 absent landmarks inferred from the others (L2)."
    expected = preprocessor.infer_landmarks(z_of(mean)[:, :4], mean.present_l)
    np.testing.assert_allclose(z_of(infer)[:, :4], expected, atol=1e-6)


@pytest.mark.parametrize("gene", ["L1", "T3"])
def test_a_column_without_values_is_absent(
    cohort: Cohort, preprocessor: Preprocessor, gene: str
) -> None:
    """Scoring it as if 0 had been measured would be a lie."""
    profiles = cohort(n=10, seed=7)
    empty = profiles.copy()
    empty.X[:, list(empty.var_names).index(gene)] = np.nan
    gone = empty[:, [name != gene for name in empty.var_names]].copy()
    one = incoming(empty, preprocessor, missing_landmarks="infer")
    other = incoming(gone, preprocessor, missing_landmarks="infer")
    np.testing.assert_array_equal(one.present_g, other.present_g)
    np.testing.assert_allclose(z_of(one), z_of(other), atol=1e-6)
    assert one.n_missing == 0
    assert one.landmarks_filled() == other.landmarks_filled()


def test_absent_targets_are_zero_and_marked(cohort: Cohort, preprocessor: Preprocessor) -> None:
    part = cohort(n=10, seed=7)[:, :9].copy()
    one = incoming(part, preprocessor)
    assert one.present_g.tolist() == [True] * 9 + [False] * 2
    assert (z_of(one)[:, 9:] == 0).all()


def test_none_of_the_landmarks_is_refused(cohort: Cohort, preprocessor: Preprocessor) -> None:
    with pytest.raises(DataError, match="None of the 4 landmarks is in <AnnData>"):
        incoming(cohort(n=10)[:, 4:].copy(), preprocessor)
    with pytest.raises(DataError, match="None of the 11 genes"):
        incoming(AnnData(np.ones((2, 2)), var=pd.DataFrame(index=["x", "y"])), preprocessor)


@pytest.mark.parametrize("ties", ["unique", None])
def test_profiles_without_landmarks_are_named(
    cohort: Cohort, preprocessor: Preprocessor, ties: str | None
) -> None:
    profiles = cohort(n=10)
    profiles.X[[3, 8], :4] = np.nan
    with pytest.raises(DataError, match=r"2 profiles of <AnnData> .*landmark \(p3, p8\)"):
        incoming(profiles, preprocessor, ties=ties)


def test_another_scale_is_warned_of(
    cohort: Cohort, preprocessor: Preprocessor, caplog: pytest.LogCaptureFixture
) -> None:
    profiles = cohort(n=10)[:, :4].copy()
    with caplog.at_level(logging.WARNING, logger="dgex"):
        incoming(profiles, preprocessor, ties=None, moments="training")
        assert caplog.messages == []
        profiles.X = profiles.X - 100
        incoming(profiles, preprocessor, ties=None, moments="training")
        assert "on another scale" in caplog.messages[0]
        caplog.clear()
        incoming(profiles, preprocessor, ties=None, moments="own")
        assert caplog.messages == []


@pytest.mark.parametrize(("shift", "warned"), [(2.0, True), (0.5, False)])
def test_landmarks_far_from_those_of_training_are_warned_of(
    cohort: Cohort,
    preprocessor: Preprocessor,
    caplog: pytest.LogCaptureFixture,
    shift: float,
    warned: bool,
) -> None:
    profiles = cohort(n=3)[:, :4].copy()
    profiles.X = np.tile(preprocessor.mean_g[:4] + shift * preprocessor.sd_g[:4], (3, 1))
    with caplog.at_level(logging.WARNING, logger="dgex"):
        incoming(profiles, preprocessor, ties=None, moments="training")
    assert ("The landmarks' means are 2.0 training standard deviations" in caplog.text) == warned


def test_a_plate_whose_landmarks_never_vary_is_warned_of(
    cohort: Cohort, preprocessor: Preprocessor, caplog: pytest.LogCaptureFixture
) -> None:
    profiles = cohort(n=30)[:, :4].copy()
    profiles.X = np.tile(profiles.X[:1], (30, 1))
    with caplog.at_level(logging.WARNING, logger="dgex"):
        incoming(profiles[:1].copy(), preprocessor, ties=None, moments="own")
        assert caplog.messages == []
        incoming(profiles, preprocessor, ties=None, moments="own")
    assert "No landmark varies over the 30 profiles of <AnnData>" in caplog.text


@pytest.mark.parametrize(
    ("n", "added", "warned"), [(40, 5.0, True), (40, 0.0, False), (9, 5.0, False)]
)
def test_another_platform_is_warned_of(
    cohort: Cohort,
    preprocessor: Preprocessor,
    caplog: pytest.LogCaptureFixture,
    n: int,
    added: float,
    warned: bool,
) -> None:
    profiles = cohort(n=n)
    # Every second gene higher: the reference, which knows ranks alone, cannot take that away.
    profiles.X[:, ::2] += added
    one = incoming(profiles, preprocessor, ties="average", moments="training")
    typical = np.median(np.abs(z_of(one).mean(axis=0)))
    assert (0.7 < typical < 4) == (added > 0), typical
    assert any("better standardised by their own moments" in m for m in caplog.messages) == warned


def test_one_profile_by_the_training_moments(cohort: Cohort, preprocessor: Preprocessor) -> None:
    profiles = cohort(n=10, seed=8)
    many = incoming(profiles, preprocessor, moments="training")
    one = incoming(profiles[3].copy(), preprocessor, moments="training")
    np.testing.assert_array_equal(z_of(one)[0], z_of(many)[3])


def test_a_named_column_is_used(cohort: Cohort, preprocessor: Preprocessor) -> None:
    profiles = cohort(n=10, seed=8)
    expected = z_of(incoming(profiles, preprocessor))
    profiles.var["mine"] = profiles.var_names
    profiles.var_names = [f"x{i}" for i in range(11)]
    found = incoming(profiles, preprocessor, id_column="mine")
    np.testing.assert_array_equal(z_of(found), expected)
    assert found.alignment.column == "mine"
