"""The sample table: the file's own joined with a given one, and its split."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

from dgex.config import PrepareConfig
from dgex.data.formats.reader import Matrix
from dgex.data.matrix import open_matrix
from dgex.data.record import Record
from dgex.data.samples import assign_splits, sample_table, split_profiles
from dgex.errors import DataError, UsageError


def matrix_of(ids: list[str], **columns: list[object]) -> Matrix:
    obs = pd.DataFrame(columns, index=ids)
    return open_matrix(anndata.AnnData(np.ones((len(ids), 2)), obs=obs))


@pytest.mark.parametrize("as_text", [False, True])
def test_a_given_table_is_joined_in_the_order_of_the_file(tmp_path: Path, as_text: bool) -> None:
    path = tmp_path / "obs.tsv"
    path.write_text("id\tstudy\ttissue\n010\tB\tliver\nextra\tC\tskin\n007\tA\tlung\n")
    matrix = matrix_of(["007", "010"], study=["old", "old"], batch=["x", "y"])
    config = PrepareConfig(obs=str(path) if as_text else path)  # type: ignore[arg-type]
    table = sample_table(matrix, config)
    assert table.loc["007"].to_dict() == {"study": "A", "tissue": "lung", "batch": "x"}
    assert list(table.index) == ["007", "010"]
    assert table.index.name == "sample"


def test_a_csv_table_is_read_with_commas(tmp_path: Path) -> None:
    (tmp_path / "obs.csv").write_text("id,study\na,S 1\nb,S 2\n")
    table = sample_table(matrix_of(["a", "b"]), PrepareConfig(obs=tmp_path / "obs.csv"))
    assert table["study"].tolist() == ["S 1", "S 2"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id\tstudy\na\tA\n", r"1 of 2 samples are not in .*obs\.tsv \(b\)"),
        ("id\tstudy\na\tA\nb\tA\na\tB\n", r"names samples more than once: a"),
        ("", "cannot be read as a table"),
        ("study\nA\n", "2 of 2 samples are not in"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "obs.tsv").write_text(text)
    with pytest.raises(DataError, match=message):
        sample_table(matrix_of(["a", "b"]), PrepareConfig(obs=tmp_path / "obs.tsv"))


def test_a_table_that_is_not_there_is_misuse(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--obs .*no such file"):
        sample_table(matrix_of(["a", "b"]), PrepareConfig(obs=tmp_path / "absent.tsv"))


def test_a_group_column_that_is_not_there_is_misuse_and_those_there_are_named() -> None:
    with pytest.raises(UsageError, match=r"--group-by patient: .*it has study, batch\."):
        sample_table(
            matrix_of(["a", "b"], study=["x", "y"], batch=["x", "y"]),
            PrepareConfig(group_by="patient"),
        )
    with pytest.raises(UsageError, match=r"it has none\. Give a table with --obs"):
        sample_table(matrix_of(["a", "b"]), PrepareConfig(group_by="patient"))


@pytest.mark.parametrize("missing", ["", None, np.nan])
def test_samples_without_a_group_are_named(missing: object) -> None:
    matrix = matrix_of(["a", "b", "c"], study=["x", missing, "y"])
    with pytest.raises(DataError, match=r"1 samples have no study to group by \(b\)"):
        sample_table(matrix, PrepareConfig(group_by="study"))


def table(n: int, study: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"study": study}, index=[f"s{i}" for i in range(n)])


def test_too_few_profiles_for_a_random_split() -> None:
    with pytest.raises(DataError, match=r"^2 profiles cannot fill train, validation and test"):
        split_profiles(table(2, ["A", "B"]), PrepareConfig(), Record())


@pytest.mark.parametrize("options", [{}, {"group_by": "study"}])
def test_splits_are_the_same_said_or_not(options: dict[str, str]) -> None:
    obs, config = table(30, [f"S{i // 3}" for i in range(30)]), PrepareConfig(**options)
    said = split_profiles(obs, config, Record())
    np.testing.assert_array_equal(assign_splits(obs, config), said)


def test_a_given_split_that_breaks_a_group_is_refused(tmp_path: Path) -> None:
    (tmp_path / "split.tsv").write_text("s0\ttrain\ns1\ttest\ns2\tvalidation\ns3\ttest\n")
    obs = table(4, ["A", "A", "B", "C"])
    config = PrepareConfig(split=tmp_path / "split.tsv", group_by="study")
    with pytest.raises(DataError, match=r"puts 1 groups into more than one split \(A\)"):
        split_profiles(obs, config, Record())


def test_a_group_may_be_left_out_of_a_given_split_in_part(tmp_path: Path) -> None:
    (tmp_path / "split.tsv").write_text("s0\ttrain\ns2\tvalidation\ns3\ttest\n")
    record = Record()
    config = PrepareConfig(split=tmp_path / "split.tsv", group_by="study")
    split = split_profiles(table(4, ["A", "A", "B", "C"]), config, record)
    assert split.tolist() == ["train", "", "validation", "test"]
    assert record.dropped == [("profile", "s1", "not in the split table")]
    assert any("1 profiles dropped: not in the split table" in note for note in record.notes)


def test_the_kind_of_split_is_said() -> None:
    record = Record()
    split_profiles(table(10, list("AABBCCDDEE")), PrepareConfig(group_by="study"), record)
    assert record.notes == [
        "Split by study: 5 groups, none in two splits: 6 train, 2 validation, 2 test."
    ]
