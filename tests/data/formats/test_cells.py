"""Numbers and metadata of text tables against Python's own float and repr."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dgex.data.formats.cells import (
    infer_column,
    looks_numeric,
    metadata_cells,
    number_cells,
    parse_numbers,
    split_line,
)


@given(st.lists(st.floats(allow_infinity=False), min_size=1))
def test_numbers_are_parsed_as_python_parses_them(values):
    cells = [repr(value) if value == value else "NA" for value in values]
    np.testing.assert_array_equal(parse_numbers("\n".join(cells).encode()), values)


@given(
    st.sampled_from([np.float32, np.float64]).flatmap(
        lambda kind: hnp.arrays(
            kind,
            (2, 3),
            elements=st.floats(width=np.dtype(kind).itemsize * 8, allow_infinity=False),
        )
    )
)
def test_written_numbers_are_short_and_exact(x):
    cells = number_cells(x)
    back = np.array([[float(cell) for cell in row] for row in cells]).astype(x.dtype)
    np.testing.assert_array_equal(back, x)
    for row, cell_row in zip(x, cells, strict=True):
        for value, cell in zip(row, cell_row, strict=True):
            digits = len(cell.split("e")[0].replace(".", "").replace("-", "").strip("0"))
            assert math.isnan(value) or digits <= (9 if x.dtype == np.float32 else 17)


@pytest.mark.parametrize("cell", ["x", "1,5", "1_000", "0x10", "true", "1 2", "--1", "na", '"1"'])
def test_what_is_no_number(cell):
    with pytest.raises(ValueError, match="float"):
        parse_numbers(f"1\n{cell}\n2".encode())


@pytest.mark.parametrize(
    ("cells", "kind", "values"),
    [
        (["1", "-2", "+3", "0"], "int64", [1, -2, 3, 0]),
        (["1", "2.0", ".5", "1e-3"], "float64", [1, 2, 0.5, 0.001]),
        (["1", "-666"], "float64", [1, None]),
        (["", "NA", "N/A", "nan", "-666.0"], "float64", [None] * 5),
        (["007", "8"], "object", ["007", "8"]),
        (["00.5", "1.5"], "object", ["00.5", "1.5"]),
        (["-01", "1"], "object", ["-01", "1"]),
        (["1", "x"], "object", ["1", "x"]),
        (["inf", "1"], "object", ["inf", "1"]),
        (["1_0", "1"], "object", ["1_0", "1"]),
        ([" 1", "1"], "object", [" 1", "1"]),
        (["12345678901234567890"], "object", ["12345678901234567890"]),
        (["x", "-666"], "object", ["x", None]),
    ],
)
def test_types_of_metadata(cells, kind, values):
    column = infer_column(cells)
    assert column.dtype == kind
    assert [None if pd.isna(value) else value for value in column] == values


@given(st.lists(st.integers(-(2**63), 2**63 - 1).filter(lambda v: v != -666), min_size=1))
def test_whole_numbers_survive(values):
    assert infer_column([str(value) for value in values]).tolist() == values


def test_whether_a_column_looks_numeric():
    assert looks_numeric(["1", "2", "x"]) is True
    assert looks_numeric(["1", "x", "y"]) is False
    assert looks_numeric(["", "NA"]) is None


def test_metadata_on_one_line():
    column = pd.Series([1.5, None, "a\tb\r\nc", np.float32(0.1), True], dtype=object)
    assert metadata_cells(column, "-666") == ["1.5", "-666", "a b c", "0.1", "True"]


def test_quotes_are_for_tables_that_use_them():
    assert split_line(b'"a\tb"\tc', "\t", quoted=True) == ["a\tb", "c"]
    assert split_line(b'"a\tb"\tc', "\t", quoted=False) == ['"a', 'b"', "c"]
