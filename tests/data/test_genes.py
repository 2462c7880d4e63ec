"""Gene lists as people keep them, and finding their genes in a file."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dgex.data.genes import (
    KINDS,
    Alignment,
    align,
    gene_table,
    identifier_kind,
    read_genes,
    same_gene,
    without_version,
)
from dgex.data.matrix import open_matrix
from dgex.errors import DataError, UsageError

NO_VAR = pd.DataFrame(index=pd.Index([], dtype=object))
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to_file(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return to_file


def table(**columns: list[str]) -> pd.DataFrame:
    n = len(next(iter(columns.values())))
    full = {kind: columns.get(kind, [""] * n) for kind in KINDS}
    return pd.DataFrame(full, index=pd.Index(columns.get("id", range(n)), name="gene").astype(str))


# ---------------------------------------------------------------- kinds of identifier


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["ENSG00000141510.17", "ENSMUSG00000059552"], "ensembl"),
        (["201746_at", "1007_s_at", "AFFX-BioB-5_at", "202954_at,219222_s_at"], "probes"),
        (["7157", "4609"], "entrez"),
        (["TP53", "MYC", "HLA-A", "1-Mar"], "symbol"),
        (["7157", "4609", "TP53", "MYC"], "symbol"),
        (["7157"] * 8 + ["", "-666", "NA"], "entrez"),
        ([], "symbol"),
        (["", "NA"], "symbol"),
        (["ENST00000269305", "ENSP00000269305"], "symbol"),  # transcripts, proteins: no genes
    ],
)
def test_identifiers_are_told_by_their_looks(values: list[str], kind: str) -> None:
    assert identifier_kind(values) == kind


def test_only_a_version_is_cut_off() -> None:
    assert without_version("ENSG00000141510.17") == "ENSG00000141510"
    assert without_version("ENSG00000141510") == "ENSG00000141510"


def test_a_gene_table_takes_what_the_file_has_and_cleans_it() -> None:
    var = pd.DataFrame(
        {
            "pr_gene_symbol": ["TP53", "-666", None, " MYC "],
            "pr_gene_id": [7157.0, 1.0, float("nan"), 4609.0],
            "other": ["x"] * 4,
        },
        index=[f"{i}_at" for i in range(4)],
    )
    found = gene_table(var)
    assert found["symbol"].tolist() == ["TP53", "", "", "MYC"]
    assert found["entrez"].tolist() == ["7157", "1", "", "4609"]
    assert found["probes"].tolist() == ["0_at", "1_at", "2_at", "3_at"]
    assert found["ensembl"].tolist() == [""] * 4


def test_integer_ids_become_text() -> None:
    found = gene_table(pd.DataFrame(index=[7157, 4609]))
    assert list(found.index) == ["7157", "4609"]
    assert found["entrez"].tolist() == ["7157", "4609"]


# ---------------------------------------------------------------- reading lists


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("plain.txt", "TP53\nMYC\n"),
        ("no_end.txt", "TP53\nMYC"),
        ("windows.txt", "TP53\r\nMYC\r\n"),
        ("blank_lines.txt", "\nTP53\n\n  \nMYC\n\n"),
        ("spaces.txt", " TP53 \nMYC\t\n"),
        ("bom.txt", b"\xef\xbb\xbfTP53\nMYC\n"),
        ("zipped.txt.gz", gzip.compress(b"TP53\nMYC\n")),
        ("header.tsv", "symbol\tnote\nTP53\tx\nMYC\ty\n"),
        ("header_id.tsv", "gene\nTP53\nMYC\n"),
        ("case.tsv", "Gene_Symbol\tnote\nTP53\tx\nMYC\n"),
        ("ranked.tsv", "rank\tsymbol\n1\tTP53\n2\tMYC\n"),
        ("bom.csv", b"\xef\xbb\xbfsymbol,note\r\nTP53,x\r\nMYC,y\r\n"),
        ("quoted.csv", '"symbol","note"\n"TP53","a, b"\n"MYC","c"\n'),
    ],
)
def test_a_list_is_read_however_it_is_kept(write: Write, name: str, content: str | bytes) -> None:
    found = read_genes(write(name, content), NO_VAR)
    assert list(found.index) == ["TP53", "MYC"]
    assert found["symbol"].tolist() == ["TP53", "MYC"]
    assert (found[["ensembl", "entrez", "probes"]] == "").all(axis=None)


def test_a_rank_is_no_entrez_id(write: Write) -> None:
    found = read_genes(write("ranked.tsv", "rank\tsymbol\n1\tTP53\n2\tMYC\n"), NO_VAR)
    assert found["entrez"].tolist() == ["", ""]


def test_a_map_of_dgex_is_read(write: Write) -> None:
    found = read_genes(
        write("map.txt", "UBE2C\tENSG00000175063\t202954_at\nDSP\tENSG00000096696\t1_at,2_at\n"),
        NO_VAR,
    )
    assert list(found.index) == ["ENSG00000175063", "ENSG00000096696"]
    assert found["symbol"].tolist() == ["UBE2C", "DSP"]
    assert found["ensembl"].tolist() == list(found.index)
    assert found["probes"].tolist() == ["202954_at", "1_at,2_at"]


def test_probes_with_commas_survive_a_csv(write: Write) -> None:
    found = read_genes(write("map.csv", 'symbol,probes\nDSP,"1_at,2_at"\n'), NO_VAR)
    assert found.loc["DSP", "probes"] == "1_at,2_at"


def test_ids_given_in_python(write: Write) -> None:
    for ids in (
        ["TP53", "MYC"],
        ("TP53", "MYC"),
        pd.Index(["TP53", "MYC"]),
        np.array(["TP53", "MYC"]),
    ):
        assert list(read_genes(ids, NO_VAR).index) == ["TP53", "MYC"]
    assert list(read_genes([7157, 4609], NO_VAR).index) == ["7157", "4609"]  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([True, False, True], ["a", "c"]),
        ([1, 0, 1], ["a", "c"]),
        ([1.0, 0.0, np.nan], ["a"]),
        (["True", "False", "yes"], ["a", "c"]),
        (pd.Categorical(["1", "0", "1"]), ["a", "c"]),
    ],
)
def test_a_column_of_the_gene_table_names_genes(flags: object, expected: list[str]) -> None:
    var = pd.DataFrame({"landmark": flags}, index=["a", "b", "c"])
    assert list(read_genes("var:landmark", var).index) == expected


def test_a_column_that_is_not_there_or_never_true() -> None:
    var = pd.DataFrame({"landmark": [False], "symbol": ["A"]}, index=["a"])
    with pytest.raises(UsageError, match=r"var:lm: .*it has landmark, symbol"):
        read_genes("var:lm", var)
    with pytest.raises(UsageError, match="it has none"):
        read_genes("var:", pd.DataFrame(index=["a"]))
    with pytest.raises(DataError, match="true for no gene"):
        read_genes("var:landmark", var)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.txt", "", "is empty"),
        ("blank.txt", " \n\t\n", "is empty"),
        ("twice.txt", "A\nB\nA\n", r"1 genes more than once \(A\)"),
        ("map.txt", "A\tENSG00000175063\t1_at\nB\tENSG00000175063\t2_at\n", "more than once"),
        (
            "short.txt",
            "A\tENSG00000175063\t1_at\nB\tENSG00000175064\n",
            r"1 lines \(B\) have",
        ),
        ("what.txt", "A\tx\nB\ty\n", "2 columns but no header"),
        ("headeronly.tsv", "symbol\tensembl\n", "no line below it"),
        ("same.tsv", "symbol\tsymbol\nA\tB\n", "columns of the same name: symbol"),
        ("noid.tsv", "symbol\tentrez\nA\t1\n\t2\n\t3\n", "2 lines without an id"),
        ("binary.txt", b"\xff\xfe\x00\x01", "is not a text file"),
        ("notgz.txt.gz", b"TP53\n", "is not a text file"),
        ("cut.txt.gz", gzip.compress(b"TP53\nMYC\n" * 999)[:-9], "is not a text file"),
        ("broken.csv", 'symbol,note\n"TP53,x\n', "is not a text file"),
    ],
)
def test_what_is_no_list_gives_one_line(
    write: Write, name: str, content: str | bytes, message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_genes(write(name, content), NO_VAR)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


def test_a_list_that_is_not_there_is_misuse(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"absent\.txt: no such file"):
        read_genes(tmp_path / "absent.txt", NO_VAR)
    with pytest.raises(UsageError, match="no such file"):
        read_genes(tmp_path, NO_VAR)


# ---------------------------------------------------------------- finding genes


def test_versions_of_ensembl_ids_do_not_matter_and_the_first_of_several_is_taken() -> None:
    genes = table(ensembl=["ENSG00000000003", "ENSG00000000005", "ENSG00000000419"])
    var = pd.DataFrame(
        index=["ENSG00000000419.8", "ENSG00000000003.10", "ENSG00000000003.11", "ENSG99999999999.1"]
    )
    found = align(genes, var, "file")
    assert found.present_g.tolist() == [True, False, True]
    assert found.members.tolist() == [1, 0]
    assert (found.column, found.kind) == ("id", "ensembl")


def test_several_rows_of_a_symbol_are_averaged() -> None:
    var = pd.DataFrame({"pr_gene_symbol": ["A", "B", "A"]}, index=["1_at", "2_at", "3_at"])
    found = align(table(symbol=["A", "C", "B"]), var, "file")
    assert found.members.tolist() == [0, 2, 1]
    assert found.starts.tolist() == [0, 2]
    x_bp = np.array([[1.0, 5.0, 3.0]])
    np.testing.assert_array_equal(found.gene_values(x_bp), [[2.0, 5.0]])


def test_entrez_ids_are_found_whatever_their_type() -> None:
    genes = table(entrez=["7157", "4609"])
    for column in ([4609, 7157], [4609.0, 7157.0], ["4609", "7157"]):
        var = pd.DataFrame({"entrez_id": column}, index=["x", "y"])
        assert align(genes, var, "file").members.tolist() == [1, 0]


def test_a_named_column_is_used_and_no_other() -> None:
    var = pd.DataFrame({"mine": ["B", "A"], "symbol": ["A", "B"]}, index=["x", "y"])
    assert align(table(symbol=["A", "B"]), var, "file", "mine").members.tolist() == [1, 0]
    assert align(table(symbol=["A", "B"]), var, "file").members.tolist() == [0, 1]
    with pytest.raises(UsageError, match=r"--id-column yours: file .*it has mine, symbol"):
        align(table(symbol=["A"]), var, "file", "yours")


def test_the_identifier_that_finds_most_wins() -> None:
    genes = table(id=["g1", "g2", "g3"], symbol=["A", "B", "C"], entrez=["1", "2", "3"])
    var = pd.DataFrame({"symbol": ["A", "B", "-666"], "entrez": [1, 2, 3]}, index=list("xyz"))
    found = align(genes, var, "file")
    assert (found.column, found.kind, found.present_g.all()) == ("entrez", "entrez", True)


def test_unknown_identifiers_do_not_match_each_other() -> None:
    genes = table(id=["g1", "g2"], symbol=["A", ""], entrez=["", ""])
    var = pd.DataFrame({"symbol": ["", "A", "-666"], "entrez": ["", "NA", ""]}, index=list("xyz"))
    assert align(genes, var, "file").present_g.tolist() == [True, False]


def test_no_gene_found_names_examples_and_the_next_step() -> None:
    genes = table(id=["TP53", "MYC"], symbol=["TP53", "MYC"])
    with pytest.raises(DataError, match=r"None of the 2 genes .*TP53, MYC.*x, y.*--id-column"):
        align(genes, pd.DataFrame(index=["x", "y"]), "mouse.gctx")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_gene_values_are_plain_means_and_missing_where_any_probe_is(data: st.DataObject) -> None:
    probes = [f"{i}_at" for i in range(data.draw(st.integers(1, 12)))]
    wanted = data.draw(
        st.lists(
            st.lists(st.sampled_from([*probes, "absent_at"]), min_size=1, max_size=4, unique=True),
            min_size=1,
            max_size=8,
        ).filter(lambda lists: any(set(probes) & set(one) for one in lists))
    )
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    x_bp = rng.normal(1e4, 1, size=(5, len(probes))).astype(np.float32)
    x_bp[rng.random(x_bp.shape) < 0.1] = np.nan
    found = align(table(probes=[",".join(one) for one in wanted]), pd.DataFrame(index=probes), "f")
    expected = []
    for one in wanted:
        columns = [probes.index(probe) for probe in one if probe in probes]
        if columns:
            # A plain loop in double precision; a NaN makes the sum NaN.
            expected.append([sum(float(v) for v in row) / len(columns) for row in x_bp[:, columns]])
    np.testing.assert_allclose(found.gene_values(x_bp), np.array(expected).T, rtol=1e-14)
    assert found.present_g.sum() == len(expected)
    keep = rng.random(len(expected)) < 0.5
    if keep.any():
        np.testing.assert_array_equal(
            found.only(keep).gene_values(x_bp), found.gene_values(x_bp)[:, keep]
        )


def test_an_alignment_of_single_columns_keeps_order() -> None:
    found = Alignment("id", "id", np.array([True, True]), np.array([2, 0]), np.array([0, 1]))
    np.testing.assert_array_equal(found.gene_values(np.array([[1.0, 2.0, 3.0]])), [[3.0, 1.0]])


def test_same_gene_compares_each_identifier_with_its_own_kind() -> None:
    targets = table(symbol=["A", "B", "", "7157"], entrez=["1", "", "7157", ""])
    landmarks = table(symbol=["B", ""], entrez=["2", "7157"])
    assert same_gene(targets, landmarks).tolist() == [False, True, True, False]


def test_two_genes_of_unknown_symbol_are_not_the_same() -> None:
    unknown = table(symbol=["", ""], ensembl=["ENSG00000000003", "ENSG00000000005"])
    assert same_gene(unknown[:1], unknown[1:]).tolist() == [False]


# ---------------------------------------------------------------- real files


def test_the_published_maps(data_dir: Path) -> None:
    landmarks = read_genes(data_dir / "dgex-layout/map_lm.txt", NO_VAR)
    targets = read_genes(data_dir / "dgex-layout/map_tg.txt", NO_VAR)
    assert (len(landmarks), len(targets)) == (943, 9520)
    assert same_gene(targets, landmarks).sum() == 445
    lines = (data_dir / "dgex-layout/map_tg.txt").read_text().splitlines()
    for line in lines[::500]:
        symbol, ensembl, probes = line.split("\t")
        assert targets.loc[ensembl, ["symbol", "probes"]].tolist() == [symbol, probes]


@pytest.mark.parametrize(
    ("name", "n_landmarks", "n_targets", "kind"),
    [
        ("GEO_U133_QNORM_n586x22268.gctx", 943, 9520, "probes"),
        ("GTEx_RNASeq_TPM_n191x18774.gctx", 942, 9313, "ensembl"),
        ("LCL_GeneQuantTPM_n69.txt.gz", 923, 9133, "ensembl"),
    ],
)
def test_the_genes_of_the_maps_are_found_in_real_files(
    data_dir: Path, name: str, n_landmarks: int, n_targets: int, kind: str
) -> None:
    folder = data_dir / "dgex-layout"
    with open_matrix(folder / name) as matrix:
        for role, n_found in (("lm", n_landmarks), ("tg", n_targets)):
            found = align(read_genes(folder / f"map_{role}.txt", NO_VAR), matrix.var, name)
            assert found.present_g.sum() == n_found
            assert found.kind == kind


def test_an_l1000_file_is_found_by_its_probe_sets(data_dir: Path) -> None:
    landmarks = read_genes(data_dir / "dgex-layout/map_lm.txt", NO_VAR)
    path = data_dir / "formats/LJP009_A375_24H_X1_B20_QNORM_n371x978.gct"
    with open_matrix(path) as matrix:
        found = align(landmarks, matrix.var, path.name)
        assert found.present_g.all()
        ids = np.array(matrix.var.index)[found.members]
        for probes, probe in zip(landmarks["probes"], ids, strict=True):
            assert probe in probes.split(",")
    panel = read_genes(path, NO_VAR)
    assert len(panel) == 978
    assert (panel["symbol"] != "").sum() > 970
    assert (panel["probes"] != "").all()


def test_probe_means_of_real_arrays_are_those_of_a_plain_loop(data_dir: Path) -> None:
    path = data_dir / "dgex-layout/GEO_U133_QNORM_n586x22268.gctx"
    genes = read_genes(data_dir / "dgex-layout/map_tg.txt", NO_VAR)
    genes = genes[genes["probes"].str.contains(",")][:60]
    with h5py.File(path) as file:
        ids = [i.decode() for i in file["0/META/ROW/id"][:]]
        x_bp = file["0/DATA/0/matrix"][:5]
    with open_matrix(path) as matrix:
        found = align(genes, matrix.var, path.name).gene_values(matrix.rows(0, 5))
    for column, probes in enumerate(genes["probes"]):
        values = x_bp[:, [ids.index(probe) for probe in probes.split(",")]].astype(float)
        np.testing.assert_allclose(found[:, column], values.mean(axis=1), rtol=1e-12)


def test_the_table_of_l1000_landmarks_is_read(data_dir: Path) -> None:
    path = data_dir / "formats/l1000_landmarks.tsv"
    lines = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    found = read_genes(path, NO_VAR)
    assert list(found.index) == lines["pr_id"].tolist()
    assert found["symbol"].tolist() == lines["pr_gene_symbol"].replace("-666", "").tolist()
    assert found["entrez"].tolist() == lines["pr_gene_id"].tolist()


@pytest.mark.parametrize("name", ["lincs_geneinfo.tsv.gz", "src_affy_hg_u133a.tsv"])
def test_a_table_of_more_than_genes_is_no_list_of_genes(data_dir: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"lines without an id|more than once"):
        read_genes(data_dir / "formats" / name, NO_VAR)
