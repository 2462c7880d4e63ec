"""GCT against a plain reading with string methods."""

from __future__ import annotations

import gzip
import logging
import math

import numpy as np
import pandas as pd
import pytest

from dgex.data.matrix import create_matrix, open_matrix
from dgex.errors import DataError

FILES = {
    "LJP009_A375_24H_X1_B20_QNORM_n371x978.gct": "GCT 1.3",
    "col_meta_only_example_n355x355.gct": "GCT 1.3",
    "mini_gctoo_for_testing.gct": "GCT 1.3",
    "mini_gctoo_for_testing_nometa.gct": "GCT 1.3",
    "older_version_v1_2.gct": "GCT 1.2",
    "test_l1000.gct": "GCT 1.3",
    "test_p100.gct": "GCT 1.3",
    "test_parse_gct_int_ids.gct": "GCT 1.3",
    "test_v1point2_n5x10.gct": "GCT 1.2",
}
MISSING = {"", "NA", "NaN", "nan", "N/A", "-666"}


def plain_reading(path):
    """Gene ids, sample ids, values, gene fields and sample fields, all as text."""
    lines = path.read_text("utf-8").split("\n")
    sizes = [int(word) for word in lines[1].split()]
    genes, samples, gene_fields, sample_fields = sizes if len(sizes) == 4 else [*sizes, 1, 0]
    head = 1 + gene_fields
    top = lines[2].split("\t")
    body = [line.split("\t") for line in lines[3 + sample_fields : 3 + sample_fields + genes]]
    obs = {}
    for line in lines[3 : 3 + sample_fields]:
        cells = line.split("\t")
        obs[cells[0]] = cells[head : head + samples]
    names = top[1:head] if len(sizes) == 4 else ["description"]
    var = {name: [row[1 + i] for row in body] for i, name in enumerate(names)}
    columns = range(head, head + samples)
    x = [[float(row[c]) if row[c] not in ("", "NA") else math.nan for row in body] for c in columns]
    return [row[0] for row in body], top[head : head + samples], x, var, obs


@pytest.mark.parametrize("name", FILES)
def test_real_files_read_as_plain_text_does(data_dir, name):
    path = data_dir / "formats" / name
    genes, samples, x, var, obs = plain_reading(path)
    with open_matrix(path) as m:
        assert m.format == FILES[name]
        assert m.var.index.tolist() == genes
        assert m.obs.index.tolist() == samples
        np.testing.assert_array_equal(m.rows(0, len(samples)), x)
        for table, fields in ((m.obs, obs), (m.var, var)):
            assert table.columns.tolist() == list(fields)
            for field, cells in fields.items():
                gone = [cell in MISSING for cell in cells]
                assert table[field].isna().tolist() == gone
                there = [cell for cell in cells if cell not in MISSING]
                read = table[field][~table[field].isna()].tolist()
                if not pd.api.types.is_numeric_dtype(table[field].dtype):
                    assert read == there
                    assert not all(cell.isdecimal() and cell[0] != "0" for cell in there)
                else:
                    assert read == [float(cell) for cell in there]
                    assert (table[field].dtype == "int64") == (
                        not any(gone) and not any("." in cell for cell in cells)
                    )


BASE = "#1.3\n2\t2\t1\t2\nid\tsymbol\ts1\ts2\nplate\t-666\t01\t02\ndose\t-666\t1\t-666\n"
ROWS = "g1\tTP53\t1.5\tNA\ng2\t-666\t\t-666\n"


def opened(tmp_path, text, name="a.gct"):
    raw = text if isinstance(text, bytes) else text.encode()
    (tmp_path / name).write_bytes(gzip.compress(raw) if name.endswith("gz") else raw)
    return open_matrix(tmp_path / name)


