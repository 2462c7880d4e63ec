"""External sets: standardised as asked, marked where genes are absent, and never learned from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from anndata import AnnData
from scipy import stats

from dgex.config import PrepareConfig
from dgex.data.dataset import Dataset
from dgex.data.external import orientation_of
from dgex.data.matrix import create_matrix
from dgex.data.prepare import prepare
from dgex.errors import DataError, UsageError

Cohort = Callable[..., AnnData]


def prepared(cohort: Cohort, tmp_path: Path, other: AnnData, **options: object) -> Dataset:
    return prepare(cohort(), tmp_path / "toy", external={"other": other}, **options)


def unique_quantiles(x_ng: np.ndarray, reference_g: np.ndarray) -> np.ndarray:
    dense = np.stack([stats.rankdata(x_g, "dense") for x_g in x_ng])
    position = dense / dense.max(axis=1, keepdims=True) * len(reference_g)
    return reference_g[np.maximum(position.astype(int) - 1, 0)]


@pytest.mark.parametrize("moments", ["own", "training"])
def test_an_external_set_is_standardised_as_asked(
    cohort: Cohort, tmp_path: Path, moments: str
) -> None:
    other = cohort(n=9, seed=1)
    other.X = np.round(np.exp2(other.X))  # counts, with ties
    dataset = prepared(cohort, tmp_path, other, external_moments=moments)
    q_ng = unique_quantiles(other.X, dataset.preprocessor.reference_g)
    mean_g, sd_g = q_ng.mean(axis=0), q_ng.std(axis=0)
    if moments == "training":
        mean_g, sd_g = dataset.preprocessor.mean_g, dataset.preprocessor.sd_g
    z_ng = (q_ng - mean_g) / (sd_g + 1e-3)
    one = dataset["other"]
    np.testing.assert_allclose(one.x_nl, z_ng[:, :4], atol=1e-6)
    np.testing.assert_allclose(one.y_nt, z_ng[:, 4:], atol=1e-6)
    np.testing.assert_allclose(one.genes["mean"], mean_g, rtol=1e-12)
    np.testing.assert_allclose(one.genes["sd"], sd_g, rtol=1e-9)
    assert list(one.obs.index) == list(other.obs_names)
    assert one.obs["study"].tolist() == other.obs["study"].tolist()


def test_nothing_is_learned_from_an_external_set(cohort: Cohort, tmp_path: Path) -> None:
    alone = prepare(cohort(), tmp_path / "alone")
    other = cohort(n=9, seed=1)
    other.X = other.X * 1000
    both = prepared(cohort, tmp_path, other)
    for name in ("reference_g", "mean_g", "sd_g", "correlation_ll"):
        np.testing.assert_array_equal(
            getattr(alone.preprocessor, name), getattr(both.preprocessor, name)
        )
    np.testing.assert_array_equal(alone["test"].y_nt, both["test"].y_nt)


def test_absent_genes_are_marked_filled_and_said(cohort: Cohort, tmp_path: Path) -> None:
    other = cohort(n=9, seed=1)
    other = other[:, [name not in ("L1", "T0", "T6") for name in other.var_names]].copy()
    for fill, sentence in (
        ("infer", "other: 1 absent landmarks inferred from the others (L1)."),
        ("mean", "other: 1 absent landmarks set to 0, the mean (L1)."),
    ):
        dataset = prepare(
            cohort(), tmp_path / fill, external={"other": other}, missing_landmarks=fill
        )
        one = dataset["other"]
        assert one.present_l.tolist() == [True, False, True, True]
        assert one.present_t.tolist() == [False, *[True] * 5, False]
        assert (one.y_nt[:, ~one.present_t] == 0).all()
        assert bool((one.x_nl[:, 1] == 0).all()) is (fill == "mean")
        assert sentence in dataset.notes
        assert "other: 2 absent targets left out of its scores." in dataset.notes
        found = "other: 9 profiles, 3 of 4 landmarks and 5 of 7 targets found by id (id)."
        assert found in dataset.notes


def test_missing_values_are_counted(cohort: Cohort, tmp_path: Path) -> None:
    other = cohort(n=9, seed=1)
    other.X[[0, 3], 5] = np.nan
    other.X[:, 6] = np.nan
    dataset = prepared(cohort, tmp_path, other)
    assert dataset["other"].y_nt[[0, 3], 1].tolist() == [0, 0]
    assert dataset["other"].present_t.tolist() == [True, True, False, *[True] * 4]
    assert "other: 2 missing values set to the gene's mean." in dataset.notes


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (["T0", "T1"], "External set other has none of the 4 landmarks"),
        (["L0", "L1"], "External set other has none of the 7 targets"),
    ],
)
def test_a_set_without_landmarks_or_targets_is_refused_before_the_passes(
    cohort: Cohort,
    tmp_path: Path,
    keep: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dgex.data.prepare.scan", None)
    with pytest.raises(DataError, match=message):
        prepared(cohort, tmp_path, cohort(n=9)[:, keep].copy())
    assert list(tmp_path.iterdir()) == []


def test_a_set_without_a_value_of_any_target_is_refused(cohort: Cohort, tmp_path: Path) -> None:
    other = cohort(n=9, seed=1)
    other.X[:, 4:] = np.nan
    with pytest.raises(DataError, match="External set other has no value of any target"):
        prepared(cohort, tmp_path, other)
    assert list(tmp_path.iterdir()) == []


def test_one_profile_has_no_moments_of_its_own(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("dgex.data.prepare.scan", None)
        with pytest.raises(DataError, match=r"other is one profile.*--external-moments training"):
            prepared(cohort, tmp_path, cohort(n=1))
    dataset = prepared(cohort, tmp_path, cohort(n=1, seed=3), external_moments="training")
    assert dataset["other"].n == 1
    assert (dataset["other"].y_nt != 0).all()


def test_a_broken_external_file_leaves_nothing(cohort: Cohort, tmp_path: Path) -> None:
    (tmp_path / "x.gctx").write_text("not HDF5")
    with pytest.raises(DataError, match=r"x\.gctx is not a GCTX file"):
        prepare(cohort(), tmp_path / "toy", external={"other": tmp_path / "x.gctx"})
    assert [path.name for path in tmp_path.iterdir()] == ["x.gctx"]


def test_the_orientation_is_for_the_text_tables_among_the_inputs(
    cohort: Cohort, tmp_path: Path
) -> None:
    other = cohort(n=9, seed=1)
    for name, options in (("o.tsv", {"orientation": "samples-by-genes"}), ("o.gctx", {})):
        with create_matrix(tmp_path / name, other.obs[[]], other.var[[]], **options) as out:
            out.write(other.X)
    dataset = prepare(
        cohort(),
        tmp_path / "toy",
        external={"text": tmp_path / "o.tsv", "binary": tmp_path / "o.gctx"},
        orientation="samples-by-genes",
    )
    np.testing.assert_allclose(dataset["text"].y_nt, dataset["binary"].y_nt, atol=1e-5)
    with pytest.raises(UsageError, match=r"--orientation samples-by-genes: .*no input is one"):
        prepare(cohort(), tmp_path / "again", orientation="samples-by-genes")


@pytest.mark.parametrize(
    ("source", "passed_on"),
    [("a.tsv", True), ("a.CSV.gz", True), ("a.parquet", True), ("a.gct.gz", False), ("a", False)],
)
def test_only_tables_have_an_orientation(source: str, passed_on: bool) -> None:
    config = PrepareConfig(orientation="genes-by-samples")
    assert orientation_of(source, config) == ("genes-by-samples" if passed_on else None)
    assert orientation_of(Path(source), PrepareConfig()) is None
