"""TSV, CSV and the 1000 Genomes layout against plain string methods and csv."""

from __future__ import annotations

import csv
import gzip
import logging

import numpy as np
import pandas as pd
import pytest

from dgex.data.matrix import create_matrix, open_matrix
from dgex.errors import DataError, UsageError

GENES = "gene\ts1\ts2\nTP53\t1\t2\nMYC\t3\t4\nEGFR\t5\t6\n"


def opened(tmp_path, text, name="a.tsv", orientation=None):
    raw = text if isinstance(text, bytes) else text.encode()
    (tmp_path / name).write_bytes(gzip.compress(raw) if name.endswith("gz") else raw)
    return open_matrix(tmp_path / name, orientation=orientation)


def test_the_1000_genomes_layout(data_dir):
    path = data_dir / "dgex-layout" / "LCL_GeneQuantTPM_n69.txt.gz"
    with gzip.open(path, "rt", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t"))
    x = np.array([[float(cell) for cell in row[4:]] for row in rows[1:]]).T
    with open_matrix(path) as m:
        assert m.format == "1000 Genomes text"
        assert m.shape == (69, 24755)
        assert m.obs.index.tolist() == rows[0][4:]
        assert m.var.index.tolist() == [row[0] for row in rows[1:]]
        assert m.var.columns.tolist() == ["Gene_Symbol", "Chr", "Coord"]
        assert m.var["Gene_Symbol"].tolist() == [row[1] for row in rows[1:]]
        assert m.var["Coord"].tolist() == [int(row[3]) for row in rows[1:]]
        np.testing.assert_array_equal(np.concatenate([b for _, b in m.blocks(20)]), x)
        np.testing.assert_array_equal(m.take([0, 5, 68]), x[[0, 5, 68]])
    with pytest.raises(UsageError, match="1000 Genomes layout, which is genes-by-samples"):
        open_matrix(path, orientation="samples-by-genes")


@pytest.mark.parametrize("name", ["a.tsv", "a.txt", "a.csv", "a.tsv.gz", "a.csv.gz", "A.TSV"])
@pytest.mark.parametrize("delimiter", ["\t", ","])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_the_content_tells_the_delimiter(tmp_path, name, delimiter, line_end):
    text = GENES.replace("\t", delimiter).replace("\n", line_end)
    with opened(tmp_path, text, name) as m:
        assert m.format == {"\t": "TSV", ",": "CSV"}[delimiter]
        assert m.obs.index.tolist() == ["s1", "s2"]
        assert m.var.index.tolist() == ["TP53", "MYC", "EGFR"]
        assert m.rows(0, 2).tolist() == [[1, 3, 5], [2, 4, 6]]


def test_both_ways_round_give_the_same_matrix(tmp_path, caplog):
    caplog.set_level(logging.INFO, "dgex")
    turned = "sample\tTP53\tMYC\tEGFR\ns1\t1\t3\t5\ns2\t2\t4\t6\n"
    for text, orientation in ((GENES, "genes-by-samples"), (turned, "samples-by-genes")):
        caplog.clear()
        with opened(tmp_path, text) as m:
            assert m.rows(0, 2).tolist() == [[1, 3, 5], [2, 4, 6]]
            assert m.obs.index.tolist() == ["s1", "s2"]
        assert f"read as {orientation}" in caplog.messages[0]
        assert "such as TP53 look like genes" in caplog.messages[0]
        assert "--orientation" in caplog.messages[0]
        caplog.clear()
        with opened(tmp_path, text, orientation=orientation) as m:
            assert m.rows(0, 2).tolist() == [[1, 3, 5], [2, 4, 6]]
        assert caplog.messages == []
    with opened(tmp_path, GENES, orientation="samples-by-genes") as m:
        assert m.obs.index.tolist() == ["TP53", "MYC", "EGFR"]
        assert m.rows(0, 3).tolist() == [[1, 2], [3, 4], [5, 6]]


def test_where_ids_do_not_tell_the_longer_side_is_genes(tmp_path, caplog):
    caplog.set_level(logging.INFO, "dgex")
    with opened(tmp_path, "id\tx_1\tx_2\na_1\t1\t2\na_2\t3\t4\na_3\t5\t6\n") as m:
        assert m.shape == (2, 3)
    assert "the ids do not tell, and there are 3 rows and 2 columns" in caplog.messages[0]
    with opened(tmp_path, "# made today\nid\tx_1\tx_2\tx_3\na_1\t1\t2\t3\na_2\t3\t4\t5\n") as m:
        assert m.shape == (2, 3)
        assert m.obs.index.tolist() == ["a_1", "a_2"]


def test_leading_text_describes_the_rows(tmp_path, caplog):
    caplog.set_level(logging.INFO, "dgex")
    text = (
        "id,symbol,Entrez_Gene_ID,batch,s1,s2\n"
        '7157_at,"TP53, human",7157,007,1,2\n4609_at,,NA,b,3,4\n5_at,"a ""b""",12,c,5,6\n'
    )
    with opened(tmp_path, text, "a.csv") as m:
        assert m.obs.index.tolist() == ["s1", "s2"]
        assert m.var.columns.tolist() == ["symbol", "Entrez_Gene_ID", "batch"]
        assert m.var["symbol"].tolist()[::2] == ["TP53, human", 'a "b"']
        assert m.var["symbol"].isna().tolist() == [False, True, False]
        assert m.var["Entrez_Gene_ID"].tolist()[::2] == [7157, 12]
        assert m.var["batch"].tolist() == ["007", "b", "c"]
    assert any(
        "columns symbol, Entrez_Gene_ID, batch describe the rows" in s for s in caplog.messages
    )
    with opened(tmp_path, "sample\tgroup\tTP53\tMYC\ns1\tcase\t1\t2\n") as m:
        assert m.obs["group"].tolist() == ["case"]
        assert m.rows(0, 1).tolist() == [[1, 2]]


def test_tables_as_r_writes_them(tmp_path):
    text = '"s1"\t"s 2"\n"TP53"\t1\tNA\n"MYC"\t"3"\t4\n'
    with opened(tmp_path, text) as m:
        assert m.obs.index.tolist() == ["s1", "s 2"]
        assert m.var.index.tolist() == ["TP53", "MYC"]
        np.testing.assert_array_equal(m.rows(0, 2), [[1, 3], [np.nan, 4]])


def test_missing_cells_and_trailing_delimiters(tmp_path):
    text = "gene\ts1\ts2\nTP53\t\tNA\nMYC\tNaN\tnan\nEGFR\t1\t2\t\t\n\n"
    with opened(tmp_path, text) as m:
        np.testing.assert_array_equal(m.rows(0, 2), [[np.nan, np.nan, 1], [np.nan, np.nan, 2]])


def test_an_error_late_in_a_long_file_names_its_line_and_cell(tmp_path, monkeypatch):
    monkeypatch.setattr("dgex.data.formats.cells.CHUNK_BYTES", 300)
    lines = [f"g{i}_at\t{i}\t{i}.5" for i in range(500)]
    text = "gene\ts1\ts2\n" + "\n".join(lines) + "\n"
    with opened(tmp_path, text) as m:
        assert m.rows(0, 2).tolist() == [list(range(500)), [i + 0.5 for i in range(500)]]
    with pytest.raises(DataError, match="line 402 has 2 fields, the header 3"):
        opened(tmp_path, text.replace("g400_at\t400\t400.5", "g400_at\t400"))
    with pytest.raises(DataError, match="row g400_at, column s2 holds '400,5', which is not a nu"):
        opened(tmp_path, text.replace("400.5", "400,5"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gene\nTP53\n", "one column only"),
        ("gene;s1\nTP53;1\n", "one column only"),
        ("gene\ts1\n", "no row follows the header"),
        ("gene\ts1\n\n\n", "holds 1 samples and 0 genes|holds 0 samples and 1 genes"),
        ("gene\tname\nTP53\tx\n", "has no column of numbers"),
        ("#1.2\n1\t1\nName\tDescription\ts1\n", "is a GCT file. Let its name end in .gct"),
        (GENES.replace("4", "4\t5"), "line 3 has 4 fields, the header 3"),
        (GENES.replace("MYC", "TP53"), r"1 gene ids occur more than once \(TP53\)"),
        (GENES.replace("s2", "s1"), r"1 sample ids occur more than once \(s1\)"),
        (GENES.replace("s2", ""), "1 of 2 sample ids are empty"),
        (GENES.replace("MYC", ""), "1 of 3 gene ids are empty"),
        (GENES.replace("3", "low"), "row MYC, column s1 holds 'low', which is not a number"),
        (GENES.replace("3", "-"), "row MYC, column s1 holds '-', which is not a number"),
        (GENES.replace("MYC\t3", '"MYC\t3'), "line 3 has 1 fields, the header 3"),
        ("gene\tsymbol\tsymbol\ts1\nA\tx\ty\t1\n", r"columns occur more than once \(symbol\)"),
        (GENES.encode("utf-16"), "is not a text file: it is binary data"),
        (GENES.replace("\n", "\r"), "Unix or Windows line ends"),
    ],
)
def test_files_that_are_refused(tmp_path, text, message):
    with pytest.raises(DataError, match=message) as caught:
        opened(tmp_path, text)
    assert "a.tsv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_written(tmp_path, caplog):
    caplog.set_level(logging.WARNING, "dgex")
    obs = pd.DataFrame({"group": ["x", "y"]}, index=["s1", "s2"])
    var = pd.DataFrame(
        {"score": [0.5], "name": ['p53,\tthe "guardian"'], "length": [2512]}, index=["TP53"]
    )
    x = np.array([[0.1], [np.nan]], dtype="float32")
    with create_matrix(tmp_path / "a.csv", obs, var) as out:
        out.write(x)
    assert (tmp_path / "a.csv").read_text() == (
        'gene,name,length,s1,s2\nTP53,"p53, the ""guardian""",2512,0.1,NaN\n'
    )
    assert caplog.messages == [f"{tmp_path / 'a.csv'}: a text table has no place for group, score"]
    caplog.clear()
    with create_matrix(tmp_path / "a.tsv", obs, var, orientation="samples-by-genes") as out:
        out.write(x)
    assert (tmp_path / "a.tsv").read_text() == "sample\tgroup\tTP53\ns1\tx\t0.1\ns2\ty\tNaN\n"
    assert caplog.messages == [
        f"{tmp_path / 'a.tsv'}: a text table has no place for score, name, length"
    ]


@pytest.mark.parametrize("cells", ["1.5\tTrue", "TRUE\tFALSE", "true\ttrue"])
def test_truth_values_are_no_numbers(tmp_path, cells):
    (tmp_path / "a.tsv").write_text(f"gene\ts1\ts2\nTP53\t1\t2\nMYC\t{cells}\n")
    with pytest.raises(DataError, match=r"row MYC, column s. holds '[Tt](rue|RUE)'"):
        open_matrix(tmp_path / "a.tsv", orientation="genes-by-samples")


def test_numbers_that_describe_are_not_written_as_data(tmp_path):
    var = pd.DataFrame(
        {"note": [None, None], "score": [1, 2], "late": [None, "x"]}, index=["a", "b"]
    )
    with create_matrix(tmp_path / "a.tsv", pd.DataFrame(index=["s"]), var) as out:
        out.write(np.array([[1.0, 2.0]]))
    with open_matrix(tmp_path / "a.tsv", orientation="genes-by-samples") as m:
        assert m.shape == (1, 2)
        assert m.var.columns.tolist() == ["late"]


def test_the_temporary_file_is_closed_after_an_error(tmp_path, monkeypatch):
    # An open file would be a ResourceWarning, which is an error in these tests.
    monkeypatch.setattr("dgex.data.formats.spool.MEMORY_BYTES", 0)
    monkeypatch.setattr("dgex.data.formats.spool.SLAB_BYTES", 8)
    monkeypatch.setattr("dgex.data.formats.cells.CHUNK_BYTES", 10)
    with pytest.raises(DataError, match="holds 'x'"):
        opened(tmp_path, GENES.replace("6", "x"))


def test_a_number_beyond_float64_is_refused(tmp_path):
    # It reads as text or as infinite, as the version of pandas has it.
    with pytest.raises(DataError, match="MYC"):
        opened(tmp_path, GENES.replace("3", "1e999")).rows(0, 2)
