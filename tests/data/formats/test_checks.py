"""Names, first bytes, ids and values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dgex.data.formats.checks import clean_table, content_kind, matrix_ending, refuse_infinite
from dgex.errors import DataError


def test_endings():
    known = {"a.gctx": ".gctx", "a.b.TSV.GZ": ".tsv", "x.h5ad": ".h5ad", "x.gct.gz": ".gct"}
    for name, ending in known.items():
        assert matrix_ending(Path(name)) == ending
    for name in ("a.gctx.gz", "a.h5ad.gz", "a.npy.gz", "a.gz", "tsv", "a.xlsx"):
        assert matrix_ending(Path(name)) is None


def test_content_in_words(tmp_path):
    (tmp_path / "a").write_bytes(b"PK\x03\x04...")
    assert "zip" in content_kind(tmp_path / "a")
    (tmp_path / "a").write_bytes(b"abc\n")
    assert content_kind(tmp_path / "a") == "plain text"
    (tmp_path / "a").write_bytes(b"abc\0")
    assert content_kind(tmp_path / "a") == "binary data"


def test_ids_become_strings_and_the_original_stays():
    table = pd.DataFrame({1: [1, 2]}, index=[7157, 4609])
    clean = clean_table(table, "gene", Path("a"))
    assert clean.index.tolist() == ["7157", "4609"]
    assert clean.index.name == "gene"
    assert clean.columns.tolist() == ["1"]
    assert table.index.tolist() == [7157, 4609]


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (["a", None], "1 of 2 gene ids are empty .number 2"),
        ([np.nan, 1.0], "1 of 2 gene ids are empty .number 1"),
        ([1, "1"], "1 gene ids occur more than once .1."),
        (list("aabbccddeeffgg"), "7 gene ids occur more than once .a, b, c, d, e and 2 more."),
        (["a\0b"], "NUL"),
    ],
)
def test_ids_that_are_refused(ids, message):
    with pytest.raises(DataError, match=message):
        clean_table(pd.DataFrame(index=pd.Index(ids, dtype=object)), "gene", Path("a"))


@given(hnp.arrays(st.sampled_from(["float32", "float64"]), (3, 2)))
def test_infinite_values_are_refused_and_no_others(x):
    names = pd.Index(["p", "q", "r"]), pd.Index(["u", "v"])
    if np.isinf(x).any():
        row, col = np.argwhere(np.isinf(x))[0]
        with pytest.raises(DataError, match=f"sample {names[0][row]}, gene {names[1][col]} is inf"):
            refuse_infinite(x, *names, Path("a"))
    else:
        refuse_infinite(x, *names, Path("a"))
