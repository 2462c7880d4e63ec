"""Near-duplicates against all distances, measured by scipy in double precision."""

from __future__ import annotations

import time
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist, squareform

from dgex.data import duplicates
from dgex.data.duplicates import near_duplicates
from dgex.data.formats import reader
from dgex.data.matrix import create_matrix, open_matrix


def later_of_close_pairs(x_ng: np.ndarray, threshold: float) -> list[int]:
    """Every profile that has an earlier one below the distance, from the full table."""
    distance_nn = squareform(pdist(x_ng.astype(np.float64)))
    return [row for row in range(len(x_ng)) if (distance_nn[row, :row] < threshold).any()]


def check(x_ng: np.ndarray, threshold: float) -> pd.DataFrame:
    found = near_duplicates(open_matrix(anndata.AnnData(x_ng)), threshold)
    assert found["row"].tolist() == later_of_close_pairs(x_ng, threshold)
    exact = x_ng.astype(np.float64)
    for row, earlier, distance in found.itertuples(index=False):
        assert earlier < row
        assert distance < threshold
        assert distance == pytest.approx(np.linalg.norm(exact[row] - exact[earlier]), abs=1e-12)
    return found


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_exactly_the_later_ones_of_all_close_pairs_are_found(data: st.DataObject) -> None:
    n, g = data.draw(st.integers(2, 40)), data.draw(st.integers(1, 90))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    offset = data.draw(st.sampled_from([0.0, 8.0, -300.0, 1e4]))
    spread = data.draw(st.sampled_from([0.01, 0.3, 3.0]))
    x_ng = offset + spread * rng.normal(size=(n, g))
    # Near copies of copies, so that there are chains on both sides of the threshold.
    for _ in range(data.draw(st.integers(0, n))):
        source, target = rng.integers(n, size=2)
        step = rng.normal(size=g)
        x_ng[target] = x_ng[source] + step / np.linalg.norm(step) * rng.choice([0, 0.5, 0.99, 1.01])
    if data.draw(st.booleans()):
        x_ng = x_ng.astype(np.float32)
    check(x_ng, 1.0)


def test_a_chain_loses_all_but_its_first() -> None:
    x_ng = np.zeros((6, 3))
    x_ng[:, 0] = [0.0, 0.9, 1.8, 2.7, 9.0, 3.6]
    assert check(x_ng, 1.0)["row"].tolist() == [1, 2, 3, 5]


def test_identical_profiles_leave_the_first() -> None:
    x_ng = np.repeat(np.random.default_rng(0).normal(size=(1, 20)), 30, axis=0)
    assert check(x_ng, 1e-6)["row"].tolist() == list(range(1, 30))


def test_all_profiles_zero() -> None:
    assert check(np.zeros((4, 3)), 1.0)["row"].tolist() == [1, 2, 3]


def test_a_pair_at_the_threshold_itself_is_kept() -> None:
    x_ng = np.array([[0.0, 0.0], [3.0, 4.0], [3.0, 9.0], [20.0, 0.0]])
    assert check(x_ng, 5.0).empty
    assert check(x_ng, np.nextafter(5.0, 6))["row"].tolist() == [1, 2]


def test_a_pair_a_hair_below_is_found_among_many_genes() -> None:
    rng = np.random.default_rng(1)
    x_ng = rng.normal(8, 2, size=(50, 700))
    step = rng.normal(size=700)
    x_ng[40] = x_ng[10] + step / np.linalg.norm(step) * (1 - 1e-9)
    x_ng[45] = x_ng[11] + step / np.linalg.norm(step) * (1 + 1e-9)
    assert check(x_ng, 1.0)["row"].tolist() == [40]


@pytest.mark.parametrize("offset", [1e4, -1e6])
def test_a_large_offset_does_not_hide_small_differences(offset: float) -> None:
    """|a|² + |b|² - 2ab in float32 would be off by far more than the threshold here."""
    rng = np.random.default_rng(2)
    x_ng = offset + rng.normal(size=(60, 400))
    for target, distance in ((50, 0.6), (51, 0.95), (52, 1.05), (53, 1.5)):
        step = rng.normal(size=400)
        x_ng[target] = x_ng[target - 40] + step / np.linalg.norm(step) * distance
    assert check(x_ng, 1.0)["row"].tolist() == [50, 51]
    check(x_ng.astype(np.float32), 1.0)


def test_one_absurd_profile_hides_nothing_and_costs_no_time() -> None:
    rng = np.random.default_rng(3)
    x_ng = rng.normal(8, 1, size=(1500, 300))
    x_ng[700] *= 1e9
    x_ng[900] = x_ng[5] + 0.01
    x_ng[901] = x_ng[700] + 0.01
    began = time.process_time()
    found = near_duplicates(open_matrix(anndata.AnnData(x_ng)), 1.0)
    assert found["row"].tolist() == [900, 901]
    assert time.process_time() - began < 5


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("g", [1, 2, 100])
def test_the_smallest_matrices(n: int, g: int) -> None:
    rng = np.random.default_rng(n * g)
    check(rng.normal(size=(n, g)), 1.0)
    check(np.ones((n, g)), 1.0)


