"""Simulated files: their layouts, their duplicates, and that everything made from them says so."""

from __future__ import annotations

from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest

import dgex
from dgex.cli import run
from dgex.data.convert import convert
from dgex.data.duplicates import near_duplicates
from dgex.data.matrix import create_matrix, open_matrix
from dgex.errors import DataError, UsageError
from dgex.evaluation.verb import report
from dgex.files import read_toml
from dgex.simulate import N_DUPLICATES, N_PROFILES, Planted, simulate


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All four files, small, and the maps."""
    out = tmp_path_factory.mktemp("simulated")
    for like, n, ending in (("geo", 300, "gctx"), ("gtex", 20, "gctx"), ("l1000", 40, "gctx")):
        maps = out / "maps" if like == "geo" else None
        simulate(out / f"{like}.{ending}", like=like, profiles=n, maps=maps)
    simulate(out / "1000g.txt", like="1000g", profiles=12)
    return out


@pytest.mark.parametrize(
    ("like", "shape"), [("geo", (300, 22_268)), ("gtex", (20, 55_993)), ("l1000", (40, 978))]
)
def test_gctx_files_have_the_original_widths_and_say_what_they_are(
    folder: Path, like: str, shape: tuple[int, int]
) -> None:
    with h5py.File(folder / f"{like}.gctx") as file:
        assert file["/0/DATA/0/matrix"].shape == shape
        assert file["/0/DATA/0/matrix"].dtype == np.float32
        assert set(file["/0/META/COL/simulated"][:]) == {b"dgex simulate seed 0"}
        assert file.attrs["simulated"] == "dgex simulate seed 0"
        ids = [name.decode() for name in file["/0/META/ROW/id"][:]]
    assert all(name.startswith("ENSG9") if like == "gtex" else "_at" in name for name in ids)
    made = read_toml(folder / f"{like}.gctx.run.toml")
    assert made["verb"] == "simulate"
    assert made["options"]["like"] == like
    assert made["resolved"]["profiles"] == shape[0]


def test_the_text_has_the_1000_genomes_layout(folder: Path) -> None:
    table = pd.read_csv(folder / "1000g.txt", sep="\t")
    assert list(table.columns[:4]) == ["TargetID", "Gene_Symbol", "Chr", "Coord"]
    assert table.shape == (23_722, 4 + 12)
    assert table["TargetID"].str.fullmatch(r"ENSG\d{11}\.\d+").all()
    with open_matrix(folder / "1000g.txt") as matrix:
        assert matrix.format == "1000 Genomes text"
        assert matrix.shape == (12, 23_722)
        np.testing.assert_array_equal(matrix.rows(0, 12), table.iloc[:, 4:].to_numpy().T)
        assert (matrix.rows(0, 12) >= 0).all()


def test_sizes_are_those_of_the_originals() -> None:
    assert N_PROFILES == {"geo": 129_158, "gtex": 2_921, "1000g": 462, "l1000": 1_328_098}
    rows = Planted(129_158, 94, seed=0)._later
    assert (rows < 129_158).sum() == N_DUPLICATES == 129_158 - 111_009
    assert (np.diff(rows) > 0).all()


def test_exactly_the_planted_duplicates_are_found(folder: Path) -> None:
    planted = pd.read_csv(folder / "geo.gctx.duplicates.tsv", sep="\t")
    assert 0.13 * 300 < len(planted) < 0.15 * 300
    with open_matrix(folder / "geo.gctx") as matrix:
        row = {name: i for i, name in enumerate(matrix.obs.index)}
        later, earlier = planted["later"].map(row), planted["earlier"].map(row)
        x_ng = matrix.rows(0, 300).astype(float)
        for threshold in (1.0, 0.4):
            found = near_duplicates(matrix, threshold)["row"].tolist()
            assert found == later[planted["distance"] < threshold].tolist()
    assert (earlier < later).all()
    assert not set(earlier) & set(later)
    distance = np.linalg.norm(x_ng[later] - x_ng[earlier], axis=1)
    np.testing.assert_allclose(planted["distance"], distance, rtol=1e-12)
    assert distance.max() < 1


@pytest.mark.parametrize("like", ["geo", "l1000"])
def test_a_file_is_the_same_again_and_the_beginning_of_a_longer_one(
    tmp_path: Path, folder: Path, like: str
) -> None:
    n = {"geo": 300, "l1000": 40}[like]
    simulate(tmp_path / "again.gctx", like=like, profiles=n)
    simulate(tmp_path / "shorter.gctx", like=like, profiles=n - 7)
    simulate(tmp_path / "other.gctx", like=like, profiles=n - 7, seed=1)
    with (
        open_matrix(folder / f"{like}.gctx") as first,
        open_matrix(tmp_path / "again.gctx") as again,
        open_matrix(tmp_path / "shorter.gctx") as shorter,
        open_matrix(tmp_path / "other.gctx") as other,
    ):
        x_ng = first.rows(0, n)
        np.testing.assert_array_equal(again.rows(0, n), x_ng)
        np.testing.assert_array_equal(shorter.rows(0, n - 7), x_ng[: n - 7])
        assert (other.rows(0, n - 7) != x_ng[: n - 7]).mean() > 0.9
        assert first.var.index.equals(other.var.index)
        assert first.obs[: n - 7].equals(shorter.obs)
    if like == "geo":
        texts = [
            (path / f"{name}.gctx.duplicates.tsv").read_text()
            for path, name in ((folder, "geo"), (tmp_path, "again"), (tmp_path, "shorter"))
        ]
        assert texts[0] == texts[1]
        assert texts[0].startswith(texts[2])


@pytest.fixture(scope="module")
def dataset(folder: Path) -> dgex.Dataset:
    return dgex.prepare(
        folder / "geo.gctx",
        folder / "data",
        landmarks=folder / "maps/map_lm.txt",
        targets=folder / "maps/map_tg.txt",
        external={"gtex": folder / "gtex.gctx", "1000g": folder / "1000g.txt"},
        protocol="paper",
    )


def test_the_whole_job_can_be_rehearsed(folder: Path, dataset: dgex.Dataset) -> None:
    planted = pd.read_csv(folder / "geo.gctx.duplicates.tsv", sep="\t")
    dropped = pd.read_csv(dataset.path / "dropped.tsv", sep="\t")
    assert dropped["id"].tolist() == planted["later"].tolist()
    assert len(dataset.landmarks) == 943
    assert len(dataset.targets) == 9520
    assert any("445 of 9520 targets are the same gene as a landmark" in n for n in dataset.notes)
    for name, n in (("gtex", 20), ("1000g", 12)):
        assert dataset[name].n == n
        assert dataset[name].present_l.all()
        assert dataset[name].present_t.all()
    said = [note for note in dataset.notes if note.startswith("Simulated profiles: ")]
    assert len(said) == 3
    assert set(dataset["test"].obs["simulated"]) == {"dgex simulate seed 0"}


def test_every_report_says_so_in_its_title(folder: Path, dataset: dgex.Dataset) -> None:
    dgex.train(dataset, folder / "ols", model="ols")
    dgex.evaluate(dataset, [folder / "ols"], folder / "evaluation", sets=("test", "gtex"))
    html = (folder / "evaluation/report.html").read_text("utf-8")
    assert "<title>SIMULATED" in html
    assert "<h1>SIMULATED" in html
    again = report(folder / "evaluation", folder / "again.html", title="Plate 7").read_text("utf-8")
    assert "<h1>SIMULATED profiles. Plate 7</h1>" in again
    twice = report(folder / "evaluation", folder / "b.html", title="A SIMULATED plate")
    assert "<h1>A SIMULATED plate</h1>" in twice.read_text("utf-8")


def test_landmark_profiles_of_l1000_are_inferred(folder: Path, dataset: dgex.Dataset) -> None:
    dgex.train(dataset, folder / "ridge", model="ridge")
    dgex.predict(folder / "ridge", folder / "l1000.gctx", folder / "inferred.gctx")
    with open_matrix(folder / "inferred.gctx") as matrix:
        assert matrix.shape == (40, 943 + 9520)
        assert set(matrix.obs["simulated"]) == {"dgex simulate seed 0"}


def test_text_without_the_column_is_noticed_by_its_ids(folder: Path, tmp_path: Path) -> None:
    convert(folder / "l1000.gctx", tmp_path / "l1000.tsv")
    with open_matrix(tmp_path / "l1000.tsv") as matrix:
        landmarks = list(matrix.var.index[:10])
    dataset = dgex.prepare(tmp_path / "l1000.tsv", tmp_path / "data", landmarks=landmarks)
    assert any(note.startswith("Simulated profiles: 40 of 40 in") for note in dataset.notes)


def real(path: Path, scale: str, missing: bool = False) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    x_ng = np.maximum(rng.normal(5, 3, (50, 400)), 0)
    x_ng[:, 7] = 0
    if scale == "linear":
        x_ng = np.exp2(x_ng) - 1
    if missing:
        x_ng[:20, 9] = np.nan
    table = pd.DataFrame(x_ng, [f"s{i}" for i in range(50)], [f"GENE{i}" for i in range(400)])
    with create_matrix(path, table[[]], pd.DataFrame(index=table.columns)) as out:
        out.write(x_ng)
    return table


@pytest.mark.parametrize("scale", ["log2", "linear"])
@pytest.mark.parametrize("like", ["geo", "gtex"])
def test_mixtures_of_real_profiles_keep_their_genes_and_their_spread(
    tmp_path: Path, scale: str, like: str
) -> None:
    x_ng = real(tmp_path / "real.gctx", scale, missing=True)
    out = simulate(
        tmp_path / "out.gctx", like=like, profiles=300, compendium=tmp_path / "real.gctx"
    )
    with open_matrix(out) as matrix:
        assert list(matrix.var.index) == list(x_ng.columns)
        found = matrix.rows(0, 300)
    assert np.isfinite(found).all()
    log2 = np.log2(x_ng + 1) if scale == "linear" else x_ng
    if like == "gtex":
        assert (found >= 0).all()
        found = np.log2(found + 1)
    np.testing.assert_allclose(found.mean(axis=0), log2.mean(), atol=0.8)
    assert (found[:, 7] == 0).mean() > (0.99 if like == "gtex" else 0.8)  # but for duplicates
    assert 0.4 < found.std(axis=0).mean() / log2.std(ddof=0).mean() < 1.1
    assert (tmp_path / "out.gctx.duplicates.tsv").exists() == (like == "geo")


def test_mixtures_have_exactly_the_planted_duplicates_too(tmp_path: Path) -> None:
    real(tmp_path / "real.gctx", "log2")
    out = simulate(tmp_path / "out.gctx", profiles=900, compendium=tmp_path / "real.gctx")
    planted = pd.read_csv(tmp_path / "out.gctx.duplicates.tsv", sep="\t")
    with open_matrix(out) as matrix:
        found = near_duplicates(matrix, 1.0)["row"]
        assert matrix.obs.index[found].tolist() == planted["later"].tolist()
    assert len(planted) > 100


def test_text_of_mixtures(tmp_path: Path) -> None:
    real(tmp_path / "real.gctx", "linear")
    out = simulate(
        tmp_path / "out.txt", like="1000g", profiles=5, compendium=tmp_path / "real.gctx"
    )
    table = pd.read_csv(out, sep="\t")
    assert table.shape == (400, 9)
    assert table["TargetID"].tolist()[:2] == ["GENE0", "GENE1"]
    assert table["Gene_Symbol"].tolist()[:2] == ["GENE0", "GENE1"]


def test_what_cannot_be_simulated_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--like geo is a \.gctx file"):
        simulate(tmp_path / "x.txt")
    with pytest.raises(UsageError, match=r"--like 1000g is a \.txt file"):
        simulate(tmp_path / "x.gctx", like="1000g")
    with pytest.raises(UsageError, match="at least one is needed"):
        simulate(tmp_path / "x.gctx", profiles=0)
    with pytest.raises(UsageError, match="0 or more"):
        simulate(tmp_path / "x.gctx", seed=-1)
    with pytest.raises(UsageError, match="no such like"):
        simulate(tmp_path / "x.gctx", like="tcga")
    with pytest.raises(UsageError, match="Leave one of them out"):
        simulate(tmp_path / "x.gctx", compendium="y.gctx", maps=tmp_path / "maps")
    with pytest.raises(DataError, match="does not exist"):
        simulate(tmp_path / "x.gctx", compendium=tmp_path / "y.gctx")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "x.gctx.duplicates.tsv").write_text("mine")
    with pytest.raises(UsageError, match=r"duplicates\.tsv exists already"):
        simulate(tmp_path / "x.gctx", profiles=3)
    assert [path.name for path in tmp_path.iterdir()] == ["x.gctx.duplicates.tsv"]


def test_a_gene_without_any_value_is_refused(tmp_path: Path) -> None:
    x_ng = np.ones((4, 3))
    x_ng[:, 1] = np.nan
    anndata.AnnData(x_ng, var=pd.DataFrame(index=["a", "b", "c"])).write_h5ad(tmp_path / "x.h5ad")
    with pytest.raises(DataError, match=r"1 genes of .* have no value .*\(b\)"):
        simulate(tmp_path / "out.gctx", compendium=tmp_path / "x.h5ad", profiles=3)


def small(path: Path, x_ng: np.ndarray) -> Path:
    table = pd.DataFrame(x_ng)
    obs = pd.DataFrame(index=[f"s{i}" for i in table.index])
    with create_matrix(path, obs, pd.DataFrame(index=[f"g{i}" for i in table.columns])) as out:
        out.write(x_ng)
    return path


def test_a_compendium_of_too_little_is_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x_ng = rng.normal(8, 1, (30, 40))
    sparse_ng = x_ng.copy()
    sparse_ng[4, 19:] = 0
    for wrong_ng, message in (
        (x_ng[:, :19], r"30 profiles of .* fewer than 20 genes that are not zero \(s0, s1"),
        (sparse_ng, r"1 profiles of .* fewer than 20 genes that are not zero \(s4\)"),
        (0 * x_ng, "The 30 profiles of .* are all the same"),
        (np.repeat(x_ng[:1], 30, axis=0), "The 30 profiles of .* are all the same"),
        (x_ng[:1], "The 1 profiles of .* are all the same"),
    ):
        path = small(tmp_path / "few.gctx", wrong_ng)
        with pytest.raises(DataError, match=message):
            simulate(tmp_path / "out.gctx", compendium=path, profiles=3)
        path.unlink()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("zeros", [0, 400])
def test_few_genes_have_exactly_the_planted_duplicates(tmp_path: Path, zeros: int) -> None:
    x_ng = np.random.default_rng(0).normal(8, 0.1, (30, 20 + zeros))
    x_ng[:, 20:] = 0
    path = small(tmp_path / "few.gctx", x_ng)
    out = simulate(tmp_path / "out.gctx", compendium=path, profiles=2000)
    planted = pd.read_csv(tmp_path / "out.gctx.duplicates.tsv", sep="\t")
    with open_matrix(out) as matrix:
        found = near_duplicates(matrix, 1.0)["row"]
        assert matrix.obs.index[found].tolist() == planted["later"].tolist()


def test_what_the_disk_cannot_hold_is_refused_at_once(tmp_path: Path) -> None:
    real(tmp_path / "real.gctx", "log2")
    for options, g in (
        ({"like": "geo"}, "22268"),
        ({"like": "1000g"}, "23722"),
        ({"compendium": tmp_path / "real.gctx"}, "400"),
    ):
        ending = "txt" if options.get("like") == "1000g" else "gctx"
        message = f"99999999999999 profiles of {g} genes need [0-9,.]+ GB, .* has [0-9,.]+ GB free"
        with pytest.raises(DataError, match=message):
            simulate(tmp_path / f"out.{ending}", profiles=99_999_999_999_999, **options)
    assert [path.name for path in tmp_path.iterdir()] == ["real.gctx"]


def test_the_list_of_a_file_that_is_replaced_goes_with_it(tmp_path: Path) -> None:
    out, listed = tmp_path / "x.gctx", tmp_path / "x.gctx.duplicates.tsv"
    simulate(out, profiles=9)
    assert listed.is_file()
    out.unlink()
    with pytest.raises(UsageError, match=r"x\.gctx\.run\.toml exists already"):
        simulate(out, profiles=3, like="l1000")
    simulate(out, profiles=3, like="l1000", overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.gctx", "x.gctx.run.toml"]
    listed.write_text("mine")
    with pytest.raises(UsageError, match="exists already"):
        simulate(tmp_path / "x.gctx", profiles=3, like="gtex")
    assert listed.read_text() == "mine"


@pytest.mark.parametrize("ending", ["", ".run.toml", ".duplicates.tsv"])
def test_a_folder_in_the_place_of_a_file_is_refused_first(tmp_path: Path, ending: str) -> None:
    (tmp_path / f"x.gctx{ending}").mkdir()
    with pytest.raises(UsageError, match=f"x.gctx{ending} is a folder"):
        simulate(tmp_path / "x.gctx", profiles=3, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == [f"x.gctx{ending}"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder without new files")
def test_a_place_that_takes_no_file_is_one_line() -> None:
    with pytest.raises(DataError, match=r"/proc/x\.gctx cannot be made"):
        simulate("/proc/x.gctx", profiles=3)


def test_the_verb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = ["simulate", "--like", "l1000", "--profiles", "5", "--seed", "3", "--out", "x.gctx"]
    assert run([*options, "--maps", "maps"]) == 0
    assert run(options) == 2
    mixed = ["simulate", "--like", "gtex", "--profiles", "4", "--out", "y.gctx", "--from", "x.gctx"]
    assert run(mixed) == 0
    with open_matrix("x.gctx") as x, open_matrix("y.gctx") as y:
        assert x.shape == (5, 978)
        assert set(x.obs["simulated"]) == {"dgex simulate seed 3"}
        assert x.var.index.equals(y.var.index)
    assert len((tmp_path / "maps/map_lm.txt").read_text().splitlines()) == 943


def test_the_compendium_itself_is_not_replaced(tmp_path: Path) -> None:
    real(tmp_path / "real.gctx", "log2")
    before = (tmp_path / "real.gctx").read_bytes()
    with pytest.raises(UsageError, match="is to be read"):
        simulate(tmp_path / "real.gctx", compendium=tmp_path / "real.gctx", overwrite=True)
    assert (tmp_path / "real.gctx").read_bytes() == before
