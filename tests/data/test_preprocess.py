"""The Preprocessor: bringing profiles to the reference, filling landmarks, and its files."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.linear_model import Ridge

from dgex.data.genes import KINDS
from dgex.data.preprocess import Preprocessor
from dgex.errors import DataError

N_LANDMARKS, N_TARGETS = 5, 6


def gene_table(ids: list[str]) -> pd.DataFrame:
    table = pd.DataFrame("", index=pd.Index(ids, name="gene"), columns=list(KINDS), dtype=object)
    table["symbol"] = ids
    return table


def preprocessor_of(
    landmarks: list[str] | None = None, z_nl: np.ndarray | None = None
) -> Preprocessor:
    rng = np.random.default_rng(0)
    g = N_LANDMARKS + N_TARGETS
    if z_nl is None:
        z_nl = rng.normal(size=(200, 3)) @ rng.normal(size=(3, N_LANDMARKS))
        z_nl = z_nl + rng.normal(size=z_nl.shape)
    return Preprocessor(
        gene_table(landmarks or [f"L{i}" for i in range(N_LANDMARKS)]),
        gene_table([f"T{i}" for i in range(N_TARGETS)]),
        np.sort(rng.normal(8, 2, size=g)),
        rng.normal(8, 2, size=g),
        rng.uniform(0.5, 2, size=g),
        np.corrcoef(z_nl.T).astype(np.float32),
    )


def test_it_comes_back_from_its_files_as_it_was(tmp_path: Path) -> None:
    made = preprocessor_of(["007", "NA", "a b", 'say "x"', "é\u2028\tz"])
    made.save(tmp_path / "preprocessing")
    back = Preprocessor.load(tmp_path / "preprocessing")
    pd.testing.assert_frame_equal(back.landmarks, made.landmarks)
    pd.testing.assert_frame_equal(back.targets, made.targets)
    for name in ("reference_g", "mean_g", "sd_g", "correlation_ll"):
        np.testing.assert_array_equal(getattr(back, name), getattr(made, name))
        assert getattr(back, name).dtype == getattr(made, name).dtype
    assert back.n_landmarks == N_LANDMARKS
    assert list(back.genes.index) == [*made.landmarks.index, *made.targets.index]


@pytest.mark.parametrize(
    "ids", [["7157", "4609", "1956", "672", "675"], ["01", "1", "1.0", "1e0", "-1"]]
)
def test_ids_of_digits_stay_text(tmp_path: Path, ids: list[str]) -> None:
    preprocessor_of(ids).save(tmp_path / "p")
    assert list(Preprocessor.load(tmp_path / "p").landmarks.index) == ids


FILES = ["landmarks.tsv", "targets.tsv", "preprocessing.safetensors"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["removed", "empty", "cut", "noise"])
def test_damage_is_one_line(tmp_path: Path, name: str, damage: str) -> None:
    preprocessor_of().save(tmp_path / "p")
    path = tmp_path / "p" / name
    content = path.read_bytes()
    if damage == "removed":
        path.unlink()
    else:
        half = content[: content.rindex(b"\n")] if name != FILES[2] else content[:-8]
        half = half[: half.rindex(b"\n") + 1] if name != FILES[2] else half
        path.write_bytes({"empty": b"", "cut": half, "noise": b"\xff\x00" * 50}[damage])
    with pytest.raises(DataError, match=r"again|cannot be read") as caught:
        Preprocessor.load(tmp_path / "p")
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is damaged"):
        Preprocessor.load(tmp_path / "absent")


def test_arrays_that_do_not_fit_the_tables_are_refused(tmp_path: Path) -> None:
    made = preprocessor_of()
    dataclasses.replace(made, mean_g=made.mean_g[:-1]).save(tmp_path / "a")
    with pytest.raises(DataError, match="disagree"):
        Preprocessor.load(tmp_path / "a")
    dataclasses.replace(made, correlation_ll=made.correlation_ll[:-1]).save(tmp_path / "b")
    with pytest.raises(DataError, match="correlation"):
        Preprocessor.load(tmp_path / "b")


def test_a_table_without_its_columns_is_refused(tmp_path: Path) -> None:
    preprocessor_of().save(tmp_path / "p")
    (tmp_path / "p" / "landmarks.tsv").write_text("gene\tsymbol\n" + "L\tL\n" * N_LANDMARKS)
    with pytest.raises(DataError, match="is damaged"):
        Preprocessor.load(tmp_path / "p")


def values(present_g: np.ndarray, missing: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(1)
    x_bp = rng.integers(0, 6, size=(8, int(present_g.sum()))).astype(float)
    x_bp[rng.random(x_bp.shape) < missing] = np.nan
    return x_bp


@pytest.mark.parametrize("n_absent", [0, 1, 4])
def test_profiles_of_other_platforms_take_the_reference_by_unique_ranks(n_absent: int) -> None:
    made = preprocessor_of()
    present_g = np.ones(11, dtype=bool)
    present_g[1 : 1 + 2 * n_absent : 2] = False
    x_bp = values(present_g)
    found = made.quantile_normalise(x_bp, present_g, "unique")
    assert np.isnan(found[:, ~present_g]).all()
    for x_p, found_p in zip(x_bp, found[:, present_g], strict=True):
        dense = stats.rankdata(x_p, "dense")
        position = np.floor(dense / dense.max() * 11).astype(int) - 1
        np.testing.assert_array_equal(found_p, made.reference_g[position])


def test_profiles_of_the_same_platform_take_it_by_average_ranks() -> None:
    made = preprocessor_of()
    present_g = np.ones(11, dtype=bool)
    x_bp = values(present_g)
    expected = [made.reference_g[(stats.rankdata(x_p) - 1).astype(int)] for x_p in x_bp]
    np.testing.assert_array_equal(made.quantile_normalise(x_bp, present_g, "average"), expected)


@pytest.mark.parametrize("ties", ["unique", "average"])
def test_missing_values_stay_missing(ties: str) -> None:
    made = preprocessor_of()
    present_g = np.ones(11, dtype=bool)
    present_g[3] = False
    x_bp = values(present_g, missing=0.3)
    found = made.quantile_normalise(x_bp, present_g, ties)  # type: ignore[arg-type]
    np.testing.assert_array_equal(np.isnan(found[:, present_g]), np.isnan(x_bp))
    assert np.isnan(found[:, 3]).all()


def test_any_monotone_unit_gives_the_same() -> None:
    made = preprocessor_of()
    present_g = np.ones(11, dtype=bool)
    tpm = np.exp(np.random.default_rng(2).normal(2, 2, size=(5, 11)))
    np.testing.assert_array_equal(
        made.quantile_normalise(tpm, present_g, "unique"),
        made.quantile_normalise(np.log2(tpm + 1), present_g, "unique"),
    )


def test_absent_landmarks_are_a_ridge_regression_on_the_others() -> None:
    """Penalty: as many as there are training profiles, on correlations."""
    rng = np.random.default_rng(3)
    z_nl = rng.normal(size=(400, 2)) @ rng.normal(size=(2, N_LANDMARKS))
    z_nl = stats.zscore(z_nl + 0.3 * rng.normal(size=z_nl.shape))
    made = preprocessor_of(z_nl=z_nl)
    present_l = np.array([True, False, True, True, False])
    x_bl = rng.normal(size=(7, N_LANDMARKS)).astype(np.float32)
    before = x_bl.copy()
    found = made.infer_landmarks(x_bl, present_l)
    ridge = Ridge(alpha=400.0, fit_intercept=False).fit(z_nl[:, present_l], z_nl[:, ~present_l])
    np.testing.assert_allclose(
        found[:, ~present_l], ridge.predict(x_bl[:, present_l]), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_array_equal(found[:, present_l], x_bl[:, present_l])
    np.testing.assert_array_equal(x_bl, before)
    assert found.dtype == np.float32


def test_inferred_landmarks_are_nearer_the_truth_than_the_mean() -> None:
    rng = np.random.default_rng(4)
    z_nl = stats.zscore(
        rng.normal(size=(300, 2)) @ rng.normal(size=(2, N_LANDMARKS))
        + 0.2 * rng.normal(size=(300, N_LANDMARKS))
    )
    made = preprocessor_of(z_nl=z_nl)
    present_l = np.array([True, True, False, True, True])
    found = made.infer_landmarks(np.where(present_l, z_nl, 0), present_l)
    assert np.abs(found - z_nl)[:, 2].mean() < 0.6 * np.abs(z_nl[:, 2]).mean()


def test_nothing_absent_is_a_copy() -> None:
    made = preprocessor_of()
    x_bl = np.ones((2, N_LANDMARKS), dtype=np.float32)
    found = made.infer_landmarks(x_bl, np.ones(N_LANDMARKS, dtype=bool))
    np.testing.assert_array_equal(found, x_bl)
    assert not np.shares_memory(found, x_bl)


def test_perfectly_correlated_landmarks_are_no_singular_matrix() -> None:
    z_nl = np.repeat(np.random.default_rng(0).normal(size=(50, 1)), N_LANDMARKS, axis=1)
    made = preprocessor_of(z_nl=z_nl)
    found = made.infer_landmarks(
        np.ones((1, N_LANDMARKS), np.float32), np.array([True, True, True, True, False])
    )
    assert found[0, 4] == pytest.approx(4 / 5, abs=1e-4)


def test_expression_is_the_inverse_of_standardising() -> None:
    made = preprocessor_of()
    x_bg = np.random.default_rng(5).normal(8, 2, size=(4, 11))
    z_bg = (x_bg - made.mean_g) / (made.sd_g + 1e-3)
    np.testing.assert_allclose(made.expression(z_bg, slice(None)), x_bg, rtol=1e-6)
    targets = slice(N_LANDMARKS, None)
    np.testing.assert_allclose(
        made.expression(z_bg[:, targets], targets), x_bg[:, targets], rtol=1e-6
    )