@pytest.mark.parametrize("threshold", [0.0, -1.0])
def test_nothing_is_closer_than_zero(threshold: float) -> None:
    assert near_duplicates(open_matrix(anndata.AnnData(np.ones((4, 3)))), threshold).empty


def test_columns_left_out_do_not_count() -> None:
    rng = np.random.default_rng(4)
    x_ng = rng.normal(size=(20, 30))
    x_ng[15, :29] = x_ng[3, :29]
    x_ng[:, 29] = rng.normal(size=20) * 100
    x_ng[7, 29] = np.nan
    complete_g = ~np.isnan(x_ng).any(axis=0)
    found = near_duplicates(open_matrix(anndata.AnnData(x_ng)), 1.0, complete_g)
    assert found.values.tolist() == [[15, 3, 0.0]]  # noqa: PD011
    none = near_duplicates(open_matrix(anndata.AnnData(x_ng)), 1.0, np.zeros(30, dtype=bool))
    assert none.empty


def test_distances_are_of_the_transformed_values() -> None:
    x_ng = np.array([[1.0, 3.0, 7.0], [100.0, 200.0, 300.0], [3.0, 3.0, 7.0]])
    found = near_duplicates(open_matrix(anndata.AnnData(x_ng)), 1.1, None, lambda x: np.log2(x + 1))
    assert found["row"].tolist() == [2]
    assert found["distance"].tolist() == pytest.approx([1.0])


def test_small_blocks_and_small_windows_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pairs across blocks, windows and rounds of verification, from a file in chunks."""
    rng = np.random.default_rng(5)
    x_ng = (8 + rng.normal(size=(300, 40)) * 0.1).astype(np.float32)
    names = [f"s{i}" for i in range(300)]
    genes = [f"g{i}" for i in range(40)]
    path = tmp_path / "x.gctx"
    obs, var = pd.DataFrame(index=names), pd.DataFrame(index=genes)
    with create_matrix(path, obs, var, compression="gzip") as out:
        out.write(x_ng)
    monkeypatch.setattr(reader, "BLOCK_BYTES", 40 * 4 * 7)
    monkeypatch.setattr(duplicates, "N_DIRECTIONS", 3)
    monkeypatch.setattr(duplicates, "_SAMPLE", 10)
    monkeypatch.setattr(duplicates, "_VERIFY_PAIRS", 5)
    windows = duplicates._windows

    def small_windows(ends: np.ndarray) -> list[tuple[int, int]]:
        return [
            (start, middle)
            for whole_start, whole_stop in windows(ends)
            for start, middle in zip(
                range(whole_start, whole_stop, 13),
                [*range(whole_start + 13, whole_stop, 13), whole_stop],
                strict=True,
            )
        ]

    monkeypatch.setattr(duplicates, "_windows", small_windows)
    threshold = float(np.median(pdist(x_ng.astype(float)))) * 0.8
    with open_matrix(path) as opened:
        found = near_duplicates(opened, threshold)["row"].tolist()
    expected = later_of_close_pairs(x_ng, threshold)
    assert found == expected
    assert 10 < len(expected) < 299


def test_pairs_that_kmeans_would_part_are_found() -> None:
    """D-GEX looked within clusters only; here two clusters touch along one line."""
    rng = np.random.default_rng(6)
    x_ng = np.concatenate([rng.normal(0, 3, (100, 5)), rng.normal(12, 3, (100, 5))])
    x_ng[150] = [6.05] * 5
    x_ng[50] = [5.95] * 5
    found = check(x_ng, 1.0)
    assert 150 in found["row"].tolist()


def test_five_thousand_profiles_take_seconds() -> None:
    rng = np.random.default_rng(7)
    low_rank = rng.normal(size=(5000, 10)) @ rng.normal(size=(10, 500))
    x_ng = (8 + low_rank + rng.normal(size=(5000, 500)) * 0.3).astype(np.float32)
    x_ng[4000:4050] = x_ng[:50] + np.float32(0.01)
    began = time.process_time()
    found = near_duplicates(open_matrix(anndata.AnnData(x_ng)), 1.0)
    assert time.process_time() - began < 10
    assert found["row"].tolist() == list(range(4000, 4050))
    assert found["earlier"].tolist() == list(range(50))


def test_real_arrays_agree_with_all_distances(data_dir: Path) -> None:
    path = data_dir / "dgex-layout/GEO_U133_QNORM_n586x22268.gctx"
    with open_matrix(path) as opened:
        x_ng = opened.rows(0, 120)
    x_ng = x_ng[:, ~np.isnan(x_ng).any(axis=0)]
    threshold = float(np.quantile(pdist(x_ng.astype(float)), 0.01))
    assert 0 < len(check(x_ng, threshold)) < 119
