"""GCTX against h5py read directly, and against the conventions of its other readers."""

from __future__ import annotations

import logging
import os

import h5py
import numpy as np
import pandas as pd
import pytest

from dgex.data.formats.gctx import GctxMatrix
from dgex.data.matrix import create_matrix, open_matrix
from dgex.errors import DataError, UsageError

READABLE = [
    "formats/mini_gctoo_for_testing.gctx",
    "formats/mini_gctoo_for_testing_nometa.gctx",
    "formats/mini_gctx_with_metadata_n2x3.gctx",
    "formats/qnorm_n27x22268.gctx",
    "formats/test_l1000_highprecision.gctx",
    "formats/test_parse_gctx_rid_entrez_id.gctx",
    "formats/tsne_n2x1203.gctx",
    "dgex-layout/GEO_U133_QNORM_n586x22268.gctx",
    "dgex-layout/GTEx_RNASeq_TPM_n191x18774.gctx",
]


def plain(values):
    """Entries of an HDF5 field as Python values; None where it says -666."""
    out = []
    for value in values.tolist():
        value = value.decode("utf-8") if isinstance(value, bytes) else value
        out.append(None if value in ("-666", -666) else value)
    return out


@pytest.mark.parametrize("name", READABLE)
def test_real_files_read_as_h5py_reads_them(data_dir, name):
    with h5py.File(data_dir / name) as file, open_matrix(data_dir / name) as m:
        x = file["0/DATA/0/matrix"][:]
        assert m.format == "GCTX"
        assert m.dtype == x.dtype
        assert m.shape == x.shape
        np.testing.assert_array_equal(np.concatenate([b for _, b in m.blocks()]), x)
        for table, group in ((m.obs, file["0/META/COL"]), (m.var, file["0/META/ROW"])):
            assert table.index.tolist() == [str(v) for v in plain(group["id"][:])]
            assert set(table.columns) == set(group) - {"id"}
            for field in table.columns:
                read = [None if pd.isna(v) else v for v in table[field].tolist()]
                assert read == plain(group[field][:]), field


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("test_l1000.gctx", "is not a GCTX file: it is a GCT text file"),
        ("metadata_writer_test.gctx", "HDF5 without a number matrix at /0/DATA/0/matrix"),
        ("mini_gctoo_data_matrix.gctx", "HDF5 without a number matrix at /0/DATA/0/matrix"),
    ],
)
def test_the_three_broken_files_are_refused(data_dir, name, reason):
    with pytest.raises(DataError, match=reason) as caught:
        open_matrix(data_dir / "formats" / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def make(path, x, col, row):
    with h5py.File(path, "w") as file:
        file["0/DATA/0/matrix"] = x
        for group, fields in (("0/META/COL", col), ("0/META/ROW", row)):
            for name, values in fields.items():
                file[f"{group}/{name}"] = values
    return path


def test_ids_of_every_kind(tmp_path):
    x = np.ones((3, 3))
    kinds = {
        "whole": (np.array([7, -3, 5720]), ["7", "-3", "5720"]),
        "float": (np.array([7.0, 8.5, 5720.0]), ["7", "8.5", "5720"]),
        "latin": (np.array([b"na\xefve", b" b ", b"c\0\0"], dtype="S5"), ["naïve", " b ", "c"]),
        "utf8": (np.array(["α".encode(), b"b", b"c"]), ["α", "b", "c"]),
        "strings": (np.array(["α", "b", "c"], dtype=h5py.string_dtype()), ["α", "b", "c"]),
    }
    for stored, ids in kinds.values():
        make(tmp_path / "a.gctx", x, {"id": stored}, {"id": stored})
        with open_matrix(tmp_path / "a.gctx") as m:
            assert m.obs.index.tolist() == m.var.index.tolist() == ids


@pytest.mark.parametrize("stored", ["int16", "uint8", "float16", "bool", "float64"])
def test_other_number_types_become_float64(tmp_path, stored):
    x = np.array([[0, 1], [1, 0]], dtype=stored)
    make(tmp_path / "a.gctx", x, {"id": [1, 2]}, {"id": [3, 4]})
    with open_matrix(tmp_path / "a.gctx") as m:
        assert m.rows(0, 2).dtype == "float64"
        np.testing.assert_array_equal(m.rows(0, 2), x.astype("float64"))


def test_missing_metadata_is_minus_666_on_disk(tmp_path):
    obs = pd.DataFrame(
        {
            "dose": [1.5, np.nan],
            "plate": pd.Series([3, None], index=["a", "b"], dtype="Int64"),
            "drug": pd.Series(["β-blocker", None], index=["a", "b"], dtype=object),
            "well": [1, 2],
            "control": [True, False],
            "kind": pd.Categorical(["x", None]),
        },
        index=["a", "b"],
    )
    var = pd.DataFrame(index=["g"])
    with create_matrix(tmp_path / "a.gctx", obs, var) as out:
        out.write(np.array([[-666.0], [np.nan]]))
    with h5py.File(tmp_path / "a.gctx") as file:
        assert file.attrs["version"] == b"GCTX1.0"
        assert file.attrs["src"] == "a.gctx"
        assert file["0/DATA/0/matrix"].chunks is None
        group = file["0/META/COL"]
        assert group["dose"][:].tolist() == [1.5, -666.0]
        assert group["plate"][:].tolist() == [3.0, -666.0]
        assert group["drug"].dtype.kind == "S"
        assert group["drug"][:].tolist() == ["β-blocker".encode(), b"-666"]
        assert group["well"].dtype == "int64"
        assert group["control"].dtype == "bool"
        assert group["kind"][:].tolist() == [b"x", b"-666"]
    with open_matrix(tmp_path / "a.gctx") as m:
        # -666 is a missing entry of a table, but a value of the matrix.
        assert m.rows(0, 1).tolist() == [[-666.0]]
        assert np.isnan(m.rows(1, 2)).all()
        assert m.obs.isna().sum().tolist() == [0, 1, 1, 1, 1, 0]


def test_gzip_is_chunked_and_reads_the_same(tmp_path):
    x = np.random.default_rng(0).integers(0, 5, (50, 40)).astype("float32")
    obs, var = pd.DataFrame(index=range(50)), pd.DataFrame(index=range(40))
    for name, compression in (("a.gctx", "gzip"), ("b.gctx", None)):
        with create_matrix(tmp_path / name, obs, var, compression=compression) as out:
            for start in range(0, 50, 7):
                out.write(x[start : start + 7])
        with h5py.File(tmp_path / name) as file:
            assert file["0/DATA/0/matrix"].compression == compression
            np.testing.assert_array_equal(file["0/DATA/0/matrix"][:], x)
    assert (tmp_path / "a.gctx").stat().st_size < (tmp_path / "b.gctx").stat().st_size
    with pytest.raises(UsageError, match="gzip or none, not lzf"):
        create_matrix(tmp_path / "c.gctx", obs, var, compression="lzf").__enter__()
    assert not list(tmp_path.glob("c.*"))


def test_names_that_hdf5_cannot_take(tmp_path, caplog):
    var = pd.DataFrame(index=["g"])
    x = np.ones((1, 1))

    def written(columns):
        obs = pd.DataFrame(columns, index=["s"])
        with create_matrix(tmp_path / "a.gctx", obs, var, overwrite=True) as out:
            out.write(x)
        with open_matrix(tmp_path / "a.gctx") as m:
            return m.obs.iloc[0].to_dict()

    assert written({"id": ["s"], "a": [1]}) == {"a": 1}
    assert caplog.records == []
    with caplog.at_level(logging.WARNING, "dgex"):
        assert written({"id": ["t"]}) == {"id_column": "t"}
        assert written({"um/ml": [2]}) == {"um_ml": 2}
    assert [r.message for r in caplog.records] == [
        f"{tmp_path / 'a.gctx'}: column 'id' is written as 'id_column'",
        f"{tmp_path / 'a.gctx'}: column 'um/ml' is written as 'um_ml'",
    ]
    before = (tmp_path / "a.gctx").read_bytes()
    with pytest.raises(DataError, match="two columns would be written as 'a_b'"):
        written({"a/b": [1], "a_b": [2]})
    assert (tmp_path / "a.gctx").read_bytes() == before


@pytest.mark.parametrize(
    ("x", "col", "row", "message"),
    [
        (np.ones((2, 2)), {"id": [1, 2]}, {}, "no ids at /0/META/ROW/id"),
        (np.ones((2, 2)), {"name": [1, 2]}, {"id": [1, 2]}, "no ids at /0/META/COL/id"),
        (np.ones((2, 2)), {"id": [1, 2, 3]}, {"id": [1, 2]}, "COL/id should hold 2 entries"),
        (np.ones((2, 2)), {"id": [1, 2], "t": [1]}, {"id": [1, 2]}, "COL/t should hold 2"),
        (np.ones((2, 2)), {"id": [1, 2]}, {"id": [5, 5]}, r"gene ids occur more than once \(5\)"),
        (np.ones((2, 2)), {"id": [b"", b"a"]}, {"id": [5, 6]}, "1 of 2 sample ids are empty"),
        (np.ones((0, 2)), {"id": np.ones(0)}, {"id": [5, 6]}, "holds 0 samples and 2 genes"),
        (np.ones((2, 0)), {"id": [1, 2]}, {"id": np.ones(0)}, "holds 2 samples and 0 genes"),
        (np.ones(4), {"id": [1, 2]}, {"id": [1, 2]}, "without a number matrix"),
        (np.array([[b"x"]]), {"id": [1]}, {"id": [1]}, "without a number matrix"),
    ],
)
def test_layouts_that_are_refused(tmp_path, x, col, row, message):
    path = make(tmp_path / "a.gctx", x, col, row)
    with pytest.raises(DataError, match=message) as caught:
        open_matrix(path)
    assert str(path) in str(caught.value)
    os.rename(path, tmp_path / "free.gctx")  # nothing holds it open on systems that mind
    with h5py.File(tmp_path / "free.gctx", "a"):
        pass  # opening for writing fails while another handle reads


def test_a_matrix_stays_in_its_process(tmp_path, monkeypatch):
    make(tmp_path / "a.gctx", np.ones((2, 2)), {"id": [1, 2]}, {"id": [3, 4]})
    with GctxMatrix(tmp_path / "a.gctx") as m:
        monkeypatch.setattr(os, "getpid", lambda: -1)
        with pytest.raises(UsageError, match="opened in another process"):
            m.rows(0, 1)


def test_a_damaged_chunk_is_named(tmp_path):
    x = np.random.default_rng(0).random((4, 500))
    obs, var = pd.DataFrame(index=range(4)), pd.DataFrame(index=range(500))
    with create_matrix(tmp_path / "a.gctx", obs, var, compression="gzip", dtype="float64") as out:
        out.write(x)
    with h5py.File(tmp_path / "a.gctx") as file:
        place = file["0/DATA/0/matrix"].id.get_chunk_info(0).byte_offset
    content = bytearray((tmp_path / "a.gctx").read_bytes())
    content[place : place + 200] = bytes(200)
    (tmp_path / "a.gctx").write_bytes(content)
    with (
        open_matrix(tmp_path / "a.gctx") as m,
        pytest.raises(DataError, match=r"a\.gctx is damaged"),
    ):
        m.rows(0, 4)


@pytest.mark.parametrize("ending", ["gctx", "h5ad"])
def test_rows_that_can_be_gone_on_with_go_to_the_disk(tmp_path, monkeypatch, ending):
    """As much as SYNC_BYTES at a time, and never less than all of it in the file."""
    monkeypatch.setattr("dgex.data.formats.hdf5.SYNC_BYTES", 5 * 3 * 4)
    synced = []
    fsync = os.fsync
    monkeypatch.setattr("os.fsync", lambda handle: synced.append(handle) or fsync(handle))
    obs = pd.DataFrame(index=[f"s{i}" for i in range(20)])
    var = pd.DataFrame(index=["a", "b", "c"])
    x_ng = np.random.default_rng(0).normal(size=(20, 3)).astype("f4")
    path = tmp_path / f"y.{ending}"
    with create_matrix(path, obs, var, resume_key="k") as out:
        for start in range(0, 20, 2):
            out.write(x_ng[start : start + 2])
    assert len(synced) == 3  # after 6, 12 and 18 rows
    with open_matrix(path) as matrix:
        np.testing.assert_array_equal(matrix.rows(0, 20), x_ng)
    with create_matrix(tmp_path / f"z.{ending}", obs, var) as out:
        out.write(x_ng)
    assert len(synced) == 3
