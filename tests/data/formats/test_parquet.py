"""Parquet against pandas' own reading and writing."""

from __future__ import annotations

import logging
import sys

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest

from dgex.data.matrix import create_matrix, open_matrix
from dgex.errors import DataError, UsageError

X = pd.DataFrame(
    [[1.5, np.nan, 3.0], [4.0, 5.0, 6.0]], index=["s_1", "s_2"], columns=["TP53", "MYC", "EGFR"]
)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("as_index", [False, True])
def test_tables_of_pandas(tmp_path, dtype, turned, as_index, caplog):
    caplog.set_level(logging.INFO, "dgex")
    frame = X.fillna(0).astype(dtype) if dtype == "int64" else X.astype(dtype)
    written = frame.T if turned else frame
    if as_index:
        written.to_parquet(tmp_path / "a.parquet")
    else:
        written.reset_index(names="id").to_parquet(tmp_path / "a.parquet", index=False)
    with open_matrix(tmp_path / "a.parquet") as m:
        assert m.format == "parquet"
        assert m.dtype == ("float32" if dtype == "float32" else "float64")
        assert m.obs.index.tolist() == ["s_1", "s_2"]
        assert m.var.index.tolist() == ["TP53", "MYC", "EGFR"]
        np.testing.assert_array_equal(m.rows(0, 2), frame.to_numpy())
    assert "such as TP53 look like genes" in caplog.messages[0]


def test_text_and_known_names_describe_rows(tmp_path):
    frame = X.T.assign(symbol=["a", None, "c"], length=[1, 2, 3], ok=[True, False, True])
    frame.index = pd.Index([7157, 4609, 1956], name="entrez")
    frame.to_parquet(tmp_path / "a.parquet")
    with open_matrix(tmp_path / "a.parquet", orientation="genes-by-samples") as m:
        assert m.var.index.tolist() == ["7157", "4609", "1956"]
        assert m.var["symbol"].isna().tolist() == [False, True, False]
        assert m.var["length"].tolist() == [1, 2, 3]
        assert m.var["ok"].tolist() == [True, False, True]
        np.testing.assert_array_equal(m.rows(0, 2), X.to_numpy())


def test_many_row_groups(tmp_path, monkeypatch):
    monkeypatch.setattr("dgex.data.formats.parquet.BLOCK_BYTES", 100)
    monkeypatch.setattr("dgex.data.formats.parquet.READ_BYTES", 100)
    x = np.random.default_rng(0).random((30, 4))
    obs = pd.DataFrame({"age": range(30)}, index=[f"s{i}" for i in range(30)])
    var = pd.DataFrame(index=list("abcd"))
    for orientation in ("genes-by-samples", "samples-by-genes"):
        with create_matrix(
            tmp_path / "a.parquet",
            obs,
            var,
            dtype="float64",
            orientation=orientation,
            overwrite=True,
        ) as out:
            out.write(x[:11])
            out.write(x[11:])
        frame = pd.read_parquet(tmp_path / "a.parquet")
        if orientation == "genes-by-samples":
            assert frame.columns.tolist() == obs.index.tolist()
            np.testing.assert_array_equal(frame.to_numpy(), x.T)
        else:
            assert pyarrow.parquet.ParquetFile(tmp_path / "a.parquet").num_row_groups == 10
            assert frame["age"].tolist() == list(range(30))
            np.testing.assert_array_equal(frame[list("abcd")].to_numpy(), x)
        # The file itself says which way round it lies, whatever its ids look like.
        with open_matrix(tmp_path / "a.parquet") as m:
            np.testing.assert_array_equal(m.rows(0, 30), x)
            assert ("age" in m.obs) == (orientation == "samples-by-genes")


def test_files_that_are_refused(tmp_path):
    path = tmp_path / "a.parquet"
    X.to_parquet(path, index=False)
    with pytest.raises(DataError, match=r"a\.parquet has no column of ids"):
        open_matrix(path)
    X.astype(str).to_parquet(path)
    with pytest.raises(DataError, match="2 rows and 0 columns of numbers"):
        open_matrix(path)
    X[:0].to_parquet(path)
    with pytest.raises(DataError, match="is empty: 0 rows"):
        open_matrix(path)
    X.set_axis(["a", "a"]).to_parquet(path)
    with pytest.raises(DataError, match=r"1 sample ids occur more than once \(a\)"):
        open_matrix(path, orientation="samples-by-genes")
    with pytest.raises(DataError, match=r"two columns would be called sample"):
        create_matrix(tmp_path / "b.parquet", X[[]], pd.DataFrame(index=["sample"]))


def test_without_pyarrow_the_remedy_is_named(tmp_path, monkeypatch):
    X.to_parquet(tmp_path / "a.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for act in (
        lambda: open_matrix(tmp_path / "a.parquet"),
        lambda: create_matrix(tmp_path / "b.parquet", X[[]], X.T[[]]),
    ):
        with pytest.raises(UsageError, match=r"pip install 'dgex-torch\[parquet\]'"):
            act()
