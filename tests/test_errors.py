"""Kinds of error, and lists of names in their messages."""

from __future__ import annotations

import pandas as pd
import pytest

from dgex.errors import DataError, DgexError, UsageError, name_list


def test_misuse_exits_with_2_and_bad_data_with_1() -> None:
    assert UsageError("x").exit_code == 2
    assert DataError("x").exit_code == 1
    assert issubclass(UsageError, DgexError)
    assert issubclass(DataError, DgexError)


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ([], ""),
        (["A"], "A"),
        (list("ABCDE"), "A, B, C, D, E"),
        (list("ABCDEF"), "A, B, C, D, E and 1 more"),
        ((n for n in range(7)), "0, 1, 2, 3, 4 and 2 more"),
        (pd.Index(["x", "y"]), "x, y"),
    ],
)
def test_name_list_shows_five_and_counts_the_rest(names: object, text: str) -> None:
    assert name_list(names) == text  # type: ignore[arg-type]
