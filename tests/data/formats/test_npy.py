"""Arrays with id lists against numpy.load."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest

from dgex.data.matrix import create_matrix, open_matrix
from dgex.errors import DataError


def lay(tmp_path, x, samples=None, genes=None):
    np.save(tmp_path / "a.npy", x)
    samples = "".join(f"s{i}\n" for i in range(x.shape[0])) if samples is None else samples
    genes = "".join(f"g{i}\n" for i in range(x.shape[-1])) if genes is None else genes
    (tmp_path / "a.samples.txt").write_text(samples, newline="")
    (tmp_path / "a.genes.txt").write_text(genes, newline="")
    return tmp_path / "a.npy"


@pytest.mark.parametrize("dtype", ["float32", "float64", ">f4", "float16", "int32"])
def test_slabs_are_those_of_numpy(tmp_path, dtype):
    x = np.arange(12).reshape(4, 3).astype(dtype)
    with open_matrix(lay(tmp_path, x)) as m:
        assert m.format == "npy"
        assert m.dtype == ("float32" if dtype in ("float32", ">f4") else "float64")
        np.testing.assert_array_equal(m.rows(1, 3), x[1:3].astype("float64"))
        np.testing.assert_array_equal(m.take([0, 3]), x[[0, 3]].astype("float64"))
        assert m.var.index.tolist() == ["g0", "g1", "g2"]


def test_a_one_column_array_has_either_order(tmp_path):
    x = np.asfortranarray(np.arange(3.0).reshape(3, 1))
    with open_matrix(lay(tmp_path, x)) as m:
        assert m.rows(0, 3).tolist() == [[0], [1], [2]]


def test_id_lists_with_windows_line_ends_and_no_last_one(tmp_path):
    path = lay(tmp_path, np.ones((2, 2)), "\ufeffa\r\nb c\r\n", "α\nβ")
    with open_matrix(path) as m:
        assert m.obs.index.tolist() == ["a", "b c"]
        assert m.var.index.tolist() == ["α", "β"]


@pytest.mark.parametrize(
    ("x", "samples", "genes", "message"),
    [
        (np.ones((2, 2)), "a\n", None, "samples.txt holds 1 ids, but .* has 2 samples"),
        (np.ones((2, 2)), None, "a\nb\nc\n", "genes.txt holds 3 ids, but .* has 2 genes"),
        (np.ones((2, 2)), "a\n\n", None, "1 of 2 sample ids are empty"),
        (np.ones((2, 2)), None, "a\na\n", r"1 gene ids occur more than once \(a\)"),
        (np.ones(3), None, None, r"array of shape \(3,\) and type float64"),
        (np.ones((2, 2), dtype="complex64"), None, None, "type complex64"),
        (np.array([["a", "b"]]), None, None, "type <U1"),
        (np.array([["a", 2]], dtype=object), None, None, "type object"),
        (np.ones((0, 2)), None, None, "holds 0 samples and 2 genes"),
        (np.asfortranarray(np.ones((2, 2))), None, None, "column by column"),
    ],
)
def test_arrays_that_are_refused(tmp_path, x, samples, genes, message):
    path = lay(tmp_path, x, samples, genes)
    with pytest.raises(DataError, match=message) as caught:
        open_matrix(path)
    assert "a.npy" in str(caught.value) or "a.samples.txt" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_id_lists_are_named(tmp_path):
    path = lay(tmp_path, np.ones((2, 2)))
    (tmp_path / "a.genes.txt").unlink()
    with pytest.raises(DataError, match=r"needs its genes beside it: .*a\.genes\.txt does not"):
        open_matrix(path)
    (tmp_path / "a.samples.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="is not UTF-8"):
        open_matrix(path)


def test_what_is_written(tmp_path, caplog):
    caplog.set_level(logging.WARNING, "dgex")
    x = np.array([[1.5, np.nan]])
    obs, var = pd.DataFrame({"age": [1]}, index=["s"]), pd.DataFrame(index=["g", "h"])
    with create_matrix(tmp_path / "a.npy", obs, var, dtype="float64") as out:
        out.write(x)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy", allow_pickle=False), x)
    assert (tmp_path / "a.samples.txt").read_text() == "s\n"
    assert (tmp_path / "a.genes.txt").read_text() == "g\nh\n"
    assert "no place for age" in caplog.messages[0]
