"""h5ad and AnnData against anndata's own reading."""

from __future__ import annotations

import warnings

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from dgex.data.formats import h5ad as h5ad_module
from dgex.data.matrix import create_matrix, open_matrix
from dgex.errors import DataError, UsageError

REAL = [
    "compendia/rnaseq_n1890.h5ad",
    "compendia/array_n1759.h5ad",
    "external/cptac_ucec_n115.h5ad",
    "external/rtcga_agilent.h5ad",
    "external/lcl_pickrell_n69.h5ad",
]


def read_quietly(path):
    """What anndata reads, with every warning an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # anndata's own use of pandas, which says nothing about the file.
        warnings.filterwarnings("ignore", message="The 'future.infer_string' option")
        return anndata.read_h5ad(path)


def table(n, g, x):
    return anndata.AnnData(
        x,
        obs=pd.DataFrame({"age": range(n)}, index=[f"s{i}" for i in range(n)]),
        var=pd.DataFrame(
            {"symbol": [f"G{i}" for i in range(g)]}, index=[f"g{i}" for i in range(g)]
        ),
    )


@pytest.mark.parametrize("name", REAL)
def test_real_files_read_as_anndata_reads_them(data_dir, name):
    adata = read_quietly(data_dir / name)
    with open_matrix(data_dir / name) as m:
        assert m.format == "h5ad"
        assert m.dtype == adata.X.dtype
        assert m.shape == adata.shape
        for start, x_bg in m.blocks():
            np.testing.assert_array_equal(x_bg, adata.X[start : start + len(x_bg)])
        for read, written in ((m.obs, adata.obs), (m.var, adata.var)):
            assert read.index.tolist() == written.index.tolist()
            assert read.columns.tolist() == written.columns.tolist()
            for column in written.columns:
                assert read[column].tolist() == written[column].tolist()
    if "symbol" in adata.var:
        assert m.var["landmark"].dtype == bool


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_sparse_reads_as_dense(tmp_path_factory, data):
    n, g = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 12))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    dtype = data.draw(st.sampled_from(["float32", "float64", "int32"]))
    dense = (rng.integers(-3, 4, (n, g)) * (rng.random((n, g)) < 0.4)).astype(dtype)
    kind = data.draw(st.sampled_from([scipy.sparse.csr_matrix, scipy.sparse.csc_matrix]))
    path = tmp_path_factory.mktemp("sparse") / "a.h5ad"
    table(n, g, kind(dense)).write_h5ad(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(h5ad_module, "BLOCK_BYTES", data.draw(st.integers(1, 1000)))
        with open_matrix(path) as m:
            assert m.dtype == ("float32" if dtype == "float32" else "float64")
            start = data.draw(st.integers(0, n))
            np.testing.assert_array_equal(m.rows(start, n), dense[start:])
            rows = sorted(data.draw(st.lists(st.integers(0, n - 1), max_size=5)))
            np.testing.assert_array_equal(m.take(rows), dense[rows])


def test_sparse_entries_given_twice_add_up(tmp_path):
    x = scipy.sparse.csr_matrix(([1.0, 2.0, 5.0], [1, 1, 0], [0, 2, 3]), shape=(2, 2))
    table(2, 2, scipy.sparse.csr_matrix((2, 2))).write_h5ad(tmp_path / "a.h5ad")
    with h5py.File(tmp_path / "a.h5ad", "r+") as file:
        for name in ("data", "indices", "indptr"):
            del file[f"X/{name}"]
            file[f"X/{name}"] = getattr(x, name)
    with open_matrix(tmp_path / "a.h5ad") as m:
        np.testing.assert_array_equal(m.rows(0, 2), [[0, 3], [5, 0]])


@pytest.mark.parametrize("kind", ["dense", "csr", "csc", "view", "view of csr", "backed"])
def test_anndata_objects_are_read_in_place(tmp_path, kind):
    x = np.random.default_rng(0).normal(size=(9, 5)).astype("float32")
    whole = table(
        9,
        5,
        {"csr": scipy.sparse.csr_matrix, "csc": scipy.sparse.csc_matrix}.get(
            kind.split()[-1], np.array
        )(x),
    )
    expected = x
    if kind.startswith("view"):
        whole, expected = whole[[1, 3, 4, 8], [0, 2]], x[[1, 3, 4, 8]][:, [0, 2]]
    if kind == "backed":
        whole.write_h5ad(tmp_path / "a.h5ad")
        whole = anndata.read_h5ad(tmp_path / "a.h5ad", backed="r")
    with open_matrix(whole) as m:
        assert (m.format, str(m.path)) == ("AnnData", "<AnnData>")
        assert m.shape == expected.shape
        assert m.dtype == "float32"
        for start, block in m.blocks(2):
            np.testing.assert_array_equal(block, expected[start : start + 2])
            block[:] = 0  # a caller's work on a block must not reach the object
        np.testing.assert_array_equal(m.rows(0, len(expected)), expected)
        assert m.obs.index.tolist() == whole.obs_names.tolist()
        assert m.obs.index.name == "sample"
        assert whole.obs.index.name is None
    assert whole.is_view == kind.startswith("view")
    if kind == "backed":
        whole.file.close()


def test_a_view_is_never_copied_whole():
    whole = table(4, 3, np.ones((4, 3)))[[0, 2, 3]]
    read = []
    with pytest.MonkeyPatch.context() as patch:
        x = anndata.AnnData.X.fget
        patch.setattr(
            anndata.AnnData,
            "X",
            property(lambda a: (a.is_view and read.append(a.n_obs)) or x(a)),
            raising=True,
        )
        with open_matrix(whole) as m:
            list(m.blocks(1))
    assert read == [1, 1, 1, 1]


def test_objects_that_are_refused():
    with pytest.raises(UsageError, match="Expected a path or an AnnData object, not ndarray"):
        open_matrix(np.ones((2, 2)))
    with pytest.raises(DataError, match="has no X"):
        open_matrix(anndata.AnnData(obs=pd.DataFrame(index=["a"])))
    twice = table(2, 2, np.ones((2, 2)))
    twice.obs_names = ["a", "a"]
    with pytest.raises(DataError, match=r"1 sample ids occur more than once \(a\)"):
        open_matrix(twice)
    with pytest.raises(UsageError, match="says itself"):
        open_matrix(table(2, 2, np.ones((2, 2))), orientation="samples-by-genes")
    x = np.ones((2, 2))
    x[1, 0] = -np.inf
    with open_matrix(table(2, 2, x)) as m, pytest.raises(DataError, match="sample s1, gene g0"):
        m.rows(0, 2)


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_what_is_written_opens_in_anndata_without_warnings(tmp_path, compression):
    obs = pd.DataFrame(
        {
            "sex": pd.Categorical(["f", None, "m"], categories=["m", "f"], ordered=True),
            "name": pd.Series(["α", "b", "c"], dtype="string"),
            "note": pd.Series(["x", None, "y"], dtype=object),
            "age": pd.Series([1, None, 3], dtype="Int64"),
            "batch": pd.Series([1, 2, 3], dtype="Int32"),
            "dose": [0.5, np.nan, 2.0],
            "count": np.array([1, 2, 3], dtype="int16"),
            "case": [True, False, True],
            "seen": pd.Series([True, None, False], dtype="boolean"),
            "mixed": pd.Series([1, "a", 2.5], dtype=object),
        }
    ).set_axis(["s1", "s2", "s3"])
    var = pd.DataFrame(index=["g1", "g2"])
    x = np.array([[1.5, np.nan], [2.5, 3.0], [4.0, 5.0]], dtype="float32")
    with create_matrix(tmp_path / "a.h5ad", obs, var, compression=compression) as out:
        out.write(x[:1])
        out.write(x[1:])
    adata = read_quietly(tmp_path / "a.h5ad")
    np.testing.assert_array_equal(adata.X, x)
    assert adata.X.dtype == "float32"
    assert adata.obs_names.tolist() == ["s1", "s2", "s3"]
    read = adata.obs
    assert read["sex"].cat.categories.tolist() == ["m", "f"]
    assert read["sex"].cat.ordered
    assert read["sex"].tolist()[::2] == ["f", "m"]
    assert read["name"].tolist() == ["α", "b", "c"]
    assert read["note"].isna().tolist() == [False, True, False]
    assert read["age"].dtype == "float64"
    assert read["batch"].dtype == "int64"
    assert read["dose"].tolist()[::2] == [0.5, 2.0]
    assert read["count"].dtype == "int16"
    assert read["case"].dtype == bool
    assert read["seen"].tolist()[::2] == ["True", "False"]
    assert read["mixed"].tolist() == ["1", "a", "2.5"]
    with h5py.File(tmp_path / "a.h5ad") as file:
        assert dict(file["X"].attrs) == {"encoding-type": "array", "encoding-version": "0.2.0"}
        assert file["X"].compression == compression
        # R's readers know strings and categoricals, not anndata's nullable types.
        kinds = {file["obs"][c].attrs["encoding-type"] for c in obs.columns}
        assert kinds == {"array", "string-array", "categorical"}
        assert file["obs"][file["obs"].attrs["_index"]].attrs["encoding-type"] == "string-array"


def test_a_column_may_be_called_like_the_index(tmp_path):
    obs = pd.DataFrame({"sample": ["x", "y"], "_index": ["p", "q"]}, index=["a", "b"])
    with create_matrix(tmp_path / "a.h5ad", obs, obs) as out:
        out.write(np.ones((2, 2)))
    adata = read_quietly(tmp_path / "a.h5ad")
    assert adata.obs["sample"].tolist() == ["x", "y"]
    assert adata.obs["_index_column"].tolist() == ["p", "q"]
    assert adata.obs_names.tolist() == ["a", "b"]


def without(name):
    def damage(file):
        del file[name]

    return damage


def with_x(values):
    def damage(file):
        del file["X"]
        file["X"] = values

    return damage


def with_sparse(name, values):
    def damage(file):
        del file["X"]
        anndata.io.write_elem(file, "X", scipy.sparse.csr_matrix(np.ones((2, 2))))
        del file[f"X/{name}"]
        file[f"X/{name}"] = values

    return damage


def without_index(file):
    file["obs"].attrs["_index"] = "lost"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without("X"), "has no X that is a matrix of numbers"),
        (without("obs"), "has no obs table"),
        (without("var"), "has no var table"),
        (with_x(np.ones(3)), "has no X that is a matrix of numbers"),
        (with_x(np.array([[b"a", b"b"]] * 2)), "has no X that is a matrix of numbers"),
        (with_x(np.ones((2, 3))), r"X has shape \(2, 3\), obs 2 rows and var 2 rows"),
        (with_sparse("indptr", [0, 2, 3]), "X/indptr does not fit X/data"),
        (with_sparse("indptr", [0, 5, 4]), "X/indptr does not fit X/data"),
        (with_sparse("indptr", [0, 4]), "X/indptr does not fit X/data"),
        (with_sparse("indices", [0, 1, 0, 2]), "X/indices lie outside the matrix"),
        (without_index, "obs or var could not be read"),
    ],
)
def test_files_that_are_refused(tmp_path, damage, message):
    ids = pd.DataFrame(index=["a", "b"])
    with create_matrix(tmp_path / "a.h5ad", ids, ids) as out:
        out.write(np.ones((2, 2)))
    with h5py.File(tmp_path / "a.h5ad", "r+") as file:
        damage(file)
    with pytest.raises(DataError, match=message) as caught, open_matrix(tmp_path / "a.h5ad") as m:
        m.rows(0, 2)
    assert "a.h5ad" in str(caught.value)
    assert "\n" not in str(caught.value)
    with h5py.File(tmp_path / "a.h5ad", "a"):
        pass  # opening for writing fails while another handle reads
