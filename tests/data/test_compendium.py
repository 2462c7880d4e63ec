"""The compendium's passes against the whole matrix in memory, worked out with scipy."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from dgex.data import compendium
from dgex.data.compendium import Compendium
from dgex.data.formats import reader
from dgex.data.genes import Alignment
from dgex.data.matrix import open_matrix

N, P = 23, 9
# Genes are means of these columns; the first two are landmarks.
MEMBERS = [[3], [0, 5], [1], [8, 2, 7], [3]]
SPLIT = np.array((["train"] * 3 + ["validation", "test"]) * 5)[:N]


def profiles(ties: bool) -> np.ndarray:
    rng = np.random.default_rng(0)
    x_np = rng.normal(8, 2, size=(N, P))
    return np.round(x_np) if ties else x_np


def gene_values(x_np: np.ndarray) -> np.ndarray:
    return np.stack([x_np[:, columns].mean(axis=1) for columns in MEMBERS], axis=1)


def made(
    x_np: np.ndarray, folder: Path, kept_n: np.ndarray, learned_n: np.ndarray, log2: bool = False
) -> Compendium:
    sizes = [len(columns) for columns in MEMBERS]
    alignment = Alignment(
        "id",
        "id",
        np.ones(len(MEMBERS), dtype=bool),
        np.concatenate(MEMBERS),
        np.concatenate([[0], np.cumsum(sizes)[:-1]]),
    )
    opened = open_matrix(anndata.AnnData(x_np, var=pd.DataFrame(index=list("abcdefghi"))))
    transform = (lambda x: np.log2(x + 1)) if log2 else (lambda x: x)
    return Compendium(opened, alignment, kept_n, learned_n, transform, folder)


@pytest.fixture(params=[1, 4, 1000], ids=lambda rows: f"blocks of {rows}")
def _block_rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "BLOCK_BYTES", 8 * P * request.param)
    monkeypatch.setattr(compendium, "_BLOCK_BYTES", 8 * len(MEMBERS) * request.param)


@pytest.mark.usefixtures("_block_rows")
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("learned_from", ["train", "all"])
@pytest.mark.parametrize("log2", [False, True])
def test_all_passes_agree_with_the_matrix_in_memory(
    tmp_path: Path, ties: bool, learned_from: str, log2: bool
) -> None:
    x_np = profiles(ties)
    kept_n = np.ones(N, dtype=bool)
    kept_n[[0, 1, 2, 3, 10, 22]] = False  # whole blocks without a profile, too
    split_n = SPLIT[kept_n]
    learned_n = split_n == "train" if learned_from == "train" else np.ones(len(split_n), dtype=bool)
    work = made(x_np, tmp_path, kept_n, learned_n, log2)

    x_ng = gene_values(np.log2(x_np + 1) if log2 else x_np)[kept_n]
    reference_g = np.sort(x_ng[learned_n], axis=1).mean(axis=0)
    q_ng = np.stack([reference_g[(stats.rankdata(x_g) - 1).astype(int)] for x_g in x_ng])
    mean_g, sd_g = q_ng[learned_n].mean(axis=0), q_ng[learned_n].std(axis=0)
    z_ng = (q_ng - mean_g) / (sd_g + 1e-3)

    np.testing.assert_allclose(work.rank(None), reference_g, rtol=1e-12)
    moments = work.moments(reference_g)
    np.testing.assert_allclose(moments.mean_g, mean_g, rtol=1e-12)
    np.testing.assert_allclose(moments.sd_g, sd_g, rtol=1e-9, atol=1e-12)
    folders = {name: tmp_path / name for name in ("train", "validation", "test")}
    found = work.write_sets(folders, split_n, reference_g, mean_g, sd_g, n_landmarks=2)
    for name, folder in folders.items():
        rows_n = split_n == name
        np.testing.assert_allclose(np.load(folder / "x_nl.npy"), z_ng[rows_n, :2], atol=1e-6)
        np.testing.assert_allclose(np.load(folder / "y_nt.npy"), z_ng[rows_n, 2:], atol=1e-6)
    expected = np.corrcoef(z_ng[split_n == "train", :2].T)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["test", "train", "validation"]


@pytest.mark.usefixtures("_block_rows")
def test_training_means_leave_missing_and_held_out_values_out(tmp_path: Path) -> None:
    x_np = profiles(ties=False)
    x_np[np.random.default_rng(1).random(x_np.shape) < 0.2] = np.nan
    kept_n = np.arange(N) % 6 != 0
    learned_n = SPLIT[kept_n] == "train"
    work = made(x_np, tmp_path, kept_n, learned_n)
    mean_g, n_missing_g = work.training_means()
    x_ng = gene_values(x_np)[kept_n]
    np.testing.assert_allclose(mean_g, np.nanmean(x_ng[learned_n], axis=0), rtol=1e-12)
    np.testing.assert_array_equal(n_missing_g, np.isnan(x_ng).sum(axis=0))

    filled_ng = np.where(np.isnan(x_ng), mean_g, x_ng)
    reference_g = np.sort(filled_ng[learned_n], axis=1).mean(axis=0)
    np.testing.assert_allclose(work.rank(mean_g), reference_g, rtol=1e-12)


def test_a_gene_never_measured_in_training_has_no_mean(tmp_path: Path) -> None:
    x_np = profiles(ties=False)
    learned_n = SPLIT == "train"
    x_np[learned_n, 1] = np.nan
    work = made(x_np, tmp_path, np.ones(N, dtype=bool), learned_n)
    mean_g, n_missing_g = work.training_means()
    assert np.isnan(mean_g).tolist() == [False, False, True, False, False]
    assert n_missing_g[2] == learned_n.sum()


def test_a_landmark_without_spread_has_no_correlation(tmp_path: Path) -> None:
    """Not NaN, which would spread to every landmark that is inferred."""
    x_np = profiles(ties=False)
    every = np.ones(N, dtype=bool)
    work = made(x_np, tmp_path, every, every)
    work.rank(None)
    flat_g = np.array([0.0, 0.0, 0.0, 0.0, 0.0])
    folders = {name: tmp_path / name for name in ("train", "validation", "test")}
    found = work.write_sets(folders, SPLIT, flat_g, flat_g, flat_g, n_landmarks=2)
    np.testing.assert_array_equal(found, np.zeros((2, 2)))


def test_more_genes_than_two_bytes_can_count_are_ranked(tmp_path: Path) -> None:
    g = 2**16 + 5
    x_ng = np.random.default_rng(0).permuted(np.tile(np.arange(float(g)), (3, 1)), axis=1)
    every, one = np.ones(3, dtype=bool), np.arange(g)
    opened = open_matrix(anndata.AnnData(x_ng))
    alignment = Alignment("id", "id", np.ones(g, dtype=bool), one, one)
    work = Compendium(opened, alignment, every, every, lambda x: x, tmp_path)
    reference_g = work.rank(None)
    np.testing.assert_array_equal(reference_g, np.arange(float(g)))
    np.testing.assert_allclose(work.moments(reference_g).mean_g, x_ng.mean(axis=0))
