"""Splits: exact sizes, whole groups, the same for the same seed, and tables that are given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dgex.data.split import SPLITS, given_split, grouped_split, random_split
from dgex.errors import DataError, UsageError

GROUPS = st.lists(st.integers(0, 12), min_size=3, max_size=80).filter(lambda g: len(set(g)) >= 3)
FRACTIONS = st.tuples(st.floats(0.02, 0.9), st.floats(0.02, 0.9), st.floats(0.02, 0.9)).map(
    lambda f: (f[0] / sum(f), f[1] / sum(f), f[2] / sum(f))
)


def sizes(split: np.ndarray) -> tuple[int, ...]:
    return tuple(int((split == name).sum()) for name in SPLITS)


@pytest.mark.parametrize(
    ("n", "expected"),
    [
        (111_009, (88_807, 11_101, 11_101)),  # the numbers of D-GEX
        (586, (469, 58, 59)),
        (1000, (800, 100, 100)),
        (10, (8, 1, 1)),
        (3, (1, 1, 1)),
        (4, (2, 1, 1)),
    ],
)
def test_random_split_has_exact_sizes(n: int, expected: tuple[int, ...]) -> None:
    assert sizes(random_split(n, seed=5)) == expected


@settings(max_examples=60, deadline=None)
@given(st.integers(3, 400), FRACTIONS, st.integers(0, 5))
def test_a_random_split_is_within_one_profile_of_its_shares(
    n: int, fractions: tuple[float, float, float], seed: int
) -> None:
    found = sizes(random_split(n, fractions, seed=seed))
    assert sum(found) == n
    assert min(found) >= 1
    if min(fractions) * n >= 1.5:
        assert all(abs(size - f * n) <= 1 for size, f in zip(found, fractions, strict=True))


@settings(max_examples=150, deadline=None)
@given(GROUPS, FRACTIONS, st.integers(0, 5))
def test_no_group_is_ever_in_two_splits(
    groups: list[int], fractions: tuple[float, float, float], seed: int
) -> None:
    split = grouped_split(groups, fractions, seed=seed)
    assert split.shape == (len(groups),)
    assert set(split) == set(SPLITS)
    for group in set(groups):
        assert len({s for g, s in zip(groups, split, strict=True) if g == group}) == 1


def test_groups_of_equal_size_meet_the_shares() -> None:
    groups = np.repeat([f"GSE{i}" for i in range(100)], 7)
    assert sizes(grouped_split(groups, seed=2)) == (560, 70, 70)


def test_one_giant_group_leaves_some_for_the_others() -> None:
    groups = ["big"] * 1000 + ["a", "b"]
    for seed in range(10):
        assert min(sizes(grouped_split(groups, seed=seed))) >= 1


def test_the_same_seed_gives_the_same_split_and_another_another() -> None:
    first = random_split(500, seed=1)
    np.testing.assert_array_equal(first, random_split(500, seed=1))
    assert (first != random_split(500, seed=2)).any()


def test_a_grouped_split_does_not_depend_on_global_state() -> None:
    groups = [i // 3 for i in range(90)]
    np.random.seed(0)  # noqa: NPY002
    first = grouped_split(groups, seed=3)
    np.random.seed(1)  # noqa: NPY002
    np.testing.assert_array_equal(first, grouped_split(groups, seed=3))


@pytest.mark.parametrize("groups", [[], ["a"], ["a"] * 9, ["a", "b"] * 5])
def test_fewer_than_three_groups_are_refused(groups: list[str]) -> None:
    with pytest.raises(DataError, match=f"{len(set(groups))} groups"):
        grouped_split(groups)


@pytest.mark.parametrize(
    "fractions",
    [
        (0.8, 0.1, 0.2),
        (1.0, 0.0, 0.0),
        (0.9, 0.2, -0.1),
        (float("nan"), 0.1, 0.1),
        (0.9, 0.1),
        (0.7, 0.1, 0.1, 0.1),
        (80, 10, 10),
    ],
)
def test_fractions_must_be_three_shares_of_one(fractions: tuple[float, float, float]) -> None:
    with pytest.raises(UsageError, match="three positive numbers that add up to 1"):
        random_split(100, fractions)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(UsageError, match="--seed -1"):
        random_split(100, seed=-1)


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize("header", ["", "sample\tsplit\n", "\tsplit\n"])
def test_a_given_split_is_followed(tmp_path: Path, header: str) -> None:
    path = write(tmp_path / "s.tsv", header + "007\ttrain\nb\ttest\nc\tvalidation\nother\ttrain\n")
    assert given_split(path, ["c", "007", "x", "b"]).tolist() == ["validation", "train", "", "test"]


def test_a_given_split_may_be_csv_with_windows_line_ends(tmp_path: Path) -> None:
    path = write(tmp_path / "s.csv", "id,split\r\na,train\r\nb,test\r\nc,validation\r\n")
    assert given_split(path, ["a", "b", "c"]).tolist() == ["train", "test", "validation"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\ttrain\nb\tvalidation\nc\tTest\n", "names splits Test; they are train, validation"),
        ("a\tTrain\nb\tvalidation\nc\ttest\n", "names splits Train"),  # no header: a is a sample
        ("a\ttrain\nb\tvalidation\nc\ttest\na\ttrain\n", "names samples more than once: a"),
        ("a\ttrain\nb\tvalidation\nc\ttrain\n", "puts none of the profiles into test"),
        ("x\ttrain\ny\tvalidation\nz\ttest\n", "puts none of the profiles into train, validation"),
        ("a\nb\nc\n", "has one column"),
        ("", "cannot be read as a table"),
        ("sample\tsplit\n", "puts none of the profiles into train, validation, test"),
    ],
)
def test_a_given_split_that_cannot_be_used_is_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    path = write(tmp_path / "s.tsv", text)
    with pytest.raises(DataError, match=message) as caught:
        given_split(path, ["a", "b", "c"])
    assert "\n" not in str(caught.value)


def test_a_split_table_that_is_not_there_is_misuse(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"absent\.tsv: no such file"):
        given_split(tmp_path / "absent.tsv", ["a"])
