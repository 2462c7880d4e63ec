"""Text tables keep their ids and cells as they are."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from dgex.data.tables import read_table
from dgex.errors import DataError


def test_ids_that_look_like_numbers_or_missing_stay_text(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    path.write_text("sample\tstudy\tn\n007\tNA\t1.10\n1.10\tnan\t\nNA\t-666\t1e5\n")
    table = read_table(path)
    assert list(table.index) == ["007", "1.10", "NA"]
    assert table["study"].tolist() == ["NA", "nan", "-666"]
    assert table["n"].tolist() == ["1.10", "", "1e5"]


def test_a_table_of_ids_alone(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    path.write_text("sample\n01\n02\n")
    table = read_table(path)
    assert list(table.index) == ["01", "02"]
    assert table.shape == (2, 0)


def test_quirks_of_spreadsheets_are_read(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b'\xef\xbb\xbfsample,study\r\n"a, b","say ""x"""\r\nc,\r\n')
    table = read_table(path, ",")
    assert table.index.name == "sample"
    assert table["study"].to_dict() == {"a, b": 'say "x"', "c": ""}


def test_gzip_and_no_header(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv.gz"
    path.write_bytes(gzip.compress("ü\ttrain\n".encode()))
    assert read_table(path, header=False).iloc[:, 0].to_dict() == {"ü": "train"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.tsv", b""),
        ("latin.tsv", b"sample\tstudy\n\xe9\tx\n"),
        ("ragged.tsv", b"sample\tstudy\na\tb\nc\td\te\tf\n"),
        ("short_header.tsv", b"study\tclass\na\tb\tc\n"),
        ("not.tsv.gz", b"sample\tstudy\n"),
        ("cut.tsv.gz", gzip.compress(b"sample\tstudy\n" + b"a\tb\n" * 999)[:-12]),
    ],
)
def test_what_is_no_table_gives_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=name) as caught:
        read_table(tmp_path / name)
    assert "\n" not in str(caught.value)