@pytest.mark.parametrize("name", ["a.gct", "a.gct.gz", "A.GCT"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_missing_values_and_types(tmp_path, name, line_end):
    with opened(tmp_path, (BASE + ROWS).replace("\n", line_end), name) as m:
        np.testing.assert_array_equal(m.rows(0, 2), [[1.5, np.nan], [np.nan, -666]])
        assert m.obs["plate"].tolist() == ["01", "02"]
        assert m.obs["dose"].tolist()[0] == 1.0
        assert math.isnan(m.obs["dose"].tolist()[1])
        assert m.var["symbol"].tolist()[0] == "TP53"
        assert m.var["symbol"].isna().tolist() == [False, True]


def test_quirks_of_version_1_2(tmp_path):
    text = "#1.2\t\t\r\n2\t2\t\t\r\nNAME\tDESCRIPTION\ts1\ts2\t\r\n"
    text += "a\tna\t1\t2\t\r\nb\tx y\t3\t\r\n\r\n"
    with opened(tmp_path, text) as m:
        assert m.format == "GCT 1.2"
        assert m.var["description"].tolist() == ["na", "x y"]
        np.testing.assert_array_equal(m.rows(0, 2), [[1, 3], [2, np.nan]])


def test_a_byte_order_mark_and_latin_1(tmp_path):
    text = "#1.2\n1\t1\nName\tDescription\tna\u00efve\ng\tcaf\u00e9\t1\n".encode("latin-1")
    with opened(tmp_path, b"\xef\xbb\xbf" + text) as m:
        assert m.obs.index.tolist() == ["naïve"]
        assert m.var["description"].tolist() == ["café"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gene\ts1\na\t1\n", "begins with 'gene.*instead of #1.2 or #1.3"),
        ("#1.2\n2\t2\t1\t1\n", "line 2 of GCT 1.2 holds 2 whole numbers"),
        ("#1.3\nx\ty\n", "line 2 of GCT 1.3 holds 4 whole numbers"),
        ("#1.3\n", "line 2 of GCT 1.3 holds 4 whole numbers"),
        (BASE.replace("2\t2\t1", "2\t3\t1") + ROWS, "declares 3 samples, but line 3 has 4 fields"),
        (BASE + ROWS + "g3\tx\t1\t2\n", "declares 2 genes, but 3 rows follow"),
        (BASE + "g1\tTP53\t1\t2\n", "declares 2 genes, but 1 rows follow"),
        (BASE + "g1\tTP53\t1\t2\ng2\tx\t1\n", "line 7 has 3 fields, the header 4"),
        (BASE + "g1\tTP53\t1\t2\t3\ng2\tx\t1\t2\n", "line 6 has 5 fields, the header 4"),
        (BASE.replace("01\t02", "01") + ROWS, "line 4 has 3 fields, the header 4"),
        (BASE.replace("dose", "plate") + ROWS, "two of its 2 sample fields have one name"),
        (BASE + ROWS.replace("1.5", "high"), "row g1, column s1 holds 'high', which is not a num"),
        (BASE + ROWS.replace("g2\t-666\t", "g2\t-666\t1,5"), "row g2, column s1 holds '1,5'"),
        (BASE + ROWS.replace("g2", "g1"), r"1 gene ids occur more than once \(g1\)"),
        (BASE.replace("s2", "s1") + ROWS, r"1 sample ids occur more than once \(s1\)"),
        (BASE + ROWS.replace("g2", ""), "1 of 2 gene ids are empty"),
        ("#1.3\n0\t2\t0\t0\nid\ts1\ts2\n", "holds 2 samples and 0 genes"),
        ("#1.3\n1\t0\t0\t0\nid\ng\n", "is empty: it holds 0 samples and 1 genes"),
        ((BASE + ROWS).replace("\n", "\r"), "not text with Unix or Windows line ends"),
    ],
)
def test_files_that_are_refused(tmp_path, text, message):
    with pytest.raises(DataError, match=message) as caught:
        opened(tmp_path, text)
    assert "a.gct" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_written(tmp_path):
    obs = pd.DataFrame({"dose": [1.0, np.nan], "drug": ["a\tb\nc", None]}, index=["s1", "s2"])
    var = pd.DataFrame({"entrez": [7157]}, index=["TP53"])
    with create_matrix(tmp_path / "a.gct", obs, var) as out:
        out.write(np.array([[0.1], [np.nan]]))
    assert (tmp_path / "a.gct").read_text() == (
        "#1.3\n1\t2\t1\t2\nid\tentrez\ts1\ts2\ndose\t-666\t1.0\t-666\ndrug\t-666\ta b c\t-666\n"
        "TP53\t7157\t0.1\tNaN\n"
    )


def test_version_1_2_is_written_and_says_what_it_drops(tmp_path, caplog):
    obs = pd.DataFrame({"dose": [1.0]}, index=["s1"])
    var = pd.DataFrame({"description": ["x", None], "entrez": [1, 2]}, index=["a", "b"])
    caplog.set_level(logging.WARNING, "dgex")
    with create_matrix(tmp_path / "a.gct", obs, var, version="1.2") as out:
        out.write(np.array([[1.0, 2.0]]))
    assert caplog.messages == [f"{tmp_path / 'a.gct'}: GCT 1.2 has no place for dose, entrez"]
    assert (tmp_path / "a.gct").read_text() == (
        "#1.2\n2\t1\nName\tDescription\ts1\na\tx\t1.0\nb\t-666\t2.0\n"
    )
    plain = pd.DataFrame(index=["a", "b"])
    with create_matrix(tmp_path / "a.gct", obs, plain, version="1.2", overwrite=True) as out:
        out.write(np.array([[1.0, 2.0]]))
    with open_matrix(tmp_path / "a.gct") as m:
        assert m.format == "GCT 1.2"
        assert m.var["description"].isna().all()


def test_ids_that_would_break_lines_are_refused(tmp_path):
    obs, var = pd.DataFrame(index=["s\t1"]), pd.DataFrame(index=["g"])
    for name in ("a.gct", "a.tsv", "a.csv", "a.npy"):
        with pytest.raises(DataError, match=r"1 ids hold a tab or a line end \('s\\t1'\)"):
            create_matrix(tmp_path / name, obs, var)
