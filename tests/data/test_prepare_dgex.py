"""The three real files of D-GEX, against its arithmetic written again with scipy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from dgex.data.dataset import Dataset
from dgex.data.prepare import prepare

SPLITS = ("train", "validation", "test")


def all_rows(dataset: Dataset) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Samples, z-scores (n, g) and splits of all profiles."""
    ids, z, split = [], [], []
    for name in SPLITS:
        one = dataset[name]
        ids += list(one.obs.index)
        z.append(np.hstack([one.x_nl, one.y_nt]))
        split += [name] * one.n
    return ids, np.vstack(z), np.array(split)


def dropped(dataset: Dataset) -> list[list[str]]:
    table = pd.read_csv(dataset.path / "dropped.tsv", sep="\t", dtype=str)
    return table.to_numpy().tolist()


def hdf5_table(path: Path) -> pd.DataFrame:
    import h5py

    with h5py.File(path) as file:
        genes = [name.decode() for name in file["0/META/ROW/id"][:]]
        samples = [name.decode() for name in file["0/META/COL/id"][:]]
        return pd.DataFrame(file["0/DATA/0/matrix"][:].astype(float), samples, genes)


@pytest.fixture(scope="module")
def tables(data_dir: Path) -> dict[str, pd.DataFrame]:
    """The three files as they are, samples in rows."""
    folder = data_dir / "dgex-layout"
    lcl = pd.read_csv(folder / "LCL_GeneQuantTPM_n69.txt.gz", sep="\t", index_col=0)
    return {
        "array": hdf5_table(folder / "GEO_U133_QNORM_n586x22268.gctx"),
        "gtex": hdf5_table(folder / "GTEx_RNASeq_TPM_n191x18774.gctx"),
        "1000g": lcl.drop(columns=["Gene_Symbol", "Chr", "Coord"]).T,
    }


def dgex_sets(
    tables: dict[str, pd.DataFrame], landmark_map: Path, target_map: Path
) -> dict[str, pd.DataFrame]:
    """D-GEX's preprocessing of the three files, written from its description, with scipy."""
    maps = [
        line.rstrip("\n").split("\t")
        for path in (landmark_map, target_map)
        for line in path.read_text().splitlines()
    ]
    array = tables["array"]
    column = {probe: number for number, probe in enumerate(array.columns)}
    values = array.to_numpy()
    x_ng = np.stack(
        [values[:, [column[p] for p in probes.split(",")]].mean(axis=1) for *_, probes in maps],
        axis=1,
    )
    x_ng = np.where(np.isnan(x_ng), np.nanmean(x_ng, axis=0), x_ng)
    reference_g = np.sort(x_ng, axis=1).mean(axis=0)
    q_ng = np.stack([reference_g[(stats.rankdata(x_g) - 1).astype(int)] for x_g in x_ng])
    z_ng = (q_ng - q_ng.mean(axis=0)) / (q_ng.std(axis=0) + 1e-3)
    sets = {"compendium": pd.DataFrame(z_ng, array.index)}
    for name in ("gtex", "1000g"):
        table = tables[name]
        first: dict[str, int] = {}
        for number, gene in enumerate(table.columns):
            first.setdefault(gene.split(".")[0], number)
        present = [ensembl in first for _, ensembl, _ in maps]
        x_np = table.to_numpy()[:, [first[e] for _, e, _ in maps if e in first]]
        dense = np.stack([stats.rankdata(x_p, "dense") for x_p in x_np])
        position = dense / dense.max(axis=1, keepdims=True) * len(reference_g)
        q_np = reference_g[position.astype(int) - 1]
        z_np = (q_np - q_np.mean(axis=0)) / (q_np.std(axis=0) + 1e-3)
        sets[name] = pd.DataFrame(np.nan, table.index, range(len(maps)))
        sets[name].loc[:, present] = z_np
    return sets


def agree_with_dgex(dataset: Dataset, expected: dict[str, pd.DataFrame]) -> None:
    ids, z_ng, _ = all_rows(dataset)
    np.testing.assert_allclose(z_ng, expected["compendium"].loc[ids], atol=2e-6, rtol=1e-6)
    assert len(ids) == len(expected["compendium"])
    for name in dataset.externals:
        one, table = dataset[name], expected[name]
        assert list(one.obs.index) == list(table.index)
        present_g = np.concatenate([one.present_l, one.present_t])
        np.testing.assert_array_equal(present_g, ~table.isna().any().to_numpy())
        z_np = np.hstack([one.x_nl, one.y_nt])[:, present_g]
        np.testing.assert_allclose(z_np, table.to_numpy()[:, present_g], atol=2e-6, rtol=1e-6)


@pytest.mark.parametrize("n_genes", [(30, 200), None], ids=["part", "whole"])
def test_the_three_files_of_dgex(
    data_dir: Path,
    tables: dict[str, pd.DataFrame],
    tmp_path: Path,
    n_genes: tuple[int, int] | None,
) -> None:
    folder = data_dir / "dgex-layout"
    maps = [folder / "map_lm.txt", folder / "map_tg.txt"]
    if n_genes is not None:
        for number, count in enumerate(n_genes):
            lines = maps[number].read_text().splitlines()
            step = len(lines) // count
            maps[number] = tmp_path / f"map{number}.txt"
            maps[number].write_text("\n".join(lines[::step][:count]) + "\n")
    dataset = prepare(
        folder / "GEO_U133_QNORM_n586x22268.gctx",
        tmp_path / "geo",
        landmarks=maps[0],
        targets=maps[1],
        external={
            "gtex": folder / "GTEx_RNASeq_TPM_n191x18774.gctx",
            "1000g": folder / "LCL_GeneQuantTPM_n69.txt.gz",
        },
        protocol="paper",
    )
    agree_with_dgex(dataset, dgex_sets(tables, *maps))
    if n_genes is None:
        assert (len(dataset.landmarks), len(dataset.targets)) == (943, 9520)
        gtex, lcl = dataset["gtex"], dataset["1000g"]
        assert (gtex.present_l.sum(), gtex.present_t.sum()) == (942, 9313)
        assert (lcl.present_l.sum(), lcl.present_t.sum()) == (923, 9133)
        assert [dataset[name].n for name in SPLITS] == [469, 58, 59]
        said = " ".join(dataset.notes)
        assert "445 of 9520 targets are the same gene as a landmark" in said
        assert "1032 missing values are in probe sets or rows that no gene uses" in said


def test_a_real_compendium_of_genes_split_by_patient(data_dir: Path, tmp_path: Path) -> None:
    import anndata

    path = data_dir / "compendia/rnaseq_n1890.h5ad"
    dataset = prepare(path, tmp_path / "rna", landmarks="var:landmark", group_by="patient")
    assert (len(dataset.landmarks), len(dataset.targets)) == (941, 9785 - 941)
    table = anndata.read_h5ad(path, backed="r")
    assert set(dataset.landmarks.index) == set(table.var_names[table.var["landmark"].astype(bool)])
    patients = [set(dataset[name].obs["patient"]) for name in SPLITS]
    assert len(set.union(*patients)) == sum(len(some) for some in patients)
    total = sum(dataset[name].n for name in SPLITS)
    assert total + sum(what == "profile" for what, *_ in dropped(dataset)) == 1890
    assert abs(dataset["train"].n / total - 0.8) < 0.02
    np.testing.assert_allclose(dataset["train"].y_nt.mean(axis=0), 0, atol=1e-4)
