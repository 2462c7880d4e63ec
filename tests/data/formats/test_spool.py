"""The spool against plain numpy slicing, in memory and in its file."""

from __future__ import annotations

import contextlib
import resource

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dgex.data.formats import spool as spool_module
from dgex.data.formats.spool import Spool
from dgex.errors import DataError, UsageError


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_block_comes_out_as_numpy_slices_it(data):
    rows, width = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 12))
    dtype = data.draw(st.sampled_from(["float32", "float64"]))
    turned = data.draw(st.booleans())
    x = np.random.default_rng(rows).normal(size=(rows, width)).astype(dtype)
    cuts = sorted(data.draw(st.lists(st.integers(0, rows), max_size=6)))
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as stack:
        patch.setattr(spool_module, "SLAB_BYTES", data.draw(st.integers(1, 600)))
        spool = Spool(width, dtype, turned=turned, memory_bytes=data.draw(st.integers(0, 2000)))
        stack.callback(spool.close)
        for start, stop in zip([0, *cuts], [*cuts, rows], strict=True):
            spool.append(x[start:stop])
        assert spool.length == rows
        seen = x.T if turned else x
        for _ in range(4):
            start = data.draw(st.integers(0, len(seen)))
            stop = data.draw(st.integers(start, len(seen)))
            part = spool.read(start, stop)
            assert part.dtype == dtype
            np.testing.assert_array_equal(part, seen[start:stop])


def test_rows_may_come_after_a_read():
    spool = Spool(2, "float64", turned=True, memory_bytes=0)
    spool.append(np.array([[1.0, 2.0]]))
    assert spool.read(0, 2).tolist() == [[1], [2]]
    spool.append(np.array([[3.0, 4.0]]))
    assert spool.read(1, 2).tolist() == [[2, 4]]
    spool.close()


def test_what_came_in_is_copied():
    spool = Spool(2, "float64", turned=False)
    x = np.ones((1, 2))
    spool.append(x)
    x[:] = 7
    assert spool.read(0, 1).tolist() == [[1, 1]]


def test_a_wrong_width_is_refused():
    with pytest.raises(UsageError, match="width 3 was given shape"):
        Spool(3, "float64", turned=True).append(np.ones((1, 2)))


def test_a_full_temporary_folder_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    spool = Spool(1000, "float64", turned=True, memory_bytes=0)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        spool.append(np.ones((100, 1000)))
        with pytest.raises(DataError, match=r"temporary folder .* could not take .* TMPDIR"):
            spool.read(0, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    spool.close()


def test_the_temporary_file_has_no_name(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    spool = Spool(10, "float64", turned=True, memory_bytes=0)
    spool.append(np.ones((10, 10)))
    spool.read(0, 1)
    assert spool._file is not None
    assert list(tmp_path.iterdir()) == []
    spool.close()
